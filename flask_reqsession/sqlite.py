"""SQLite as a database with transactions, which its Python drivers do not make of it by default.

``sqlite3`` begins a transaction before INSERT, UPDATE, DELETE and REPLACE only. DDL, reads and
savepoints that come before the first of them run outside it, and survive a rollback.
`SQLAlchemy's remedy <https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#sqlite-transactions>`_
is to send BEGIN from its event ``begin``. But one listener to the events of an engine's connections
makes every statement of that engine slower (150 function calls for a session with three of them, on
SQLAlchemy 2.1.9), so here the driver's own cursor sends it.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable
from typing import Any, Final, Self, TypeVar, overload

from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, PoolResetState

from flask_reqsession.errors import PoolDemandError
from flask_reqsession.urls import shown

CursorT = TypeVar("CursorT", bound=sqlite3.Cursor)

BUSY_TIMEOUT: Final = 5.0
"""Seconds that a connection waits for another one's lock."""

DRIVERS: Final = frozenset({"pysqlite", "aiosqlite"})
"""The drivers of SQLAlchemy that connect through :func:`sqlite3.connect`."""

_BEGINS_BY_ITSELF: Final = "flask_reqsession.begins_by_itself"
_HOLDER: Final = "flask_reqsession.holder"


class TransactionalCursor(sqlite3.Cursor):
    """Begin a transaction before the first statement of any kind, as :pep:`249` demands."""

    def execute(self, sql: str, parameters: Any = (), /) -> Self:  # noqa: ANN401 - as inherited
        """Execute ``sql`` in a transaction."""
        self._begin(sql)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> Self:  # noqa: ANN401 - as inherited
        """Execute ``sql`` with each of ``parameters`` in a transaction."""
        self._begin(sql)
        return super().executemany(sql, parameters)

    def _begin(self, sql: str) -> None:
        connection = self.connection
        if connection.in_transaction or connection.isolation_level is None:
            return
        if sql.lstrip()[:5].upper() != "BEGIN":
            super().execute(f"BEGIN {connection.isolation_level}")


class TransactionalConnection(sqlite3.Connection):
    """A connection whose cursors begin transactions by themselves; pass it as ``factory``.

    ``isolation_level`` keeps its meaning: the kind of BEGIN, or None for none at all, which is how
    SQLAlchemy asks for ``AUTOCOMMIT``.

    >>> connection = sqlite3.connect(":memory:", factory=TransactionalConnection)
    >>> _ = connection.execute("CREATE TABLE t (id INTEGER)")
    >>> connection.rollback()
    >>> connection.execute("SELECT name FROM sqlite_master").fetchall()
    []
    >>> connection.close()
    """

    begins_by_itself = True

    @overload
    def cursor(self, factory: None = None) -> sqlite3.Cursor: ...

    @overload
    def cursor(self, factory: Callable[[sqlite3.Connection], CursorT]) -> CursorT: ...

    def cursor(
        self, factory: Callable[[sqlite3.Connection], sqlite3.Cursor] | None = None
    ) -> sqlite3.Cursor:
        """Return a new cursor; ``factory`` makes it, if given."""
        return super().cursor(factory or TransactionalCursor)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401 - as inherited
        """Execute ``sql`` with a new cursor; the inherited one would not ask for it."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:  # noqa: ANN401 - as inherited
        """Execute ``sql`` with each of ``parameters`` and a new cursor."""
        return self.cursor().executemany(sql, parameters)


def is_memory(url: URL) -> bool:
    """Whether the database of ``url`` ends with its connection.

    >>> from sqlalchemy import make_url
    >>> [is_memory(make_url(url)) for url in ("sqlite://", "sqlite:///file::memory:?uri=true")]
    [True, True]
    >>> is_memory(make_url("sqlite:///app.db"))
    False
    """
    database = url.database or ":memory:"
    return database in {":memory:", "file::memory:"} or url.query.get("mode") == "memory"


def is_copied_by_fork(engine: Engine) -> bool:
    """Whether a forked child has a copy of its own of the whole database.

    An asynchronous one is lost in the child: the thread that worked for it is not copied.
    """
    return engine.dialect.name == "sqlite" and is_memory(engine.url) and not engine.dialect.is_async


def prepare(engine: Engine, *, begins_by_itself: bool) -> None:
    """Make each new connection of ``engine`` enforce foreign keys, a file's also write ahead.

    ``begins_by_itself``: its connections are of :class:`TransactionalConnection`.
    """
    pragmas = ["PRAGMA foreign_keys = ON"]
    if not is_memory(engine.url) and not _is_read_only(engine.url):
        pragmas.append("PRAGMA journal_mode = WAL")

    def connect(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        _outside_a_transaction(connection, record, pragmas)
        record.info[_BEGINS_BY_ITSELF] = begins_by_itself

    event.listen(engine, "connect", connect)


def is_known_to_begin(connection: Connection) -> bool:
    """Whether the engine of ``connection`` was made here, with a driver that begins by itself."""
    known: bool = connection.info.get(_BEGINS_BY_ITSELF, False)
    return known


def use_in_turns(engine: Engine) -> None:
    """Let one transaction at a time use the only connection of a memory database.

    Without this a second session would find itself inside the first one's transaction, and end it.
    """

    def begin(connection: Connection) -> None:
        if _is_held(connection.info):
            raise PoolDemandError(
                f"A second transaction was begun on {shown(engine.url)} while one is open. A "
                "memory database has one connection, which holds one transaction at a time. End "
                "the first one, or use a database file or a server."
            )
        connection.info[_HOLDER] = weakref.ref(connection)

    def reset(
        connection: DBAPIConnection, record: ConnectionPoolEntry, state: PoolResetState
    ) -> None:
        # Whoever was refused above gives back what another one is still using.
        if state.asyncio_safe and not _is_held(record.info):
            connection.rollback()

    event.listen(engine, "begin", begin)
    event.listen(engine, "reset", reset)


def _is_held(info: dict[Any, Any]) -> bool:
    reference: weakref.ref[Connection] | None = info.get(_HOLDER)
    holder = None if reference is None else reference()
    return holder is not None and holder.in_transaction()


def _is_read_only(url: URL) -> bool:
    return url.query.get("mode") == "ro" or "immutable" in url.query


def _outside_a_transaction(
    connection: DBAPIConnection, record: ConnectionPoolEntry, statements: list[str]
) -> None:
    """Execute what a transaction would ignore (foreign keys) or refuse (write ahead)."""
    driver: Any = record.driver_connection
    was_begun: bool = driver.in_transaction  # by the driver itself: autocommit=False
    cursor = connection.cursor()
    if was_begun:
        cursor.execute("COMMIT")
    level = connection.isolation_level
    connection.isolation_level = None
    for statement in [*statements, "BEGIN"] if was_begun else statements:
        cursor.execute(statement)
    cursor.close()
    connection.isolation_level = level
