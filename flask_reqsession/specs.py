"""Turn options into the spec of a scope: what is known before it is entered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask_reqsession.colour import colour_of, name_of, runs_a_generator_later
from flask_reqsession.errors import ConfigurationError, RetryNotAllowedError
from flask_reqsession.modes import TransactionMode
from flask_reqsession.options import TransactionOptions
from flask_reqsession.outcome_rules import Rules
from flask_reqsession.propagation import ScopeSpec
from flask_reqsession.retrying import RetryRun

if TYPE_CHECKING:
    from collections.abc import Callable


def spec_of(options: TransactionOptions, function: Callable[..., Any] | None) -> ScopeSpec:
    """Return the spec of a scope around ``function``, or around a ``with`` block without one.

    :raises RetryNotAllowedError: ``retry`` on a generator, which can't be run twice.
    :raises ConfigurationError: the body would only run after the commit.
    """
    name = options.name or ("session_scope()" if function is None else name_of(function))
    retry = options.retry
    if function is not None and (colour := colour_of(function)).is_generator:
        if retry is not None:
            raise RetryNotAllowedError(
                f"{name} is a {colour.value} and has retry=, but what it yielded cannot be taken "
                "back to run it again. Collect the rows in a function with retry=, and yield them "
                "outside."
            )
        function = None  # what it returns is no response
    elif function is not None and runs_a_generator_later(function):
        raise ConfigurationError(
            f"{name} is a generator function under a decorator that returns before its body has "
            "run, so the commit would come first. Put @transactional under that decorator, "
            "directly on the generator function."
        )
    return ScopeSpec(
        name=name,
        bind=options.bind,
        options=options,
        rules=Rules(options, function),
        mode=_mode_of(options),
        demands_mode=options.demands_mode,
        manual_commit=options.manual_commit,
        retry=None if retry is None else lambda: RetryRun(retry, is_idempotent=options.idempotent),
    )


def _mode_of(options: TransactionOptions) -> TransactionMode | None:
    mode = TransactionMode(options.isolation, bool(options.read_only), options.timeout)
    return None if mode == TransactionMode() else mode


def bare_spec(bind: str, function: Callable[..., object]) -> ScopeSpec:
    """Return the spec of a call that needs the session of ``bind`` and no scope."""
    return ScopeSpec(
        name=name_of(function),
        bind=bind,
        options=None,
        rules=Rules(TransactionOptions(), None),
    )
