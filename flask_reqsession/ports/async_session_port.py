"""A port to an ``AsyncSession``: the same verbs, run in SQLAlchemy's greenlet."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

from flask_reqsession.drivers import aattempt
from flask_reqsession.effects import (
    CLOSE,
    DONE,
    FLUSH,
    SAVEPOINT,
    Effect,
    Elsewhere,
    Failed,
    Outcome,
    Run,
    Sleep,
)
from flask_reqsession.errors import ScopeOwnershipError
from flask_reqsession.owners import borrowing_from, who_owns
from flask_reqsession.pending import HookKind
from flask_reqsession.ports.port import Port

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from flask_reqsession.effects import Request
    from flask_reqsession.observer import Observer
    from flask_reqsession.sources import AsyncSessionSource


class AsyncSessionPort(Port):
    """A port to an ``AsyncSession``."""

    __slots__ = ("_source", "async_session")

    def __init__(self, source: AsyncSessionSource, observer: Observer) -> None:
        super().__init__(observer)
        self._source = source
        self.async_session: AsyncSession | None = None

    @property
    def bind(self) -> str:
        """The bind that the session is of."""
        return self._source.bind

    @property
    def is_only_session(self) -> bool:
        """Whether the source can't give a second session beside this one."""
        return self._source.single_session

    def _make(self) -> Session:
        self.async_session = self._source.open()
        session = self.async_session.sync_session
        if self._observer.twophase:
            self._source.demand_two_phase(session)
        self._observer.watch(self, session, self._source.event_target, self.engines)
        return session

    def engines(self) -> tuple[Engine, ...]:
        """Return the engines that can be told without a session, the default one first."""
        return tuple(engine.sync_engine for engine in self._source.engines())

    def open_async(self) -> AsyncSession:
        """Return the session, making it at first use."""
        self.open()
        return cast("AsyncSession", self.async_session)

    async def aperform(self, request: Request) -> Outcome:
        """Carry out ``request``; what it raises is the outcome."""
        match request:
            case Sleep():
                return await aattempt(lambda: asyncio.sleep(request.seconds))
            case Elsewhere():
                return await request.performer.aperform(request.effect)
            case Run():
                return await self._run(request)
            case _:
                return await self._perform_effect(request)

    async def _perform_effect(self, request: Effect) -> Outcome:
        if request is CLOSE:
            return await self._close()
        session = self.session
        if session is None or self.async_session is None or not session.in_transaction():
            return self.perform(request)
        if request is FLUSH and self._flushes_nothing(session):
            return self.perform(request)
        performed = self.async_session.run_sync(lambda _session: self.perform(request))
        if request is FLUSH or request is SAVEPOINT:
            return await performed
        return await _shielded(performed)

    async def _close(self) -> Outcome:
        """Close the session. Where there is a connection to give back, that is not cut in two."""
        closing = aattempt(self.aclose)
        closed = await (_shielded(closing) if self.in_transaction else closing)
        if isinstance(closed, Failed):
            self.record_failure(closed.error)
        return closed

    def _flushes_nothing(self, session: Session) -> bool:
        """Whether a flush would ask nothing of the database."""
        return self.suspect is None and not (session.new or session.dirty or session.deleted)

    async def _run(self, request: Run) -> Outcome:
        """Run a hook.

        A cancellation that came during COMMIT is not meant for what waited for the COMMIT: it
        arrives after the hooks.
        """
        cancelled: BaseException | None = None
        if request.hook.kind is not HookKind.BEFORE_COMMIT:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                cancelled = error
        ran = await aattempt(request.hook.task.arun, request.outcome)
        _cancel_again(cancelled)
        if isinstance(ran, Failed):
            self.record_failure(ran.error)
        return ran

    async def aclose(self) -> None:
        """Roll back what is left, close the session and give the connection back. Only once."""
        started = time.perf_counter()
        session = self._begin_to_close()
        if session is None or self.async_session is None:
            return
        lost = self.has_uncommitted_changes
        try:
            try:
                if lost:
                    await self.async_session.run_sync(self._roll_back)
            finally:
                await self._source.close(self.async_session)
        except BaseException as error:
            await self.async_session.run_sync(self._abandon_all, error)
            raise
        finally:
            self._end_to_close(session, started, lost=lost)

    def _abandon_all(self, _session: Session, error: BaseException) -> None:
        self._abandon(self.connections, error)

    def abandon(self) -> Outcome:
        """Close the session without its event loop, which is all that can be done at a sync end.

        Its connections are invalidated: only the loop could have rolled them back.
        """
        started = time.perf_counter()
        session = self._begin_to_close()
        if session is None:
            return DONE
        lost, used = self.has_uncommitted_changes, bool(self.connections)
        error = ScopeOwnershipError(
            "An async session was left open at the end of its unit of work, and only its event "
            "loop could close it. Use async_unit_of_work(), or init_app() for Flask's views."
        )
        self._abandon(self.connections, error)
        self._end_to_close(session, started, lost=lost)
        return Failed(error) if used else DONE


async def _shielded(work: Awaitable[Outcome]) -> Outcome:
    """Finish ``work`` though the task is cancelled meanwhile, then let the cancellation arrive.

    It arrives when the task waits next. So a COMMIT is never cut in two: the call returns what was
    committed, or raises what was not.
    """
    lender = who_owns()

    async def lent() -> Outcome:
        with borrowing_from(lender):
            return await work

    task = asyncio.ensure_future(lent())
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    _cancel_again(cancelled)
    return task.result()


def _cancel_again(cancelled: BaseException | None) -> None:
    """Let the cancellation that was caught arrive when the task waits next."""
    running = asyncio.current_task()
    if cancelled is not None and running is not None:
        running.uncancel()  # asyncio.timeout() counts: it is the same request again
        running.cancel(*cancelled.args)
