"""A COMMIT whose answer is lost: nobody is told that it happened, nor that it did not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import pytest
from sqlalchemy import event, insert, select
from sqlalchemy.exc import IntegrityError, SAWarning
from sqlalchemy.orm import sessionmaker

from flask_reqsession import (
    CommitOutcomeUnknownError,
    Propagation,
    RequestScopedSessionManager,
    Retry,
)
from flask_reqsession.engines import make_engine
from flask_reqsession.sqlite import TransactionalConnection
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.worlds import Note, SyncWorld, World
from tests.servers.proxy import Cut, Proxy, cutting_proxy

AT_ONCE: Any = {"initial": 0.0, "maximum": 0.0}


@contextmanager
def proxied(kind: str, url: str) -> Iterator[tuple[World, Proxy]]:
    """Give a world whose manager reaches its database by way of a proxy."""
    with ExitStack() as stack:
        direct = make_world("sync", url)
        direct.manager.databases.dispose()
        proxy = stack.enter_context(cutting_proxy(url))
        world = make_world(kind, proxy.url(url))
        yield world, proxy
        assert world.conversation.held == 0, "a connection was left checked out"


@pytest.fixture(params=["sync", "async"])
def losing(request: pytest.FixtureRequest, server_url: str) -> Iterator[tuple[World, Proxy]]:
    """Give a world and the proxy that can lose its connection."""
    with proxied(request.param, server_url) as both:
        yield both


@pytest.fixture(params=["postgresql", "mariadb"])
def server_url(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty database on each server."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def outcomes(world: World) -> dict[str, Any]:
    """Return what the manager has counted of commits and rollbacks."""
    counted = world.manager.metrics.snapshot()
    return {name: counted.get(name, 0) for name in ("commits", "rollbacks")}


@pytest.mark.rule("T24", "M17", "M18")
@pytest.mark.parametrize("cut", Cut)
def test_a_commit_without_an_answer_is_neither_repeated_nor_called_a_rollback(
    losing: tuple[World, Proxy], cut: Cut
) -> None:
    """Whether the server heard of it or not; the session can be used again."""
    world, proxy = losing
    attempts: list[int] = []

    @world.transactional(retry=Retry(on=Exception, **AT_ONCE))
    async def pay() -> None:
        attempts.append(1)
        await world.write("rent")
        proxy.cut_next(cut)

    async def main() -> None:
        async with world.unit():
            with pytest.raises(CommitOutcomeUnknownError, match="Look there") as caught:
                await pay()
            assert isinstance(caught.value.__cause__, Exception)
            assert world.conversation.held == 0
            assert outcomes(world) == {"commits": 0, "rollbacks": 0}
            kept = await world.read()
            assert kept == ([] if cut is Cut.BEFORE else ["rent"])

    world.run(main)
    assert attempts == [1]


@pytest.mark.rule("T24", "T20")
@pytest.mark.parametrize("cut", Cut)
def test_an_idempotent_call_is_run_again_after_a_commit_without_an_answer(
    losing: tuple[World, Proxy], cut: Cut
) -> None:
    """On a new connection; what it may find there is the user's to know."""
    world, proxy = losing
    found: list[list[str]] = []
    heard: list[tuple[int, type[BaseException]]] = []

    def before_retry(attempt: int, error: BaseException) -> None:
        assert world.conversation.held == 0
        heard.append((attempt, type(error)))

    @world.transactional(retry=Retry(before_retry=before_retry, **AT_ONCE), idempotent=True)
    async def pay() -> str:
        found.append(await world.read())
        if "rent" not in found[-1]:
            await world.write("rent")
        if len(found) == 1:
            proxy.cut_next(cut)
        return "paid"

    async def main() -> None:
        assert await pay() == "paid"

    world.run(main)
    assert heard == [(1, CommitOutcomeUnknownError)]
    assert found == [[], [] if cut is Cut.BEFORE else ["rent"]]
    assert world.kept() == ["rent"]


