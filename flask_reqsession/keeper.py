"""Find the unit of work of the running code, open units by hand, and end them."""

from __future__ import annotations

import logging
import os
import weakref
from typing import TYPE_CHECKING, Final

from flask_reqsession.contexts import request_context
from flask_reqsession.errors import NoActiveScopeError, ScopeOwnershipError
from flask_reqsession.losses import Losses, warn_of
from flask_reqsession.observer import Observer, Recorder
from flask_reqsession.owners import (
    current_owner,
    current_strand,
    describe_current,
    running_loop,
)
from flask_reqsession.places import OpenUnit, Place, nearest, open_unit, place
from flask_reqsession.pools import PoolLimits
from flask_reqsession.ports import AsyncSessionPort, SessionPort
from flask_reqsession.units import Unit, Units
from flask_reqsession.weak_calls import call_weakly

if TYPE_CHECKING:
    from flask import Flask
    from sqlalchemy.pool import Pool

    from flask_reqsession.contexts import Context
    from flask_reqsession.databases import DatabaseManager
    from flask_reqsession.manager import RequestScopedSessionManager
    from flask_reqsession.ports import Port

logger: logging.Logger = logging.getLogger("flask_reqsession")

REQUEST: Final = "request"
"""The kind of unit that belongs to a request."""


