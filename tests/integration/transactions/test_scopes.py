"""Commit on return, rollback on anything raised, and nothing sent for nothing."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest
from greenlet import GreenletExit
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from flask_reqsession import ConfigurationError, DatabaseManager, RequestScopedSessionManager
from tests.integration.transactions.worlds import AsyncWorld, Note, SyncWorld, World
from tests.never import never

every_exception = pytest.mark.parametrize(
    "raised",
    [
        ValueError("no"),
        KeyboardInterrupt(),
        SystemExit(3),
        GreenletExit(),
        asyncio.CancelledError(),
        GeneratorExit(),
        BaseExceptionGroup("several", [KeyboardInterrupt()]),
    ],
    ids=lambda each: type(each).__name__,
)


@pytest.mark.rule("T1")
async def test_a_normal_return_commits_what_was_done_and_passes_the_value(
    everywhere: World,
) -> None:
    """The value of the call is the function's, and a second connection sees the row."""

    @everywhere.transactional()
    async def pay(text: str, *, loudly: bool) -> str:
        await everywhere.write(text)
        return f"{text}!" if loudly else text

    assert await pay("rent", loudly=True) == "rent!"
    assert everywhere.kept() == ["rent"]
    assert everywhere.sent == ["INSERT", "COMMIT"]


@pytest.mark.rule("T1")
@every_exception
async def test_anything_raised_rolls_back_and_is_the_same_object(
    world: World, raised: BaseException
) -> None:
    """BaseException, not only Exception; no note, no other cause, no other context."""

    @world.transactional()
    async def pay() -> None:
        await world.write("rent")
        raise raised

    with pytest.raises(type(raised)) as caught:
        await pay()
    assert caught.value is raised
    assert (raised.__cause__, raised.__context__) == (None, None)
    assert not hasattr(raised, "__notes__")
    assert world.kept() == []
    assert world.sent == ["INSERT", "ROLLBACK"]


@pytest.mark.rule("T1")
async def test_anything_raised_rolls_back_on_every_database(everywhere: World) -> None:
    """ROLLBACK is sent, and a second connection sees nothing."""

    @everywhere.transactional()
    async def pay() -> None:
        await everywhere.write("rent")
        raise ValueError

    with pytest.raises(ValueError, match="^$"):
        await pay()
    assert everywhere.kept() == []
    assert everywhere.sent == ["INSERT", "ROLLBACK"]


@pytest.mark.rule("T1")
@pytest.mark.parametrize("raised", [StopIteration(1), StopAsyncIteration()])
def test_a_stop_iteration_of_a_function_is_an_exception_like_others(
    sync_world: SyncWorld, raised: Exception
) -> None:
    """It must not be taken for the end of a generator inside the machinery."""

    @sync_world.manager.transactional
    def pay() -> None:
        sync_world.put("rent")
        raise raised

    with pytest.raises(type(raised)) as caught:
        pay()
    assert caught.value is raised
    assert sync_world.kept() == []


@pytest.mark.rule("T1", "M3")
@every_exception
async def test_a_with_block_rolls_back_and_raises_the_same_object(
    world: World, raised: BaseException
) -> None:
    """session_scope() does what the decorator does."""
    with pytest.raises(type(raised)) as caught:
        async with world.scope():
            await world.write("rent")
            raise raised
    assert caught.value is raised
    assert world.kept() == []


@pytest.mark.rule("M3")
async def test_a_with_block_yields_the_session_and_commits_at_the_end(everywhere: World) -> None:
    """Not before the end: inside the block a second connection sees nothing."""
    async with everywhere.unit(), everywhere.scope() as session:
        assert session is everywhere.given_session
        everywhere.given_session.add(Note(text="rent"))
        assert everywhere.kept() == []
    assert everywhere.kept() == ["rent"]


@pytest.mark.rule("M3")
async def test_nested_with_blocks_join_and_only_the_outermost_commits(world: World) -> None:
    """One session, one COMMIT, at the outer end."""
    async with world.scope() as outer:
        await world.write("outer")
        async with world.scope() as inner:
            await world.write("inner")
        assert inner is outer
        assert world.kept() == []
    assert world.kept() == ["outer", "inner"]
    assert world.sent == ["INSERT", "INSERT", "COMMIT"]


