"""``timeout=``: the database stops what takes longer, and nothing late is committed."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession import (
    Propagation,
    PropagationError,
    TransactionTimeoutError,
    UnexpectedRollbackError,
)
from tests.integration.transactions.worlds import SyncWorld, World

ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 1 FROM n "
    "WHERE i < 0",
    "postgresql": "SELECT pg_sleep(60)",
    "mariadb": "SELECT SLEEP(60)",
}
LIMIT = {
    "sqlite": "PRAGMA busy_timeout",
    "postgresql": "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'",
    "mariadb": "SELECT 1000 * @@SESSION.max_statement_time",
}
ONLY_ONCE = "INSERT INTO note (text) VALUES ('written')"


def spend(seconds: float) -> None:
    """Work for ``seconds``, without the database."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ...


async def take_long(world: World) -> None:
    """Execute a statement that does not come to an end by itself."""
    await world.execute(ENDLESS[world.engine.dialect.name])


async def limit_of(world: World) -> int:
    """Ask the connection for its limit in milliseconds: SQLite's is that of waiting for locks."""
    sql = LIMIT[world.engine.dialect.name]
    return int(await world.do(lambda session: session.scalar(text(sql))) or 0)


@pytest.mark.rule("T19")
async def test_the_database_stops_a_statement_that_takes_longer(pooled: World) -> None:
    """The driver's error is the cause, all is rolled back, and the connection is as it was."""

    @pooled.transactional(timeout=1)
    async def work() -> None:
        await pooled.write("rolled back")
        await take_long(pooled)

    async with pooled.scope():
        usual = await limit_of(pooled)
    began = time.monotonic()
    with pytest.raises(TransactionTimeoutError, match=r"work\(\) has timeout=1 seconds") as caught:
        await work()
    assert time.monotonic() - began < 20
    assert isinstance(caught.value.__cause__, pooled.engine.dialect.loaded_dbapi.Error)
    assert pooled.kept() == []
    async with pooled.scope():
        assert await limit_of(pooled) == usual
        spend(1.1)  # longer than what the last one had
        await pooled.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)"
            " SELECT MAX(i) FROM n, note"
        )
        await pooled.write("kept")
    assert pooled.kept() == ["kept"]


@pytest.mark.rule("T19")
@pytest.mark.parametrize("nested", [False, True])
async def test_a_swallowed_timeout_is_raised_at_the_end(everywhere: World, *, nested: bool) -> None:
    """Nothing is committed because somebody caught it; a savepoint is no way out."""
    propagation = Propagation.NESTED if nested else Propagation.REQUIRED

    @everywhere.transactional(propagation=propagation)
    async def inner() -> None:
        await take_long(everywhere)

    with pytest.raises(TransactionTimeoutError) as caught:
        async with everywhere.scope(timeout=1):
            await everywhere.write("rolled back")
            with pytest.raises(TransactionTimeoutError) as swallowed:
                await inner()
    assert caught.value is swallowed.value
    assert everywhere.kept() == []


@pytest.mark.rule("T19")
async def test_what_is_late_is_not_committed(everywhere: World) -> None:
    """Though no statement took long: the time is looked at before COMMIT."""

    @everywhere.transactional(timeout=0.2)
    async def work() -> str:
        await everywhere.write("rolled back")
        spend(0.25)
        return "done"

    with pytest.raises(TransactionTimeoutError):
        await work()
    assert everywhere.sent[-1] == "ROLLBACK"
    assert everywhere.kept() == []


@pytest.mark.rule("T19")
async def test_a_statement_that_comes_too_late_is_refused(world: World) -> None:
    """A savepoint that was begun in time can still be rolled back to."""

    def work(session: Any) -> None:
        session.execute(text(ONLY_ONCE))
        with pytest.raises(TransactionTimeoutError):
            with session.begin_nested():
                session.execute(text(ONLY_ONCE.replace("written", "again")))
                spend(1)
                world.conversation.clear()
                session.execute(text(ONLY_ONCE.replace("written", "late")))
        assert world.sent[-1] == "ROLLBACK TO"

    with pytest.raises(TransactionTimeoutError):
        async with world.scope(timeout=1):
            await world.do(work)
    assert world.kept() == []


@pytest.mark.rule("T19")
async def test_the_limit_of_a_statement_is_what_is_left(everywhere: World) -> None:
    """It shrinks in the course of the transaction, for each statement anew."""
    async with everywhere.scope(timeout=4):
        first = await limit_of(everywhere)
        spend(0.5)
        second = await limit_of(everywhere)
        third = await limit_of(everywhere)
    assert 2000 < first <= 4000
    assert second <= first - 450
    assert third == second


