"""What a scope used dies with it, without the cyclic garbage collector."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from flask_reqsession import (
    Propagation,
    PropagationError,
    Retry,
    UnexpectedRollbackError,
    set_rollback_only,
)
from tests.integration.transactions.worlds import Note, SyncWorld, World
from tests.never import never


class LeakError(Exception):
    """An exception whose death can be observed."""


@pytest.fixture(autouse=True)
def _without_the_collector() -> Iterator[None]:
    """Let only reference counts free anything."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Graves:
    """Weak references to what should be dead."""

    def __init__(self) -> None:
        self._references: list[weakref.ref[Any]] = []

    def watch(self, *things: object) -> None:
        """Remember ``things`` without keeping them alive."""
        self._references += [weakref.ref(thing) for thing in things]

    def error(self) -> LeakError:
        """Make an exception and watch it."""
        error = LeakError("leak")
        self.watch(error)
        return error

    @property
    def alive(self) -> list[object]:
        """What still lives."""
        assert self._references, "nothing was watched"
        return [alive for each in self._references if (alive := each()) is not None]


@pytest.fixture
def graves() -> Graves:
    """Give a record of what should die."""
    return Graves()


async def use(world: World, graves: Graves, text: str = "rent") -> None:
    """Write a note, and watch it and its session."""
    note = await world.write(text)
    graves.watch(note, world.session)


@pytest.mark.rule("T1")
async def test_a_call_that_returns_keeps_nothing(world: World, graves: Graves) -> None:
    """Neither the objects nor the session of its unit of work."""

    @world.transactional()
    async def pay() -> None:
        await use(world, graves)

    await pay()
    assert graves.alive == []
    assert world.kept() == ["rent"]


@pytest.mark.rule("T1")
@pytest.mark.parametrize("joins", [False, True])
async def test_a_call_that_raises_keeps_nothing(
    world: World,
    graves: Graves,
    joins: bool,
) -> None:
    """Neither the exception, once it was handled, nor what its traceback holds."""

    @world.transactional()
    async def fail() -> None:
        await use(world, graves)
        raise graves.error()

    @world.transactional()
    async def pay() -> None:
        await fail()

    try:
        await (pay() if joins else fail())
    except LeakError:
        ...
    assert graves.alive == []


@pytest.mark.rule("T3")
async def test_a_doomed_call_keeps_nothing(world: World, graves: Graves) -> None:
    """The cause of an UnexpectedRollbackError dies with it."""

    @world.transactional()
    async def fail() -> None:
        await use(world, graves)
        raise graves.error()

    @world.transactional()
    async def pay(*, openly: bool) -> None:
        try:
            await fail()
        except LeakError:
            if openly:
                set_rollback_only()

    async with world.unit():
        await pay(openly=True)
        try:
            await pay(openly=False)
        except UnexpectedRollbackError as error:
            graves.watch(error)
    assert graves.alive == []


@pytest.mark.rule("T4", "T5")
@pytest.mark.parametrize("propagation", [Propagation.NESTED, Propagation.REQUIRES_NEW])
async def test_an_inner_scope_that_fails_keeps_nothing(
    world: World, graves: Graves, propagation: Propagation
) -> None:
    """A savepoint, or a session of its own, within a unit of work that goes on."""

    @world.transactional(propagation=propagation)
    async def fail() -> None:
        note = await world.write("tried")
        graves.watch(note)
        raise graves.error()

    async with world.unit(), world.scope():
        try:
            await fail()
        except LeakError:
            ...
        assert graves.alive == []


@pytest.mark.rule("M3")
async def test_a_with_block_keeps_nothing(world: World, graves: Graves) -> None:
    """Left normally or by an exception."""
    async with world.scope():
        await use(world, graves, "kept")
    try:
        async with world.scope():
            await use(world, graves, "lost")
            raise graves.error()
    except LeakError:
        ...
    assert graves.alive == []


@pytest.mark.rule("T2")
async def test_a_refused_entry_keeps_nothing(world: World, graves: Graves) -> None:
    """Neither of a call nor of a with block."""

    @world.transactional(propagation=Propagation.MANDATORY)
    async def pay() -> None:
        never()

    async def enter() -> None:
        async with world.scope(propagation=Propagation.MANDATORY):
            never()

    async with world.unit():
        for refused in (pay, enter):
            try:
                await refused()
            except PropagationError as error:
                graves.watch(error)
            assert graves.alive == []


