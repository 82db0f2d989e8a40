"""Where the body of a call runs and with which flow, whatever its colour.

Its body may run in one piece (a function, a ``with`` block) or in steps (a generator); between two
steps the scope is paused, and the consumer does not see it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, TypeVar

from flask_reqsession.autocommit import refusal
from flask_reqsession.completion import completed_flow
from flask_reqsession.errors import PropagationError, ReqSessionError, ScopeOwnershipError
from flask_reqsession.flows import (
    bare_flow,
    broken_flow,
    closing_flow,
    discarded_flow,
    join_flow,
    lost_flow,
    savepoint_flow,
    transaction_flow,
)
from flask_reqsession.option_values import DEFER
from flask_reqsession.owners import describe_current, effective_owner
from flask_reqsession.ports import Port
from flask_reqsession.propagation import (
    Entry,
    ScopeSpec,
    earlier_work_error,
    entry_of,
    no_second_session_error,
    occupied_error,
)
from flask_reqsession.retry_flows import retried_flow
from flask_reqsession.scope import Scope
from flask_reqsession.states import ScopeState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import Engine

    from flask_reqsession.effects import EitherPerformer, Flow
    from flask_reqsession.keeper import UnitKeeper
    from flask_reqsession.option_values import ManualCommit
    from flask_reqsession.places import OpenUnit
    from flask_reqsession.units import Unit

PortT = TypeVar("PortT", bound=Port)


class Entering(ABC, Generic[PortT]):
    """One entry into a scope, as far as it has no colour.

    ``port`` is what the body runs on, ``_suspended`` what is current outside of it. ``_outer`` is
    the scope around on the same port, ``_joined`` the one that this entry is a part of.
    """

    __slots__ = (
        "_around",
        "_awaits",
        "_defers",
        "_flow",
        "_guards",
        "_has_begun",
        "_is_inside",
        "_joined",
        "_keeper",
        "_opened",
        "_outer",
        "_scope",
        "_spec",
        "_suspended",
        "_unit",
        "_wrote",
        "port",
    )

    port: PortT
    _flow: Flow
    _outer: Scope | None
    _suspended: PortT
    _unit: Unit

    def __init__(self, keeper: UnitKeeper, spec: ScopeSpec) -> None:
        self._around: ManualCommit | None = None
        self._defers = False
        self._awaits = False
        self._guards = False
        self._has_begun = False
        self._is_inside = False
        self._joined: Scope | None = None
        self._keeper = keeper
        self._opened: OpenUnit | None = None
        self._scope: Scope | None = None
        self._spec = spec
        self._wrote = False

    # -- what differs ---------------------------------------------------------------------------

    @abstractmethod
    def _ports(self) -> dict[str, PortT]:
        """Return the unit's current ports of this colour."""

    @abstractmethod
    def _current_port(self) -> PortT:
        """Return the unit's current port of the bind."""

    @abstractmethod
    def _others(self) -> Iterable[EitherPerformer]:
        """Return the unit's other ports, as far as this colour can use them."""

    @abstractmethod
    def _new_port(self) -> PortT:
        """Make a port of the bind beside the current one."""

    # -- entering and leaving -------------------------------------------------------------------

    def _acquire(self) -> None:
        """Find the unit, or open one for this call (M10), and decide how to enter."""
        found = self._keeper.find()
        if found is not None:
            self._unit = found.unit
            self._choose_flow()
            self._is_inside = self._has_begun = True
        else:
            opened = self._keeper.open("call")
            self._unit = opened.unit
            self._choose_flow()
            self._flow = closing_flow(self._flow)
            self._opened = opened
            self._is_inside = self._has_begun = True
            self._keeper.enter(opened)

    def _choose_flow(self) -> None:
        spec = self._spec
        self.port = self._suspended = current = self._current_port()
        self._outer = running = current.scope
        entry = entry_of(spec, running, current.paused)
        if running is not None and entry is Entry.JOIN:
            self._joined = running
            self._flow = join_flow(running, spec.name, spec.rules)
        elif running is not None and entry is Entry.SAVEPOINT:
            self._joined = running
            self._flow = self._attempt(lambda scope: savepoint_flow(scope, running))
        elif entry is Entry.BARE:
            self._flow = bare_flow()
        elif entry is Entry.START:
            self._refuse_start(current)
            self._flow = self._attempts()
        else:
            self._refuse_second_session(current)
            self.port = self._new_port()
            self.port.guard_pool(self._refuse_wait)
            self._guards = current.guard_pool(self._refuse_wait)
            self._outer = None
            inner = self._attempts() if entry is Entry.OWN_SESSION else discarded_flow()
            self._flow = closing_flow(inner)

    def _refuse_start(self, port: PortT) -> None:
        if port.paused is not None:
            raise occupied_error(self._spec.name, port.paused.name)
        if port.autocommit is not None:
            raise refusal(port.autocommit, self._spec.name)
        # What a failed flush was a part of is lost already, and not to be run again.
        if self._spec.retry is not None and port.is_free and port.has_uncommitted_changes:
            raise earlier_work_error(self._spec.name)

    def _refuse_second_session(self, current: PortT) -> None:
        if current.is_only_session:
            raise no_second_session_error(self._spec.name, self._spec.bind)
        engines: Sequence[Engine] = [connection.engine for connection in current.connections]
        if not engines and len(known := current.engines()) == 1:
            engines = known
        for engine in engines:
            self._refuse_wait(engine)

    def _refuse_wait(self, engine: Engine) -> None:
        """Refuse a connection to either of the two sessions, where the other holds the last one."""
        if self._keeper.holds_all_of(engine.pool, self._unit):
            raise no_second_session_error(self._spec.name, self._spec.bind)

    def _attempts(self) -> Flow:
        retry = self._spec.retry
        if retry is None:
            return self._attempt(transaction_flow)
        attempts = retried_flow(
            lambda: self._attempt(transaction_flow), retry(), self._is_kept, self._others
        )
        return self._completed(attempts)

    def _is_kept(self) -> bool:
        return self._scope is not None and self._scope.state is ScopeState.COMMITTED

    def _attempt(self, flow_of: Callable[[Scope], Flow]) -> Flow:
        spec = self._spec
        self._scope = Scope(
            spec.name, spec.rules, self._outer, spec.propagation, spec.manual_commit
        )
        if spec.mode is not None and self._outer is None:
            elsewhere = spec.mode.read_only and self._unit.may_read_replica(spec.bind)
            self._scope.begin_in(spec.mode, reads_replica=elsewhere)
        self._scope.awaits = self._awaits
        outcome = yield from flow_of(self._scope)
        self.port.scope = self._outer
        if self._scope.hooks is not None and spec.retry is None:
            return (yield from completed_flow(self._scope, self._scope.hooks, outcome))
        return outcome

    def _completed(self, attempts: Flow) -> Flow:
        """Run the hooks of the last of the ``attempts``; those of the others are dropped."""
        outcome = yield from attempts
        if self._scope is not None and self._scope.hooks is not None:
            return (yield from completed_flow(self._scope, self._scope.hooks, outcome))
        return outcome

    def _salvage(self, error: BaseException) -> Flow:
        """Return what is to be done where ``error`` interrupted the machinery itself."""
        self._flow.close()
        if self._scope is not None:
            self.port.scope = self._outer
        if self.port.paused is self._scope:
            self.port.paused = None
        return broken_flow(error, self._scope, self._joined)

    @property
    def _is_savepoint(self) -> bool:
        return self._scope is not None and self._joined is not None

    def _step_in(self) -> None:
        if self.port is not self._suspended:
            self._ports()[self._spec.bind] = self.port
        if self._scope is not None:
            self.port.scope = self._scope
        if self._spec.manual_commit is not None:
            self._decide_manual_commit(self._spec.manual_commit)
        self._is_inside = True

    def _step_out(self) -> None:
        self._is_inside = False
        if self._spec.manual_commit is not None:
            self._undecide_manual_commit()
        if self.port is not self._suspended:
            self._ports()[self._spec.bind] = self._suspended
        if self._opened is not None:
            self._keeper.leave(self._opened)

    def _decide_manual_commit(self, wanted: ManualCommit) -> None:
        """Let a commit by hand in the body do what this call says, not the scope it joined."""
        scope = self.port.scope
        if scope is None:
            return
        if self._scope is None and self._around is None:
            self._around, scope.manual_commit = scope.manual_commit, wanted
        if wanted == DEFER and not self._defers:
            self._defers = self.port.defer_commits()

    def _undecide_manual_commit(self) -> None:
        if self._around is not None and self._joined is not None:
            self._joined.manual_commit, self._around = self._around, None
        if self._defers:
            self._defers = False
            self.port.stop_deferring()

    def _end(self) -> None:
        """Leave for good, and forget a port that was made for this call alone."""
        self._has_begun = False
        if self._is_inside:
            self._step_out()
        if self._guards:
            self._guards = False
            self._suspended.stop_guarding_pool()
        if self.port is not self._suspended and self.port.closed:
            self._unit.retire(self.port)

    # -- between the steps of a generator -------------------------------------------------------

    def resume(self) -> None:
        """Make the scope current again for the next step of the body.

        :raises ReqSessionError: what it runs in has ended meanwhile, or is not what runs now.
        """
        refusal = self._reason_to_stop()
        if refusal is not None:
            self._flow.close()
            is_lost = self.port.closed and self._joined is None
            lost = self._scope if is_lost else None
            self._flow = bare_flow() if lost is None else lost_flow(lost)
            next(self._flow)
            raise refusal
        if self._opened is not None:
            self._keeper.enter(self._opened)
        self._suspended = self._current_port()
        if self._joined is not None:
            self._joined.resume(self._spec.name, self._scope)
        if self._scope is not None and self._joined is not None:
            self._scope.is_shared |= self.port.has_uncommitted_changes
            self.port.wrote |= self._wrote
        elif self._scope is not None:
            self.port.paused = None
        self._step_in()

    def _reason_to_stop(self) -> ReqSessionError | None:
        name, outer, port, owner = self._spec.name, self._outer, self.port, effective_owner()
        if self._opened is not None:
            self._unit.owner = owner  # nobody else can reach it
        if self._unit.owner is not owner:
            return ScopeOwnershipError(
                f"The generator {name} runs on a session of {self._unit.owner_name}, but "
                f"{describe_current()} asked for its next step. Exhaust it where it began."
            )
        if port.closed or (outer is not None and outer.state is not ScopeState.ACTIVE):
            return PropagationError(
                f"The generator {name} goes on after the scope or the request that it ran in has "
                "ended. Exhaust it inside, or let it stream with stream_with_context."
            )
        if self._scope is not None and port.scope is not outer:
            return PropagationError(
                f"The generator {name} goes on inside a scope that is not the one in which it "
                "began. Exhaust it where it began."
            )
        return None

    def _step_out_for_consumer(self) -> None:
        """Take the scope out of the consumer's sight until :meth:`resume`.

        :raises PropagationError: two savepoints would take turns.
        """
        scope, port = self._scope, self.port
        if self._joined is not None:
            self._joined.pause(self._spec.name, scope)
        if scope is not None and self._joined is not None:
            self._wrote, port.wrote = port.wrote, False
        elif scope is not None:
            port.paused = scope
        if scope is not None:
            port.scope = self._outer
        self._step_out()
