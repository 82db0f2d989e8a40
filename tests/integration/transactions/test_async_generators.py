"""An async generator keeps its scope open until it ends, with either kind of session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from flask_reqsession import (
    ManualCommitError,
    NoActiveScopeError,
    Propagation,
    PropagationError,
    RetryNotAllowedError,
    ScopeOwnershipError,
    UnexpectedRollbackError,
    set_rollback_only,
)
from tests.integration.transactions.worlds import Note, World

Notes = Callable[..., AsyncGenerator[str, Any]]


@pytest.fixture
def world(awaiting_world: World) -> World:
    """Give a world of coroutines."""
    return awaiting_world


def notes_of(world: World, **options: Any) -> Notes:
    """Return an async generator that writes a note in each step, and one at its end."""

    @world.manager.transactional(**options)
    async def notes(*texts: str) -> AsyncGenerator[str, Any]:
        for text in texts:
            await world.write(text)
            yield text
        await world.write("the end")

    return notes


@pytest.mark.rule("T11", "T50")
async def test_an_exhausted_generator_commits_once_at_its_end(world: World) -> None:
    """Nothing is committed between the steps."""
    heard: list[str] = []
    async for text in notes_of(world)("one", "two"):
        heard.append(text)
        assert world.kept() == []
        with pytest.raises(NoActiveScopeError):
            set_rollback_only()
    assert heard == ["one", "two"]
    assert world.kept() == ["one", "two", "the end"]
    assert world.sent == ["INSERT"] * 3 + ["COMMIT"]


@pytest.mark.rule("T11")
async def test_what_is_sent_and_thrown_reaches_the_body(world: World) -> None:
    """asend() and athrow(); a body that handles the exception commits at its end."""

    @world.manager.transactional
    async def echo() -> AsyncGenerator[str, str]:
        said = yield "ready"
        await world.write(said)
        try:
            yield said.upper()
        except KeyError:
            await world.write("caught")
        yield "last"

    steps = echo()
    assert await anext(steps) == "ready"
    assert await steps.asend("one") == "ONE"
    assert await steps.athrow(KeyError()) == "last"
    with pytest.raises(StopAsyncIteration):
        await anext(steps)
    assert world.kept() == ["one", "caught"]


@pytest.mark.rule("T11", "T1")
@pytest.mark.parametrize(
    "thrown", [ValueError("thrown"), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr
)
async def test_what_leaves_the_body_rolls_back_and_is_the_same_object(
    world: World, thrown: BaseException
) -> None:
    """Thrown by the consumer, or raised."""
    steps = notes_of(world)("one", "two")
    await anext(steps)
    with pytest.raises(type(thrown)) as caught:
        await steps.athrow(thrown)
    assert caught.value is thrown
    assert world.kept() == []


@pytest.mark.rule("T11")
async def test_a_generator_that_is_closed_early_rolls_back(world: World) -> None:
    """aclose() is an early end, and is quiet, also if the body swallows it."""

    @world.manager.transactional
    async def stubborn() -> AsyncGenerator[str, None]:
        await world.write("one")
        try:
            yield "one"
        except GeneratorExit:
            await world.write("last words")

    for steps in (notes_of(world)("one"), stubborn()):
        await anext(steps)
        await steps.aclose()
    assert world.kept() == []
    assert world.sent == ["INSERT", "ROLLBACK", "INSERT", "INSERT", "ROLLBACK"]


@pytest.mark.rule("T11")
async def test_a_generator_that_was_never_started_does_nothing(world: World) -> None:
    """The scope opens at the first step."""
    await notes_of(world)("one").aclose()
    assert world.conversation.checkouts == 0


@pytest.mark.rule("T11", "T17")
async def test_the_consumer_can_neither_start_a_scope_nor_commit(world: World) -> None:
    """Between two steps the session is in the middle of the generator's transaction."""
    async with world.unit():
        steps = notes_of(world)("one")
        await anext(steps)
        with pytest.raises(PropagationError, match=r"notes\(\) is between two steps"):
            async with world.scope():
                ...
        with pytest.raises(ManualCommitError):
            await world.do(lambda session: session.commit())
        with pytest.raises(UnexpectedRollbackError):
            await anext(steps)
    assert world.kept() == []


@pytest.mark.rule("T11", "T3")
async def test_a_joined_generator_fails_with_the_scope_around(world: World) -> None:
    """Exhausted it is committed with it; closed early it dooms it."""
    async with world.scope():
        assert [text async for text in notes_of(world)("one")] == ["one"]
    assert world.kept() == ["one", "the end"]

    async def consume() -> None:
        async with world.scope():
            steps = notes_of(world)("two")
            await anext(steps)
            await steps.aclose()

    with pytest.raises(UnexpectedRollbackError, match=r"notes\(\)"):
        await consume()
    assert world.kept() == ["one", "the end"]


