"""All policy of a scope, written once for both colours.

Each flow yields effects and returns the outcome that the caller of the scope gets. Three rules
hold in all of them: a state changes after its effect succeeded, the first cause wins (a later
failure becomes a note on it), and every cleanup runs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final, Protocol, TypeAlias

from flask_reqsession.effects import (
    BEGIN,
    CALL,
    CLOSE,
    COMMIT,
    FLUSH,
    LET_GO,
    RELEASE,
    ROLLBACK,
    ROLLBACK_TO,
    SAVEPOINT,
    Effect,
    Failed,
    Flow,
    Ok,
    Outcome,
    Request,
    Sleep,
)
from flask_reqsession.scope import Scope
from flask_reqsession.states import ScopeState

UNANSWERED: Final[Outcome] = Ok("unanswered")
"""Stands for a refusal that is not known before the answer is made; compared by identity."""

_Answer: TypeAlias = tuple[Outcome, Outcome | None]
"""What the caller gets, and what instead if the unit is to be rolled back."""


def transaction_flow(scope: Scope) -> Flow:
    """Run the body in a transaction: commit, or roll back and say why."""
    began = yield BEGIN
    if isinstance(began, Failed):
        return began
    scope.advance(ScopeState.ACTIVE)
    body = yield CALL
    refusal = _refusal(scope, body)
    if refusal is UNANSWERED:
        body, refusal = yield from _respond(scope, body)
    if refusal is not None:
        return (yield from _undo(scope, refusal, ROLLBACK))
    flushed = yield FLUSH
    done = flushed if isinstance(flushed, Failed) else (yield COMMIT)
    if isinstance(done, Failed):
        failed = _caused_after(done, body)
        if not done.done:
            end = ScopeState.UNKNOWN if done.done is None else ScopeState.ROLLED_BACK
            return (yield from _undo(scope, failed, ROLLBACK, end))
        scope.advance(ScopeState.COMMITTED)
        return failed
    scope.advance(ScopeState.COMMITTED)
    return body


def savepoint_flow(scope: Scope, outer: Scope) -> Flow:
    """Run the body in a savepoint of the scope ``outer``.

    SQLAlchemy flushes before it sends SAVEPOINT: the outer's pending work is outside, and what
    fails in that flush is the outer's failure.
    """
    began = yield SAVEPOINT
    if isinstance(began, Failed):
        return began
    scope.savepoint = began.value
    scope.advance(ScopeState.ACTIVE)
    body = yield CALL
    refusal = _refusal(scope, body)
    if refusal is not None and refusal is not UNANSWERED:
        return (yield from _undo_savepoint(scope, outer, refusal))
    released = yield RELEASE
    if isinstance(released, Failed):
        return (yield from _undo_savepoint(scope, outer, _caused_after(released, body)))
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
        ...


class RetryPolicy(Protocol):
    """When and how to run a call again."""

    attempts: int

    def allows(self, error: BaseException) -> bool:
        """Whether ``error`` is one that another attempt may not meet."""
        ...

    def delay(self, attempt: int) -> float:
        """Seconds to wait after ``attempt`` failed."""
        ...

    def announce(self, attempt: int, error: BaseException) -> None:
        """Tell the user that ``attempt`` failed with ``error`` and another one follows."""
        ...

    def give_up(self, attempt: int, error: BaseException) -> None:
        """Note on ``error``, with which ``attempt`` failed for good, what the caller must know."""
        ...


def retried_flow(
    attempt_flow: Callable[[], Flow], policy: RetryPolicy, is_kept: Callable[[], bool]
) -> Flow:
    """Run ``attempt_flow`` anew, each time on a fresh scope, as ``policy`` allows.

    ``is_kept`` tells of the last attempt whether it was committed: an exception that left it all
    the same is no reason to do the work twice.
    """
    attempt = 0
    while True:
        attempt += 1
        outcome = yield from attempt_flow()
        if isinstance(outcome, Ok) or is_kept():
            return outcome
        if attempt == policy.attempts or not policy.allows(outcome.error):
            policy.give_up(attempt, outcome.error)
            return outcome
        waited = yield from _pause(policy, attempt, outcome.error)
        if isinstance(waited, Failed):
            return _caused_after(waited, outcome)
        del outcome  # its traceback holds what the attempt had loaded


def _pause(policy: RetryPolicy, attempt: int, error: BaseException) -> Flow:
    """Wait between two attempts, with no connection held: neither ours nor the callback's."""
    try:
        policy.announce(attempt, error)
    except BaseException as refusal:  # noqa: BLE001 - the user's callback ends the attempts
        return Failed(refusal)
    left = yield LET_GO
    return left if isinstance(left, Failed) else (yield Sleep(policy.delay(attempt)))