@pytest.mark.rule("T19")
async def test_a_limit_of_the_users_own_comes_back(on_mariadb: World) -> None:
    """That is what the session had, not what the server has by default."""

    def set_limit(_driver: object, record: Any, _proxy: object) -> None:
        cursor = record.dbapi_connection.cursor()
        cursor.execute("SET SESSION max_statement_time = 33")
        cursor.close()

    event.listen(on_mariadb.engine, "checkout", set_limit)
    async with on_mariadb.scope(timeout=5):
        assert await limit_of(on_mariadb) <= 5000
    event.remove(on_mariadb.engine, "checkout", set_limit)
    async with on_mariadb.scope():
        assert await limit_of(on_mariadb) == 33_000


@pytest.mark.rule("T19")
async def test_waiting_for_a_lock_is_a_part_of_the_time(everywhere: World) -> None:
    """Another connection holds it for longer."""
    async with everywhere.scope():
        await everywhere.read()  # SQLite's first connection needs the lock for itself
    with everywhere.second_connection() as other:
        other.execute(text(ONLY_ONCE))
        began = time.monotonic()
        with pytest.raises(TransactionTimeoutError):
            async with everywhere.scope(timeout=0.3):
                await everywhere.execute(ONLY_ONCE)
        assert time.monotonic() - began < 4
    assert everywhere.kept() == ["written"]


@pytest.mark.rule("T19")
async def test_a_statement_stopped_by_somebody_else_is_no_timeout(on_postgresql: World) -> None:
    """PostgreSQL has one code for both; the error stays SQLAlchemy's."""
    with pytest.raises(OperationalError):
        async with on_postgresql.scope(timeout=60):
            await on_postgresql.execute("SELECT pg_cancel_backend(pg_backend_pid())")


@pytest.mark.rule("T19")
async def test_other_errors_stay_what_they_are(everywhere: World) -> None:
    """SQLAlchemy's own, in a transaction with a limit as in any other."""
    with pytest.raises(DBAPIError):
        async with everywhere.scope(timeout=60):
            await everywhere.execute("SELECT nonsense")


@pytest.mark.rule("T19", "T3")
async def test_another_swallowed_failure_is_still_an_unexpected_rollback(world: World) -> None:
    """While time is left."""

    @world.transactional()
    async def inner() -> None:
        raise ValueError

    with pytest.raises(UnexpectedRollbackError):
        async with world.scope(timeout=60):
            with pytest.raises(ValueError):  # noqa: PT011
                await inner()


@pytest.mark.rule("T19")
@pytest.mark.parametrize("propagation", ["REQUIRED", "NESTED", "MANDATORY"])
async def test_a_limit_cannot_join_what_may_take_longer(world: World, propagation: str) -> None:
    """The time is the transaction's; a limit that is kept anyway joins."""

    @world.transactional(propagation=propagation, timeout=5)
    async def inner() -> str:
        return "ran"

    for options in ({}, {"timeout": 5.5}, {"read_only": True}):
        async with world.scope(**options):
            with pytest.raises(PropagationError, match="inner.* has timeout=5, but"):
                await inner()
    for limit in (5, 4.5):
        async with world.scope(timeout=limit):
            assert await inner() == "ran"


@pytest.mark.rule("T19", "T20")
async def test_each_attempt_has_its_time(world: World) -> None:
    """The limit is one for the transaction, and a retried call begins another."""
    attempts: list[int] = []

    @world.transactional(timeout=1, retry=2)
    async def work() -> None:
        attempts.append(len(attempts))
        await world.write("kept")
        if len(attempts) == 1:
            spend(1.05)
            raise StaleDataError

    await work()
    assert attempts == [0, 1]
    assert world.kept() == ["kept"]


@pytest.mark.rule("T19", "T14")
async def test_a_late_commit_of_a_failed_body_is_refused_too(world: World) -> None:
    """``no_rollback_for`` would have kept it; the body's exception is the context."""
    with pytest.raises(TransactionTimeoutError) as caught:
        async with world.scope(timeout=1, no_rollback_for=ValueError):
            await world.write("rolled back")
            spend(1)
            raise ValueError
    assert isinstance(caught.value.__context__, ValueError)
    assert world.kept() == []


@pytest.mark.rule("T19", "T11")
def test_the_time_of_a_generator_includes_its_pauses(sync_world: SyncWorld) -> None:
    """Its transaction is open meanwhile."""

    @sync_world.manager.transactional(timeout=0.2)
    def steps() -> Any:
        sync_world.put("rolled back")
        yield "one"

    with pytest.raises(TransactionTimeoutError, match="steps"):
        for _ in steps():
            spend(0.25)
    assert sync_world.kept() == []