@pytest.mark.rule("T11", "T4")
async def test_a_nested_generator_rolls_back_to_its_savepoint(world: World) -> None:
    """And dooms the outer if that wrote between the steps."""

    async def consume(*, writes: bool) -> None:
        async with world.scope():
            await world.write("before")
            steps = notes_of(world, propagation=Propagation.NESTED)("one")
            await anext(steps)
            if writes:
                world.session.add(Note(text="the consumer's"))
            await steps.aclose()
            await world.write("after")

    with pytest.raises(UnexpectedRollbackError, match="its consumer wrote"):
        await consume(writes=True)
    assert world.kept() == []
    await consume(writes=False)
    assert world.kept() == ["before", "after"]


@pytest.mark.rule("T11", "T4")
async def test_nested_generators_cannot_take_turns(world: World) -> None:
    """The second one is refused at its first pause, in its body."""
    nested = notes_of(world, propagation=Propagation.NESTED)
    async with world.scope():
        first, second = nested("one"), nested("two")
        await anext(first)
        with pytest.raises(PropagationError, match="take turns"):
            await anext(second)
        assert [text async for text in first] == []
    assert world.kept() == ["one", "the end"]


@pytest.mark.rule("T11", "T4", "M19")
async def test_what_a_nested_generator_has_pending_fails_in_its_body(world: World) -> None:
    """It is flushed before the consumer goes on, and the body can handle what that raises."""
    async with world.scope():
        await world.write("taken")

    @world.manager.transactional(propagation=Propagation.NESTED)
    async def pending() -> AsyncGenerator[str, None]:
        world.session.add(Note(text="taken"))
        yield "never"

    async with world.scope():
        await world.write("before")
        with pytest.raises(Exception, match="UNIQUE"):
            await anext(pending())
        await world.write("after")
    assert world.kept() == ["taken", "before", "after"]


@pytest.mark.rule("T11")
@pytest.mark.parametrize("end", ["anext", "aclose"])
async def test_a_generator_does_not_outlive_its_unit_of_work(world: World, end: str) -> None:
    """Its session is gone; to go on is refused, to close is quiet."""
    async with world.unit():
        steps = notes_of(world)("one", "two")
        await anext(steps)
    assert world.conversation.held == 0
    if end == "aclose":
        await steps.aclose()
    else:
        with pytest.raises(PropagationError, match="goes on after"):
            await anext(steps)
    assert world.kept() == []


@pytest.mark.rule("T11", "M13")
async def test_a_generator_of_a_unit_of_work_is_not_continued_by_another_task(
    world: World,
) -> None:
    """The session is one task's."""
    async with world.unit():
        steps = notes_of(world)("one", "two")
        await anext(steps)
        with pytest.raises(ScopeOwnershipError, match="task 'the other'"):
            await asyncio.create_task(steps.asend(None), name="the other")
    assert world.kept() == []


@pytest.mark.rule("T26")
async def test_an_async_generator_cannot_be_retried(world: World) -> None:
    """What it yielded cannot be taken back: refused at decoration."""
    with pytest.raises(RetryNotAllowedError, match=r"notes\(\) is a async generator function"):
        notes_of(world, retry=3)


@pytest.mark.rule("T2", "T11")
async def test_a_generator_that_may_not_enter_is_refused_at_its_first_step(world: World) -> None:
    """The body does not run, whatever the reason."""

    async def exhaust(**options: Any) -> list[str]:
        return [text async for text in notes_of(world, **options)("never")]

    with pytest.raises(PropagationError, match=r"notes\(\) is MANDATORY"):
        await exhaust(propagation=Propagation.MANDATORY)
    with pytest.raises(PropagationError):
        async with world.scope():
            await exhaust(propagation=Propagation.NEVER)
    assert world.conversation.checkouts == 0


@pytest.mark.rule("T4", "T11")
async def test_a_generator_whose_savepoint_cannot_be_opened_does_not_run(world: World) -> None:
    """What the outer had pending fails in the flush before it."""

    async def pay() -> None:
        async with world.scope():
            await world.write("rent")
            world.session.add(Note(text="rent"))
            steps = notes_of(world, propagation=Propagation.NESTED)("never")
            with pytest.raises(Exception, match="UNIQUE"):
                await anext(steps)

    with pytest.raises(Exception, match="rolled back"):
        await pay()
    assert world.kept() == []


@pytest.mark.rule("T11")
@pytest.mark.parametrize("answer", ["return", "go on"])
async def test_a_body_that_swallows_a_refusal_does_not_end_well(world: World, answer: str) -> None:
    """Its consumer must not take it for exhausted, and gets no further value."""

    @world.manager.transactional
    async def stubborn() -> AsyncGenerator[str, None]:
        while True:
            try:
                await world.write("lost")
                yield "value"
            except PropagationError:
                if answer == "return":
                    return
                yield "one more"

    async with world.unit():
        steps = stubborn()
        await anext(steps)
    with pytest.raises(PropagationError, match="has ended") as caught:
        await steps.athrow(ValueError("thrown"))
    assert isinstance(caught.value.__context__, ValueError)
    with pytest.raises(StopAsyncIteration):
        await anext(steps)
    assert world.kept() == []
