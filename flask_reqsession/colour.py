"""What kind of callable a function is: it decides how a scope has to wrap it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum


class Colour(Enum):
    """How a callable runs its body."""

    SYNC = "function"
    ASYNC = "coroutine function"
    GENERATOR = "generator function"
    ASYNC_GENERATOR = "async generator function"

    @property
    def is_async(self) -> bool:
        """Whether the body may await."""
        return self in {Colour.ASYNC, Colour.ASYNC_GENERATOR}

    @property
    def is_generator(self) -> bool:
        """Whether the body runs in steps, after the call has returned."""
        return self in {Colour.GENERATOR, Colour.ASYNC_GENERATOR}


def colour_of(function: Callable[..., object]) -> Colour:
    """Tell the colour of ``function``, looking through partials, methods and ``__call__``.

    Every layer of a decorated function is asked, the outermost first, since a wrapper may have
    another colour than what it wraps and the caller meets the wrapper.

    >>> async def fetch() -> None: ...
    >>> colour_of(functools.partial(fetch)).value
    'coroutine function'
    """
    target: object = function
    while isinstance(target, functools.partial):
        target = target.func
    if isinstance(target, (staticmethod, classmethod)):
        target = target.__func__
    if not (inspect.isroutine(target) or isinstance(target, type)):
        target = type(target).__call__
    if inspect.iscoroutinefunction(target):
        return Colour.ASYNC
    if inspect.isasyncgenfunction(target):
        return Colour.ASYNC_GENERATOR
    if inspect.isgeneratorfunction(target):
        return Colour.GENERATOR
    return Colour.SYNC
