"""The unit of work: what a request, a streamed body or ``unit_of_work()`` has for its extent."""

from __future__ import annotations

import logging
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from flask_reqsession.effects import CLOSE, DONE, Failed
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.owners import effective_owner, who_owns
from flask_reqsession.ports import AsyncSessionPort, Port, SessionPort

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask_reqsession.effects import Outcome
    from flask_reqsession.leaving import Leaving

logger: logging.Logger = logging.getLogger("flask_reqsession")


class Unit:
    """The sessions of one extent, by bind; one owner; one end.

    ``ports`` and ``async_ports`` hold what is current for each bind: a scope with a session of its
    own puts its port there while it runs. ``opened`` holds every port, so that the end closes all.
    ``written`` are the binds that sessions wrote to which have been closed since, ``blocks`` the
    ``with`` blocks that are open, in the order of their entry.
    """

    __slots__ = (
        "__weakref__",
        "_context",
        "_made_by",
        "async_ports",
        "blocks",
        "ended",
        "failed",
        "kind",
        "of_parent",
        "opened",
        "owner",
        "ports",
        "watches_losses",
        "written",
    )

    def __init__(self, kind: str, context: object = None) -> None:
        self._context = None if context is None else weakref.ref(context)
        self.kind: str = kind
        self._made_by = who_owns()
        self.owner: object = self._made_by.owner
        self.ports: dict[str, SessionPort] = {}
        self.async_ports: dict[str, AsyncSessionPort] = {}
        self.blocks: tuple[Leaving[Any], ...] = ()
        self.opened: list[Port] = []
        self.ended: bool = False
        self.failed: bool = False
        self.of_parent: bool = False
        self.watches_losses: bool = False
        self.written: set[str] = set()

    @property
    def owner_name(self) -> str:
        """What messages call the owner."""
        name = self._made_by.name
        return f"the parent process ({name})" if self.of_parent else name

    @property
    def is_mine(self) -> bool:
        """Whether the running code may use the unit."""
        return self.owner is effective_owner()

    def began_in(self, context: object) -> bool:
        """Whether the unit ends with ``context``, not with a copy of it."""
        return self._context is not None and self._context() is context

    def port_to_show(self, bind: str) -> Port | None:
        """Return the current port of ``bind``: of two colours the one that has made its session."""
        port, async_port = self.ports.get(bind), self.async_ports.get(bind)
        if port is None or (port.session is None and async_port is not None):
            return async_port
        return port

    def may_read_replica(self, bind: str) -> bool:
        """Whether nothing in ``bind`` would be missed in a copy that is a little behind.

        That is what this unit wrote, and what an open transaction has seen.
        """
        ports = [port for port in self.opened if port.bind == bind]
        return bind not in self.written and not any(
            port.has_written or port.in_transaction for port in ports
        )

    def retire(self, port: Port) -> None:
        """Forget a port that its scope has closed."""
        if port.has_written:
            self.written.add(port.bind)
        opened = self.opened
        if opened and opened[-1] is port:  # nearly always: nobody has to look for it
            opened.pop()
        elif port in opened:
            opened.remove(port)

    def leave_to_parent(self) -> None:
        """Leave the unit and its sessions to the process that was forked."""
        self.of_parent = True
        self.owner = object()
        for port in self.opened:
            port.leave_to_parent()
        self.opened.clear()
        self.ports.clear()
        self.async_ports.clear()

    # -- ends -----------------------------------------------------------------------------------

    def losses(self, ports: Iterable[Port], error: BaseException | None) -> list[str]:
        """Return in words what ends unnoticed with ``ports``, as far as strict mode watches them.

        What an exception has ended is not to be kept.
        """
        if error is not None or self.failed:
            return []
        return [
            words for port in ports if port.losses is not None for words in port.losses.describe()
        ]

    def end(self, error: BaseException | None = None) -> None:
        """Close every session for good; what fails becomes a note on ``error``, if there is one."""
        self.ended = True
        if self.opened:
            self.close_sessions(error)

    def close_sessions(self, error: BaseException | None = None) -> None:
        """Close every session. What fails is logged; only an exit such as Ctrl-C goes on."""
        _forget(self.ports)
        if self.async_ports:
            _forget(self.async_ports)
        failures = None
        while self.opened:
            port = self.opened[-1]
            closed = port.abandon()
            if closed is not DONE:
                failures = failures or Failures(error)
                failures.see(closed)
            self.retire(port)
        if failures is not None:
            failures.raise_exit()

    @property
    def opened_async(self) -> list[AsyncSessionPort]:
        """The async ones of :attr:`opened`."""
        return [port for port in self.opened if isinstance(port, AsyncSessionPort)]

    def doom_around_losses(self) -> bool:
        """Doom the synchronous scopes around a coroutine that leaves uncommitted changes.

        They commit another session, and a success would say that everything was kept. Return
        whether there are any.
        """
        lost = [port for port in self.opened_async if port.has_uncommitted_changes]
        scopes = [self.ports[port.bind].scope for port in lost if port.bind in self.ports]
        around = [scope for scope in scopes if scope is not None]
        for scope in around:
            scope.doom(
                ConfigurationError(
                    f"a coroutine that was run inside {scope.name} left uncommitted changes in its "
                    f"AsyncSession, and {scope.name} is a scope of the synchronous session. Put "
                    "@transactional on the coroutine function itself, under other decorators."
                )
            )
        return bool(around)

    async def aclose_async_sessions(self, error: BaseException | None = None) -> None:
        """Close the async sessions, in the event loop that they belong to."""
        _forget(self.async_ports)
        failures = Failures(error)
        for port in self.opened_async:
            failures.see(await port.aperform(CLOSE))
            self.retire(port)
        failures.raise_exit()

    async def aend(self, error: BaseException | None = None) -> None:
        """Do what :meth:`end` does, async sessions first."""
        try:
            await self.aclose_async_sessions(error)
        finally:
            self.end(error)


