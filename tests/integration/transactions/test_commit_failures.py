"""A COMMIT that fails is an exception of the view: never a success, and nothing is kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, event
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import sessionmaker
from werkzeug.exceptions import InternalServerError

from flask_reqsession import (
    CommitOutcomeUnknownError,
    Propagation,
    RequestScopedSessionManager,
)
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.failing_commits import killing, write_what_commit_refuses
from tests.integration.transactions.worlds import Note, SyncWorld, World, at_once


@pytest.fixture(params=["sync", "async", "awaited"])
def deferring(request: pytest.FixtureRequest, deferring_url: str) -> Iterator[World]:
    """Give a world on it, in each colour."""
    world = make_world(request.param, deferring_url)
    yield world
    assert world.conversation.held == 0


@pytest.mark.rule("T16", "T1")
async def test_a_failed_commit_is_raised_and_rolled_back(deferring: World) -> None:
    """SQLAlchemy's own error, no row, no lock, and the session can be used again."""

    @deferring.transactional()
    async def pay() -> str:
        await write_what_commit_refuses(deferring)
        return "paid"

    async with deferring.unit():
        with pytest.raises(IntegrityError):
            await pay()
        assert deferring.kept() == []
        assert deferring.sent == ["INSERT", "INSERT", "COMMIT"]  # the pool rolls back
        assert deferring.conversation.held == 0
        async with deferring.scope():
            await deferring.write("next")
    assert deferring.kept() == ["next"]


@pytest.mark.rule("T16", "M3")
async def test_a_failed_commit_of_a_with_block_is_raised(deferring: World) -> None:
    """At the end of the block."""
    with pytest.raises(IntegrityError):
        async with deferring.scope():
            await write_what_commit_refuses(deferring)
    assert deferring.kept() == []


@pytest.mark.rule("T16", "T14")
async def test_the_failed_commit_is_raised_also_if_an_exception_was_to_be_committed(
    deferring: World,
) -> None:
    """The user's exception would say that the work is there; it is the context instead."""
    committed = KeyError("committed")

    @deferring.transactional(no_rollback_for=KeyError)
    async def pay() -> None:
        await write_what_commit_refuses(deferring)
        raise committed

    with pytest.raises(IntegrityError) as caught:
        await pay()
    context: BaseException | None = caught.value
    while context is not None and context is not committed:
        context = context.__context__
    assert context is committed
    assert deferring.kept() == []


@pytest.mark.rule("T16", "T5")
async def test_a_failed_commit_of_a_new_scope_is_its_own(deferring: World) -> None:
    """Its session is closed, and the outer goes on."""

    @deferring.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit() -> None:
        await write_what_commit_refuses(deferring)

    async with deferring.scope():
        with pytest.raises(IntegrityError):
            await audit()
        assert deferring.conversation.held == 0
        await deferring.write("rent")
    assert deferring.kept() == ["rent"]


@pytest.mark.rule("T16", "T11")
def test_a_failed_commit_of_a_generator_is_raised_by_its_last_step(deferring_url: str) -> None:
    """The consumer does not see a normal end."""
    world = SyncWorld(deferring_url)

    @world.manager.transactional
    def notes() -> Iterator[int]:
        world.put("x")
        world.manager.session.connection().exec_driver_sql(
            "INSERT INTO line (id, note_id) VALUES (1, 4711)"
        )
        yield 1

    steps = notes()
    assert next(steps) == 1
    with pytest.raises(IntegrityError):
        next(steps)
    assert world.kept() == []
    assert world.conversation.held == 0
    world.manager.databases.dispose()


@pytest.mark.rule("T16", "T40", "T50")
@pytest.mark.parametrize("setting", ["debug", "testing", "production"])
@pytest.mark.parametrize("handler", [IntegrityError, 500, None])
@pytest.mark.parametrize("colour", ["sync", "async", "awaited"])
@pytest.mark.parametrize("atomic", [False, True], ids=["decorated", "atomic"])
def test_a_failed_commit_reaches_the_apps_error_handlers_and_is_never_a_success(
    deferring_url: str, setting: str, handler: Any, colour: str, *, atomic: bool
) -> None:
    """By class or by status; without a handler it is a 500, or propagates to the test."""
    world = make_world(colour, deferring_url)
    app = Flask("shop")
    app.debug, app.testing = setting == "debug", setting == "testing"
    app.config["REQSESSION_ATOMIC_REQUESTS"] = atomic
    world.manager.init_app(app)
    heard: list[Exception] = []

    def handle(error: Exception) -> tuple[str, int]:
        heard.append(error)
        return "conflict", 409

    if handler is not None:
        app.register_error_handler(handler, handle)

    async def body() -> str:
        await write_what_commit_refuses(world)
        return "paid"

    view: Any = (lambda: at_once(body())) if colour == "sync" else body
    app.add_url_rule("/", "view", view if atomic else world.manager.transactional(view))
    client = app.test_client()
    if setting == "production" or handler is IntegrityError:
        answer = client.get("/")
        assert answer.status_code == (500 if handler is None else 409)
        assert "paid" not in answer.text
    else:
        with pytest.raises(IntegrityError):
            client.get("/")
    expected = [InternalServerError] if handler == 500 else [IntegrityError]
    assert [type(error) for error in heard] in (expected, [])
    assert len(heard) == (handler is not None and (setting == "production" or handler != 500))
    assert world.kept() == []
    assert world.conversation.held == 0
    world.manager.databases.dispose()


