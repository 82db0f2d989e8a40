"""All policy of a scope, written once for both colours.

Each flow yields effects and returns the outcome that the caller of the scope gets. Three rules
hold in all of them: a state changes after its effect succeeded, the first cause wins (a later
failure becomes a note on it), and every cleanup runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from flask_reqsession.effects import (
    BEGIN,
    CALL,
    CLOSE,
    COMMIT,
    FLUSH,
    RELEASE,
    ROLLBACK,
    ROLLBACK_TO,
    SAVEPOINT,
    Effect,
    Failed,
    Flow,
    Ok,
    Outcome,
    Sleep,
)
from flask_reqsession.scope import Scope
from flask_reqsession.states import ScopeState


def transaction_flow(scope: Scope) -> Flow:
    """Run the body in a transaction: commit, or roll back and say why."""
    began = yield BEGIN
    if isinstance(began, Failed):
        return began
    scope.advance(ScopeState.ACTIVE)
    body = yield CALL
    refusal = _refusal(scope, body)
    if refusal is not None:
        return (yield from _undo(scope, refusal, ROLLBACK))
    flushed = yield FLUSH
    done = flushed if isinstance(flushed, Failed) else (yield COMMIT)
    if isinstance(done, Failed):
        return (yield from _undo(scope, _caused_after(done, body), ROLLBACK))
    scope.advance(ScopeState.COMMITTED)
    return body


def savepoint_flow(scope: Scope) -> Flow:
    """Run the body in a savepoint of the enclosing scope.

    SQLAlchemy flushes before it sends SAVEPOINT: the outer's pending work is outside, and what
    fails in that flush is the outer's failure.
    """
    began = yield SAVEPOINT
    if isinstance(began, Failed):
        return began
    scope.advance(ScopeState.ACTIVE)
    body = yield CALL
    refusal = _refusal(scope, body)
    if refusal is not None:
        return (yield from _undo(scope, refusal, ROLLBACK_TO))
    released = yield RELEASE
    if isinstance(released, Failed):
        return (yield from _undo(scope, _caused_after(released, body), ROLLBACK_TO))
    scope.advance(ScopeState.COMMITTED)
    return body


def join_flow(scope: Scope, name: str, rules: FailureRule) -> Flow:
    """Run the body inside ``scope``; a failure dooms it."""
    body = yield CALL
    if isinstance(body, Failed) and rules.fails(body.error):
        scope.doom(body.error, name)
    return body


def bare_flow() -> Flow:
    """Run the body with no scope of its own: nothing is committed."""
    return (yield CALL)


def discarded_flow() -> Flow:
    """Run the body outside any transaction scope and roll back what it leaves behind."""
    body = yield CALL
    undone = yield ROLLBACK
    return _with_note(body, undone, "ROLLBACK")


def closing_flow(inner: Flow) -> Flow:
    """Run ``inner`` on a session that ends with it: CLOSE comes once and last.

    A CLOSE that fails after a commit is reported by the port and not raised: an exception would
    tell the caller that nothing was kept.
    """
    outcome = yield from inner
    closed = yield CLOSE
    if isinstance(outcome, Failed):
        return _with_note(outcome, closed, "CLOSE")
    return outcome


class FailureRule(Protocol):
    """The half of the outcome rules that a joined call needs."""

    def fails(self, error: BaseException) -> bool:
        """Whether ``error`` leaving the body counts as a failure."""


class RetryPolicy(Protocol):
    """When and how to run a call again."""

    attempts: int

    def allows(self, error: BaseException) -> bool:
        """Whether ``error`` is one that another attempt may not meet."""

    def delay(self, attempt: int) -> float:
        """Seconds to wait after ``attempt`` failed."""

    def announce(self, attempt: int, error: BaseException) -> None:
        """Tell the user that ``attempt`` failed with ``error`` and another one follows."""

    def exhausted(self, error: BaseException) -> None:
        """Note on ``error`` how many attempts were made and how long they took."""


def retried_flow(attempt_flow: Callable[[], Flow], policy: RetryPolicy) -> Flow:
    """Run ``attempt_flow`` anew, each time on a fresh scope, as ``policy`` allows."""
    for attempt in range(1, policy.attempts + 1):
        outcome = yield from attempt_flow()
        if isinstance(outcome, Ok) or not policy.allows(outcome.error):
            break
        if attempt == policy.attempts:
            policy.exhausted(outcome.error)
            break
        try:
            policy.announce(attempt, outcome.error)
        except BaseException as refusal:  # noqa: BLE001 - the user's callback ends the attempts
            return Failed(refusal)
        yield Sleep(policy.delay(attempt))
    return outcome


def _refusal(scope: Scope, body: Outcome) -> Outcome | None:
    """Return what the caller gets if the unit is to be rolled back, else None."""
    if isinstance(body, Failed):
        if scope.rules.fails(body.error):
            return body
    elif scope.rules.rejects(body.value):
        return body
    if scope.rollback_only:
        return body
    if scope.cause is not None:
        return Failed(scope.unexpected_rollback())
    return None


def _undo(scope: Scope, outcome: Outcome, effect: Effect) -> Flow:
    undone = yield effect
    scope.advance(ScopeState.ROLLED_BACK)
    return _with_note(outcome, undone, "ROLLBACK")


def _with_note(outcome: Outcome, later: Outcome, what: str) -> Outcome:
    if isinstance(later, Ok):
        return outcome
    if isinstance(outcome, Ok):
        return later
    outcome.error.add_note(f"{what} also failed: {type(later.error).__name__}: {later.error}")
    return outcome


def _caused_after(failed: Failed, body: Outcome) -> Failed:
    """Keep an exception that was to be committed (a redirect, say) as the context of ``failed``."""
    if isinstance(body, Failed) and failed.error.__context__ is None:
        failed.error.__context__ = body.error
    return failed
