"""One entry into a scope: from finding the session to the commit, in either colour.

An execution is made for each call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from flask_reqsession.drivers import aadvance, aattempt, advance, attempt, result_of
from flask_reqsession.effects import DONE, FLUSH, Failed
from flask_reqsession.leaving import Leaving
from flask_reqsession.ports import AsyncSessionPort, SessionPort

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from flask_reqsession.effects import EitherPerformer, Outcome


class Execution(Leaving[SessionPort]):
    """The entry of a function, a generator or a ``with`` block."""

    __slots__ = ()

    def _ports(self) -> dict[str, SessionPort]:
        return self._unit.ports

    def _current_port(self) -> SessionPort:
        return self._keeper.port(self._unit, self._spec.bind)

    def _new_port(self) -> SessionPort:
        return self._keeper.new_port(self._unit, self._spec.bind)

    def _others(self) -> list[EitherPerformer]:
        ports = [port for port in self._unit.opened if port is not self.port]
        return [port for port in ports if self._awaits or isinstance(port, SessionPort)]

    def run(self, body: Callable[[], object]) -> object:
        """Run ``body`` as the scope's options say; return or raise what its caller gets."""
        try:
            ended = self.start()
            while ended is None:
                ended = self.finish(attempt(body))
        except BaseException as error:  # noqa: BLE001 - it goes on below
            ended = self.interrupted(error)
        try:
            return result_of(ended)
        finally:
            del ended

    async def run_awaited(self, body: Callable[[], Awaitable[object]]) -> object:
        """Do what :meth:`run` does for a body that is awaited, on a session that is not."""
        self._awaits = True
        try:
            ended = self.start()
            while ended is None:
                ended = await self._finish_awaited(await aattempt(body))
        except BaseException as error:  # noqa: BLE001 - it goes on below
            ended = self.interrupted(error)
        try:
            return result_of(ended)
        finally:
            del ended

    async def _finish_awaited(self, outcome: Outcome) -> Outcome | None:
        """Do what :meth:`finish` does, and await another attempt and what hooks do."""
        scope = self._scope
        if self._spec.retry is None and (scope is None or scope.transaction.hooks is None):
            return self.finish(outcome)
        if isinstance(outcome, Failed):
            self.port.record_failure(outcome.error)
        ended = await aadvance(self._flow, self.port, outcome)
        if ended is None:
            self._step_in()
        else:
            self._go_out()
        return ended

    def start(self) -> Outcome | None:
        """Enter. None: run the body now, then :meth:`finish`; an outcome: it was refused."""
        self._acquire()
        return self._go_on(None)

    def finish(self, outcome: Outcome) -> Outcome | None:
        """End the body with ``outcome``. None: run it again; an outcome: what the caller gets."""
        if isinstance(outcome, Failed):
            self.port.record_failure(outcome.error)
        return self._go_on(outcome)

    def leave(self, outcome: Outcome) -> Outcome | None:
        """Do what :meth:`finish` does for a block; what is left out of turn keeps nothing."""
        body, is_over = self.leave_block(outcome)
        return body if is_over else self.finish(body)

    def pause(self) -> Outcome:
        """Leave the body to its consumer, between two steps, until :meth:`resume`."""
        flushed = self.port.perform(FLUSH) if self._is_savepoint else DONE
        return flushed if isinstance(flushed, Failed) else attempt(self._step_out_for_consumer)

    def _go_on(self, outcome: Outcome | None) -> Outcome | None:
        ended = advance(self._flow, self.port, outcome)
        if ended is None:
            self._step_in()
        else:
            self._go_out()
        return ended

    def _go_out(self) -> None:
        self._end()
        if self._opened is not None:
            self._unit.end()

    def interrupted(self, error: BaseException) -> Outcome:
        """Clean up after ``error``: it refused the entry, or struck outside the body (a signal)."""
        outcome: Outcome | None = None
        if self._has_begun:
            outcome = advance(self._salvage(error), self.port)
            self._go_out()
        return outcome or Failed(error)


class AsyncExecution(Leaving[AsyncSessionPort]):
    """The entry of a coroutine, an async generator or an ``async with`` block."""

    __slots__ = ()

    def _ports(self) -> dict[str, AsyncSessionPort]:
        return self._unit.async_ports

    def _current_port(self) -> AsyncSessionPort:
        return self._keeper.async_port(self._unit, self._spec.bind)

    def _new_port(self) -> AsyncSessionPort:
        return self._keeper.new_async_port(self._unit, self._spec.bind)

    def _others(self) -> list[EitherPerformer]:
        return [port for port in self._unit.opened if port is not self.port]

    async def run(self, body: Callable[[], Awaitable[object]]) -> object:
        """Run ``body`` as the scope's options say; return or raise what its caller gets."""
        try:
            ended = await self.start()
            while ended is None:
                ended = await self.finish(await aattempt(body))
        except BaseException as error:  # noqa: BLE001 - it goes on below
            ended = await self.interrupted(error)
        try:
            return result_of(ended)
        finally:
            del ended

    async def start(self) -> Outcome | None:
        """Enter. None: run the body now, then :meth:`finish`; an outcome: it was refused."""
        self._acquire()
        return await self._go_on(None)

    async def finish(self, outcome: Outcome) -> Outcome | None:
        """End the body with ``outcome``. None: run it again; an outcome: what the caller gets."""
        if isinstance(outcome, Failed):
            self.port.record_failure(outcome.error)
        return await self._go_on(outcome)

    async def leave(self, outcome: Outcome) -> Outcome | None:
        """Do what :meth:`finish` does for a block; what is left out of turn keeps nothing."""
        body, is_over = self.leave_block(outcome)
        return body if is_over else await self.finish(body)

    async def pause(self) -> Outcome:
        """Leave the body to its consumer, between two steps, until :meth:`resume`."""
        flushed = await self.port.aperform(FLUSH) if self._is_savepoint else DONE
        return flushed if isinstance(flushed, Failed) else attempt(self._step_out_for_consumer)

    async def _go_on(self, outcome: Outcome | None) -> Outcome | None:
        ended = await aadvance(self._flow, self.port, outcome)
        if ended is None:
            self._step_in()
        else:
            await self._go_out()
        return ended

    async def _go_out(self) -> None:
        self._end()
        if self._opened is not None:
            await self._unit.aend()

    async def interrupted(self, error: BaseException) -> Outcome:
        """Clean up after ``error``: it refused the entry, or struck outside the body (a signal)."""
        outcome: Outcome | None = None
        if self._has_begun:
            outcome = await aadvance(self._salvage(error), self.port)
            await self._go_out()
        return outcome or Failed(error)


AnyExecution: TypeAlias = Execution | AsyncExecution