@pytest.mark.rule("T16", "T1")
async def test_a_flush_that_fails_at_the_end_is_raised(world: World) -> None:
    """What was only added is sent before COMMIT; the error is the database's."""
    async with world.scope():
        await world.write("x")
    with pytest.raises(IntegrityError):
        async with world.scope():
            world.session.add(Note(text="x"))
    assert world.kept() == ["x"]


@pytest.mark.rule("T16")
async def test_a_listener_of_the_users_can_refuse_the_commit(world: World) -> None:
    """Whatever it raises, also what is no Exception, comes out as it is, and nothing is kept."""
    refusal = KeyboardInterrupt()

    async def pay() -> None:
        async with world.scope():
            await world.write("x")
            event.listen(world.session, "before_commit", refuse)

    def refuse(_session: object) -> None:
        raise refusal

    with pytest.raises(KeyboardInterrupt) as caught:
        await pay()
    assert caught.value is refusal
    assert world.kept() == []


@pytest.mark.rule("T16", "T24")
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_connection_lost_during_commit_leaves_the_outcome_unknown(
    postgresql_url: str, colour: str
) -> None:
    """Not retried: the work may be there already. The database's error is the cause."""
    world = make_world(colour, postgresql_url)
    attempts: list[int] = []

    @world.transactional(retry=3)
    async def pay() -> None:
        attempts.append(1)
        await world.write("x")
        event.listen(world.session, "before_commit", killing(world))

    async def main() -> None:
        with pytest.raises(CommitOutcomeUnknownError, match="Look there") as caught:
            await pay()
        cause = caught.value.__cause__
        assert getattr(cause, "connection_invalidated", False)

    world.run(main)
    assert attempts == [1]
    assert world.kept() == []
    assert world.conversation.held == 0


@pytest.mark.rule("M19", "T1")
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_the_users_exception_wins_over_a_rollback_that_fails(
    postgresql_url: str, colour: str
) -> None:
    """The connection was lost meanwhile: that becomes a note at most, and nothing is left open."""
    world = make_world(colour, postgresql_url)
    error = ValueError("first cause")

    @world.transactional()
    async def pay() -> None:
        await world.write("x")
        await world.do(killing(world))
        raise error

    async def main() -> None:
        with pytest.raises(ValueError, match="first cause") as caught:
            await pay()
        assert caught.value is error
        async with world.scope():
            await world.write("next")

    world.run(main)
    assert world.kept() == ["next"]
    assert world.conversation.held == 0


@pytest.mark.rule("T21")
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_connection_lost_before_commit_is_retried(postgresql_url: str, colour: str) -> None:
    """Nothing was sent that could have committed."""
    world = make_world(colour, postgresql_url)
    attempts: list[int] = []

    @world.transactional(retry=3)
    async def pay() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            await world.do(killing(world))
        await world.write("x")

    world.run(pay)  # type: ignore[arg-type]  # a coroutine function, decorated
    assert attempts == [1, 1]
    assert world.kept() == ["x"]
    assert world.conversation.held == 0


@pytest.mark.rule("T16", "M17")
def test_a_commit_that_meets_a_lock_is_raised_and_leaves_no_lock(sync_world: SyncWorld) -> None:
    """SQLite's BUSY at COMMIT keeps the transaction open: it has to be rolled back."""
    path = sync_world.url.removeprefix("sqlite:///")
    engine = create_engine(sync_world.url, connect_args={"timeout": 0})
    manager = RequestScopedSessionManager(sessionmaker(engine))
    with closing(sqlite3.connect(path)) as reader, manager.unit_of_work():
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM note").fetchall()  # without a write-ahead log, a lock
        with pytest.raises(OperationalError, match="locked"), manager.session_scope() as session:
            session.add(Note(text="x"))
        reader.execute("COMMIT")
        with manager.session_scope() as session:
            session.add(Note(text="next"))
    engine.dispose()
    assert sync_world.kept() == ["next"]