@pytest.mark.rule("T24", "T25")
def test_what_ends_an_idempotent_call_tells_of_the_attempt_without_an_answer(
    losing: tuple[World, Proxy],
) -> None:
    """The first attempt was committed; an error that did not say so would mislead."""
    world, proxy = losing

    @world.transactional(retry=Retry(**AT_ONCE), idempotent=True)
    async def pay() -> None:
        await world.write("rent")  # twice is once too often
        proxy.cut_next(Cut.AFTER)

    async def main() -> None:
        with pytest.raises(IntegrityError) as caught:
            await pay()
        [note] = caught.value.__notes__
        assert "its work may be in the database" in note

    world.run(main)
    assert world.kept() == ["rent"]


@pytest.mark.rule("T24")
def test_an_idempotent_call_without_retry_is_not_run_again(losing: tuple[World, Proxy]) -> None:
    """It may be, but nobody asked for it."""
    world, proxy = losing
    attempts: list[int] = []

    @world.transactional(idempotent=True)
    async def pay() -> None:
        attempts.append(1)
        await world.write("rent")
        proxy.cut_next(Cut.BEFORE)

    async def main() -> None:
        with pytest.raises(CommitOutcomeUnknownError):
            await pay()

    world.run(main)
    assert attempts == [1]


@pytest.mark.rule("T24", "T5")
def test_an_unanswered_commit_of_a_new_scope_is_its_own(losing: tuple[World, Proxy]) -> None:
    """The outer scope, on its own connection, goes on and commits."""
    world, proxy = losing

    @world.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit() -> None:
        await world.write("audit")
        proxy.cut_next(Cut.AFTER)

    async def main() -> None:
        async with world.scope():
            await world.write("rent")
            with pytest.raises(CommitOutcomeUnknownError):
                await audit()

    world.run(main)
    assert sorted(map(str, world.kept())) == ["audit", "rent"]


@pytest.mark.rule("T21", "T24")
def test_a_connection_lost_in_the_last_flush_is_lost_before_commit(
    losing: tuple[World, Proxy],
) -> None:
    """COMMIT had not been sent: the call is run again."""
    world, proxy = losing
    attempts: list[int] = []

    def write_what_is_lost(session: Any) -> None:
        if len(attempts) == 1:
            proxy.cut_next(Cut.BEFORE)
            session.execute(select(Note).where(Note.text == "COMMIT"))

    @world.transactional(retry=Retry(**AT_ONCE))
    async def pay() -> None:
        attempts.append(1)
        await world.write("rent")
        event.listen(world.session, "before_commit", write_what_is_lost)

    world.run(pay)  # type: ignore[arg-type]  # a coroutine function, decorated
    assert attempts == [1, 1]
    assert world.kept() == ["rent"]


@pytest.mark.rule("T16", "T1", "M18")
@pytest.mark.parametrize("moment", ["after_commit", "after_transaction_end"])
async def test_an_error_after_the_commit_does_not_deny_it(everywhere: World, moment: str) -> None:
    """A listener of the user's failed: its error propagates, says so, and nothing is run again."""
    world, late = everywhere, ValueError("late")
    attempts: list[int] = []

    def fail(*_event: object) -> None:
        raise late

    @world.transactional(retry=Retry(on=ValueError, **AT_ONCE))
    async def pay() -> None:
        attempts.append(1)
        await world.write("rent")
        event.listen(world.session, moment, fail, once=True)

    async with world.unit():
        with pytest.raises(ValueError, match="late") as caught:
            await pay()
        assert caught.value is late
        assert late.__notes__ == ["The transaction had been committed before this was raised."]
        assert world.conversation.held == 0
        assert outcomes(world) == {"commits": 1, "rollbacks": 0}
        async with world.scope():
            assert await world.read() == ["rent"]
            await world.write("next")
    assert attempts == [1]
    assert world.kept() == ["rent", "next"]


