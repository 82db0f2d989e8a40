"""The policy of what waits for the end of a transaction."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from flask_reqsession.causes import caused_after, note
from flask_reqsession.effects import Failed, Ok, Run
from flask_reqsession.options import TransactionOutcome
from flask_reqsession.pending import HookKind
from flask_reqsession.states import ScopeState

if TYPE_CHECKING:
    from flask_reqsession.effects import Flow, Outcome
    from flask_reqsession.pending import Hook, PendingHooks
    from flask_reqsession.scope import Scope

_OUTCOMES = MappingProxyType(
    {
        ScopeState.COMMITTED: TransactionOutcome.COMMITTED,
        ScopeState.ROLLED_BACK: TransactionOutcome.ROLLED_BACK,
        ScopeState.UNKNOWN: TransactionOutcome.UNKNOWN,
    }
)
_DUE = MappingProxyType(
    {
        TransactionOutcome.COMMITTED: (HookKind.ON_COMMIT, HookKind.ON_COMPLETION),
        TransactionOutcome.ROLLED_BACK: (HookKind.ON_ROLLBACK, HookKind.ON_COMPLETION),
        TransactionOutcome.UNKNOWN: (HookKind.ON_COMPLETION,),
    }
)


def completed_flow(scope: Scope, hooks: PendingHooks, outcome: Outcome) -> Flow:
    """Run those of ``hooks`` that waited for the end which ``scope`` came to; drop the others.

    All of them run, whatever fails. The end stands, so ``outcome`` is what the caller gets, with
    notes of what failed; but an exit such as Ctrl-C goes on, and so does the exception of a hook
    that is not robust, unless another one is on its way.
    """
    ended = _OUTCOMES[scope.state]
    for kind in _DUE[ended]:
        for hook in hooks.take(kind):
            ran = yield Run(hook, hook.outcome or ended)
            if isinstance(ran, Failed):
                outcome = _after_hook(hook, ran, outcome)
    hooks.clear()
    return outcome


def count_due(hooks: PendingHooks, outcome: TransactionOutcome) -> int:
    """Return how many of ``hooks`` waited for ``outcome``."""
    return sum(hooks.count(kind) for kind in _DUE[outcome])


def _after_hook(hook: Hook, ran: Failed, outcome: Outcome) -> Outcome:
    hook.task.report(ran.error)
    is_exit = not isinstance(ran.error, Exception)
    if isinstance(outcome, Ok):
        return ran if is_exit or not hook.robust else outcome
    if is_exit and isinstance(outcome.error, Exception):
        return caused_after(ran, outcome)
    note(outcome, ran, f"The {hook.kind.value} hook {hook.name}")
    return outcome
