"""``verify()`` finds out what an engine's transactions are worth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool

from flask_reqsession import DatabaseManager
from flask_reqsession.proofs import PROOFS
from tests.servers.connections import Rows, async_url_of

TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE name LIKE 'reqsession%'",
    "postgresql": "SELECT tablename FROM pg_tables WHERE tablename LIKE 'reqsession%'",
    "mariadb": "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'reqsess%'",
}


@pytest.fixture
def legacy(sqlite_file_url: str) -> Iterator[Engine]:
    """Give a SQLite engine as ``create_engine`` makes it."""
    engine = create_engine(sqlite_file_url)
    yield engine
    engine.dispose()


@pytest.mark.rule("D6")
def test_our_engines_keep_what_they_promise(database_url: str, rows: Rows) -> None:
    """Every experiment goes well, is seen by a second connection, and leaves no table."""
    databases = DatabaseManager(database_url)

    report = databases.verify()

    assert (report.ok, report.problems) == (True, [])
    (engine,) = report.engines
    assert engine.checks == dict.fromkeys(PROOFS, True)
    assert engine.second_connection
    assert rows(database_url, TABLES[databases.engine().dialect.name]) == []
    databases.dispose()


@pytest.mark.rule("D6", "T50")
def test_asynchronous_engines_are_verified_as_well(async_database_url: str, rows: Rows) -> None:
    """Through their own driver, and from inside a running event loop too."""
    databases = DatabaseManager(async_database_url)

    async def verify() -> bool:
        return databases.verify().ok

    assert databases.verify().ok
    assert asyncio.run(verify())
    backend = databases.async_engine().dialect.name
    assert rows(async_database_url, TABLES[backend]) == []


@pytest.mark.rule("D6", "T50")
def test_an_asynchronous_pool_is_left_empty(sqlite_file_url: str) -> None:
    """Its connections belong to an event loop that is over."""
    engine = create_async_engine(async_url_of(sqlite_file_url))

    DatabaseManager(engine).verify()

    assert engine.pool.status().startswith("Pool size: 5  Connections in pool: 0")


def in_memory(databases: DatabaseManager, sql: str) -> list[object]:
    """Execute ``sql`` in a transaction."""
    with databases.engine().begin() as connection:
        result = connection.execute(text(sql))
        return [tuple(row) for row in result] if result.returns_rows else []


def in_async_memory(databases: DatabaseManager, sql: str) -> list[object]:
    """Execute ``sql`` in a transaction of the asynchronous driver."""

    async def execute() -> list[object]:
        async with databases.async_engine().begin() as connection:
            result = await connection.execute(text(sql))
            return [tuple(row) for row in result] if result.returns_rows else []

    return asyncio.run(execute())


@pytest.mark.rule("D6")
@pytest.mark.parametrize("url", ["sqlite://", "sqlite+aiosqlite://"])
def test_a_memory_database_is_verified_and_survives(url: str) -> None:
    """It has no second connection, and the report says so."""
    databases = DatabaseManager(url) if url == "sqlite://" else DatabaseManager(async_source=url)
    execute = in_memory if url == "sqlite://" else in_async_memory
    execute(databases, "CREATE TABLE t (id INTEGER)")
    execute(databases, "INSERT INTO t VALUES (7)")

    report = databases.verify()

    assert report.ok
    assert [engine.second_connection for engine in report.engines] == [False]
    assert execute(databases, "SELECT name FROM sqlite_master") == [("t",)]
    databases.dispose()


@pytest.mark.rule("D6")
def test_legacy_mode_is_found_out(legacy: Engine, sqlite_file_url: str, rows: Rows) -> None:
    """With the bind, the effect and the fix in each sentence."""
    report = DatabaseManager({"old": legacy}).verify()

    assert not report.ok
    assert [name for name, well in report.engines[0].checks.items() if not well] == [
        "release of a savepoint",
        "rollback of DDL",
        "test isolation",
    ]
    for problem in report.problems:
        assert problem.startswith("Bind 'old' (sqlite:///")
        assert "Give DatabaseManager the URL" in problem
    assert rows(sqlite_file_url, TABLES["sqlite"]) == []


@pytest.mark.rule("D6")
def test_autocommit_is_found_out(postgresql_url: str) -> None:
    """Where nothing is a transaction, the checks say so one by one."""
    engine = create_engine(postgresql_url, isolation_level="AUTOCOMMIT")

    report = DatabaseManager(engine).verify()

    checks = report.engines[0].checks
    assert [name for name, well in checks.items() if well] == ["storage engines"]
    assert "Remove isolation_level='AUTOCOMMIT'" in report.problems[0]
    engine.dispose()


@pytest.mark.rule("D6")
def test_a_storage_engine_without_transactions_is_found_out(mariadb_url: str) -> None:
    """As the default for new tables, and in tables that are there already."""
    engine = create_engine(mariadb_url)
    event.listen(
        engine,
        "connect",
        lambda connection, _: connection.query("SET default_storage_engine = MyISAM"),
    )
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE old (id INTEGER)"))

    report = DatabaseManager(engine).verify()
    engine.dispose()

    checks = report.engines[0].checks
    assert [name for name, well in checks.items() if well] == ["rollback of DDL"]
    assert "no transactions: old" in report.problems[-1]
    assert all("InnoDB" in problem for problem in report.problems)


@pytest.mark.rule("D6")
def test_a_user_who_may_only_read_is_told(postgresql_url: str) -> None:
    """The report says what was tried and what is needed; nothing is raised."""
    engine = create_engine(postgresql_url)
    with engine.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS reader_of_verification"))
        connection.execute(text("CREATE ROLE reader_of_verification LOGIN"))
    url = make_url(postgresql_url).set(username="reader_of_verification", password="secret")  # noqa: S106 - no secret
    reader = create_engine(url, poolclass=NullPool)

    report = DatabaseManager(reader).verify()

    (problem,) = report.problems
    assert "InsufficientPrivilege" in problem
    assert "Verify as a user who may do both" in problem
    assert "secret" not in problem
    assert report.engines[0].checks == {}
    with engine.begin() as connection:
        connection.execute(text("DROP ROLE reader_of_verification"))
    engine.dispose()


@pytest.mark.rule("D6")
def test_a_check_that_fails_by_an_error_is_a_problem(legacy: Engine) -> None:
    """The others are still done."""
    event.listen(legacy, "savepoint", lambda *_: DatabaseManager(42))

    report = DatabaseManager(legacy).verify()

    checks = report.engines[0].checks
    assert checks["rollback"]
    assert not checks["rollback to a savepoint"]
    assert "the check of test isolation failed (ConfigurationError" in " ".join(report.problems)


@pytest.mark.rule("D6")
def test_a_source_that_tells_no_engine_is_asked_for_a_session(legacy: Engine) -> None:
    """Every bind is verified."""

    class Getter:
        get_session = staticmethod(sessionmaker(legacy))

    report = DatabaseManager({"default": "sqlite://", "older": Getter()}).verify()

    assert [engine.bind for engine in report.engines] == ["default", "older"]
    assert not report.ok


@pytest.mark.rule("D6")
def test_the_report_can_be_sent_as_json(legacy: Engine) -> None:
    """What it says, without a password."""
    report = DatabaseManager(legacy).verify()

    found = json.loads(json.dumps(report.to_dict()))

    assert found["ok"] is False
    assert found["problems"] == report.problems
    assert found["engines"][0]["checks"]["release of a savepoint"] is False
    assert found["engines"][0]["url"] == legacy.url.render_as_string()
