"""Execute programs with ``AsyncSession``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from flask_reqsession.testing.programs import Program
from flask_reqsession.testing.running.arguments import given
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
            if program.root == "unit":
                async with self._manager.async_unit_of_work():
                    session = self._manager.get_async_request_session()
                    await self._start(session, program.body)
            else:
                await self._body(None, program.body)
        except BaseException as error:  # noqa: BLE001 - described
            return error
        return None

    async def _do(self, session: AsyncSession, work: Callable[[Session], T]) -> T:
        return await session.run_sync(work)

    async def _call(self, call: Call) -> None:
        async def function(session: AsyncSession) -> None:
            await self._body(session, call.body)

        function.__name__ = function.__qualname__ = call.name
        injected = self._manager.with_request_session(function)
        await self._manager.transactional(**given(call.options))(injected)()

    def _hook(self, step: Register) -> Callable[..., object]:
        async def hook(session: AsyncSession, outcome: TransactionOutcome | None = None) -> None:
            await self._fire(session, step, outcome)

        hook.__name__ = hook.__qualname__ = step.name
        return self._manager.with_request_session(hook)

    def _generator(self, step: Generate) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        async def function(session: AsyncSession) -> AsyncGenerator[None]:
            await self._body(session, step.first)
            yield
            await self._body(session, step.rest)

        function.__name__ = function.__qualname__ = step.name
        injected = self._manager.with_request_session(function)
        return aclosing(self._manager.transactional(**given(step.options))(injected)())

    def _block(self, options: ScopeOptions) -> AbstractAsyncContextManager[AsyncSession]:
        return self._manager.async_session_scope(**options)

    def _savepoint(self, session: AsyncSession) -> AbstractAsyncContextManager[object]:
        return session.begin_nested()
