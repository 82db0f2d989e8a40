"""Coroutines that never wait, and what is written as if it might."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


def at_once(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits.

    :raises RuntimeError: it does wait.

    >>> async def greet():
    ...     print("hello")
    >>> at_once(greet())
    hello
    """
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError(
        "A coroutine waited that was to be run without an event loop. Run it in one, by "
        "asyncio.run()."
    )


class AtOnce(AbstractAsyncContextManager[T, None]):
    """A ``with`` block that is written as ``async with``."""

    def __init__(self, inner: AbstractContextManager[T, bool | None]) -> None:
        self._inner = inner

    async def __aenter__(self) -> T:
        return self._inner.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inner.__exit__(kind, error, traceback)


class AtOnceGenerator(AbstractAsyncContextManager["AtOnceGenerator", None], AsyncIterator[None]):
    """A generator that is written as an async one, and closed at the end of the block."""

    def __init__(self, generator: Generator[None]) -> None:
        self._generator = generator

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        self._generator.close()

    async def __anext__(self) -> None:
        try:
            next(self._generator)
        except StopIteration:
            raise StopAsyncIteration from None
