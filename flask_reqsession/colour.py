"""What kind of callable a function is: it decides how a scope has to wrap it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any, cast


class Colour(Enum):
    """How a callable runs its body."""

    SYNC = "function"
    ASYNC = "coroutine function"
    GENERATOR = "generator function"
    ASYNC_GENERATOR = "async generator function"

    @property
    def is_generator(self) -> bool:
        """Whether the body runs in steps, after the call has returned."""
        return self in {Colour.GENERATOR, Colour.ASYNC_GENERATOR}


def colour_of(function: Callable[..., object]) -> Colour:
    """Tell the colour of ``function``, looking through partials, methods and ``__call__``.

    Of a decorated function it is the colour of the wrapper: that is what the caller meets.

    >>> async def fetch() -> None: ...
    >>> colour_of(functools.partial(fetch)).value
    'coroutine function'
    """
    target = _inside(function)
    if not inspect.isroutine(target):
        target = type(target).__call__
    return _colour_of_code(target)


def runs_a_generator_later(function: Callable[..., object]) -> bool:
    """Whether ``function`` is a generator function that a decorator made a plain one.

    Such a decorator (:func:`contextlib.contextmanager`, ``stream_with_context``) returns before
    the body has run.

    >>> from contextlib import contextmanager
    >>> @contextmanager
    ... def opened(): yield
    >>> runs_a_generator_later(opened), runs_a_generator_later(opened.__wrapped__)
    (True, False)
    """
    layer = _inside(function)
    if colour_of(function) is not Colour.SYNC:
        return False
    while (layer := getattr(layer, "__wrapped__", None)) is not None:
        if _colour_of_code(layer).is_generator:
            return True
    return False


def _inside(function: object) -> object:
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, (staticmethod, classmethod)):
        return cast("Any", function).__func__
    return function


def _colour_of_code(target: object) -> Colour:
    if inspect.iscoroutinefunction(target):
        return Colour.ASYNC
    if inspect.isasyncgenfunction(target):
        return Colour.ASYNC_GENERATOR
    if inspect.isgeneratorfunction(target):
        return Colour.GENERATOR
    return Colour.SYNC


def name_of(function: object) -> str:
    """Return what messages call ``function``."""
    return f"{getattr(function, '__qualname__', type(function).__qualname__)}()"
