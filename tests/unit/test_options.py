"""A wrong option is refused where it is written, with what, where and how to correct it."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from flask_reqsession import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    Propagation,
    RequestScopedSessionManager,
    Retry,
    RetryNotAllowedError,
)
from flask_reqsession.options import TransactionOptions, transaction_options


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("propagation", "required", "REQUIRES_NEW, NESTED"),
        ("propagation", None, "one of Propagation"),
        ("propagation", [], "one of Propagation"),
        ("isolation", "serializable", "READ COMMITTED, REPEATABLE READ, SERIALIZABLE"),
        ("isolation", "SNAPSHOT", "one of READ UNCOMMITTED"),
        ("isolation", "AUTOCOMMIT", "no transaction at all"),
        ("isolation", 1, "one of READ UNCOMMITTED"),
        ("read_only", 1, "True or False"),
        ("read_only", "yes", "True or False"),
        ("timeout", "5", "a number of seconds"),
        ("timeout", -1, "not less than 0"),
        ("timeout", 0, "more than 0 seconds"),
        ("timeout", 0.0, "more than 0 seconds"),
        ("timeout", True, "a number of seconds"),
        ("timeout", float("nan"), "a number of seconds"),
        ("timeout", float("inf"), "a number of seconds"),
        ("retry", "3", "a number of attempts"),
        ("retry", 2.5, "a number of attempts"),
        ("retry", True, "a whole number"),
        ("retry", 0, "at least 1"),
        ("retry", -1, "at least 1"),
        ("idempotent", 1, "True or False"),
        ("rollback_for", "ValueError", "an exception class"),
        ("rollback_for", [ValueError], "an exception class"),
        ("rollback_for", (ValueError, int), "an exception class"),
        ("no_rollback_for", ValueError("x"), "an exception class"),
        ("no_rollback_for", None, "an exception class"),
        ("rollback_on_status", 409, "None, a collection of statuses"),
        ("rollback_on_status", "409", "None, a collection of statuses"),
        ("rollback_on_status", b"409", "None, a collection of statuses"),
        ("rollback_on_status", ["409"], "None, a collection of statuses"),
        ("rollback_on_status", True, "None, a collection of statuses"),
        ("durable", 1, "True or False"),
        ("durable", None, "True or False"),
        ("bind", None, "a string"),
        ("bind", 1, "a string"),
        ("name", 1, "a string"),
    ],
)
def test_a_wrong_value_is_refused(option: str, value: object, wanted: str) -> None:
    """The message names the option, shows the value, and says what is accepted."""
    with pytest.raises(ConfigurationError, match=wanted) as caught:
        transaction_options(**{option: value})  # type: ignore[arg-type]  # it is wrong
    assert option in str(caught.value) or "Retry(attempts=)" in str(caught.value)
    assert "Correct it where the scope is declared" in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("attempts", 1.0, "a whole number"),
        ("initial", -0.1, "seconds, not less than 0"),
        ("initial", "1", "seconds"),
        ("initial", True, "seconds"),
        ("initial", float("nan"), "seconds"),
        ("initial", 3.0, "at most maximum, 2.0 seconds"),
        ("maximum", -1, "seconds"),
        ("maximum", None, "seconds"),
        ("maximum", float("inf"), "seconds"),
        ("jitter", "yes", "True or False"),
        ("before_retry", "log", "a function or None"),
        ("before_retry", asyncio.sleep, "not async"),
        ("on", KeyboardInterrupt, "subclasses of Exception"),
        ("on", (ValueError, BaseException), "subclasses of Exception"),
        ("on", (ValueError, CommitOutcomeUnknownError), "idempotent=True"),
        ("on", "OperationalError", "an exception class"),
        ("on", [ValueError], "an exception class"),
    ],
)
def test_a_wrong_value_of_a_retry_is_refused(option: str, value: object, wanted: str) -> None:
    """When it is made, not when it is needed."""
    with pytest.raises(ConfigurationError, match=wanted) as caught:
        Retry(**{option: value})  # type: ignore[arg-type]  # it is wrong
    assert f"Retry({option}=)" in str(caught.value)


def test_an_unknown_option_is_refused_with_the_list_of_those_there_are() -> None:
    """A misspelt option is no option."""
    with pytest.raises(ConfigurationError, match="no option 'propogation'.*propagation, isolation"):
        transaction_options(propogation="NESTED")  # type: ignore[call-arg]  # it is wrong


def test_a_class_in_both_lists_is_refused() -> None:
    """Neither would be the more specific one."""
    with pytest.raises(ConfigurationError, match="both name KeyError, ValueError"):
        transaction_options(
            rollback_for=(ValueError, KeyError, OSError), no_rollback_for=(KeyError, ValueError)
        )


@pytest.mark.rule("T22")
@pytest.mark.parametrize("propagation", Propagation)
def test_a_retry_belongs_to_what_can_start_a_transaction(propagation: Propagation) -> None:
    """The others can never run anything again as a whole."""
    if propagation.name in {"REQUIRED", "REQUIRES_NEW", "NESTED"}:
        assert transaction_options(propagation=propagation, retry=2).retry == Retry(attempts=2)
    else:
        with pytest.raises(RetryNotAllowedError, match=f"propagation={propagation.name}"):
            transaction_options(propagation=propagation, retry=2)


def test_what_is_right_is_frozen() -> None:
    """Names become members, single classes tuples, collections sets; nothing can be changed."""
    retry = Retry(on=ValueError)
    options = transaction_options(
        propagation="NESTED",
        retry=retry,
        rollback_for=ValueError,
        no_rollback_for=(KeyError,),
        rollback_on_status=[409, 500],
        durable=True,
        bind="analytics",
        name="the import",
    )
    assert options == TransactionOptions(
        propagation=Propagation.NESTED,
        retry=retry,
        rollback_for=(ValueError,),
        no_rollback_for=(KeyError,),
        rollback_on_status=frozenset({409, 500}),
        durable=True,
        bind="analytics",
        name="the import",
    )
    assert retry.on == (ValueError,)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.durable = False  # type: ignore[misc]  # it is what is tested
    with pytest.raises(dataclasses.FrozenInstanceError):
        retry.attempts = 7  # type: ignore[misc]  # it is what is tested


def test_none_and_functions_are_accepted_where_they_mean_something() -> None:
    """No retry, no status rule, a rule of the user's own, a callback."""
    options = transaction_options(retry=None, rollback_on_status=None, name=None)
    assert (options.retry, options.rollback_on_status, options.name) == (None, None, None)
    assert transaction_options(rollback_on_status=callable).rollback_on_status is callable
    assert Retry(before_retry=print).before_retry is print
    assert Retry(before_retry=None, initial=1, maximum=1).initial == 1


