"""A whole outermost call is run again where the database asks for it, and nothing else is."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession import (
    Propagation,
    Retry,
    RetryNotAllowedError,
    UnexpectedRollbackError,
)
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.worlds import Note, SyncWorld, World
from tests.never import never

AT_ONCE: Any = {"initial": 0.0, "maximum": 0.0}


@pytest.fixture(params=["sync", "async", "awaited"])
def world(request: pytest.FixtureRequest, sqlite_file_url: str) -> Iterator[World]:
    """Give a world on a SQLite file that reports a lock at once."""
    with closing(sqlite3.connect(sqlite_file_url.removeprefix("sqlite:///"))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")  # a reader then meets no lock
    world = make_world(request.param, f"{sqlite_file_url}?timeout=0")
    yield world
    assert world.conversation.held == 0, "a connection was left checked out"


@pytest.fixture
def writer(world: World) -> Iterator[Connection]:
    """Give a second connection that holds SQLite's only write lock."""
    engine = create_engine(world.url)
    with engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO note (text) VALUES ('of the writer')")
        yield connection
    engine.dispose()


def retried(world: World, attempts: list[int]) -> Callable[[], Awaitable[None]]:
    """Return a call that writes the number of its attempt, and fails the first time."""

    @world.transactional(retry=Retry(on=ValueError, **AT_ONCE))
    async def pay() -> None:
        attempts.append(1)
        await world.write(f"note {len(attempts)}")
        if len(attempts) == 1:
            raise ValueError

    return pay


@pytest.mark.rule("T20", "T21")
async def test_a_call_that_meets_a_lock_is_run_again_as_a_whole(
    world: World, writer: Connection
) -> None:
    """In a fresh transaction each time, with no connection held in between, on the same session."""
    attempts: list[object] = []
    between: list[tuple[int, BaseException]] = []

    def before_retry(attempt: int, error: BaseException) -> None:
        assert world.conversation.held == 0
        between.append((attempt, error))
        if attempt == 2:
            writer.rollback()

    @world.transactional(retry=Retry(attempts=5, before_retry=before_retry, **AT_ONCE))
    async def pay(text: str) -> str:
        attempts.append(world.given_session)
        assert await world.read() == []
        note = Note(text="pending")
        world.session.add(note)
        await world.do(lambda session: session.flush())
        await world.write(text)
        return "paid"

    async with world.unit():
        assert await pay("rent") == "paid"
        assert attempts == [world.given_session] * 3
    assert [attempt for attempt, _error in between] == [1, 2]
    assert all(isinstance(error, OperationalError) for _attempt, error in between)
    assert world.kept() == ["pending", "rent"]
    refused, done = ["SELECT", "INSERT", "ROLLBACK"], ["SELECT", "INSERT", "INSERT", "COMMIT"]
    assert world.sent == refused * 2 + done


@pytest.mark.rule("T25", "T20")
@pytest.mark.usefixtures("writer")
async def test_when_the_attempts_run_out_the_last_error_says_so(world: World) -> None:
    """The same object, with a note: how many attempts, how long. ``retry=3`` counts all runs."""
    errors: list[BaseException] = []

    @world.transactional(retry=Retry(**AT_ONCE))
    async def pay() -> None:
        try:
            await world.write("rent")
        except OperationalError as error:
            errors.append(error)
            raise

    with pytest.raises(OperationalError) as caught:
        await pay()
    assert len(errors) == 3
    assert caught.value is errors[-1]
    [note] = caught.value.__notes__
    assert re.fullmatch(r"Gave up after 3 attempts in \d+\.\d{3} seconds\.", note)
    assert world.kept() == []


@pytest.mark.rule("T20")
async def test_a_number_is_a_number_of_attempts(world: World) -> None:
    """``retry=2``: one run, and one more."""
    attempts: list[int] = []

    @world.transactional(retry=2)
    async def pay() -> None:
        attempts.append(1)
        raise StaleDataError  # the wait after it is 0.05 seconds at most

    with pytest.raises(StaleDataError):
        await pay()
    assert attempts == [1, 1]


@pytest.mark.rule("T21")
async def test_what_the_database_does_not_ask_for_is_not_run_again(world: World) -> None:
    """Neither another OperationalError, such as a missing table, nor an IntegrityError."""
    attempts: list[str] = []

    @world.transactional(retry=Retry(**AT_ONCE))
    async def run(sql: str) -> None:
        attempts.append(sql)
        await world.execute(sql)

    with pytest.raises(OperationalError, match="no such table"):
        await run("SELECT * FROM missing")
    with pytest.raises(IntegrityError):
        await run("INSERT INTO note (text) VALUES (NULL)")
    assert len(attempts) == 2


