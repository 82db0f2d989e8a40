"""The engines that the package makes: servers, asynchronous drivers, URLs."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any, Final

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from flask_reqsession.engines import make_async_engine
from flask_reqsession.errors import ConfigurationError, PoolDemandError
from flask_reqsession.urls import parse_url
from tests.integration.conftest import Make
from tests.servers.connections import Rows, async_url_of

TABLE: Final = "CREATE TABLE t (id INTEGER PRIMARY KEY)"


@pytest.mark.rule("D3")
@pytest.mark.parametrize(
    ("fixture", "me", "end"),
    [
        ("postgresql_url", "SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
        ("mariadb_url", "SELECT connection_id()", "KILL {}"),
    ],
)
def test_a_connection_that_the_server_dropped_is_replaced(
    make: Make, request: pytest.FixtureRequest, fixture: str, me: str, end: str
) -> None:
    """``pool_pre_ping``: a restart of the server costs no request an error."""
    engine = make(request.getfixturevalue(fixture))
    with engine.connect() as connection:
        pid = connection.exec_driver_sql(me).scalar_one()
    with make(request.getfixturevalue(fixture)).connect() as other:
        other.exec_driver_sql(end.format(pid))

    with engine.connect() as connection:
        assert connection.exec_driver_sql(me).scalar_one() != pid


@pytest.mark.rule("D3")
@pytest.mark.parametrize("form", ["default", "query", "argument"])
def test_mariadb_speaks_all_of_unicode(make: Make, mariadb_url: str, form: str) -> None:
    """Its ``utf8`` has no emoji; a character set that the user names wins."""
    expected = "utf8mb4" if form == "default" else "latin1"
    url = make_url(mariadb_url)
    if form == "query":
        url = url.update_query_dict({"charset": "latin1"})
    options = {"connect_args": {"charset": "latin1"}} if form == "argument" else {}

    with make(url.render_as_string(hide_password=False), **options).connect() as connection:
        used = connection.exec_driver_sql("SELECT @@character_set_client").scalar()
        assert used == expected
        if form == "default":
            assert connection.execute(text("SELECT :it"), {"it": "🙂"}).scalar() == "🙂"


@pytest.mark.rule("D3")
def test_mariadbs_connections_are_recycled(make: Make) -> None:
    """The server drops idle ones after hours, and proxies sooner; the user's number wins."""
    assert make("mysql+pymysql://").pool._recycle == 3600
    assert make("mysql+pymysql://").url.query["charset"] == "utf8mb4"
    assert make("mariadb+pymysql://", pool_recycle="60").pool._recycle == 60
    assert make("postgresql+psycopg://").pool._recycle == -1


