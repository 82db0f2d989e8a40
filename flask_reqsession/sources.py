"""Where the sessions of a bind come from, as the rest of the package sees it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Final, Generic

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, sessionmaker

from flask_reqsession.adoption import Applies, Current, S
from flask_reqsession.doors import Door, E
from flask_reqsession.errors import ConfigurationError, PoolDemandError
from flask_reqsession.savepoints import SavepointGuard

_TWO_PHASE: Final = frozenset({"postgresql", "mysql", "mariadb"})


class _Source(Generic[S, E]):
    """What both colours of a source share."""

    def __init__(self, bind: str, door: Door[S, E], guard: SavepointGuard) -> None:
        self.bind = bind
        self.single_session: bool = door.single_session
        self.owns_engines: bool = door.owns_engines
        self.needs_app: bool = door.needs_app
        self.is_removed_with_app: bool = door.is_removed_with_app
        self._door = door
        self._guard = guard
        self._lent: weakref.WeakSet[S] = weakref.WeakSet()
        self.holds_nothing: Callable[[Session], bool] = door.holds_nothing
        """Whether a session may be let go as it is, since closing it would do nothing."""
        self.open: Callable[[], S] = door.open
        """Returns a new session, or the one that the user's object gives."""
        if door.needs_guard:
            self._watch()

    @property
    def event_target(self) -> sessionmaker[Session] | None:
        """Where the events of all its sessions can be registered; None: on each session only.

        It may differ from app to app: register once for each target, not once for each source.
        """
        return self._door.event_target

    def engines(self) -> tuple[E, ...]:
        """Return the engines that can be told without a session, the default one first."""
        return self._door.engines()

    def adopt(self, current: Current[S], applies: Applies | None = None) -> None:
        """Make the user's own door hand out ``current()`` from now on, unless that is None.

        The door falls back to its own behaviour then, and where ``applies()`` is false. Several
        managers may adopt one door: the newest is asked first. Bound methods do not keep their
        objects alive.
        """
        self._door.adopt(current, applies)

    def demand_two_phase(self, session: Session) -> None:
        """Make ``session`` commit in two phases, if it is one of ours.

        :raises ConfigurationError: it is the user's and does not, or its database can't.
        """
        for engine in self._door.engines():
            if engine.dialect.name not in _TWO_PHASE:
                raise ConfigurationError(
                    f"twophase=True, but bind {self.bind!r} is on {engine.dialect.name}, which "
                    "can't prepare a transaction. Two-phase commit needs PostgreSQL, MySQL or "
                    "MariaDB; without it give each database a bind and a scope of its own."
                )
        if self._door.makes_factory:
            session.twophase = True
        elif not session.twophase:
            raise ConfigurationError(
                f"twophase=True, but the sessions of bind {self.bind!r} are made elsewhere and do "
                "not commit in two phases. Make them with sessionmaker(..., twophase=True), with "
                "Flask-SQLAlchemy SQLAlchemy(session_options={'twophase': True}), or give "
                "DatabaseManager the engine."
            )

    def _watch(self) -> None:
        """Let the guard see every session: by its factory once, or else one by one."""
        door = self._door
        target = None if door.needs_app or door.repeats else door.event_target
        if target is None:
            self.open = self._open_watched
        else:
            self._guard.watch(target)

    def _open_watched(self) -> S:
        session = self._door.open()
        inner = session.sync_session if isinstance(session, AsyncSession) else session
        self._guard.watch(self.event_target or inner)
        if self._door.repeats:
            self._lend(session)
        return session

    def _lend(self, session: S) -> None:
        if session in self._lent:
            raise PoolDemandError(
                f"Bind {self.bind!r} was asked for a session of its own and gave one that is still "
                "in use. Give DatabaseManager a sessionmaker, an engine or a URL, or let "
                "get_session() return a new session each time."
            )
        self._lent.add(session)


class SessionSource(_Source[Session, Engine]):
    """Opens and closes the sessions of one bind.

    >>> from flask_reqsession import DatabaseManager
    >>> source = DatabaseManager("sqlite://").source()
    >>> session = source.open()
    >>> session.connection().exec_driver_sql("SELECT 1").scalar()
    1
    >>> source.close(session)
    """

    def default_engine(self) -> Engine:
        """Return the engine that a session uses if nothing speaks for another one."""
        for engine in self.engines():
            return engine
        session = self._door.open()
        try:
            return session.get_bind().engine
        finally:
            if session not in self._lent:
                self._door.close(session)

    def close(self, session: Session) -> None:
        """Close ``session`` the way the user's object wants it, else by its own method."""
        try:
            self._door.close(session)
        finally:
            if self._lent:
                self._lent.discard(session)


class AsyncSessionSource(_Source[AsyncSession, AsyncEngine]):
    """Opens and closes the asynchronous sessions of one bind."""

    def default_engine(self) -> AsyncEngine:
        """Return the engine that a session uses if nothing speaks for another one.

        :raises ConfigurationError: the factory does not tell.
        """
        for engine in self.engines():
            return engine
        raise ConfigurationError(
            f"The asynchronous source of bind {self.bind!r} does not tell its engine. Bind its "
            "factory to one: async_sessionmaker(engine)."
        )

    async def close(self, session: AsyncSession) -> None:
        """Close ``session`` in the event loop that it was used in."""
        try:
            await self._door.close(session)
        finally:
            self._lent.discard(session)
