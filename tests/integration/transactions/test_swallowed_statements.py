"""A statement that failed and was swallowed never becomes a commit that is none, or half of one."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, PendingRollbackError

from flask_reqsession import Propagation, UnexpectedRollbackError
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.worlds import Note, SyncWorld, World

DUPLICATE = "INSERT INTO note (id, text) VALUES (4711, 'before')"


@pytest.mark.rule("T1", "T3")
async def test_a_scope_whose_transaction_was_aborted_never_returns_normally(
    everywhere: World,
) -> None:
    """PostgreSQL answers COMMIT with a silent ROLLBACK; the others go on and commit."""

    @everywhere.transactional()
    async def pay() -> str:
        await everywhere.write("before")
        with pytest.raises(IntegrityError) as refused:
            await everywhere.execute(DUPLICATE)
        swallowed.append(refused.value)
        return "paid"

    swallowed: list[IntegrityError] = []
    if everywhere.engine.dialect.name == "postgresql":
        with pytest.raises(UnexpectedRollbackError, match=r"begin_nested\(\)") as caught:
            await pay()
        assert caught.value.__cause__ is swallowed[0]
        assert everywhere.kept() == []
    else:
        assert await pay() == "paid"
        assert everywhere.kept() == ["before"]


@pytest.mark.rule("T37", "T33")
async def test_a_swallowed_flush_failure_runs_no_hook_before_a_commit(everywhere: World) -> None:
    """The session waits for a rollback only, so there will be no COMMIT to run before."""
    ran: list[str] = []

    @everywhere.transactional()
    async def pay() -> None:
        note = await everywhere.write("before")
        everywhere.manager.before_commit(ran.append, "ran")
        everywhere.session.add(Note(text=note.text))
        with pytest.raises(IntegrityError):
            await everywhere.do(lambda session: session.flush())

    with pytest.raises(PendingRollbackError):
        await pay()
    assert (ran, everywhere.kept()) == ([], [])


@pytest.mark.rule("T4")
async def test_a_statement_that_failed_in_a_savepoint_is_forgiven(everywhere: World) -> None:
    """Rolled back to it, the transaction is whole again, on every database."""

    @everywhere.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        await everywhere.execute(DUPLICATE)

    async with everywhere.scope():
        await everywhere.write("before")
        with pytest.raises(IntegrityError):
            await attempt()
        await everywhere.write("after")
    assert everywhere.kept() == ["before", "after"]


@pytest.mark.rule("T1")
async def test_a_scope_after_a_swallowed_statement_asks_the_database_once(world: World) -> None:
    """What costs a statement more is only the scope in which one failed."""
    async with world.unit():
        async with world.scope():
            await world.write("before")
            with pytest.raises(IntegrityError):
                await world.execute(DUPLICATE)
        assert world.sent == ["INSERT", "INSERT", "SELECT", "COMMIT"]
        async with world.scope():
            await world.write("after")
        assert world.sent == ["INSERT", "COMMIT"]


@pytest.mark.rule("T1", "T3")
async def test_half_of_a_scope_is_not_committed_after_sqlite_rolled_back_by_itself(
    world: World,
) -> None:
    """ON CONFLICT ROLLBACK ends the transaction; what comes later begins another one."""

    async def pay() -> None:
        async with world.scope():
            await world.write("before")
            with pytest.raises(IntegrityError):
                await world.execute(DUPLICATE.replace("INSERT", "INSERT OR ROLLBACK"))
            await world.write("after")

    with pytest.raises(UnexpectedRollbackError) as caught:
        await pay()
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert world.kept() == []
    async with world.scope():
        await world.write("next")
    assert world.kept() == ["next"]


@pytest.mark.rule("T1")
async def test_a_lock_that_was_swallowed_does_not_doom_sqlite(world: World) -> None:
    """BUSY refuses the statement and nothing else."""
    other = SyncWorld(world.url)
    async with world.unit():
        with other.engine.connect() as connection:
            connection.exec_driver_sql("INSERT INTO note (text) VALUES ('other')")
            async with world.scope():
                await world.execute("PRAGMA busy_timeout = 0")
                with pytest.raises(OperationalError, match="locked"):
                    await world.write_core("before")
                connection.rollback()
                await world.write_core("after")
    other.manager.databases.dispose()
    assert world.kept() == ["after"]


@pytest.fixture(params=["sync", "async", "awaited"])
def mariadb_world(request: pytest.FixtureRequest, mariadb_url: str) -> Iterator[World]:
    """Give a world on MariaDB."""
    world = make_world(request.param, mariadb_url)
    yield world
    assert world.conversation.held == 0


@pytest.fixture
def enemy(mariadb_world: World) -> Iterator[Connection]:
    """Give a second connection that has changed much, so that it survives every deadlock."""
    engine = create_engine(mariadb_world.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER)")
        connection.exec_driver_sql("INSERT INTO counter VALUES (1, 0), (2, 0)")
    with engine.connect() as connection:
        for number in range(10, 40):
            connection.exec_driver_sql(f"INSERT INTO counter VALUES ({number}, 0)")  # noqa: S608
        connection.exec_driver_sql("UPDATE counter SET n = 1 WHERE id = 2")
        yield connection
    engine.dispose()


@pytest.mark.rule("T1", "T3", "T21")
@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.NESTED])
async def test_half_of_a_scope_is_not_committed_after_a_deadlock(
    mariadb_world: World, enemy: Connection, propagation: Propagation
) -> None:
    """InnoDB rolls the whole transaction back, savepoints included, and begins another one."""
    world = mariadb_world
    cross = threading.Thread(
        target=lambda: enemy.exec_driver_sql("UPDATE counter SET n = 1 WHERE id = 1")
    )

    @world.transactional(propagation=propagation)
    async def collide() -> None:
        await world.execute("UPDATE counter SET n = 2 WHERE id = 1")
        cross.start()
        try:
            await world.execute("UPDATE counter SET n = 2 WHERE id = 2")
        finally:
            cross.join()

    async def pay() -> None:
        async with world.scope():
            await world.write("before")
            try:
                await collide()
            except DBAPIError as error:
                swallowed.append(error)
            await world.write("after")

    swallowed: list[BaseException] = []
    with pytest.raises(UnexpectedRollbackError) as caught:
        await pay()
    assert caught.value.__cause__ in swallowed
    assert world.kept() == []


@pytest.mark.rule("T1", "T3")
async def test_a_deadlock_swallowed_by_the_scope_itself_is_no_half_commit(
    mariadb_world: World, enemy: Connection
) -> None:
    """No joined call has failed, only a statement."""
    world = mariadb_world
    cross = threading.Thread(
        target=lambda: enemy.exec_driver_sql("UPDATE counter SET n = 1 WHERE id = 1")
    )

    async def pay() -> None:
        async with world.scope():
            await world.write("before")
            await world.execute("UPDATE counter SET n = 2 WHERE id = 1")
            cross.start()
            with pytest.raises(OperationalError, match="1213"):
                await world.execute("UPDATE counter SET n = 2 WHERE id = 2")
            cross.join()
            await world.write("after")

    with pytest.raises(UnexpectedRollbackError) as caught:
        await pay()
    assert isinstance(caught.value.__cause__, OperationalError)
    assert world.kept() == []