@pytest.mark.rule("M3", "T1")
async def test_a_decorated_function_and_a_with_block_join_each_other(world: World) -> None:
    """A failure of the outer undoes what the inner did."""

    @world.transactional()
    async def note(text: str) -> None:
        await world.write(text)

    with pytest.raises(ValueError, match="outer"):
        async with world.scope():
            await note("joined")
            raise ValueError("outer")
    assert world.kept() == []

    @world.transactional()
    async def notes() -> None:
        async with world.scope():
            await world.write("in a block")
        await world.write("after it")

    await notes()
    assert world.kept() == ["in a block", "after it"]


@pytest.mark.rule("M3")
async def test_a_with_block_is_entered_once(world: World) -> None:
    """Shared by two threads, one would end what the other began: so it is refused."""
    scope = world.scope()
    async with scope:
        await world.write("rent")
    with pytest.raises(ConfigurationError, match="entered twice"):
        async with scope:
            ...
    assert world.kept() == ["rent"]


async def test_a_with_block_is_left_only_after_it_was_entered(world: World) -> None:
    """A misuse of the protocol is told."""
    with pytest.raises(RuntimeError, match="had not been entered"):
        await world.scope().__aexit__(None, None, None)


@pytest.mark.rule("T10")
async def test_an_untouched_scope_sends_nothing_and_takes_no_connection(everywhere: World) -> None:
    """Neither BEGIN nor COMMIT, and the pool is not asked."""

    @everywhere.transactional()
    async def think(answer: int) -> int:
        return answer

    async with everywhere.unit():
        assert await think(42) == 42
        async with everywhere.scope():
            assert await think(43) == 43  # joined
    with pytest.raises(ZeroDivisionError):
        await everywhere.transactional()(_divide)(1, 0)
    assert everywhere.conversation.checkouts == 0
    assert everywhere.sent == []


async def _divide(dividend: int, divisor: int) -> float:
    return dividend / divisor


@pytest.mark.rule("T10")
@pytest.mark.parametrize("propagation", ["NESTED", "REQUIRES_NEW", "NOT_SUPPORTED", "SUPPORTS"])
async def test_an_untouched_inner_scope_takes_no_connection_either(
    world: World, propagation: str
) -> None:
    """A savepoint is sent with the first statement in it, a second connection is taken then."""

    @world.transactional(propagation=propagation)
    async def think() -> int:
        return 42

    async with world.scope():
        assert await think() == 42
    assert world.conversation.checkouts == 0
    assert world.sent == []


@pytest.mark.rule("T10")
async def test_a_scope_that_only_read_ends_its_transaction(everywhere: World) -> None:
    """The connection goes back at the end of the scope, not at the end of the request."""
    async with everywhere.unit():
        async with everywhere.scope():
            assert await everywhere.read() == []
            assert everywhere.conversation.held == 1
        assert everywhere.conversation.held == 0
    assert everywhere.sent == ["SELECT", "COMMIT"]


@pytest.mark.rule("T8")
async def test_a_scope_adopts_a_transaction_that_was_begun_by_reading(everywhere: World) -> None:
    """A login query came first: same transaction, same connection, no error."""
    async with everywhere.unit():
        assert await everywhere.read() == []
        async with everywhere.scope():
            await everywhere.write("rent")
        assert everywhere.conversation.checkouts == 1
    assert everywhere.kept() == ["rent"]
    assert everywhere.sent == ["SELECT", "INSERT", "COMMIT"]


@pytest.mark.rule("T8")
@pytest.mark.parametrize("fails", [False, True])
async def test_a_scope_adopts_the_uncommitted_writes_of_the_request(
    world: World,
    fails: bool,
) -> None:
    """They are committed with the scope, or rolled back with it: never one without the other."""

    @world.transactional()
    async def pay() -> None:
        await world.write("in the scope")
        if fails:
            raise ValueError

    async with world.unit():
        await world.write("before it")
        assert world.kept() == []
        with pytest.raises(ValueError, match="^$") if fails else nullcontext():
            await pay()
    assert world.kept() == ([] if fails else ["before it", "in the scope"])


@pytest.mark.rule("T8", "M18")
async def test_a_flush_that_failed_before_a_scope_does_not_spoil_it(world: World) -> None:
    """SQLAlchemy has rolled back and waits to be told so: the scope begins anew."""
    async with world.unit():
        async with world.scope():
            await world.write("rent")
        with pytest.raises(IntegrityError):
            await world.write("rent")
        async with world.scope():
            await world.write("food")
    assert world.kept() == ["rent", "food"]


