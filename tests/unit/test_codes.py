"""What errors mean, by the database's own code alone, whichever driver brings it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import asyncmy.errors
import asyncpg.exceptions
import psycopg.errors
import pymysql.err
import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError

from flask_reqsession.codes import MEANINGS, asks_again, has_rolled_back, leaves_open, spelled


def sqlite_error(code: int, name: str = "") -> sqlite3.OperationalError:
    """Make the error that sqlite3 raises for ``code``."""
    error = sqlite3.OperationalError(name)
    error.sqlite_errorcode = code
    return error


class PgcodeError(Exception):
    """Looks like an error of psycopg2."""

    pgcode = "40001"


class MySQLConnectorError(Exception):
    """Looks like an error of mysql-connector: a code and an SQLSTATE that says little."""

    sqlstate = "HY000"


class MariadbError(Exception):
    """Looks like an error of MariaDB's own connector."""

    errno = 1205
    sqlstate = "HY000"


TRANSIENT: list[Any] = [
    psycopg.errors.SerializationFailure(),
    psycopg.errors.DeadlockDetected(),
    asyncpg.exceptions.SerializationError(),
    asyncpg.exceptions.DeadlockDetectedError(),
    PgcodeError(),
    pymysql.err.OperationalError(1213, "Deadlock found"),
    pymysql.err.OperationalError(1020, "Record has changed since last read"),
    pymysql.err.OperationalError(1205, "Lock wait timeout exceeded"),
    asyncmy.errors.OperationalError(1213, "Deadlock found"),
    MySQLConnectorError(1205, "Lock wait timeout exceeded"),
    MariadbError("Lock wait timeout exceeded"),
    sqlite_error(sqlite3.SQLITE_BUSY),
    sqlite_error(sqlite3.SQLITE_LOCKED),
    sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT),
    sqlite_error(sqlite3.SQLITE_LOCKED_SHAREDCACHE),
]
LASTING: list[Any] = [
    psycopg.errors.UndefinedTable(),
    psycopg.errors.LockNotAvailable(),
    psycopg.errors.UniqueViolation(),
    asyncpg.exceptions.UndefinedTableError(),
    pymysql.err.OperationalError(1146, "Table doesn't exist"),
    pymysql.err.OperationalError(),
    pymysql.err.OperationalError("1213"),
    pymysql.err.OperationalError([1213]),
    sqlite_error(sqlite3.SQLITE_ERROR, "database is locked"),
    sqlite_error(sqlite3.SQLITE_CONSTRAINT_UNIQUE),
    sqlite_error(sqlite3.SQLITE_IOERR),
    OSError(1205, "the number of an operating system"),
    ValueError("deadlock detected; database is locked; 40001"),
]


def described(error: Any) -> str:
    """Name a case."""
    return f"{type(error).__module__}.{type(error).__name__}-{error.args}"


@pytest.mark.rule("T21")
@pytest.mark.parametrize("original", TRANSIENT, ids=described)
def test_what_the_database_asks_to_be_repeated_is_known_by_its_code(original: Any) -> None:
    """Whichever driver brings it."""
    assert asks_again(original)
    assert not leaves_open(original)


@pytest.mark.rule("T21")
@pytest.mark.parametrize("original", LASTING, ids=described)
def test_no_other_error_asks_to_be_repeated(original: Any) -> None:
    """Never by the text of a message."""
    assert not asks_again(original)
    assert not leaves_open(original)


@pytest.mark.rule("T24")
@pytest.mark.parametrize(
    "original",
    [
        psycopg.errors.StatementCompletionUnknown(),
        psycopg.errors.TransactionResolutionUnknown(),
        asyncpg.exceptions.StatementCompletionUnknownError(),
        pymysql.err.OperationalError(1053, "Server shutdown in progress"),
        asyncmy.errors.OperationalError(1180, "Got error 28 during COMMIT"),
    ],
    ids=described,
)
def test_some_answers_to_commit_do_not_say_if_it_happened(original: Any) -> None:
    """The database itself does not know, and nothing is run again because of them."""
    assert leaves_open(original)
    assert not asks_again(original)


def test_every_code_has_a_source() -> None:
    """Somebody else wrote down what it means."""
    assert all(meaning.source.startswith("https://") for meaning in MEANINGS.values())


@pytest.mark.rule("M7")
@pytest.mark.parametrize(
    ("original", "word"),
    [
        (psycopg.errors.UniqueViolation(), "23505"),
        (asyncpg.exceptions.UniqueViolationError(), "23505"),
        (PgcodeError(), "40001"),
        (pymysql.err.IntegrityError(1062, "Duplicate entry"), 1062),
        (MariadbError("Lock wait timeout exceeded"), 1205),
        (ValueError("23505"), None),
    ],
    ids=lambda given: described(given) if isinstance(given, Exception) else "",
)
def test_a_code_is_spelled_as_the_driver_does(original: Any, word: object) -> None:
    """So that an operator can look it up."""
    assert spelled(original) == word


def refused_by_sqlite(connection: Connection, sql: str) -> BaseException:
    """Return the driver's error for a statement that SQLite refuses."""
    with pytest.raises(DBAPIError) as caught:
        connection.exec_driver_sql(sql)
    assert caught.value.orig is not None
    return caught.value.orig


@pytest.mark.rule("T1")
def test_sqlite_says_whether_its_transaction_is_still_there(tmp_path: Path) -> None:
    """Some errors end it; a lock never does, and of a lost connection nothing is asked."""
    engine = create_engine(f"sqlite:///{tmp_path / 'x.sqlite'}", connect_args={"timeout": 0})
    with engine.connect() as connection, engine.connect() as other:
        connection.exec_driver_sql("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
        error = refused_by_sqlite(connection, "INSERT INTO t VALUES (1)")
        assert not has_rolled_back(error, connection)
        busy = refused_by_sqlite(other, "BEGIN IMMEDIATE")
        assert not has_rolled_back(busy, other)
        error = refused_by_sqlite(connection, "INSERT OR ROLLBACK INTO t VALUES (1)")
        assert has_rolled_back(error, connection)
        connection.invalidate()
        assert not has_rolled_back(error, connection)
    engine.dispose()