@pytest.mark.rule("T20")
async def test_classes_of_the_users_own_can_be_added(world: World) -> None:
    """``on`` adds to what is retried by default."""
    attempts: list[int] = []

    @world.transactional(retry=Retry(on=(KeyError, ValueError), **AT_ONCE))
    async def pay() -> None:
        attempts.append(1)
        await world.write(f"note {len(attempts)}")
        if len(attempts) < 3:
            raise [KeyError, ValueError][len(attempts) - 1]

    await pay()
    assert world.kept() == ["note 3"]


@pytest.mark.rule("T20")
async def test_before_retry_may_end_the_attempts(world: World) -> None:
    """What it raises is what the caller gets; the error of the attempt is its context."""
    error = ValueError("failed")

    def refuse(_attempt: int, _error: BaseException) -> None:
        raise KeyError("enough")

    @world.transactional(retry=Retry(on=ValueError, before_retry=refuse))
    async def pay() -> None:
        await world.write("rent")
        raise error

    with pytest.raises(KeyError, match="enough") as caught:
        await pay()
    assert caught.value.__context__ is error
    assert world.kept() == []


@pytest.mark.rule("T20", "T9")
async def test_each_attempt_begins_with_a_clean_session(world: World) -> None:
    """What a failed attempt added, changed or deleted is not there in the next one."""
    async with world.scope():
        await world.write("old")
    attempts: list[int] = []

    @world.transactional(retry=Retry(on=ValueError, **AT_ONCE))
    async def pay(note: Note) -> None:
        attempts.append(1)

        def change(session: object) -> None:
            session = world.session
            assert (note.text, list(session.new), list(session.dirty)) == ("old", [], [])
            session.add(Note(text=f"added {len(attempts)}"))
            note.text = f"changed {len(attempts)}"

        await world.do(change)
        if len(attempts) == 1:
            raise ValueError

    async with world.unit():
        note = await world.do(lambda session: session.query(Note).one())
        await pay(note)
    assert world.kept() == ["changed 2", "added 2"]


@pytest.mark.rule("T20", "T3")
async def test_a_doomed_attempt_is_not_run_again(world: World) -> None:
    """The database did not ask for it."""
    attempts: list[int] = []

    @world.transactional()
    async def fail() -> None:
        raise StaleDataError

    @world.transactional(retry=3)
    async def pay() -> None:
        attempts.append(1)
        with pytest.raises(StaleDataError):
            await fail()

    with pytest.raises(UnexpectedRollbackError):
        await pay()
    assert attempts == [1]


@pytest.mark.rule("T22")
@pytest.mark.parametrize("propagation", ["REQUIRED", "NESTED"])
async def test_half_a_transaction_is_not_retried(world: World, propagation: str) -> None:
    """Refused at entry, without dooming the outer, with the fix in the message."""

    @world.transactional(retry=3, propagation=propagation)
    async def pay() -> None:
        never()

    async with world.scope(name="the import"):
        await world.write("rent")
        with pytest.raises(RetryNotAllowedError, match=r"pay\(\).*the import.*REQUIRES_NEW"):
            await pay()
    assert world.kept() == ["rent"]


@pytest.mark.rule("T22", "T5")
async def test_a_new_scope_inside_another_is_retried(world: World) -> None:
    """On one session of its own, whose connection goes back between the attempts."""
    attempts: list[object] = []

    @world.transactional(
        retry=Retry(on=ValueError, **AT_ONCE), propagation=Propagation.REQUIRES_NEW
    )
    async def audit() -> None:
        attempts.append(world.given_session)
        await world.write(f"audit {len(attempts)}")
        if len(attempts) == 1:
            raise ValueError

    async with world.scope() as session:
        await audit()
        assert world.given_session is session
    assert attempts[0] is attempts[1]
    assert session not in attempts
    assert world.kept() == ["audit 2"]


@pytest.mark.rule("T22")
async def test_a_with_block_is_not_retried(world: World) -> None:
    """It cannot be run twice: refused before it is entered."""
    with pytest.raises(RetryNotAllowedError, match="decorate"):
        world.scope(retry=2)


