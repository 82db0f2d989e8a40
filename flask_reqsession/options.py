"""What a user may say about a scope: validated once, at decoration, then frozen and shared."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, TypedDict, Unpack

from flask_reqsession import option_values
from flask_reqsession.errors import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    RetryNotAllowedError,
)
from flask_reqsession.modes import IsolationLevel
from flask_reqsession.option_values import ALLOW, ErrorClasses, ManualCommit, StatusRule, wrong

DEFAULT_BIND = "default"


class Propagation(Enum):
    """How a scope relates to one that is already running (the terms are Spring's).

    >>> Propagation("REQUIRES_NEW") is Propagation.REQUIRES_NEW
    True
    """

    REQUIRED = "REQUIRED"
    """Join the running scope, or start a transaction."""
    REQUIRES_NEW = "REQUIRES_NEW"
    """Run on an own session and connection; the running scope is suspended."""
    NESTED = "NESTED"
    """Run in a savepoint of the running scope, or start a transaction."""
    SUPPORTS = "SUPPORTS"
    """Join the running scope, or run without one."""
    MANDATORY = "MANDATORY"
    """Join the running scope, or refuse."""
    NOT_SUPPORTED = "NOT_SUPPORTED"
    """Run without a scope, on an own session; the running scope is suspended."""
    NEVER = "NEVER"
    """Run without a scope, or refuse where one is running."""


class TransactionOutcome(Enum):
    """How a transaction ended.

    >>> TransactionOutcome.UNKNOWN.value
    'unknown'
    """

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Retry:
    """Re-run a whole outermost call when the database asks for it.

    ``attempts`` counts all runs, the first included. Serialization failures, deadlocks, busy or
    locked SQLite databases, lock wait timeouts of MySQL and MariaDB, and connections lost before
    COMMIT are retried, and so is a versioned row that somebody else changed; ``on`` adds exception
    classes. The
    wait before attempt *n* + 1 is drawn from 0 to ``min(maximum, initial * 2 ** (n - 1))`` seconds
    ("full jitter"), or is that upper end where ``jitter`` is false. ``before_retry(attempt,
    error)`` is called before each wait, with no connection held; what it raises ends the attempts.
    It may read with the session, but not write. A call whose COMMIT got no answer is run again only
    where the scope says ``idempotent=True``.

    :raises ConfigurationError: a value that makes no sense.

    >>> Retry(attempts=5, initial=0.01).maximum
    2.0
    """

    attempts: int = 3
    on: ErrorClasses = ()
    initial: float = 0.05
    maximum: float = 2.0
    jitter: bool = True
    before_retry: Callable[[int, BaseException], object] | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        if type(self.attempts) is not int:
            raise ConfigurationError(wrong("Retry(attempts=)", self.attempts, "a whole number"))
        if self.attempts < 1:
            raise ConfigurationError(wrong("Retry(attempts=)", self.attempts, "at least 1"))
        for name in ("initial", "maximum"):
            option_values.seconds(f"Retry({name}=)", getattr(self, name))
        if self.initial > self.maximum:
            raise ConfigurationError(
                wrong("Retry(initial=)", self.initial, f"at most maximum, {self.maximum} seconds")
            )
        option_values.flag("Retry(jitter=)", self.jitter)
        if not (self.before_retry is None or callable(self.before_retry)):
            raise ConfigurationError(
                wrong("Retry(before_retry=)", self.before_retry, "a function or None")
            )
        if inspect.iscoroutinefunction(self.before_retry):
            raise ConfigurationError(
                wrong("Retry(before_retry=)", self.before_retry, "a function that is not async")
            )
        on = option_values.error_classes("Retry(on=)", self.on)
        for each in on:
            if not issubclass(each, Exception):
                raise ConfigurationError(
                    f"Retry(on=) names {each.__name__}, but what asks the program or the task to "
                    "stop is not run again. Name subclasses of Exception."
                )
        if any(issubclass(each, CommitOutcomeUnknownError) for each in on):
            raise ConfigurationError(
                "Retry(on=) names CommitOutcomeUnknownError, but such a call may have been "
                "committed. If it may run twice, say so where the scope is declared: "
                "idempotent=True."
            )
        object.__setattr__(self, "on", on)


class ScopeOptions(TypedDict, total=False):
    """The keyword options of a scope, as the user writes them."""

    propagation: Propagation | str
    isolation: IsolationLevel | None
    read_only: bool | None
    timeout: float | None
    retry: Retry | int | None
    rollback_for: ErrorClasses
    no_rollback_for: ErrorClasses
    rollback_on_status: StatusRule
    durable: bool
    idempotent: bool
    manual_commit: ManualCommit | None
    bind: str
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionOptions:
    """The options of one ``@transactional`` or ``session_scope()``."""

    propagation: Propagation = Propagation.REQUIRED
    isolation: str | None = None
    read_only: bool | None = None
    timeout: float | None = None
    retry: Retry | None = None
    rollback_for: tuple[type[BaseException], ...] = ()
    no_rollback_for: tuple[type[BaseException], ...] = ()
    rollback_on_status: StatusRule = field(default=lambda status: status >= _FIRST_ERROR_STATUS)
    durable: bool = False
    idempotent: bool = False
    manual_commit: ManualCommit | None = None
    bind: str = DEFAULT_BIND
    name: str | None = None

    @property
    def joins_plainly(self) -> bool:
        """Whether joining a running scope needs no check of these options."""
        return (
            self.propagation in {Propagation.REQUIRED, Propagation.SUPPORTS, Propagation.MANDATORY}
            and not self.durable
            and self.manual_commit is None
            and self.retry is None
            and not self.demands_mode
        )

    @property
    def demands_mode(self) -> bool:
        """Whether not every running transaction can be joined.

        ``read_only=True`` joins any: it promises not to write, whoever could.
        """
        return self.read_only is False or self.isolation is not None or self.timeout is not None


_FIRST_ERROR_STATUS = 400


def transaction_options(**given: Unpack[ScopeOptions]) -> TransactionOptions:
    """Validate what the user wrote and freeze it.

    :raises ConfigurationError: an unknown option, or a value that is none of the accepted ones.
    :raises RetryNotAllowedError: ``retry`` for what never has a transaction of its own.
    """
    options: dict[str, Any] = {}
    for name, value in given.items():
        check = _CHECKS.get(name)
        if check is None:
            known = ", ".join(_CHECKS)
            raise ConfigurationError(
                f"A scope has no option {name!r}. Its options are: {known}. Correct the name."
            )
        options[name] = check(name, value)
    checked = TransactionOptions(**options)
    both = set(checked.rollback_for) & set(checked.no_rollback_for)
    if both:
        names = ", ".join(sorted(each.__name__ for each in both))
        raise ConfigurationError(
            f"rollback_for and no_rollback_for both name {names}. Remove it from one of them."
        )
    if checked.manual_commit == ALLOW:
        _refuse_to_allow(checked)
    if checked.retry is not None and checked.propagation not in _STARTING:
        raise RetryNotAllowedError(
            f"retry= runs a whole transaction again, but propagation={checked.propagation.name} "
            "never starts one. Put it on the function that starts the transaction: REQUIRED, "
            "REQUIRES_NEW or NESTED."
        )
    _refuse_mode_without_transaction(checked)
    return checked


def _refuse_to_allow(checked: TransactionOptions) -> None:
    """Refuse what a commit by hand would make a lie of."""
    if checked.retry is not None:
        raise RetryNotAllowedError(
            "retry= runs the whole call again, but with manual_commit='allow' a part of it may "
            "have been committed before it failed. Use manual_commit='defer', or no retry."
        )
    if checked.propagation is Propagation.NESTED:
        raise ConfigurationError(
            "manual_commit='allow' with propagation=NESTED can't work: a commit by hand ends the "
            "savepoint with the transaction around it. Use 'defer', or REQUIRES_NEW."
        )


def _refuse_mode_without_transaction(checked: TransactionOptions) -> None:
    asked = [
        f"{name}={value!r}"
        for name in ("isolation", "read_only", "timeout")
        if (value := getattr(checked, name))
    ]
    if asked and checked.propagation in _SCOPELESS:
        raise ConfigurationError(
            f"{' and '.join(asked)} can't be kept where propagation={checked.propagation.name} "
            "runs without a transaction scope. Use REQUIRED or REQUIRES_NEW, or MANDATORY to "
            "demand a running scope."
        )


_SCOPELESS = frozenset({Propagation.SUPPORTS, Propagation.NOT_SUPPORTED, Propagation.NEVER})
_STARTING = frozenset({Propagation.REQUIRED, Propagation.REQUIRES_NEW, Propagation.NESTED})


def _propagation(option: str, given: object) -> Propagation:
    try:
        return Propagation(given)
    except ValueError:
        known = ", ".join(each.name for each in Propagation)
        raise ConfigurationError(wrong(option, given, f"one of Propagation: {known}")) from None


def _retry(option: str, given: object) -> Retry | None:
    if given is None or isinstance(given, Retry):
        return given
    if isinstance(given, int):
        return Retry(attempts=given)
    raise ConfigurationError(wrong(option, given, "a number of attempts, Retry(...) or None"))


_CHECKS: MappingProxyType[str, Callable[[str, object], object]] = MappingProxyType(
    {
        "propagation": _propagation,
        "isolation": option_values.isolation,
        "read_only": option_values.optional_flag,
        "timeout": option_values.timeout,
        "retry": _retry,
        "rollback_for": option_values.error_classes,
        "no_rollback_for": option_values.error_classes,
        "rollback_on_status": option_values.status_rule,
        "durable": option_values.flag,
        "idempotent": option_values.flag,
        "manual_commit": option_values.manual_commit,
        "bind": option_values.text,
        "name": option_values.optional_text,
    }
)
