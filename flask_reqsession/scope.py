"""The scope record: one physical unit of work, a transaction or a savepoint.

A call that joins has no record of its own; it can only doom the unit that it joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flask_reqsession.errors import (
    PropagationError,
    ReqSessionError,
    TransactionTimeoutError,
    UnexpectedRollbackError,
)
from flask_reqsession.modes import Deadline
from flask_reqsession.option_values import ALLOW, RAISE
from flask_reqsession.parts import Part, label_of, left_early
from flask_reqsession.pending import Hook, HookKind, PendingHooks
from flask_reqsession.states import ScopeState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask_reqsession.modes import TransactionMode
    from flask_reqsession.option_values import ManualCommit
    from flask_reqsession.options import TransactionOutcome


class OutcomeRules(Protocol):
    """What a scope's options say about the end of its body."""

    def fails(self, error: BaseException) -> bool:
        """Whether ``error`` leaving the body rolls back."""
        ...

    def rejects(self, value: object) -> bool | None:
        """Whether ``value``, returned by the body, rolls back (a view's error status).

        None: it is to be decided about what :meth:`respond` makes of it.
        """
        ...

    def respond(self, value: object) -> object:
        """Return what the caller gets in the place of ``value``; what can't be answered, raises."""
        ...


class CallRules(OutcomeRules, Protocol):
    """What the options of a call say, too, where its body may have done nothing."""

    def is_moot(self, value: object) -> bool:
        """Whether a scope that did nothing may end without a look at ``value``."""
        ...


