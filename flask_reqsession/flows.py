"""All policy of a scope, written once for both colours.

Each flow yields effects and returns the outcome that the caller of the scope gets. Three rules
hold in all of them: a state changes after its effect succeeded, the first cause wins (a later
failure becomes a note on it), and every cleanup runs.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, Protocol, TypeAlias

from flask_reqsession.causes import caused_after, note, with_note
from flask_reqsession.completion import completed_flow, count_due
from flask_reqsession.effects import (
    BEGIN,
    CALL,
    CLOSE,
    COMMIT,
    FLUSH,
    RELEASE,
    RENEW,
    ROLLBACK,
    ROLLBACK_TO,
    SAVEPOINT,
    Effect,
    Failed,
    Flow,
    Ok,
    Outcome,
    Request,
    Run,
)
from flask_reqsession.options import TransactionOutcome
from flask_reqsession.pending import HookKind, PendingHooks
from flask_reqsession.scope import Scope
from flask_reqsession.states import ScopeState

UNANSWERED: Final[Outcome] = Ok("unanswered")
"""Stands for a refusal that is not known before the answer is made; compared by identity."""

_Answer: TypeAlias = tuple[Outcome, Outcome | None]
"""What the caller gets, and what instead if the unit is to be rolled back."""

Refusing: TypeAlias = Generator[Request, Outcome, Outcome | None]
"""A part of a flow that returns what the caller gets if the unit is to be rolled back."""


def transaction_flow(scope: Scope) -> Flow:
    """Run the body in a transaction: commit, or roll back and say why."""
    began = yield BEGIN
    if isinstance(began, Ok) and scope.mode is not None:
        began = yield from _renewed(scope)
    if isinstance(began, Failed):
        return began
    scope.advance(ScopeState.ACTIVE)
    body = yield CALL
    return (yield from ending_flow(scope, body))


def ending_flow(scope: Scope, body: Outcome) -> Flow:
    """End a transaction whose body came to ``body``: commit, or roll back and say why."""
    refusal = _refusal(scope, body)
    if refusal is UNANSWERED:
        body, refusal = yield from _respond(scope, body)
    if refusal is not None:
        return (yield from _undo(scope, refusal, ROLLBACK))
    done = yield FLUSH
    if isinstance(done, Ok) and (scope.hooks is not None or scope.deadline is not None):
        refusal = yield from _before_commit(scope, body)
        if refusal is not None:
            return (yield from _undo(scope, refusal, ROLLBACK))
    if isinstance(done, Ok):
        scope.sends_commit = True
        done = yield COMMIT
    if isinstance(done, Failed):
        failed = caused_after(done, body)
        if not done.done:
            end = ScopeState.UNKNOWN if done.done is None else ScopeState.ROLLED_BACK
            return (yield from _undo(scope, failed, ROLLBACK, end))
        scope.advance(ScopeState.COMMITTED)
        return failed
    scope.advance(ScopeState.COMMITTED)
    return body


def _renewed(scope: Scope) -> Flow:
    """End what earlier code of the request began by reading: it is not in the mode of ``scope``."""
    renewed = yield RENEW
    if isinstance(renewed, Ok) and not renewed.value:
        return Failed(scope.mode_refused())
    return renewed


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
        return (yield from _undo_savepoint(scope, outer, caused_after(released, body)))
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
    return with_note(body, undone, "ROLLBACK")


def lost_flow(scope: Scope) -> Flow:
    """Run the rest of a body whose transaction was rolled back with its session, by others."""
    body = yield CALL
    scope.advance(ScopeState.ROLLED_BACK)
    scope.settle()
    if scope.hooks is not None:
        return (yield from completed_flow(scope, scope.hooks, body))
    return body


def closing_flow(inner: Flow) -> Flow:
    """Run ``inner`` on a session that ends with it: CLOSE comes once and last.

    A CLOSE that fails after a commit is reported by the port and not raised: an exception would
    tell the caller that nothing was kept.
    """
    outcome = yield from inner
    closed = yield CLOSE
    if isinstance(outcome, Failed):
        return with_note(outcome, closed, "CLOSE")
    return outcome


class FailureRule(Protocol):
    """The half of the outcome rules that a joined call needs."""

    def fails(self, error: BaseException) -> bool:
        """Whether ``error`` leaving the body counts as a failure."""
        ...


def broken_flow(error: BaseException, scope: Scope | None, joined: Scope | None) -> Flow:
    """Clean up after a flow that ``error`` interrupted between two effects: a signal, say.

    What it had joined is doomed, and what it had begun is rolled back. Where COMMIT may have been
    sent, nobody knows what became of it. Nothing that waits for a commit is run.
    """
    outcome = Failed(error)
    if joined is not None:
        joined.doom(error)
    elif scope is not None:
        undone = yield ROLLBACK
        if scope.state is ScopeState.ACTIVE:
            unknown = scope.sends_commit
            scope.advance(ScopeState.UNKNOWN if unknown else ScopeState.ROLLED_BACK)
        kept = with_note(outcome, undone, "ROLLBACK")
        if scope.hooks is None:
            return kept
        if scope.state is not ScopeState.COMMITTED:
            return (yield from completed_flow(scope, scope.hooks, kept))
        lost = count_due(scope.hooks, TransactionOutcome.COMMITTED)
        if lost:
            error.add_note(f"{scope.name} was committed, but {lost} of its hooks did not run.")
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


def _before_commit(scope: Scope, body: Outcome) -> Refusing:
    """Run what comes last before COMMIT, and see whether there is time left for that."""
    if scope.hooks is not None:
        refusal = yield from _run_before_commit(scope, scope.hooks, body)
        if refusal is not None:
            return refusal
    if scope.deadline is not None and scope.deadline.is_over:
        return caused_after(Failed(scope.deadline.error()), body)
    return None


def _run_before_commit(scope: Scope, hooks: PendingHooks, body: Outcome) -> Refusing:
    """Run the hooks, and flush what they left behind."""
    while hooks.count(HookKind.BEFORE_COMMIT):
        for hook in hooks.take(HookKind.BEFORE_COMMIT):
            ran = yield Run(hook)
            if isinstance(ran, Failed):
                return caused_after(ran, body)
        refusal = _verdict(scope, body, is_judged=True)
        if refusal is not None:
            return refusal
        flushed = yield FLUSH
        if isinstance(flushed, Failed):
            return caused_after(flushed, body)
    return None


def _refusal(scope: Scope, body: Outcome) -> Outcome | None:
    """Return what the caller gets if the unit is to be rolled back, else None.

    :data:`UNANSWERED`: the outcome rules want to see the answer first.
    """
    try:
        return _verdict(scope, body)
    except BaseException as broken:  # noqa: BLE001 - a rule of the user's that fails
        return caused_after(Failed(broken), body)


def _verdict(scope: Scope, body: Outcome, *, is_judged: bool = False) -> Outcome | None:
    rejects: bool | None = False
    if is_judged:
        ...  # and was to be committed
    elif isinstance(body, Failed):
        if scope.rules.fails(body.error):
            return body
    elif rejects := scope.rules.rejects(body.value):
        return body
    if scope.rollback_only:
        return body
    if scope.paused:
        return Failed(scope.left_open())
    if scope.cause is not None:
        raised = body.error if isinstance(body, Failed) else None
        return Failed(scope.unexpected_rollback(raised))
    return UNANSWERED if rejects is None else None


def _undo(
    scope: Scope, outcome: Outcome, effect: Effect, end: ScopeState = ScopeState.ROLLED_BACK
) -> Flow:
    if scope.paused:
        yield from _cut_off(scope, outcome)
    undone = yield effect
    scope.advance(end)
    scope.settle()
    if scope.committed_by_hand and isinstance(outcome, Failed):
        outcome.error.add_note(scope.what_stays())
    return with_note(outcome, undone, "ROLLBACK")


def _undo_savepoint(scope: Scope, outer: Scope, outcome: Outcome) -> Flow:
    """Roll back to the savepoint; where that fails or takes the outer's work with it, doom that."""
    if scope.paused:
        yield from _cut_off(scope, outcome)
    undone = yield ROLLBACK_TO
    scope.advance(ScopeState.ROLLED_BACK)
    scope.settle()
    if isinstance(undone, Failed):  # its work is a part of the outer's from now on
        failed = undone
        if isinstance(outcome, Failed):
            failed = outcome
            note(failed, undone, "ROLLBACK")
        outer.doom(failed.error, scope.name)
        return failed
    scope.split_hooks(TransactionOutcome.ROLLED_BACK)
    if scope.is_shared:
        outer.doom(scope.took_along())
    return outcome


def _cut_off(scope: Scope, outcome: Outcome) -> Generator[Request, Outcome, None]:
    """End the blocks that are open in ``scope`` with it, the innermost first."""
    blocks = [part.block for part in scope.paused if part.block is not None]
    if not blocks:
        return
    error = scope.left_open()
    for block in reversed(blocks):
        yield from block.cut_off(error)
    if isinstance(outcome, Failed) and str(outcome.error) != str(error):
        outcome.error.add_note(str(error))
