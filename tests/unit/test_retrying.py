"""Which errors are retried, and how long the wait is."""

from __future__ import annotations

import psycopg
import psycopg.errors
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession import (
    CommitOutcomeUnknownError,
    ReqSessionError,
    Retry,
    UnexpectedRollbackError,
)
from flask_reqsession.retrying import RetryRun, is_transient


@pytest.mark.rule("T21")
def test_a_lost_connection_a_stale_row_and_a_code_of_the_table_are_transient() -> None:
    """Another attempt has another connection, and loads the row anew."""
    lost = DBAPIError("SELECT 1", {}, psycopg.OperationalError("gone"), connection_invalidated=True)
    assert is_transient(lost)
    assert is_transient(StaleDataError())
    deadlock = psycopg.errors.DeadlockDetected()
    assert is_transient(OperationalError("SELECT 1", {}, deadlock))
    assert not is_transient(deadlock)  # of a connection that is none of ours
    assert not is_transient(OperationalError("SELECT 1", {}, psycopg.errors.UndefinedTable()))


@pytest.mark.rule("T20", "T21", "T24")
def test_a_policy_adds_classes_but_never_an_unknown_outcome() -> None:
    """The work of such a call may be there already; only the user can say that it may run twice."""
    run = RetryRun(Retry(on=(ValueError, ReqSessionError)))
    assert run.allows(UnicodeError())
    assert run.allows(UnexpectedRollbackError())
    assert run.allows(StaleDataError())
    assert not run.allows(KeyError())
    assert not run.allows(CommitOutcomeUnknownError())
    assert RetryRun(Retry(), is_idempotent=True).allows(CommitOutcomeUnknownError())


@pytest.mark.rule("T20")
def test_the_wait_doubles_up_to_its_maximum() -> None:
    """Without jitter it is the upper end itself."""
    run = RetryRun(Retry(attempts=9, initial=0.5, maximum=3.0, jitter=False))
    assert [run.delay(attempt) for attempt in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert RetryRun(Retry(initial=0, maximum=0, jitter=False)).delay(99) == 0
    patient = RetryRun(Retry(attempts=5000, initial=0.01, maximum=60, jitter=False))
    assert patient.delay(4999) == 60
    assert RetryRun(Retry(initial=0)).delay(4999) == 0


@pytest.mark.rule("T20")
def test_the_jitter_is_full() -> None:
    """Any wait between nothing and the upper end, so that competitors part."""
    run = RetryRun(Retry(attempts=9, initial=0.5, maximum=3.0))
    for attempt, longest in enumerate([0.5, 1.0, 2.0, 3.0, 3.0], start=1):
        waits = [run.delay(attempt) for _ in range(500)]
        assert 0 <= min(waits) < longest / 10
        assert longest * 9 / 10 < max(waits) <= longest


@pytest.mark.rule("T25")
@pytest.mark.parametrize(("attempts", "made"), [(1, "1 attempt"), (4, "4 attempts")])
def test_giving_up_is_noted_with_attempts_and_time(attempts: int, made: str) -> None:
    """On the error itself; an error that ends the attempts early has no such note."""
    error = StaleDataError()
    run = RetryRun(Retry(attempts=attempts))
    run.give_up(attempts - 1, error)
    assert not hasattr(error, "__notes__")
    run.give_up(attempts, error)
    [note] = error.__notes__
    assert note.startswith(f"Gave up after {made} in 0.")


@pytest.mark.rule("T24")
def test_whatever_ends_the_attempts_an_unanswered_one_is_told_of() -> None:
    """The caller would else believe that nothing was left behind."""
    error = KeyError()
    run = RetryRun(Retry(), is_idempotent=True)
    run.announce(1, CommitOutcomeUnknownError())
    run.announce(2, StaleDataError())
    run.give_up(2, error)
    [note] = error.__notes__
    assert "an earlier attempt got no answer" in note


@pytest.mark.rule("T20")
def test_the_user_hears_of_each_failed_attempt() -> None:
    """With its number and its error; without a callback nobody is called."""
    heard: list[tuple[int, BaseException]] = []
    error = StaleDataError()
    RetryRun(Retry(before_retry=lambda *told: heard.append(told))).announce(2, error)
    RetryRun(Retry()).announce(2, error)
    assert heard == [(2, error)]
