"""A task that is cancelled leaves no half: neither of a transaction nor of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event

from flask_reqsession import Propagation, Retry
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.worlds import AsyncWorld, World
from tests.never import never

EVENTS = {
    "commit": "commit",
    "rollback": "rollback",
    "release": "release_savepoint",
    "rollback to": "rollback_savepoint",
}


@pytest.fixture(params=["sqlite_file", "postgresql", "mariadb"])
def world(request: pytest.FixtureRequest) -> Iterator[AsyncWorld]:
    """Give an asynchronous world on each database."""
    world = make_world("async", request.getfixturevalue(f"{request.param}_url"))
    assert isinstance(world, AsyncWorld)
    yield world
    assert world.conversation.held == 0, "a connection was left checked out"


def cancel_at(world: World, effect: str, *, times: int = 1) -> None:
    """Cancel the running test's task while the database does ``effect``, at a known moment.

    The event comes right before the statement is sent, so the task is cancelled when it waits for
    the answer.
    """
    task = asyncio.current_task()
    assert task is not None
    left = [None] * times

    def cancel(*_event: object) -> None:
        left.pop()
        task.cancel("by the test")

    event.listen(world.engine, EVENTS[effect], cancel)


async def outcome_of(work: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
    """Run ``work`` in a task of its own, to its end."""
    task = asyncio.ensure_future(work())
    await asyncio.wait([task])
    return task


@pytest.mark.rule("T50", "T1")
async def test_a_body_that_is_cancelled_is_rolled_back(world: AsyncWorld) -> None:
    """While it waits for something else, and while it waits for the database."""
    waiting = asyncio.Event()

    @world.transactional()
    async def pay() -> None:
        await world.write("rent")
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(pay())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert world.kept() == []
    assert world.conversation.held == 0


@pytest.mark.rule("T50", "T1")
async def test_a_body_that_handles_its_cancellation_commits(world: AsyncWorld) -> None:
    """It has not failed."""

    @world.transactional()
    async def pay() -> str:
        await world.write("rent")
        asyncio.current_task().cancel()  # type: ignore[union-attr]  # there is one
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        return "paid"

    assert await pay() == "paid"
    assert world.kept() == ["rent"]


@pytest.mark.rule("T50", "T16")
async def test_a_commit_is_finished_before_the_cancellation_arrives(world: AsyncWorld) -> None:
    """The call returns what was committed; the task is cancelled when it waits next."""
    reached: list[str] = []

    async def work() -> None:
        cancel_at(world, "commit")
        reached.append(await pay())
        await asyncio.sleep(0)
        never()

    @world.transactional()
    async def pay() -> str:
        await world.write("rent")
        return "paid"

    task = await outcome_of(work)
    assert task.cancelled()
    assert reached == ["paid"]
    assert world.kept() == ["rent"]
    assert world.conversation.held == 0


@pytest.mark.rule("T50", "T1")
async def test_a_rollback_is_finished_before_the_cancellation_arrives(world: AsyncWorld) -> None:
    """The call raises the body's exception; the task is cancelled when it waits next."""
    error = ValueError("body")
    heard: list[BaseException] = []

    async def work() -> None:
        cancel_at(world, "rollback", times=2)
        try:
            await pay()
        except ValueError as caught:
            heard.append(caught)
        await asyncio.sleep(0)

    @world.transactional()
    async def pay() -> None:
        await world.write("rent")
        raise error

    task = await outcome_of(work)
    assert task.cancelled()
    assert heard == [error]
    assert world.kept() == []
    assert world.conversation.held == 0


@pytest.mark.rule("T50", "T4")
@pytest.mark.parametrize("fails", [False, True])
async def test_a_savepoint_is_ended_before_the_cancellation_arrives(
    world: AsyncWorld,
    fails: bool,
) -> None:
    """Released or rolled back to, so that the outer can decide what the cancellation means."""

    async def work() -> None:
        async with world.scope():
            await world.write("outer")
            cancel_at(world, "rollback to" if fails else "release")
            try:
                await attempt()
            except ValueError:
                assert fails
            with pytest.raises(asyncio.CancelledError):
                await asyncio.sleep(0)

    @world.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        await world.write("inner")
        if fails:
            raise ValueError

    task = await outcome_of(work)
    assert task.exception() is None
    assert world.kept() == (["outer"] if fails else ["outer", "inner"])


