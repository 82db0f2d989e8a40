"""SQLite as the package sets it up: its transactions are transactions."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Connection, Engine, event, make_url, text
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import IntegrityError, OperationalError

from flask_reqsession.engines import begins_by_itself
from flask_reqsession.sqlite import TransactionalConnection, TransactionalCursor
from tests.integration.conftest import Make
from tests.integration.items import BegunConnection
from tests.servers.connections import Rows

TABLE: Final = "CREATE TABLE t (id INTEGER PRIMARY KEY)"


@pytest.fixture
def engine(make: Make, sqlite_file_url: str) -> Engine:
    """Give an engine on a SQLite file with an empty table."""
    engine = make(sqlite_file_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(TABLE)
    return engine


def insert(connection: Connection, row: int) -> None:
    """Insert one row."""
    connection.execute(text("INSERT INTO t VALUES (:id)"), {"id": row})


@pytest.mark.rule("D3")
def test_ddl_is_rolled_back(make: Make, sqlite_file_url: str, rows: Rows) -> None:
    """CREATE TABLE belongs to the transaction; in the driver's legacy mode it would stay."""
    with make(sqlite_file_url).connect() as connection:
        connection.exec_driver_sql(TABLE)
        connection.rollback()

    assert rows(sqlite_file_url, "SELECT name FROM sqlite_master") == []


@pytest.mark.rule("D3")
def test_a_write_after_a_read_is_rolled_back(
    engine: Engine, sqlite_file_url: str, rows: Rows
) -> None:
    """The transaction begins with the SELECT, and ROLLBACK undoes what came after it."""
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM t")
        insert(connection, 1)
        connection.rollback()

    assert rows(sqlite_file_url, "SELECT id FROM t") == []


@pytest.mark.rule("D3")
def test_a_read_is_repeatable(engine: Engine, sqlite_file_url: str, rows: Rows) -> None:
    """What another connection commits meanwhile is not seen before the transaction ends."""
    with engine.connect() as reader, engine.connect() as writer:
        before = reader.exec_driver_sql("SELECT count(*) FROM t").scalar()
        insert(writer, 1)
        writer.commit()
        after = reader.exec_driver_sql("SELECT count(*) FROM t").scalar()

    assert (before, after) == (0, 0)
    assert rows(sqlite_file_url, "SELECT id FROM t") == [(1,)]


@pytest.mark.rule("D3")
def test_a_released_savepoint_is_rolled_back_with_its_transaction(
    engine: Engine, sqlite_file_url: str, rows: Rows
) -> None:
    """In legacy mode the SAVEPOINT would be the outermost transaction, and RELEASE its commit."""
    with engine.connect() as connection:
        connection.begin()
        savepoint = connection.begin_nested()
        insert(connection, 1)
        savepoint.commit()
        connection.rollback()

    assert rows(sqlite_file_url, "SELECT id FROM t") == []


@pytest.mark.rule("D3")
def test_a_savepoint_is_rolled_back_alone(engine: Engine, sqlite_file_url: str, rows: Rows) -> None:
    """What came before the savepoint is committed, what came in it is not."""
    with engine.connect() as connection:
        insert(connection, 1)
        savepoint = connection.begin_nested()
        insert(connection, 2)
        savepoint.rollback()
        connection.commit()

    assert rows(sqlite_file_url, "SELECT id FROM t") == [(1,)]


@pytest.mark.rule("D3")
def test_many_rows_are_one_transaction(engine: Engine, sqlite_file_url: str, rows: Rows) -> None:
    """``executemany`` begins a transaction as well, whatever the statement begins with."""
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "WITH one AS (SELECT 1) INSERT INTO t SELECT :id FROM one", [{"id": 1}, {"id": 2}]
        )
        connection.rollback()

    assert rows(sqlite_file_url, "SELECT id FROM t") == []


@pytest.mark.rule("D3")
@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE"])
def test_an_isolation_level_lasts_for_its_connection(
    engine: Engine, sqlite_file_url: str, rows: Rows, level: IsolationLevel
) -> None:
    """``AUTOCOMMIT`` is honoured, and whoever gets the connection next has transactions again."""
    with engine.connect() as connection:
        insert(connection.execution_options(isolation_level=level), 1)
        connection.rollback()
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        insert(connection, 2)
        connection.rollback()

    assert rows(sqlite_file_url, "SELECT id FROM t") == ([(1,)] if level == "AUTOCOMMIT" else [])


@pytest.mark.rule("D3")
def test_the_kind_of_begin_is_the_users(make: Make, engine: Engine, sqlite_file_url: str) -> None:
    """``isolation_level=IMMEDIATE`` takes the write lock with the first statement, a SELECT."""
    eager = make(sqlite_file_url, connect_args={"isolation_level": "IMMEDIATE"})
    other = make(sqlite_file_url, connect_args={"timeout": 0})

    with eager.connect() as connection, other.connect() as blocked:
        connection.exec_driver_sql("SELECT 1")
        with pytest.raises(OperationalError, match=r"locked"):
            insert(blocked, 1)
    assert engine is not eager