@pytest.mark.rule("T16", "T1")
async def test_a_listener_that_refuses_a_commit_at_the_last_moment_is_believed(
    everywhere: World,
) -> None:
    """The COMMIT was announced and not sent: what it raises propagates, and nothing is kept."""
    world, refusal = everywhere, ConnectionResetError("of something else")

    def refuse(_connection: object) -> None:
        raise refusal

    @world.transactional()
    async def pay() -> None:
        await world.write("rent")
        event.listen(world.engine, "commit", refuse, once=True)

    async with world.unit():
        with pytest.raises(ConnectionResetError) as caught:
            await pay()
        assert caught.value is refusal
        assert not hasattr(refusal, "__notes__")
        assert outcomes(world) == {"commits": 0, "rollbacks": 1}
        async with world.scope():
            await world.write("next")
    assert world.kept() == ["next"]


class StruckConnection(TransactionalConnection):
    """A connection whose driver does not come back from COMMIT with an answer."""

    striking: ClassVar[list[BaseException]] = []

    def commit(self) -> None:
        """Commit, and raise."""
        super().commit()
        if self.striking:
            raise self.striking.pop()


@pytest.mark.rule("T24", "T1", "M17")
@pytest.mark.parametrize("struck", [KeyboardInterrupt(), ConnectionResetError("no answer")])
def test_what_strikes_during_commit_leaves_the_outcome_unknown(
    sqlite_file_url: str, struck: BaseException
) -> None:
    """An exit is the same object, with a note; what no driver speaks of is no answer either."""
    world = SyncWorld(sqlite_file_url)
    engine = make_engine(sqlite_file_url, {"connect_args": {"factory": StruckConnection}})
    world.manager = RequestScopedSessionManager(engine)
    attempts: list[int] = []

    @world.manager.transactional(retry=Retry(on=Exception, **AT_ONCE))
    def pay() -> None:
        attempts.append(1)
        world.put("rent")
        StruckConnection.striking.append(struck)

    is_exit = isinstance(struck, KeyboardInterrupt)
    with pytest.raises(type(struck) if is_exit else CommitOutcomeUnknownError) as caught:
        pay()
    if is_exit:
        assert caught.value is struck
        assert struck.__notes__ == [
            "It struck during COMMIT: the work may be committed, or a part of it."
        ]
    else:
        assert caught.value.__cause__ is struck
    assert attempts == [1]
    assert world.kept() == ["rent"]
    assert outcomes(world) == {"commits": 0, "rollbacks": 0}
    with world.manager.session_scope():
        world.put("next")
    assert world.kept() == ["rent", "next"]
    engine.dispose()


@pytest.mark.rule("T24", "T13")
def test_a_session_of_which_only_a_part_was_committed_is_of_unknown_outcome(
    postgresql_url: str, sqlite_file_url: str
) -> None:
    """The second database refused what the first one has: its own error says so."""
    first, second = SyncWorld(postgresql_url), SyncWorld(sqlite_file_url)

    manager = RequestScopedSessionManager(sessionmaker(first.engine), multiple_binds="allow")
    refusal = IntegrityError("COMMIT", {}, Exception("refused"))
    order: list[Any] = []

    def refuse_the_second(connection: Any) -> None:
        order.append(connection.engine)
        if len(order) == 2:
            raise refusal

    for world in (first, second):
        event.listen(world.engine, "commit", refuse_the_second)

    @manager.transactional
    def write_both() -> None:
        for world in (first, second):
            target = {"bind": world.engine}
            manager.session.execute(insert(Note).values(text="half"), bind_arguments=target)

    with (
        pytest.warns(SAWarning, match="already deassociated"),
        pytest.raises(IntegrityError) as caught,
    ):
        write_both()
    assert caught.value is refusal
    assert refusal.__notes__ == [
        "It struck during COMMIT: the work may be committed, or a part of it."
    ]
    assert sorted([first.kept(), second.kept()]) == [[], ["half"]]
    for world in (first, second):
        assert world.conversation.held == 0
        world.manager.databases.dispose()
