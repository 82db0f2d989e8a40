"""The colour of a callable decides how it is wrapped; a wrong guess would commit too early."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from flask_reqsession.colour import Colour, colour_of, runs_a_generator_later
from tests.never import never


def plain() -> None:
    """Be a function."""


async def awaited() -> None:
    """Be a coroutine function."""


def stepping() -> Generator[None, None, None]:
    """Be a generator function."""
    yield never()


async def awaited_steps() -> AsyncGenerator[None, None]:
    """Be an async generator function."""
    yield never()


BODIES: dict[Colour, Callable[..., Any]] = {
    Colour.SYNC: plain,
    Colour.ASYNC: awaited,
    Colour.GENERATOR: stepping,
    Colour.ASYNC_GENERATOR: awaited_steps,
}


def passing(body: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as most decorators do."""

    @functools.wraps(body)
    def wrapper(*args: Any) -> Any:
        never(body, args)

    return wrapper


@pytest.mark.rule("T11")
@pytest.mark.parametrize("colour", Colour)
def test_a_body_is_recognised_in_every_wrapping_that_is_not_one(colour: Colour) -> None:
    """Partials, also of partials, static and class methods, bound methods."""
    body = BODIES[colour]

    class Owner:
        method = body
        of_class = classmethod(body)
        static = staticmethod(body)

    for wrapped in (
        body,
        functools.partial(body),
        functools.partial(functools.partial(body)),
        staticmethod(body),
        classmethod(body),
        Owner().method,
        Owner.of_class,
        Owner.static,
        functools.partial(Owner().method),
    ):
        assert colour_of(wrapped) is colour  # type: ignore[arg-type]  # it looks through these too


class PlainObject:
    """Is called like a function."""

    def __call__(self) -> None:
        """Do nothing."""


class AwaitedObject:
    """Is called like a coroutine function."""

    async def __call__(self) -> None:
        """Do nothing."""


class SteppingObject:
    """Is called like a generator function."""

    def __call__(self) -> Generator[None, None, None]:
        """Do nothing."""
        yield never()


@pytest.mark.rule("T11")
def test_an_object_has_the_colour_of_its_call() -> None:
    """Its class says it; a class itself is called like a function."""
    assert colour_of(PlainObject()) is Colour.SYNC
    assert colour_of(AwaitedObject()) is Colour.ASYNC
    assert colour_of(SteppingObject()) is Colour.GENERATOR
    assert colour_of(AwaitedObject) is Colour.SYNC
    assert colour_of(len) is Colour.SYNC


@pytest.mark.parametrize("colour", Colour)
def test_a_colour_says_whether_it_steps(colour: Colour) -> None:
    """A generator of either kind does."""
    assert colour.is_generator is (colour in {Colour.GENERATOR, Colour.ASYNC_GENERATOR})


@pytest.mark.rule("T11")
@pytest.mark.parametrize("colour", Colour)
def test_a_generator_that_a_decorator_made_a_function_is_found(colour: Colour) -> None:
    """However many decorators are around it, and in a partial."""
    decorated = passing(passing(BODIES[colour]))
    for each in (decorated, functools.partial(decorated)):
        assert runs_a_generator_later(each) is colour.is_generator
    assert not runs_a_generator_later(BODIES[colour])


@pytest.mark.rule("T11")
def test_context_managers_are_generators_that_run_later() -> None:
    """Their functions return before the block."""
    assert runs_a_generator_later(contextmanager(stepping))
    assert runs_a_generator_later(asynccontextmanager(awaited_steps))
