"""A port to a ``Session``."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from flask_reqsession.drivers import aattempt
from flask_reqsession.effects import CLOSE, Elsewhere, Failed, Run, Sleep
from flask_reqsession.ports.port import Port

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from flask_reqsession.effects import Outcome, Request
    from flask_reqsession.observer import Observer
    from flask_reqsession.sources import SessionSource


class SessionPort(Port):
    """A port to a ``Session``."""

    __slots__ = ("_source",)

    def __init__(self, source: SessionSource, observer: Observer) -> None:
        super().__init__(observer)
        self._source = source

    @property
    def bind(self) -> str:
        """The bind that the session is of."""
        return self._source.bind

    @property
    def is_only_session(self) -> bool:
        """Whether the source can't give a second session beside this one."""
        return self._source.single_session

    def engines(self) -> tuple[Engine, ...]:
        """Return the engines that can be told without a session, the default one first."""
        return self._source.engines()

    def _make(self) -> Session:
        session = self._source.open()
        if self._observer.twophase:
            self._source.demand_two_phase(session)
        self._observer.watch(self, session, self._source.event_target, self._source.engines)
        return session

    async def aperform(self, request: Request) -> Outcome:
        """Carry out ``request`` for a coroutine: only a wait and a hook are awaited."""
        if isinstance(request, Sleep):
            return await aattempt(lambda: asyncio.sleep(request.seconds))
        if isinstance(request, Elsewhere):
            return await request.performer.aperform(request.effect)
        if isinstance(request, Run):
            ran = await aattempt(request.hook.task.run_awaited, request.outcome)
            if isinstance(ran, Failed):
                self.record_failure(ran.error)
            return ran
        return self.perform(request)

    def abandon(self) -> Outcome:
        """Close the session."""
        return self.perform(CLOSE)

    def close(self) -> None:
        """Roll back what is left, close the session and give the connection back. Only once."""
        started = time.perf_counter()
        session = self._begin_to_close()
        if session is None:
            return
        began = session.in_transaction()
        lost = began and self.has_uncommitted_changes
        try:
            try:
                if lost:  # before the user's close_session() can commit it
                    self._roll_back(session)
            finally:
                if began or not self._source.holds_nothing(session):
                    self._source.close(session)
            if began and session.in_transaction():  # the user's close_session() does not end it
                session.rollback()
        except BaseException as error:
            self._abandon(self.connections, error)
            raise
        finally:
            self._end_to_close(session, started, lost=lost)