@pytest.mark.rule("T20")
async def test_a_retried_call_keeps_nothing(world: World, graves: Graves) -> None:
    """Neither the errors of its attempts nor their objects."""

    @world.transactional(retry=Retry(on=LeakError, initial=0, maximum=0))
    async def pay() -> None:
        await use(world, graves)
        raise graves.error()

    try:
        await pay()
    except LeakError as error:
        assert len(error.__notes__) == 1  # noqa: PT017 - its frames are the claim
    assert graves.alive == []


@pytest.mark.rule("T1")
async def test_a_statement_that_failed_is_forgotten_with_its_scope(
    world: World, graves: Graves
) -> None:
    """Raised or swallowed, within a unit of work that goes on. SQLAlchemy's errors are cycles."""
    async with world.unit():
        for swallowed in (True, False):
            with pytest.raises(OperationalError) if not swallowed else nullcontext():
                async with world.scope():
                    try:
                        await world.execute("SELECT * FROM missing")
                    except OperationalError as error:
                        graves.watch(error)
                        if not swallowed:
                            raise
            gc.collect()
            assert graves.alive == []


@pytest.mark.rule("T17")
async def test_a_refused_commit_keeps_nothing(world: World, graves: Graves) -> None:
    """Raised or swallowed, within a unit of work that goes on."""
    async with world.unit():
        for act in ("commit", "rollback"):
            try:
                async with world.scope():
                    graves.watch(await world.write("rent"))
                    try:
                        await world.do(lambda session, act=act: getattr(session, act)())  # type: ignore[misc]
                    except Exception as error:  # noqa: BLE001 - it is what the test is about
                        graves.watch(error)
            except UnexpectedRollbackError as error:
                graves.watch(error)
            assert graves.alive == []


@pytest.mark.rule("T11")
@pytest.mark.parametrize("end", ["exhaust", "close", "throw", "raise", "drop"])
def test_a_generator_keeps_nothing(sync_world: SyncWorld, graves: Graves, end: str) -> None:
    """However it ends."""

    @sync_world.manager.transactional
    def notes() -> Generator[None, None, None]:
        graves.watch(sync_world.put("rent"), sync_world.manager.session)
        yield
        if end == "raise":
            raise graves.error()

    def consume() -> None:
        steps = notes()
        graves.watch(steps)
        next(steps)
        if end == "close":
            steps.close()
        elif end == "throw":
            steps.throw(graves.error())
        elif end != "drop":
            next(steps, None)

    try:
        consume()
    except LeakError:
        ...
    assert graves.alive == []


@pytest.mark.rule("T11")
@pytest.mark.parametrize("end", ["exhaust", "close", "throw", "raise"])
async def test_an_async_generator_keeps_nothing(
    awaiting_world: World, graves: Graves, end: str
) -> None:
    """However it ends; the event loop holds it until then."""

    @awaiting_world.manager.transactional
    async def notes() -> AsyncGenerator[None, None]:
        await use(awaiting_world, graves)
        yield
        if end == "raise":
            raise graves.error()

    async def consume() -> None:
        steps = notes()
        await anext(steps)
        if end == "close":
            await steps.aclose()
        elif end == "throw":
            await steps.athrow(graves.error())
        else:
            await anext(steps, None)

    try:
        await consume()
    except LeakError:
        ...
    await asyncio.sleep(0)
    assert graves.alive == []


@pytest.mark.rule("T1", "T9")
async def test_objects_of_a_long_unit_of_work_die_when_the_user_lets_them(
    world: World, graves: Graves
) -> None:
    """After its scope the session's identity map is weak again."""
    async with world.unit():
        for number in range(3):
            async with world.scope():
                graves.watch(await world.write(f"note {number}"))
            try:
                async with world.scope():
                    graves.watch(await world.write(f"lost {number}"))
                    raise graves.error()
            except LeakError:
                ...
        assert graves.alive == []
    assert len(world.kept()) == 3


def test_the_record_would_notice_a_leak(graves: Graves) -> None:
    """The tests above are able to fail."""
    note = Note(text="kept")
    graves.watch(note)
    assert graves.alive == [note]