def _forget(ports: dict[str, Any]) -> None:
    """Forget what is current, except where a scope runs: it shall find no other session."""
    for bind, port in [*ports.items()]:
        if port.scope is None:
            del ports[bind]


class Failures:
    """What went wrong while sessions were closed, when nobody is left who could handle it."""

    def __init__(self, error: BaseException | None) -> None:
        self._error = error
        self._exit: BaseException | None = None

    def see(self, outcome: Outcome) -> None:
        """Log a failure and note it on the error; remember what asks the program to stop.

        The log names the class only: the message of a database error could carry row values.
        """
        if not isinstance(outcome, Failed):
            return
        failure = outcome.error
        logger.error("Closing a session failed: %s", type(failure).__name__)
        if self._error is not None:
            self._error.add_note(f"CLOSE also failed: {type(failure).__name__}: {failure}")
        if not isinstance(failure, Exception) and self._exit is None:
            self._exit = failure

    def raise_exit(self) -> None:
        """Let KeyboardInterrupt, GreenletExit and the like go on, now that all is closed."""
        try:
            if self._exit is not None:
                raise self._exit
        finally:
            self._exit = self._error = None


class Units:
    """The units of live requests, keyed by an object of theirs and never keeping it alive.

    An object that becomes garbage before its unit has ended leaves an orphan, which
    :meth:`take_orphans` hands out: closing it in the collector could run anywhere, with any lock
    held.
    """

    def __init__(self) -> None:
        self._units: dict[weakref.ref[Any], Unit] = {}
        self.orphans: deque[Unit] = deque()

    def get(self, key: object) -> Unit | None:
        """Return the unit of ``key``."""
        return self._units.get(weakref.ref(key))

    def add(self, key: object, unit: Unit) -> None:
        """Keep ``unit`` for as long as ``key`` lives, an ended one as a mark that it has ended."""
        self._units[weakref.ref(key, self._orphan)] = unit

    def _orphan(self, reference: weakref.ref[Any]) -> None:
        unit = self._units.pop(reference, None)
        if unit is not None and unit.opened:
            self.orphans.append(unit)

    def take_orphans(self) -> list[Unit]:
        """Return the orphans and forget them."""
        orphans: list[Unit] = []
        while self.orphans:
            orphans.append(self.orphans.popleft())
        return orphans

    def all(self) -> list[Unit]:
        """Return the units of all live requests, and the orphans."""
        return [*self._units.values(), *self.orphans]