@pytest.mark.rule("T50", "T5", "M17")
async def test_the_session_of_a_new_scope_is_closed_though_the_task_is_cancelled(
    world: AsyncWorld,
) -> None:
    """The connection goes back while the task is being cancelled again and again."""

    @world.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit() -> None:
        await world.write("audit")
        raise asyncio.CancelledError

    async def work() -> None:
        cancel_at(world, "rollback", times=3)
        async with world.scope():
            await world.read()
            await audit()

    task = await outcome_of(work)
    assert task.cancelled()
    assert world.kept() == []
    assert world.conversation.held == 0


@pytest.mark.rule("T50")
async def test_a_timeout_around_a_scope_is_a_timeout(world: AsyncWorld) -> None:
    """asyncio.timeout() counts cancellations: the one that came during COMMIT counts once."""

    @world.transactional()
    async def pay() -> None:
        await world.write("rent")

    async def work() -> None:
        async with asyncio.timeout(None) as deadline:
            event.listen(world.engine, "commit", lambda _connection: deadline.reschedule(-1))
            await pay()
            await asyncio.Event().wait()

    task = await outcome_of(work)
    assert isinstance(task.exception(), TimeoutError)
    assert world.kept() == ["rent"]


@pytest.mark.rule("T20", "T50")
async def test_a_cancellation_during_the_wait_ends_the_attempts(world: AsyncWorld) -> None:
    """Nothing is run again, no session is left open, and the next call starts anew."""
    attempts: list[int] = []

    def cancel(_attempt: int, _error: BaseException) -> None:
        asyncio.current_task().cancel()  # type: ignore[union-attr]  # there is one

    @world.transactional(retry=Retry(on=ValueError, before_retry=cancel))
    async def pay() -> None:
        attempts.append(1)
        await world.write("rent")
        raise ValueError

    with pytest.raises(asyncio.CancelledError) as caught:
        await pay()
    assert isinstance(caught.value.__context__, ValueError)
    assert attempts == [1]
    assert not world.manager.is_session_active()
    async with world.scope():
        await world.write("next")
    assert world.kept() == ["next"]


@pytest.mark.rule("T50", "M17")
async def test_many_tasks_have_a_session_each(world: AsyncWorld) -> None:
    """Side by side, some failing: no row of one depends on another, and nothing leaks."""

    @world.transactional(retry=Retry(attempts=20))
    async def pay(number: int) -> None:
        await world.write(f"note {number}")
        await asyncio.sleep(0)
        if number % 3 == 0:
            raise KeyError(number)

    results = await asyncio.gather(*(pay(number) for number in range(9)), return_exceptions=True)
    assert [type(result) for result in results] == [KeyError, type(None), type(None)] * 3
    assert sorted(map(str, world.kept())) == [f"note {n}" for n in range(9) if n % 3]


@pytest.mark.rule("T50")
async def test_a_listener_during_commit_may_ask_for_the_session(world: AsyncWorld) -> None:
    """The commit runs in a task of its own, which acts for the one that waits for it."""
    sessions: list[object] = []

    def listen(_session: object) -> None:
        sessions.append(world.manager.get_async_request_session())

    async with world.scope() as session:
        event.listen(world.session, "before_commit", listen)
        await world.write("rent")
    assert sessions == [session]
    assert world.kept() == ["rent"]


@pytest.mark.rule("T11", "T50")
async def test_a_cancelled_consumer_rolls_its_generator_back(world: AsyncWorld) -> None:
    """The loop around the generator is cancelled in the middle of a step."""
    waiting = asyncio.Event()

    @world.manager.transactional
    async def notes() -> AsyncIterator[str]:
        await world.write("one")
        yield "one"
        waiting.set()
        await asyncio.Event().wait()

    async def consume() -> None:
        async for _note in notes():
            await asyncio.sleep(0)

    task = asyncio.ensure_future(consume())
    await waiting.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert world.kept() == []
    assert world.conversation.held == 0