@pytest.mark.rule("D3")
def test_a_begin_of_the_users_own_is_no_second_one(
    engine: Engine, sqlite_file_url: str, rows: Rows
) -> None:
    """The recipe of SQLAlchemy's documentation, on top of ours, changes nothing."""
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))

    with engine.connect() as connection:
        insert(connection, 1)
        connection.rollback()

    assert rows(sqlite_file_url, "SELECT id FROM t") == []


@pytest.mark.rule("D3")
def test_the_drivers_own_shortcuts_are_transactional(
    engine: Engine, sqlite_file_url: str, rows: Rows
) -> None:
    """``connection.execute`` of ``sqlite3`` begins a transaction like its cursors."""
    raw = engine.raw_connection()
    driver: Any = raw.driver_connection
    driver.execute("SAVEPOINT s")
    driver.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
    driver.execute("RELEASE s")
    raw.close()

    assert rows(sqlite_file_url, "SELECT id FROM t") == []


@pytest.mark.rule("D3")
def test_a_cursor_class_of_the_users_is_used(engine: Engine) -> None:
    """``cursor(factory)`` means what it means in ``sqlite3``."""
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection

        assert isinstance(driver, TransactionalConnection)
        assert type(driver.cursor(sqlite3.Cursor)) is sqlite3.Cursor
        assert type(driver.cursor()) is TransactionalCursor


@pytest.mark.rule("D3")
def test_foreign_keys_are_enforced(engine: Engine) -> None:
    """SQLite checks them only where it is told to."""
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE c (t_id INTEGER REFERENCES t)")
        with pytest.raises(IntegrityError, match=r"FOREIGN KEY"):
            connection.exec_driver_sql("INSERT INTO c VALUES (7)")


@pytest.mark.rule("D3")
def test_a_file_is_written_ahead(engine: Engine, sqlite_file_url: str, rows: Rows) -> None:
    """Readers and a writer don't block each other; any other connection sees the mode."""
    assert engine.dialect.name == "sqlite"
    assert rows(sqlite_file_url, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.rule("D3")
@pytest.mark.parametrize(
    ("query", "options", "milliseconds"),
    [
        ("", {}, 5_000),
        ("?timeout=7", {}, 7_000),
        ("", {"connect_args": {"timeout": 2}}, 2_000),
    ],
)
def test_a_lock_is_waited_for(
    make: Make, sqlite_file_url: str, query: str, options: dict[str, Any], milliseconds: int
) -> None:
    """The busy timeout is set; the user's own wins, in the URL or in the options."""
    with make(sqlite_file_url + query, **options).connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == milliseconds


@pytest.mark.rule("D3")
@pytest.mark.parametrize("how", ["mode=ro", "immutable=1"])
def test_a_read_only_file_can_be_read(make: Make, tmp_path: Path, how: str) -> None:
    """Nothing is written at connection, not even the journal mode."""
    path = tmp_path / "read.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(TABLE)
    connection.close()

    with make(f"sqlite:///file:{path}?{how}&uri=true").connect() as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM t").scalar() == 0
        assert reader.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"


@pytest.mark.rule("D3")
def test_settings_reach_a_driver_that_begins_at_connection(
    make: Make, sqlite_file_url: str
) -> None:
    """A transaction would ignore the one and refuse the other; it is left as it was found."""
    engine = make(sqlite_file_url, connect_args={"factory": BegunConnection})

    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection

        assert driver.in_transaction
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


@pytest.mark.rule("D3")
def test_another_driver_of_sqlite_gets_the_settings(make: Make, tmp_path: Path) -> None:
    """How it begins transactions is looked at, when that is needed (D5)."""
    url = f"sqlite+pysqlcipher://:key@/{tmp_path / 'secret.sqlite'}"

    with make(url, module=sqlite3).connect() as connection:
        driver = connection.connection.driver_connection
        assert type(driver) is sqlite3.Connection
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


@pytest.mark.parametrize(
    ("url", "options", "known"),
    [
        ("sqlite://", {}, True),
        ("sqlite+aiosqlite://", {}, True),
        ("sqlite+pysqlcipher://", {}, False),
        ("sqlite://", {"creator": None}, False),
        ("sqlite://", {"connect_args": {"factory": sqlite3.Connection}}, False),
        ("postgresql+psycopg://", {"creator": None}, True),
    ],
)
def test_a_driver_of_the_users_own_is_not_trusted(
    url: str, options: dict[str, Any], *, known: bool
) -> None:
    """Where the user brings the connection, it is looked at like that of any other engine (D5)."""
    assert begins_by_itself(make_url(url), options) is known