def broken_flow(error: BaseException, scope: Scope | None, joined: Scope | None) -> Flow:
    """Clean up after a flow that ``error`` interrupted between two effects: a signal, say.

    What it had joined is doomed, and what it had begun is rolled back.
    """
    outcome = Failed(error)
    if joined is not None:
        joined.doom(error)
    elif scope is not None:
        undone = yield ROLLBACK
        return _with_note(outcome, undone, "ROLLBACK")
    return outcome


def _respond(scope: Scope, body: Outcome) -> Generator[Request, Outcome, _Answer]:
    """Make the answer while the scope runs: what can't be answered must not be committed.

    After a flush, or it would lack what the database fills in. It may run statements itself.
    """
    flushed = yield FLUSH
    if isinstance(flushed, Failed) or isinstance(body, Failed):
        return body, flushed
    try:
        answer = Ok(scope.rules.respond(body.value))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it can't be answered
        return body, Failed(error)
    refusal = _refusal(scope, answer)
    return answer, None if refusal is UNANSWERED else refusal


def _refusal(scope: Scope, body: Outcome) -> Outcome | None:
    """Return what the caller gets if the unit is to be rolled back, else None.

    :data:`UNANSWERED`: the outcome rules want to see the answer first.
    """
    try:
        return _verdict(scope, body)
    except BaseException as broken:  # noqa: BLE001 - a rule of the user's that fails
        return _caused_after(Failed(broken), body)


def _verdict(scope: Scope, body: Outcome) -> Outcome | None:
    rejects: bool | None = False
    if isinstance(body, Failed):
        if scope.rules.fails(body.error):
            return body
    elif rejects := scope.rules.rejects(body.value):
        return body
    if scope.rollback_only:
        return body
    if scope.paused:
        return Failed(scope.left_open())
    if scope.cause is not None:
        return Failed(scope.unexpected_rollback())
    return UNANSWERED if rejects is None else None


def _undo(
    scope: Scope, outcome: Outcome, effect: Effect, end: ScopeState = ScopeState.ROLLED_BACK
) -> Flow:
    undone = yield effect
    scope.advance(end)
    scope.settle()
    if scope.committed_by_hand and isinstance(outcome, Failed):
        outcome.error.add_note(scope.what_stays())
    return _with_note(outcome, undone, "ROLLBACK")


def _undo_savepoint(scope: Scope, outer: Scope, outcome: Outcome) -> Flow:
    """Roll back to the savepoint; where that fails or takes the outer's work with it, doom that."""
    undone = yield ROLLBACK_TO
    scope.advance(ScopeState.ROLLED_BACK)
    scope.settle()
    if isinstance(undone, Failed):  # its work is a part of the outer's from now on
        failed = undone
        if isinstance(outcome, Failed):
            failed = outcome
            _note(failed, undone, "ROLLBACK")
        outer.doom(failed.error, scope.name)
        return failed
    if scope.is_shared:
        outer.doom(scope.took_along())
    return outcome


def _with_note(outcome: Outcome, later: Outcome, what: str) -> Outcome:
    """Return ``outcome``, with a note where what came ``later`` failed.

    A value that was to be rolled back, an error status say, is still the answer where ROLLBACK
    fails: nothing of it was to be kept, and nothing is, on a connection that nobody gets any more.
    Ctrl-C and the like go on.
    """
    if isinstance(later, Ok):
        return outcome
    if isinstance(outcome, Ok):
        return outcome if isinstance(later.error, Exception) else later
    _note(outcome, later, what)
    return outcome


def _note(failed: Failed, later: Failed, what: str) -> None:
    failed.error.add_note(f"{what} also failed: {type(later.error).__name__}: {later.error}")


def _caused_after(failed: Failed, body: Outcome) -> Failed:
    """Keep the exception of the body at the far end of the contexts of what failed after it."""
    if isinstance(body, Failed):
        contexts = _contexts(failed.error)
        if not any(context is body.error for context in contexts) and not any(
            context is failed.error for context in _contexts(body.error)
        ):
            contexts[-1].__context__ = body.error
    return failed


def _contexts(error: BaseException) -> list[BaseException]:
    contexts = [error]
    while (context := contexts[-1].__context__) is not None:
        if any(context is known for known in contexts):
            break  # a loop, made by hand
        contexts.append(context)
    return contexts
