"""Bodies that are written once, as coroutines, and called with sessions of either colour."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from flask_reqsession import DatabaseManager, RequestScopedSessionManager
from tests.servers.connections import async_url_of

T = TypeVar("T")
Body = Callable[..., Any]


@dataclass
class Colour:
    """A manager on the shop's database, and a way to run bodies that are written as coroutines."""

    manager: RequestScopedSessionManager
    is_async: bool

    def call(self, body: Body, decorate: Callable[[Body], Body], *args: Any) -> Any:
        """Decorate the body in this colour, and call it once."""
        called = decorate(self.dyed(body))(*args)
        return asyncio.run(self._call(called)) if self.is_async else called

    def dyed(self, body: Body) -> Body:
        """Return the body as a function of this colour."""
        if self.is_async:
            return body

        def function(*args: Any, **kwargs: Any) -> Any:
            with pytest.raises(StopIteration) as finished:
                body(*args, **kwargs).send(None)
            return finished.value.value

        return function

    async def _call(self, awaitable: Awaitable[T]) -> T:
        try:
            return await awaitable
        finally:
            await self.manager.databases.async_engine().dispose()


def manager_of(url: str, *, is_async: bool) -> RequestScopedSessionManager:
    """Return a manager on a database, with sessions of one colour."""
    if is_async:
        return RequestScopedSessionManager(DatabaseManager(async_source=async_url_of(url)))
    return RequestScopedSessionManager(url)


class Desk:
    """What a body does with the session of its colour."""

    def __init__(self, colour: Colour) -> None:
        self.colour = colour

    async def attach(self, value: Any, **options: Any) -> Any:
        """Attach by hand."""
        manager = self.colour.manager
        if self.colour.is_async:
            return await manager.ensure_async_session_attachment(value, **options)
        return manager.ensure_session_attachment(value, **options)

    async def do(self, name: str, *args: Any) -> Any:
        """Call a method of the session."""
        done = getattr(self.session, name)(*args)
        return await done if self.colour.is_async else done

    async def call(self, body: Body, *args: Any, **kwargs: Any) -> Any:
        """Call a body with its arguments reattached."""
        called = self.colour.manager.reattach_args(self.colour.dyed(body))(*args, **kwargs)
        return await called if self.colour.is_async else called

    @property
    def session(self) -> Any:
        """The session of the colour."""
        manager = self.colour.manager
        return manager.get_async_request_session() if self.colour.is_async else manager.session

    def run(self, body: Body) -> Any:
        """Run a body in a scope of its own."""
        return self.colour.call(body, self.colour.manager.transactional)
