"""Which errors are retried, by code alone, and how long the wait is."""

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
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession import CommitOutcomeUnknownError, Retry
from flask_reqsession.retrying import RetryRun, is_rolled_back, is_transient


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


TRANSIENT: list[Any] = [
    psycopg.errors.SerializationFailure(),
    psycopg.errors.DeadlockDetected(),
    asyncpg.exceptions.SerializationError(),
    asyncpg.exceptions.DeadlockDetectedError(),
    PgcodeError(),
    pymysql.err.OperationalError(1213, "Deadlock found"),
    pymysql.err.OperationalError(1205, "Lock wait timeout exceeded"),
    asyncmy.errors.OperationalError(1213, "Deadlock found"),
    MySQLConnectorError(1205, "Lock wait timeout exceeded"),
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
    ValueError("deadlock detected; database is locked; 40001"),
]


def described(error: Any) -> str:
    """Name a case."""
    return f"{type(error).__module__}.{type(error).__name__}-{error.args}"


@pytest.mark.rule("T21")
@pytest.mark.parametrize("original", TRANSIENT, ids=described)
def test_what_the_database_asks_to_be_repeated_is_transient(original: Any) -> None:
    """By the database's own code, whichever driver brings it."""
    assert is_transient(OperationalError("SELECT 1", {}, original))


@pytest.mark.rule("T21")
@pytest.mark.parametrize("original", LASTING, ids=described)
def test_no_other_operational_error_is_transient(original: Any) -> None:
    """Never by the text of a message."""
    assert not is_transient(OperationalError("SELECT 1", {}, original))
    assert not is_transient(original)


@pytest.mark.rule("T21")
def test_a_lost_connection_and_a_stale_row_are_transient() -> None:
    """Another attempt has another connection, and loads the row anew."""
    lost = DBAPIError("SELECT 1", {}, psycopg.OperationalError("gone"), connection_invalidated=True)
    assert is_transient(lost)
    assert is_transient(StaleDataError())


@pytest.mark.rule("T20", "T21", "T24")
def test_a_policy_adds_classes_but_never_an_unknown_outcome() -> None:
    """The work of such a call may be there already."""
    run = RetryRun(Retry(on=(ValueError, CommitOutcomeUnknownError)))
    assert run.allows(UnicodeError())
    assert run.allows(StaleDataError())
    assert not run.allows(KeyError())
    assert not run.allows(CommitOutcomeUnknownError())


@pytest.mark.rule("T20")
def test_the_wait_doubles_up_to_its_maximum() -> None:
    """Without jitter it is the upper end itself."""
    run = RetryRun(Retry(attempts=9, initial=0.5, maximum=3.0, jitter=False))
    assert [run.delay(attempt) for attempt in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert RetryRun(Retry(initial=0, maximum=0, jitter=False)).delay(99) == 0


@pytest.mark.rule("T20")
def test_the_jitter_is_full() -> None:
    """Any wait between nothing and the upper end, so that competitors part."""
    run = RetryRun(Retry(attempts=9, initial=0.5, maximum=3.0))
    for attempt, longest in enumerate([0.5, 1.0, 2.0, 3.0, 3.0], start=1):
        waits = [run.delay(attempt) for _ in range(500)]
        assert 0 <= min(waits) < longest / 10
        assert longest * 9 / 10 < max(waits) <= longest


@pytest.mark.rule("T25")
def test_giving_up_is_noted_with_attempts_and_time() -> None:
    """On the error itself."""
    error = StaleDataError()
    RetryRun(Retry(attempts=4)).exhausted(error)
    [note] = error.__notes__
    assert note.startswith("Gave up after 4 attempts in 0.")


@pytest.mark.rule("T20")
def test_the_user_hears_of_each_failed_attempt() -> None:
    """With its number and its error; without a callback nobody is called."""
    heard: list[tuple[int, BaseException]] = []
    error = StaleDataError()
    RetryRun(Retry(before_retry=lambda *told: heard.append(told))).announce(2, error)
    RetryRun(Retry()).announce(2, error)
    assert heard == [(2, error)]


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
        assert not is_rolled_back(error, connection)
        busy = refused_by_sqlite(other, "BEGIN IMMEDIATE")
        assert not is_rolled_back(busy, other)
        error = refused_by_sqlite(connection, "INSERT OR ROLLBACK INTO t VALUES (1)")
        assert is_rolled_back(error, connection)
        connection.invalidate()
        assert not is_rolled_back(error, connection)
    engine.dispose()