@pytest.mark.rule("D3")
def test_mariadbs_own_connector_needs_no_character_set(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It speaks utf8mb4 always, and knows no such argument."""
    module = type(sqlite3)("mariadb")
    monkeypatch.setattr(module, "paramstyle", "qmark", raising=False)
    monkeypatch.setattr(module, "__version__", "1.1.10", raising=False)

    engine = make("mariadb+mariadbconnector://", module=module)

    assert dict(engine.url.query) == {}


@pytest.mark.rule("D3")
def test_the_users_options_win(make: Make) -> None:
    """Also as strings, as an environment variable has them."""
    engine = make("postgresql+psycopg://", pool_pre_ping=False, pool_size="3")

    assert engine.pool._pre_ping is False
    assert engine.pool.status().startswith("Pool size: 3")


@pytest.mark.rule("D3", "T50")
def test_an_async_engine_keeps_no_connection(async_database_url: str) -> None:
    """Flask's async views have an event loop each; a pooled connection would cross them."""
    engine = make_async_engine(async_database_url)

    async def ask() -> object:
        async with engine.connect() as connection:
            return (await connection.exec_driver_sql("SELECT 1")).scalar()

    assert [asyncio.run(ask()) for _ in range(3)] == [1, 1, 1]
    assert isinstance(engine.pool, NullPool)


@pytest.mark.rule("D3")
def test_async_sqlite_is_transactional(sqlite_file_url: str, rows: Rows) -> None:
    """DDL, a write after a read, and a released savepoint are all rolled back."""
    engine = make_async_engine(async_url_of(sqlite_file_url))

    async def write(*, commit: bool) -> None:
        async with engine.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")
            await connection.exec_driver_sql(TABLE)
            savepoint = await connection.begin_nested()
            await connection.exec_driver_sql("INSERT INTO t VALUES (1)")
            await savepoint.commit()
            await (connection.commit() if commit else connection.rollback())

    asyncio.run(write(commit=False))
    assert rows(sqlite_file_url, "SELECT name FROM sqlite_master") == []
    asyncio.run(write(commit=True))
    assert rows(sqlite_file_url, "SELECT id FROM t") == [(1,)]
    assert rows(sqlite_file_url, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.rule("D3")
def test_async_sqlite_enforces_foreign_keys(sqlite_file_url: str) -> None:
    """The asynchronous driver gets the same settings."""
    engine = make_async_engine(async_url_of(sqlite_file_url))

    async def ask(pragma: str) -> object:
        async with engine.connect() as connection:
            return (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar()

    assert asyncio.run(ask("foreign_keys")) == 1
    assert asyncio.run(ask("busy_timeout")) == 5_000


async def in_memory(engine: AsyncEngine, *statements: str) -> list[Any]:
    """Execute ``statements`` in one transaction; return the rows of the last one."""
    async with engine.begin() as connection:
        for statement in statements[:-1]:
            await connection.exec_driver_sql(statement)
        return list(await connection.exec_driver_sql(statements[-1]))


@pytest.mark.rule("D3", "T50")
def test_an_async_memory_database_outlives_the_event_loop() -> None:
    """It is on one connection, which every loop can use."""
    engine = make_async_engine("sqlite+aiosqlite://")

    asyncio.run(in_memory(engine, TABLE, "INSERT INTO t VALUES (1) RETURNING id"))

    assert asyncio.run(in_memory(engine, "SELECT id FROM t")) == [(1,)]
    asyncio.run(engine.dispose())


@pytest.mark.rule("D3")
def test_a_second_async_transaction_in_memory_is_refused() -> None:
    """Two tasks would share the connection, and end each other's transaction."""
    engine = make_async_engine("sqlite+aiosqlite://")

    async def both() -> list[Any]:
        async with engine.begin() as first:
            await first.exec_driver_sql(TABLE)
            await first.exec_driver_sql("INSERT INTO t VALUES (1)")
            with pytest.raises(PoolDemandError, match=r"one connection"):
                await in_memory(engine, "SELECT id FROM t")
        found = await in_memory(engine, "SELECT id FROM t")
        await engine.dispose()
        return found

    assert asyncio.run(both()) == [(1,)]


@pytest.mark.rule("D3")
def test_the_users_pool_wins_for_async_engines(async_database_url: str) -> None:
    """Who runs one event loop may pool."""
    engine = make_async_engine(async_database_url, {"pool_size": 2})

    assert isinstance(engine.pool, AsyncAdaptedQueuePool)


@pytest.mark.rule("D1")
def test_a_synchronous_driver_makes_no_async_engine(sqlite_file_url: str) -> None:
    """The refusal names drivers that do."""
    with pytest.raises(ConfigurationError, match=r"not asynchronous.*sqlite\+aiosqlite"):
        make_async_engine(sqlite_file_url)


@pytest.mark.rule("D1")
@pytest.mark.parametrize("url", ["ada:secret@localhost", "postgresql://ada:secret@host:port/bank"])
def test_a_url_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    """It may hold a password, and SQLAlchemy's own message would show it."""
    with pytest.raises(ConfigurationError) as refused:
        parse_url(url)

    assert "can't be parsed" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@pytest.mark.rule("D1")
def test_an_unknown_dialect_is_named() -> None:
    """The password is not."""
    with pytest.raises(ConfigurationError, match=r"no dialect 'oracel'") as refused:
        parse_url("oracel://ada:secret@localhost/bank")

    assert "secret" not in str(refused.value)
