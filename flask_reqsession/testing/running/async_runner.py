"""Execute programs with ``AsyncSession``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from flask_reqsession.testing.programs import Program
from flask_reqsession.testing.running.answers import returned
from flask_reqsession.testing.running.runner import Runner
from flask_reqsession.testing.steps import Call, Generate, Register

if TYPE_CHECKING:
    from flask_reqsession.options import ScopeOptions, TransactionOutcome

T = TypeVar("T")


class AsyncRunner(Runner[AsyncSession]):
    """Decorates coroutine functions."""

    async def error_of(self, program: Program) -> BaseException | None:
        """Run ``program``; return what reached its caller."""
        try:
            if program.root == "request":
                # Flask runs the view in an event loop of its own, which can't be run in this one.
                await asyncio.to_thread(self._serve, program)
            elif program.root == "unit":
                async with self._manager.async_unit_of_work():
                    session = self._manager.get_async_request_session()
                    await self._start(session, program.body)
            else:
                await self._body(None, program.body)
        except BaseException as error:  # noqa: BLE001 - described
            return error
        return None

    @property
    def _current(self) -> AsyncSession:
        return self._manager.get_async_request_session()

    def _view(self, program: Program) -> Callable[..., object]:
        run = self._body if program.view.options is not None else self._start

        async def view(session: AsyncSession) -> object:
            await run(session, program.body)
            return returned(program.view.reply)

        return view

    async def _do(self, session: AsyncSession, work: Callable[[Session], T]) -> T:
        return await session.run_sync(work)

    async def _call(self, call: Call) -> None:
        async def function(session: AsyncSession) -> object:
            await self._body(session, call.body)
            return self._service_answer

        await self._decorated(function, call.name, call.options)()

    def _hook(self, step: Register) -> Callable[..., object]:
        async def hook(session: AsyncSession, outcome: TransactionOutcome | None = None) -> None:
            await self._fire(session, step, outcome)

        return self._decorated(hook, step.name, None)

    def _generator(self, step: Generate) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        async def function(session: AsyncSession) -> AsyncGenerator[None]:
            await self._body(session, step.first)
            yield
            await self._body(session, step.rest)

        return aclosing(self._decorated(function, step.name, step.options)())

    def _block(self, options: ScopeOptions) -> AbstractAsyncContextManager[AsyncSession]:
        return self._manager.async_session_scope(**options)

    def _savepoint(self, session: AsyncSession) -> AbstractAsyncContextManager[object]:
        return session.begin_nested()