class Scope:
    """One transaction or savepoint, from its begin to its end. Fresh for every call.

    ``parent`` is the scope around a savepoint, ``savepoint`` what the port knows it by. ``paused``
    names the generators that are parts of this scope and stand between two steps, each with its
    savepoint if it has one, and the ``with`` blocks that are open in it; ``is_shared`` says of such
    a savepoint that its consumer wrote into it meanwhile. ``manual_commit`` is what a commit by
    hand does now: the innermost call decides. ``hooks`` are those of the whole transaction, or, of
    a savepoint that was rolled back, those that wait for just that; ``sends_commit`` says that
    COMMIT is on its way. ``mode`` and ``deadline`` are those of the transaction, in its savepoints
    too; ``reads_replica`` says that it may read from one, ``awaits`` that a coroutine waits for the
    end, although the session is a synchronous one.
    """

    __slots__ = (
        "awaits",
        "cause",
        "committed_by_hand",
        "culprit",
        "deadline",
        "depth",
        "hooks",
        "is_shared",
        "manual_commit",
        "mode",
        "name",
        "parent",
        "paused",
        "propagation",
        "reads_replica",
        "rollback_only",
        "rules",
        "savepoint",
        "sends_commit",
        "state",
    )

    def __init__(
        self,
        name: str,
        rules: OutcomeRules,
        parent: Scope | None = None,
        propagation: str = "REQUIRED",
        manual_commit: ManualCommit | None = None,
    ) -> None:
        if manual_commit is None:
            manual_commit = RAISE if parent is None else parent.manual_commit
            if manual_commit == ALLOW:  # a commit would end the savepoint with its transaction
                manual_commit = RAISE
        self.name: str = name
        self.propagation: str = propagation
        self.rules: OutcomeRules = rules
        self.parent: Scope | None = parent
        self.committed_by_hand: bool = False
        self.awaits: bool = False
        self.hooks: PendingHooks | None = None
        self.depth: int = 1
        self.deadline: Deadline | None = None
        self.mode: TransactionMode | None = None
        self.reads_replica: bool = False
        if parent is not None:
            self.depth = parent.depth + 1
            self.deadline, self.mode = parent.deadline, parent.mode
            self.reads_replica = parent.reads_replica
        self.is_shared: bool = False
        self.manual_commit: ManualCommit = manual_commit
        self.paused: list[Part] = []
        self.state: ScopeState = ScopeState.NEW
        self.rollback_only: bool = False
        self.savepoint: object = None
        self.sends_commit: bool = False
        self.cause: BaseException | None = None
        self.culprit: str = ""

    def begin_in(self, mode: TransactionMode, *, reads_replica: bool) -> None:
        """Take the mode of a transaction of its own; its time runs from now on."""
        self.mode = mode
        self.reads_replica = reads_replica
        if mode.timeout is not None:
            self.deadline = Deadline(self.name, mode.timeout)

    def advance(self, target: ScopeState) -> None:
        """Move to ``target``; call it after the effect succeeded."""
        if not self.state.may_become(target):
            raise RuntimeError(
                f"Scope {self.name} {self.state.value}; it cannot become {target.name}."
            )
        self.state = target

    def doom(self, error: BaseException, culprit: str = "") -> None:
        """Let the unit end in a rollback because of ``error``.

        ``culprit`` is the call that joined the unit and failed with it. The first cause stays: what
        fails after it usually fails because of it.
        """
        if self.cause is None:
            self.cause = error
            self.culprit = culprit
        elif self.cause is error and not self.culprit:
            self.culprit = culprit

    def doom_transaction(self, error: BaseException) -> None:
        """Let the whole transaction end in a rollback because of ``error``, savepoint or not."""
        for unit in self.lineage():
            unit.doom(error)

    def lineage(self) -> Iterator[Scope]:
        """Yield this scope and those around it: a commit or rollback by hand ends them all."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    @property
    def transaction(self) -> Scope:
        """The scope around all others: it is the transaction, this one may be a savepoint."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    def register(self, hook: Hook) -> None:
        """Let ``hook`` wait for the end of the transaction.

        :raises PropagationError: it should run before COMMIT, which is on its way.
        """
        transaction = self.transaction
        if hook.kind is HookKind.BEFORE_COMMIT and transaction.sends_commit:
            raise PropagationError(
                f"before_commit({hook.name}) was called while the COMMIT of {transaction.name} was "
                "on its way, and it would never run. Call it in the scope, or use on_commit()."
            )
        if transaction.hooks is None:
            transaction.hooks = PendingHooks()
        transaction.hooks.add(hook)

    def split_hooks(self, outcome: TransactionOutcome) -> None:
        """Take over what was registered in this savepoint, which ended with ``outcome``."""
        hooks = self.transaction.hooks
        if hooks is not None:
            self.hooks = hooks.split(self, outcome)

    @property
    def is_plain(self) -> bool:
        """Whether its end depends on the body alone: nothing waits for it, and it is not doomed."""
        is_doomed = self.rollback_only or self.cause is not None  # not the property: one call less
        return self.hooks is None and not self.paused and not is_doomed

    @property
    def is_doomed(self) -> bool:
        """Whether the unit can only be rolled back."""
        return self.rollback_only or self.cause is not None

    @property
    def allows_manual_end(self) -> bool:
        """Whether the running code may commit or roll back the transaction by itself.

        Not while a generator waits in a savepoint, which would end with it.
        """
        return self.manual_commit == ALLOW and not any(part.savepoint for part in self.paused)

    def settle(self) -> None:
        """Let go of the cause at the end.

        Its traceback holds the frames of the calls that held the scope: a cycle, which would keep
        all their objects alive until the cyclic collector runs.
        """
        self.cause = None

    def what_stays(self) -> str:
        """Say that a rollback did not undo everything."""
        return (
            f"{self.name} has manual_commit='allow': what was committed by hand in it before stays "
            "committed."
        )

    def unexpected_rollback(self, raised: BaseException | None = None) -> ReqSessionError:
        """Tell the caller of a doomed scope that nothing of it was kept.

        ``raised`` is what leaves the body, where the scope's own rules would commit all the same.
        """
        if isinstance(self.cause, TransactionTimeoutError):
            return self.cause
        error = UnexpectedRollbackError(
            f"Everything that {self.name} did was rolled back, and no exception told its caller: "
            f"{self._what_happened(raised)}"
        )
        error.__cause__ = self.cause
        return error

    def pause(self, name: str, savepoint: Scope | None) -> None:
        """Let a generator that is a part of this scope stand between two steps.

        :raises PropagationError: its savepoint would take turns with that of another one.
        """
        for other, others_savepoint, _ in self.paused:
            if savepoint is not None and others_savepoint is not None:
                raise PropagationError(
                    f"The generators {other} and {name} are both NESTED in {self.name} and take "
                    "turns, but savepoints end in the reverse order of their begin. Exhaust one "
                    "before the other begins."
                )
        self.paused.append(Part(name, savepoint))

    def resume(self, name: str, savepoint: Scope | None) -> None:
        """Let the generator go on."""
        self.paused.remove(Part(name, savepoint))

    def left_open(self) -> PropagationError:
        """Refuse to end while a part of the work is half done."""
        part = self.paused[-1]
        if part.block is not None:
            return left_early(label_of(self.name, self.propagation), part.name)
        return PropagationError(
            f"{self.name} ended while the generator {part.name}, which is a part of it, "
            "was between two steps. Exhaust the generator first."
        )

    def mode_refused(self) -> PropagationError:
        """Refuse to begin in a mode where a transaction with changes is open."""
        return PropagationError(
            f"{self.name} begins its transaction in a mode of its own (isolation, read_only or "
            "timeout), but this request has uncommitted changes from before it, in a transaction "
            "that keeps the mode it began in. Commit them in a scope of their own before, or use "
            "propagation=Propagation.REQUIRES_NEW."
        )

    def took_along(self) -> PropagationError:
        """Tell that a savepoint could not be rolled back without the work of its consumer."""
        return PropagationError(
            f"The generator {self.name} is NESTED and was rolled back to its savepoint, and what "
            "its consumer wrote between the steps went with it. Write before the first step or "
            "after the last one, or collect the rows first."
        )

    def _what_happened(self, raised: BaseException | None) -> str:
        cause = type(self.cause).__name__
        if not self.culprit:
            return f"{cause}: {self.cause}"
        if isinstance(self.cause, GeneratorExit):
            return (
                f"{self.culprit} had joined its transaction and ended with GeneratorExit, as a "
                "generator does that is closed before its end: by a break, or by zip(). Exhaust "
                f"it, or give {self.culprit} no_rollback_for=GeneratorExit if what it did until "
                "then counts."
            )
        failed = f"{self.culprit} had joined its transaction and failed with {cause}, and that "
        apart = f"give {self.culprit} propagation=Propagation.NESTED or REQUIRES_NEW."
        if self.cause is raised:
            return (
                f"{failed}exception is one with which {self.name} commits, and {self.culprit} does "
                f"not. Give {self.culprit} the same no_rollback_for, or {apart}"
            )
        return (
            f"{failed}exception was swallowed. Let it propagate, answer it with "
            f"set_rollback_only() or an error status, or {apart}"
        )