class UnitKeeper:
    """Keeps the units of one manager: one for each live request, and those opened by hand.

    Each context in which a request is served has its unit under the *request*, so that a copy of
    the context finds the same one. After its end, a context that is pushed once more (for a
    streamed body, or in a background thread) has one under the *context*.
    """

    def __init__(
        self,
        databases: DatabaseManager,
        recorder: Recorder,
        manager: RequestScopedSessionManager,
    ) -> None:
        self.databases = databases
        self.manager = manager
        self.observer: Observer = Observer(
            recorder, call_weakly(self._has_session, otherwise=False)
        )
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        self._opened: weakref.WeakSet[Unit] = weakref.WeakSet()
        self._limits = PoolLimits()
        self._requests = Units()
        os.register_at_fork(after_in_child=call_weakly(self._after_fork, otherwise=None))

    # -- finding --------------------------------------------------------------------------------

    def find(self) -> Place | None:
        """Return where the running code is, or None outside a request and outside every unit.

        :raises ScopeOwnershipError: it is inside one that another thread, greenlet or task owns.
        """
        context = request_context(None)
        here = place.get()
        owner = current_owner()
        if (
            here is not None
            and here.context is context
            and here.owner is owner
            and here.keeper is self
            and not here.unit.ended
            and not here.unit.of_parent
        ):
            return here
        unit = self._opened_unit(context)
        if unit is None and context is not None and self._serves(context.app):
            unit = self._request_unit(context)
            if unit is None:
                is_first = self._requests.get(context.request) is None
                unit = self._begin_unit(context, context.request if is_first else context)
        if unit is None:
            return None
        if not unit.is_mine:
            raise self._not_owner(unit)
        here = Place(unit, context=context, owner=owner, keeper=self)
        place.set(here)
        return here

    def peek(self) -> Unit | None:
        """Return the unit that exists for the running code; make none and never raise."""
        context = request_context(None)
        unit = self._opened_unit(context)
        if unit is None and context is not None:
            unit = self._request_unit(context)
        return unit

    def _opened_unit(self, context: Context | None) -> Unit | None:
        """Return the unit opened by hand here: around a request of ours there is none."""
        opened = nearest(self)
        if opened is None:
            return None
        if context is None or opened.context is context or not self._serves(context.app):
            return opened.unit
        return None

    def _serves(self, app: Flask) -> bool:
        """Whether requests of ``app`` are ours. Without ``init_app`` all are: close by hand."""
        return not self._apps or app in self._apps

    def _request_unit(self, context: Context) -> Unit | None:
        unit = self._requests.get(context.request)
        if unit is not None and unit.ended:
            unit = self._requests.get(context)
        return None if unit is None or unit.ended else unit

    def _begin_unit(self, context: Context, key: object) -> Unit:
        """Begin the unit of the request, or of a context that is pushed again after its end."""
        if self._requests.orphans:
            self._end_orphans()
        unit = Unit(REQUEST, context)
        self._requests.add(key, unit)
        return unit

    def _has_session(self) -> bool:
        unit = self.peek()
        return unit is not None and any(port.session is not None for port in unit.opened)

    @staticmethod
    def _not_owner(unit: Unit) -> ScopeOwnershipError:
        return ScopeOwnershipError(
            f"The session of this {unit.kind} belongs to {unit.owner_name}, but "
            f"{describe_current()} asked for it through a copied context. A session serves one "
            "thread, greenlet or task at a time: open unit_of_work() (in a task "
            "async_unit_of_work()) there, and pass primary keys or detached instances."
        )

    def here(self, what: str) -> Place:
        """Return where the running code is.

        :raises NoActiveScopeError: outside a request and outside every unit of work.
        """
        found = self.find()
        if found is None:
            raise NoActiveScopeError(
                f"{what} needs a request or a unit of work, and neither is active. Call it in a "
                "view, or open manager.unit_of_work() outside a request."
            )
        return found

    def holds_all_of(self, pool: Pool, unit: Unit) -> bool:
        """Whether ``unit`` and those around it hold every connection that ``pool`` gives."""
        units, opened = [unit], open_unit.get()
        while opened is not None:
            if opened.keeper is self and opened.unit is not unit and opened.unit.is_mine:
                units.append(opened.unit)
            opened = opened.outer
        return self._limits.is_taken_up(
            pool, [held for each in units for port in each.opened for held in port.connections]
        )

    # -- ports ----------------------------------------------------------------------------------

    def port(self, unit: Unit, bind: str) -> SessionPort:
        """Return the current port of ``bind`` in ``unit``."""
        port = unit.ports.get(bind)
        if port is None or (port.closed and port.scope is None):
            port = unit.ports[bind] = self.new_port(unit, bind)
        return port

    def new_port(self, unit: Unit, bind: str) -> SessionPort:
        """Make a port that ends with ``unit`` at the latest."""
        port = SessionPort(self.databases.source(bind), self.observer)
        if unit.kind == REQUEST:
            self._watch_strictly(unit, port)
        unit.opened.append(port)
        return port

    def async_port(self, unit: Unit, bind: str) -> AsyncSessionPort:
        """Return the current async port of ``bind`` in ``unit``."""
        port = unit.async_ports.get(bind)
        if port is None or (port.closed and port.scope is None):
            port = unit.async_ports[bind] = self.new_async_port(unit, bind)
        return port

    def new_async_port(self, unit: Unit, bind: str) -> AsyncSessionPort:
        """Make an async port that ends with ``unit`` at the latest."""
        port = AsyncSessionPort(self.databases.async_source(bind), self.observer)
        if unit.kind == REQUEST:
            self._watch_strictly(unit, port)
        unit.opened.append(port)
        return port

    def _watch_strictly(self, unit: Unit, port: Port) -> None:
        """In strict mode, let the port of a request remember what it would lose."""
        context = request_context(None)
        if context is not None and self.manager.is_strict(context.app):
            unit.watches_losses = True
            port.losses = Losses(lambda: port.scope is None and port.paused is None)

    # -- units opened by hand -------------------------------------------------------------------

    def open(self, kind: str) -> OpenUnit:
        """Make a unit that the caller has to :meth:`enter`, :meth:`leave` and end."""
        unit = Unit(kind)
        self._opened.add(unit)
        return OpenUnit(unit, self, request_context(None))

    @staticmethod
    def enter(opened: OpenUnit) -> None:
        """Make ``opened`` the current unit of this context."""
        opened.enter()

    @staticmethod
    def leave(opened: OpenUnit) -> None:
        """Make the unit around ``opened`` current again."""
        opened.leave()

    def joins(self) -> bool:
        """Whether a new unit would find one that the running code owns."""
        unit = self.peek()
        if unit is not None:
            return unit.is_mine
        context = request_context(None)
        return context is not None and self._serves(context.app)

    # -- requests -------------------------------------------------------------------------------

    def serve(self, app: Flask) -> None:
        """Take the requests of ``app`` for ours, and only those of the apps named here."""
        self._apps.add(app)

    def begin_request(self, context: Context | None) -> None:
        """Claim the session for the running code; end what other requests left behind.

        Claimed at first use, it could go to a background thread that was faster than the view.
        """
        here = place.get()
        if here is not None and here.context is not context:
            place.set(None)
        del here  # a request that was lost would be kept alive
        if context is None or self._requests.get(context.request) is not None:
            return  # it has been begun before
        unit = self._begin_unit(context, context.request)
        place.set(Place(unit, context=context, owner=unit.owner, keeper=self))

    def _end_orphans(self) -> None:
        for orphan in self._requests.take_orphans():
            logger.warning(
                "A request of %s ended without its teardown; its session is rolled back and "
                "closed now.",
                orphan.owner_name,
            )
            orphan.end()

    def end_request(self, error: BaseException | None) -> None:
        """End the unit of the current request, unless this is a copy of its context.

        ``copy_current_request_context`` runs the teardown functions for the copy as well, in
        whatever thread that is.
        """
        context = request_context(None)
        if context is None or (unit := self._ending_unit(context)) is None:
            return
        place.set(None)
        losses: list[str] = []
        try:
            if unit.watches_losses:
                losses = unit.losses(unit.opened, error)
        finally:
            unit.end(error)
        if losses:  # now that all is closed: the user's filters may make an error of it
            warn_of(losses, context.request.endpoint)

    def _ending_unit(self, context: Context) -> Unit | None:
        """Return the unit that began in ``context`` and is the running code's."""
        here = place.get()
        unit: Unit | None
        if (
            here is not None
            and here.context is context
            and here.keeper is self
            and here.owner is current_strand()
            and running_loop() is None
        ):
            unit = here.unit
            if not unit.ended and not unit.of_parent and unit.began_in(context):
                return unit
        unit = self._request_unit(context)
        return unit if unit is not None and unit.began_in(context) and unit.is_mine else None

    async def end_coroutine(self, error: BaseException | None) -> None:
        """Close what an async view opened in its event loop, and tell of what that loses."""
        unit, context = self.peek(), request_context(None)
        if unit is not None and unit.is_mine:
            losses: list[str] = []
            try:
                if error is not None or not unit.doom_around_losses():
                    losses = unit.losses(unit.opened_async, error)
            finally:
                await unit.aclose_async_sessions(error)
            if losses and context is not None:
                warn_of(losses, context.request.endpoint)

    def see_exception(self) -> None:
        """Remember that an exception has ended the work on the request, whoever handles it."""
        unit = self.peek()
        if unit is not None:
            unit.failed = True

    # -- forks ----------------------------------------------------------------------------------

    def _after_fork(self) -> None:
        """Leave the parent's units to the parent; this is a forked child."""
        for unit in [*self._requests.all(), *self._opened]:
            unit.leave_to_parent()
        self.manager.metrics.after_fork()
