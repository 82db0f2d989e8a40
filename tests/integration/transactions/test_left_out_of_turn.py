"""A block that is not left in the reverse order of the entries keeps nothing, and says so."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from flask_reqsession import (
    Propagation,
    PropagationError,
    UnexpectedRollbackError,
    on_rollback,
    set_rollback_only,
)
from tests.integration.transactions.worlds import Note, SyncWorld, World

EARLY = "was left while session_scope"
LATE = "was left after the scope around it"
OVER = [Propagation.NESTED, Propagation.REQUIRES_NEW, Propagation.NOT_SUPPORTED]
PARTS = [*OVER, Propagation.REQUIRED, Propagation.SUPPORTS]


def put(world: World, text: str) -> None:
    """Add a note to the current session; nothing is sent yet, as SQLite has one writer."""
    world.session.add(Note(text=text))


async def entered(world: World, **options: Any) -> AbstractAsyncContextManager[Any]:
    """Enter a block by hand."""
    block = world.scope(**options)
    await block.__aenter__()
    return block


async def left(block: AbstractAsyncContextManager[Any], error: BaseException | None = None) -> None:
    """Leave a block by hand."""
    await block.__aexit__(None if error is None else type(error), error, None)


async def next_scope_works(world: World, *kept: str) -> None:
    """Check that only ``kept`` was kept, that no connection is held, and that it goes on."""
    assert world.kept() == [*kept]
    assert world.conversation.held == 0
    async with world.scope():
        await world.write("the next")
    assert world.kept() == [*kept, "the next"]


def steps(world: SyncWorld, text: str, propagation: Propagation) -> Generator[int]:
    """Yield inside a block, in a generator that is not decorated."""
    with world.manager.session_scope(propagation=propagation):
        put(world, text)
        yield 1
        put(world, f"{text} again")
        yield 2


@pytest.mark.rule("T2")
@pytest.mark.rule("T4")
@pytest.mark.rule("T5")
@pytest.mark.parametrize("propagation", OVER)
def test_generators_that_take_turns_inside_their_blocks_keep_nothing(
    sync_world: SyncWorld, propagation: Propagation
) -> None:
    """Both get an error that says what to do, and the scope around them is rolled back."""
    with pytest.raises(UnexpectedRollbackError, match=LATE), sync_world.manager.session_scope():
        one, other = steps(sync_world, "a", propagation), steps(sync_world, "b", propagation)
        next(one)
        next(other)
        name = propagation.name
        with pytest.raises(
            PropagationError,
            match=rf"\({name}\) was left while .*\({name}\).*decorate the generator",
        ):
            list(one)
        with pytest.raises(PropagationError, match=LATE) as caught:
            list(other)
        assert EARLY in str(caught.value.__cause__)
    sync_world.run(lambda: next_scope_works(sync_world))


@pytest.mark.rule("T2")
def test_generators_that_are_parts_of_one_scope_may_take_turns(sync_world: SyncWorld) -> None:
    """It is one transaction in any order."""
    with sync_world.manager.session_scope():
        one = steps(sync_world, "a", Propagation.REQUIRED)
        other = steps(sync_world, "b", Propagation.SUPPORTS)
        assert (next(one), next(other), list(one), list(other)) == (1, 1, [2], [2])
    assert sync_world.kept() == ["a", "b", "a again", "b again"]


@pytest.mark.rule("T2")
@pytest.mark.rule("T4")
@pytest.mark.parametrize("propagation", PARTS)
@pytest.mark.parametrize("decorated", [False, True])
async def test_a_scope_that_ends_while_a_block_in_it_is_open_keeps_nothing(
    world: World, propagation: Propagation, *, decorated: bool
) -> None:
    """Half of the block would be committed, or its session would stay the current one."""
    async with world.unit():
        block = world.scope(propagation=propagation)

        async def outer() -> None:
            put(world, "outer")
            await block.__aenter__()
            put(world, "half")

        with pytest.raises(PropagationError, match=rf"while session_scope.*\({propagation.name}\)"):
            if decorated:
                await world.transactional()(outer)()
            else:
                async with world.scope():
                    await outer()
        assert world.kept() == []
        with pytest.raises(PropagationError, match=LATE):
            await left(block)
    await next_scope_works(world)


@pytest.mark.rule("T2")
@pytest.mark.rule("T5")
@pytest.mark.parametrize("inner", PARTS)
@pytest.mark.parametrize("outer", PARTS)
async def test_two_blocks_left_in_the_order_of_their_entry(
    world: World, outer: Propagation, inner: Propagation
) -> None:
    """Nothing is kept, whatever they are, unless both were only parts of the scope around them."""
    parts = {Propagation.REQUIRED, Propagation.SUPPORTS}
    async with world.unit():
        around = await entered(world)
        first = await entered(world, propagation=outer)
        put(world, "first")
        second = await entered(world, propagation=inner)
        put(world, "second")
        if {outer, inner} <= parts:
            await left(first)
            await left(second)
            await left(around)
            assert world.kept() == ["first", "second"]
            return
        with pytest.raises(PropagationError, match=EARLY):
            await left(first)
        put(world, "at last")
        with pytest.raises(PropagationError, match=LATE):
            await left(second)
        with pytest.raises(UnexpectedRollbackError):
            await left(around)
    await next_scope_works(world)


@pytest.mark.rule("T2")
async def test_a_block_without_a_scope_left_before_the_transaction_in_it(world: World) -> None:
    """There is no scope around them that could keep count."""
    async with world.unit():
        first = await entered(world, propagation=Propagation.SUPPORTS)
        second = await entered(world)
        put(world, "second")
        with pytest.raises(PropagationError, match=EARLY):
            await left(first)
        with pytest.raises(PropagationError, match=LATE):
            await left(second)
    await next_scope_works(world)


@pytest.mark.rule("T4")
async def test_the_scope_around_goes_on_where_the_blocks_have_failed(world: World) -> None:
    """Their savepoint is rolled back, and the error that tells of it was handled."""
    async with world.scope():
        await world.write("outer")
        first = await entered(world, propagation=Propagation.NESTED)
        second = await entered(world, propagation=Propagation.NESTED)
        await world.write("second")
        with pytest.raises(PropagationError, match=EARLY):
            await left(first)
        closed = GeneratorExit()
        await left(second, closed)
        assert LATE in closed.__notes__[0]
    await next_scope_works(world, "outer")


@pytest.mark.rule("T2")
async def test_a_body_that_failed_tells_its_own_exception(world: World) -> None:
    """It goes on, with a note, from the scope that is left first and from the one left last."""
    own = ValueError("own"), KeyError("own")
    async with world.unit():
        first = await entered(world)
        second = await entered(world, propagation=Propagation.REQUIRES_NEW)
        put(world, "second")
        await left(first, own[0])
        await left(second, own[1])
    assert EARLY in own[0].__notes__[0]
    assert LATE in own[1].__notes__[0]
    await next_scope_works(world)


@pytest.mark.rule("T2")
async def test_a_scope_that_was_to_be_rolled_back_takes_the_open_block_along(world: World) -> None:
    """Nothing was to be kept of it; the block is told."""
    heard: list[str] = []
    async with world.unit():
        async with world.scope():
            set_rollback_only()
            block = await entered(world, propagation=Propagation.REQUIRES_NEW)
            on_rollback(lambda: heard.append("rolled back"))
            put(world, "half")
        assert heard == ["rolled back"]
        with pytest.raises(PropagationError, match=LATE):
            await left(block)
    await next_scope_works(world)


@pytest.mark.rule("T2", "T4", "T5")
@pytest.mark.parametrize("innermost", PARTS)
async def test_blocks_in_blocks_are_ended_from_the_inside(
    world: World, innermost: Propagation
) -> None:
    """Each of them says so when it is left, and nothing of any is kept."""
    async with world.unit():
        with pytest.raises(PropagationError, match="was left while|was still open"):
            async with world.scope():
                put(world, "outer")
                block = await entered(world, propagation=Propagation.REQUIRES_NEW)
                put(world, "block")
                inside = await entered(world, propagation=innermost)
                put(world, "inside")
        for each in (inside, block):
            with pytest.raises(PropagationError, match=LATE):
                await left(each)
    await next_scope_works(world)


@pytest.mark.rule("T11")
@pytest.mark.parametrize("propagation", OVER)
def test_a_block_around_a_step_of_a_decorated_generator_has_lost_its_place(
    sync_world: SyncWorld, propagation: Propagation
) -> None:
    """The scope of the generator is current again in each step, so the block does not end it."""

    @sync_world.manager.transactional
    def rows() -> Generator[int]:
        with sync_world.manager.session_scope(propagation=propagation):
            put(sync_world, "first")
            yield 1
            put(sync_world, "second")

    with sync_world.manager.unit_of_work(), pytest.raises(PropagationError):
        list(rows())
    sync_world.run(lambda: next_scope_works(sync_world))


@pytest.mark.rule("T2")
def test_a_generator_that_is_dropped_after_its_scope_has_ended_harms_nobody(
    sync_world: SyncWorld,
) -> None:
    """The scope that runs when the collector comes is not its own."""
    manager = sync_world.manager
    with manager.unit_of_work():
        dropped = [steps(sync_world, "half", Propagation.NESTED)]
        with pytest.raises(PropagationError, match=EARLY), manager.session_scope():
            next(dropped[0])
        with manager.session_scope():
            put(sync_world, "other")
            dropped.clear()
    assert sync_world.kept() == ["other"]


@pytest.mark.rule("T2")
def test_a_session_left_current_by_a_decorated_call_is_not_kept(sync_world: SyncWorld) -> None:
    """Neither by a block that is left after the call, nor for the scope around."""
    manager = sync_world.manager
    blocks = [manager.session_scope(propagation=Propagation.NOT_SUPPORTED)]

    @manager.transactional(propagation=Propagation.NOT_SUPPORTED)
    def call() -> None:
        blocks[0].__enter__()

    with pytest.raises(UnexpectedRollbackError), manager.session_scope():
        put(sync_world, "outer")
        call()
        with pytest.raises(PropagationError, match="while another scope"):
            blocks[0].__exit__(None, None, None)
    sync_world.run(lambda: next_scope_works(sync_world))