def test_the_defaults_are_the_contracts() -> None:
    """REQUIRED, no retry, statuses from 400 on, not durable, the default bind."""
    options = transaction_options()
    assert options.propagation is Propagation.REQUIRED
    assert (options.retry, options.durable, options.bind) == (None, False, "default")
    rule = options.rollback_on_status
    assert callable(rule)
    assert [status for status in (200, 302, 399, 400, 500) if rule(status)] == [400, 500]


@pytest.mark.parametrize(
    ("options", "plainly"),
    [
        ({}, True),
        ({"propagation": "SUPPORTS"}, True),
        ({"propagation": "MANDATORY"}, True),
        ({"propagation": "NESTED"}, False),
        ({"propagation": "REQUIRES_NEW"}, False),
        ({"propagation": "NOT_SUPPORTED"}, False),
        ({"propagation": "NEVER"}, False),
        ({"durable": True}, False),
        ({"manual_commit": "raise"}, False),
        ({"manual_commit": None}, True),
        ({"retry": 2}, False),
    ],
)
def test_what_joins_without_a_check_is_known_at_decoration(options: Any, plainly: bool) -> None:
    """The fast path is for these alone."""
    assert transaction_options(**options).joins_plainly is plainly


@pytest.mark.parametrize(
    "options",
    [{"retry": "x"}, {"propagation": "x"}, {"timeout_": 3}, {"rollback_on_status": 1}],
    ids=str,
)
def test_each_door_refuses_a_wrong_option_at_once(options: Any) -> None:
    """The decorator when it is made, session_scope() when it is called."""
    manager = RequestScopedSessionManager("sqlite://")
    for door in (manager.transactional, manager.session_scope, manager.async_session_scope):
        with pytest.raises(ConfigurationError):
            door(**options)
    manager.databases.dispose()


@pytest.mark.rule("T18", "T19")
@pytest.mark.parametrize("propagation", ["SUPPORTS", "NOT_SUPPORTED", "NEVER"])
@pytest.mark.parametrize(
    "options",
    [{"isolation": "SERIALIZABLE"}, {"read_only": True}, {"timeout": 5}],
    ids=lambda options: next(iter(options)),
)
def test_a_mode_needs_a_transaction(propagation: str, options: Any) -> None:
    """Where a body may run without a scope, nothing could keep what was asked for."""
    with pytest.raises(ConfigurationError, match="runs without a transaction scope.*MANDATORY"):
        transaction_options(propagation=propagation, **options)
    for other in ("REQUIRED", "REQUIRES_NEW", "NESTED", "MANDATORY"):
        assert not transaction_options(propagation=other, **options).durable
    assert transaction_options(propagation=propagation, read_only=False).read_only is False


@pytest.mark.rule("T18", "T19")
def test_a_mode_is_kept_as_it_was_given() -> None:
    """The time as a float; None is what nobody asked for."""
    options = transaction_options(isolation="READ COMMITTED", read_only=True, timeout=5)
    assert (options.isolation, options.read_only, options.timeout) == ("READ COMMITTED", True, 5.0)
    unset = transaction_options(isolation=None, read_only=None, timeout=None)
    assert unset.joins_plainly
    assert transaction_options(read_only=True).joins_plainly
    assert not transaction_options(read_only=False).joins_plainly
    assert not transaction_options(timeout=5).joins_plainly
    assert not transaction_options(isolation="SERIALIZABLE").joins_plainly
