"""SQLite in memory: one connection for all, one transaction at a time."""

from __future__ import annotations

import gc
import threading
from typing import Final

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import QueuePool, StaticPool

from flask_reqsession.errors import PoolDemandError
from tests.integration.conftest import Make

TABLE: Final = "CREATE TABLE t (id INTEGER PRIMARY KEY)"

MEMORY_URLS = [
    "sqlite://",
    "sqlite:///:memory:",
    "sqlite:///file::memory:?uri=true",
    "sqlite:///file::memory:?cache=shared&uri=true",
    "sqlite:///file:engines?mode=memory&cache=shared&uri=true",
]


def insert(connection: Connection, row: int) -> None:
    """Insert one row."""
    connection.execute(text("INSERT INTO t VALUES (:id)"), {"id": row})


@pytest.mark.rule("D3")
@pytest.mark.parametrize("url", MEMORY_URLS)
def test_a_memory_database_is_one_for_all_threads(make: Make, url: str) -> None:
    """Every thread gets the one connection, and so the same tables."""
    engine = make(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(TABLE)
        insert(connection, 1)
    found: list[object] = []

    def look() -> None:
        with engine.connect() as connection:
            found.extend(connection.exec_driver_sql("SELECT id FROM t").scalars())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [1]
    assert isinstance(engine.pool, StaticPool)


@pytest.mark.rule("D3", "T5")
def test_a_second_transaction_in_memory_is_refused_and_the_first_is_unharmed(make: Make) -> None:
    """They would share the connection: the second one's end would be the first one's as well."""
    engine = make("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql(TABLE)

    with engine.connect() as first:
        insert(first, 1)
        with engine.connect() as second, pytest.raises(PoolDemandError, match=r"one connection"):
            insert(second, 2)
        insert(first, 3)
        first.commit()
    with engine.connect() as third:
        assert third.exec_driver_sql("SELECT id FROM t").scalars().all() == [1, 3]


@pytest.mark.rule("D3")
def test_a_transaction_in_memory_that_nobody_ended_is_rolled_back(make: Make) -> None:
    """The database is not lost with the connection object that held it."""
    engine = make("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql(TABLE)
    forgotten = engine.connect()
    insert(forgotten, 1)

    del forgotten
    gc.collect()

    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT id FROM t").all() == []


@pytest.mark.rule("D3")
def test_the_users_pool_wins_in_memory(make: Make) -> None:
    """A shared cache with connections of their own is a choice one may make."""
    engine = make(MEMORY_URLS[-1], poolclass=QueuePool)

    with engine.connect() as first, engine.connect() as second:
        driver = second.connection.driver_connection
        assert driver is not first.connection.driver_connection


@pytest.mark.rule("D3")
def test_the_users_pool_object_wins(make: Make, sqlite_file_url: str) -> None:
    """No default is added that a finished pool could not take."""
    own = create_engine("sqlite://", poolclass=StaticPool)

    assert make(sqlite_file_url, pool=own.pool).pool is own.pool
    assert make("sqlite://", pool=own.pool).pool is own.pool
    assert make("mariadb+pymysql://", pool=own.pool).pool is own.pool