@pytest.mark.rule("T9")
async def test_objects_stay_attached_and_loaded_after_the_scope(world: World) -> None:
    """The session stays open until the end of the request, and nothing is loaded again."""
    async with world.unit():
        async with world.scope():
            note = await world.write("rent")
        assert note in world.session
        assert world.sent == ["INSERT", "COMMIT"]
        assert note.text == "rent"
        assert world.sent == []
        async with world.scope():
            note.text = "food"
    assert world.kept() == ["food"]


@pytest.mark.rule("T9", "M18")
async def test_a_session_is_usable_after_a_failed_scope(everywhere: World) -> None:
    """Error handlers, templates and later scopes go on with the same session."""
    async with everywhere.unit():
        async with everywhere.scope():
            first = await everywhere.write("rent")
        session = everywhere.session
        with pytest.raises(IntegrityError):
            async with everywhere.scope():
                await everywhere.write("food")
                await everywhere.write("rent")
        assert everywhere.session is session
        assert await everywhere.do(lambda _session: first.text) == "rent"
        assert await everywhere.read() == ["rent"]
        async with everywhere.scope():
            await everywhere.write("water")
    assert everywhere.kept() == ["rent", "water"]


@pytest.mark.rule("T1")
async def test_core_statements_are_committed_although_nothing_is_dirty(world: World) -> None:
    """The commit never depends on what the session knows to be changed."""
    async with world.scope():
        await world.execute("INSERT INTO note (text) VALUES ('raw')")
    assert world.kept() == ["raw"]


@pytest.mark.rule("T1", "M10")
async def test_the_next_call_after_a_failure_starts_anew(world: World) -> None:
    """Nothing of a failed call stays in the context: the next one commits by itself."""

    @world.transactional()
    async def pay(text: str, error: BaseException | None = None) -> None:
        await world.write(text)
        if error is not None:
            raise error

    for error in (KeyboardInterrupt(), ValueError()):
        with pytest.raises(type(error)):
            await pay("lost", error)
    await pay("kept")
    assert world.kept() == ["kept"]
    assert not world.manager.is_session_active()


class Refusing(sessionmaker[Session]):
    """A factory that may refuse to make sessions."""

    refusal: BaseException | None = None

    def __call__(self, **local_kw: Any) -> Session:
        """Make a session, or refuse."""
        if self.refusal is not None:
            raise self.refusal
        return super().__call__(**local_kw)


class AsyncRefusing(async_sessionmaker[AsyncSession]):
    """A factory that may refuse to make asynchronous sessions."""

    refusal: BaseException | None = None

    def __call__(self, **local_kw: Any) -> AsyncSession:
        """Make a session, or refuse."""
        if self.refusal is not None:
            raise self.refusal
        return super().__call__(**local_kw)


@pytest.mark.rule("M3", "M17")
@pytest.mark.parametrize("propagation", ["REQUIRED", "SUPPORTS"])
async def test_a_with_block_whose_session_cannot_be_made_is_not_entered(
    world: World, propagation: str
) -> None:
    """The factory's own error; the next block is entered as if nothing had been."""
    refusal = OSError("no session today")
    factory: Refusing | AsyncRefusing
    if isinstance(world, AsyncWorld):
        factory = AsyncRefusing(world.async_engine)
        manager = RequestScopedSessionManager(DatabaseManager(async_source=factory))
    else:
        factory = Refusing(world.engine)
        manager = RequestScopedSessionManager(factory)
    world.manager = manager

    async with world.unit():
        factory.refusal = refusal
        with pytest.raises(OSError, match="no session today") as caught:
            async with world.scope(propagation=propagation):
                never()
        assert caught.value is refusal
        factory.refusal = None
        async with world.scope():
            await world.write("next")
    assert world.kept() == ["next"]


@pytest.mark.rule("T4", "M3")
async def test_a_savepoint_that_cannot_be_opened_is_not_entered(world: World) -> None:
    """What the outer had pending fails in the flush before it, and the block does not run."""

    async def pay() -> None:
        async with world.scope():
            await world.write("rent")
            world.session.add(Note(text="rent"))
            with pytest.raises(IntegrityError):
                async with world.scope(propagation="NESTED"):
                    never()

    with pytest.raises(Exception, match="rolled back"):
        await pay()
    assert world.kept() == []
