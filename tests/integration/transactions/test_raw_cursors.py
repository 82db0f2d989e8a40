"""What is done on the driver's own connection is not seen, but COMMIT asks the driver about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from flask_reqsession import (
    ManualCommitError,
    Propagation,
    RequestScopedSessionManager,
    UnexpectedRollbackError,
)
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.worlds import SyncWorld, World

DUPLICATE = "INSERT INTO note (id, text) VALUES (1, 'one')"


def driver_of(session: Session) -> Any:
    """Return the driver's connection."""
    return session.connection().connection.driver_connection


def execute_raw(session: Session, sql: str) -> None:
    """Execute ``sql`` on the driver's cursor."""
    driver_of(session).cursor().execute(sql)


def fail_raw(session: Session) -> None:
    """Fail on the driver's cursor, and go on as if nothing had happened."""
    with pytest.raises(Exception, match="(?i)unique|duplicate"):
        execute_raw(session, DUPLICATE)


@pytest.fixture
def postgresql_world(postgresql_url: str) -> Iterator[SyncWorld]:
    """Give a world on PostgreSQL with one note."""
    world = SyncWorld(postgresql_url)
    with world.second_connection() as connection:
        connection.exec_driver_sql(DUPLICATE)
    yield world
    world.manager.databases.dispose()
    assert world.conversation.held == 0


@pytest.mark.rule("T1", "T3")
@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("twophase", [False, True])
def test_a_failed_statement_on_the_drivers_cursor_is_no_success(
    postgresql_world: SyncWorld, writes: bool, twophase: bool
) -> None:
    """PostgreSQL would roll back and say nothing."""
    world = postgresql_world
    manager = RequestScopedSessionManager(world.engine, twophase=twophase)
    with manager.unit_of_work():
        with pytest.raises(UnexpectedRollbackError, match="the driver's own cursor"):
            with manager.session_scope() as session:
                if writes:
                    session.execute(text("INSERT INTO note (id, text) VALUES (2, 'two')"))
                else:
                    execute_raw(session, "INSERT INTO note (id, text) VALUES (2, 'two')")
                fail_raw(session)
        assert world.kept() == ["one"]
        with manager.session_scope() as session:
            session.execute(text("INSERT INTO note (id, text) VALUES (3, 'three')"))
    assert world.kept() == ["one", "three"]


@pytest.mark.rule("T1", "T50")
def test_a_failed_statement_on_an_asynchronous_cursor_is_no_success(
    postgresql_world: SyncWorld,
) -> None:
    """With psycopg, which tells; asyncpg does not."""
    world = postgresql_world
    url = world.url.replace("postgresql+psycopg:", "postgresql+psycopg_async:")
    manager = RequestScopedSessionManager(url)

    async def fail(session: AsyncSession) -> None:
        raw = await (await session.connection()).get_raw_connection()
        driver: Any = raw.driver_connection
        with pytest.raises(Exception, match="duplicate"):
            await driver.execute(DUPLICATE)

    async def main() -> None:
        with pytest.raises(UnexpectedRollbackError):
            async with manager.async_session_scope() as session:
                await session.execute(text("INSERT INTO note (id, text) VALUES (2, 'two')"))
                await fail(session)
        await manager.databases.async_engine().dispose()

    asyncio.run(main())
    assert world.kept() == ["one"]


@pytest.mark.rule("T4")
def test_a_failed_statement_in_a_savepoint_is_forgiven(postgresql_world: SyncWorld) -> None:
    """Rolled back to it, the transaction is whole again."""
    world = postgresql_world
    with world.manager.session_scope() as session:
        with pytest.raises(ZeroDivisionError):
            with world.manager.session_scope(propagation=Propagation.NESTED):
                session.execute(text("SELECT 1"))
                fail_raw(session)
                raise ZeroDivisionError
        session.execute(text("INSERT INTO note (id, text) VALUES (2, 'two')"))
    assert world.kept() == ["one", "two"]


ENDS: dict[str, Callable[[Session], Any]] = {
    "rollback()": lambda session: driver_of(session).rollback(),
    "commit()": lambda session: driver_of(session).commit(),
    "ROLLBACK": lambda session: execute_raw(session, "ROLLBACK"),
}


@pytest.mark.rule("T17")
@pytest.mark.parametrize("backend", ["sqlite_file", "postgresql"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_an_end_on_the_drivers_connection_is_no_success(
    request: pytest.FixtureRequest, backend: str, end: Callable[[Session], Any]
) -> None:
    """What was written before it is lost or committed: the scope can't know, and says so."""
    world = SyncWorld(request.getfixturevalue(f"{backend}_url"))

    def pay() -> None:
        with world.manager.session_scope(name="pay") as session:
            world.put("one")
            end(session)

    with pytest.raises(ManualCommitError, match=r"pay was ended on the driver's own connection"):
        pay()
    world.manager.databases.dispose()
    assert world.conversation.held == 0


@pytest.mark.rule("T17", "T50")
def test_an_end_on_asyncpgs_connection_is_no_success(postgresql_url: str) -> None:
    """It tells whether it is in a transaction."""
    world: World = make_world("async", postgresql_url)

    async def main() -> None:
        with pytest.raises(ManualCommitError, match="driver's own connection"):
            async with world.scope() as session:
                await world.write("one")
                raw = await (await session.connection()).get_raw_connection()
                await raw.driver_connection.execute("ROLLBACK")
        async with world.scope():
            await world.write("two")

    world.run(main)
    assert world.kept() == ["two"]


@pytest.mark.rule("T17")
@pytest.mark.parametrize("backend", ["sqlite_file", "postgresql"])
def test_what_is_done_on_the_cursor_in_good_order_is_committed(
    request: pytest.FixtureRequest, backend: str
) -> None:
    """Beside statements through SQLAlchemy and alone."""
    world = SyncWorld(request.getfixturevalue(f"{backend}_url"))
    for written in (["one", "two"], ["three"]):
        with world.manager.session_scope() as session:
            execute_raw(session, f"INSERT INTO note (text) VALUES ('{written[-1]}')")  # noqa: S608
            for note in written[:-1]:
                world.put(note)
    world.manager.databases.dispose()
    assert sorted(map(str, world.kept())) == ["one", "three", "two"]