@pytest.mark.rule("T8", "T22")
async def test_a_retry_after_loose_writes_is_refused(world: World) -> None:
    """They are a part of the transaction that can't be replayed. Loose reads are no obstacle."""
    attempts: list[int] = []
    pay = retried(world, attempts)
    async with world.unit():
        await world.write("loose")
        with pytest.raises(RetryNotAllowedError, match="wrote before it"):
            await pay()
        await world.do(lambda session: session.rollback())
        world.session.add(Note(text="pending"))
        with pytest.raises(RetryNotAllowedError, match="wrote before it"):
            await pay()
        await world.do(lambda session: session.rollback())
        assert await world.read() == []
        await pay()
    assert attempts == [1, 1]
    assert world.kept() == ["note 2"]


@pytest.mark.rule("T8", "M18")
async def test_a_loose_write_that_failed_is_no_obstacle_to_a_retry(world: World) -> None:
    """It was rolled back with all before it, so there is nothing that could not be replayed."""
    attempts: list[int] = []
    pay = retried(world, attempts)
    async with world.unit():
        await world.write("loose")
        with pytest.raises(IntegrityError):
            await world.write("loose")
        await pay()
    assert world.kept() == ["note 2"]


@pytest.mark.rule("T22")
@pytest.mark.parametrize("propagation", ["SUPPORTS", "MANDATORY", "NEVER", "NOT_SUPPORTED"])
def test_a_retry_of_what_never_starts_a_transaction_is_refused(
    sync_world: SyncWorld, propagation: str
) -> None:
    """There is nothing that it could run again as a whole: refused at decoration."""
    with pytest.raises(RetryNotAllowedError, match=f"retry.*{propagation}"):
        sync_world.manager.transactional(retry=3, propagation=propagation)


@pytest.mark.rule("T20")
def test_a_retried_view_answers_once(sync_world: SyncWorld) -> None:
    """The response is that of the last attempt."""
    app = Flask("shop")
    sync_world.manager.init_app(app)
    attempts: list[int] = []

    @app.get("/")
    @sync_world.manager.transactional(retry=Retry(on=ValueError, **AT_ONCE))
    def view() -> tuple[str, int]:
        attempts.append(1)
        sync_world.put(f"note {len(attempts)}")
        if len(attempts) == 1:
            raise ValueError
        return "ok", 201

    assert app.test_client().get("/").status_code == 201
    assert sync_world.kept() == ["note 2"]


@pytest.mark.rule("T21")
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_serialization_failure_is_run_again(postgresql_url: str, colour: str) -> None:
    """SQLSTATE 40001: somebody else changed what this transaction had read."""
    world = make_world(colour, postgresql_url)
    attempts: list[int] = []

    @world.transactional(retry=Retry(**AT_ONCE))
    async def pay() -> None:
        attempts.append(1)
        await world.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await world.read()
        if len(attempts) == 1:
            with world.second_connection() as connection:
                connection.exec_driver_sql("UPDATE note SET text = 'meanwhile'")
        await world.execute("UPDATE note SET text = 'paid'")

    async def main() -> None:
        async with world.scope():
            await world.write("rent")
        await pay()

    world.run(main)
    assert attempts == [1, 1]
    assert world.kept() == ["paid"]


@pytest.mark.rule("T21")
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_lock_that_mariadb_does_not_wait_for_is_run_again(mariadb_url: str, colour: str) -> None:
    """Error 1205: the statement alone was rolled back, and the whole call is run again."""
    world = make_world(colour, mariadb_url)
    attempts: list[int] = []
    with ExitStack() as stack:

        def give_up(_attempt: int, _error: BaseException) -> None:
            stack.close()

        @world.transactional(retry=Retry(before_retry=give_up, **AT_ONCE))
        async def pay() -> None:
            attempts.append(1)
            await world.execute("SET innodb_lock_wait_timeout = 0")
            await world.write(f"note {len(attempts)}")
            await world.execute("UPDATE note SET text = 'paid' WHERE text = 'rent'")

        async def main() -> None:
            async with world.scope():
                await world.write("rent")
            holder = stack.enter_context(world.second_connection())
            holder.exec_driver_sql("UPDATE note SET text = 'held' WHERE text = 'rent'")
            holder.exec_driver_sql("UPDATE note SET text = 'rent' WHERE text = 'held'")
            await pay()

        world.run(main)
    assert attempts == [1, 1]
    assert world.kept() == ["paid", "note 2"]
