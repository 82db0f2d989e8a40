"""How each database is told the mode of a transaction, and how it says that time is up.

The only module that knows databases apart in this. What lasts longer than the transaction is
undone when the connection goes back: a step leaves its opposite in ``undo``.

Sources: PostgreSQL manual, "SET TRANSACTION", "SET" and ``statement_timeout``; MariaDB knowledge
base, "SET TRANSACTION", ``max_statement_time`` and "SQL statements that cause an implicit commit";
MySQL manual, "SET TRANSACTION" and ``max_execution_time``; https://www.sqlite.org/pragma.html and
https://www.sqlite.org/c3ref/progress_handler.html.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flask_reqsession.codes import Code, Language, codes_of
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.modes import ISOLATION_LEVELS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.pool import ManagesConnection

    from flask_reqsession.modes import Deadline, TransactionMode

Step: TypeAlias = "Callable[[ManagesConnection], object]"

_LONGEST: Final = 2**31 - 1
"""Milliseconds: PostgreSQL and MySQL keep a limit in 32 bits."""


class Told:
    """A connection that is told a mode, and the steps that will undo what outlasts it."""

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection = connection
        self.undo: list[Step] = []

    def say(self, sql: str) -> None:
        """Execute ``sql``, which returns nothing of interest."""
        self.connection.exec_driver_sql(sql).close()

    def ask(self, sql: str) -> Any:  # noqa: ANN401 - whatever the database answers
        """Return the one value that ``sql`` gives."""
        return self.connection.exec_driver_sql(sql).scalar_one()


class Database(ABC):
    """What the kinds of databases differ in.

    ``timed_out`` are the codes of a statement that was stopped by its limit, ``maybe_timed_out``
    those that have other causes as well. ``escapes``: a statement that commits implicitly ends a
    read-only transaction instead of being refused. ``proof`` is a query for whether a transaction
    is open at all. ``joins_foreign``: read-only can be told where somebody else began.
    """

    levels: tuple[str, ...] = ISOLATION_LEVELS
    timed_out: frozenset[Code] = frozenset()
    maybe_timed_out: frozenset[Code] = frozenset()
    escapes: bool = False
    proof: str | None = None
    joins_foreign: bool = True

    @abstractmethod
    def begin(self, told: Told, mode: TransactionMode) -> None:
        """Tell the level and that nothing is to be written, before the first statement."""

    @abstractmethod
    def limit(self, told: Told, deadline: Deadline) -> None:
        """Let statements take no longer than what is left."""

    @abstractmethod
    def shorten(self, told: Told, deadline: Deadline) -> None:
        """Do that again, later in the same transaction."""


class PostgreSQL(Database):
    """Everything ends with the transaction."""

    maybe_timed_out: frozenset[Code] = frozenset({(Language.SQLSTATE, "57014")})
    """query_canceled: by an administrator, too."""
    proof: str | None = "SELECT statement_timestamp() > now()"

    def begin(self, told: Told, mode: TransactionMode) -> None:
        """Set what is valid for the current transaction."""
        told.say(f"SET TRANSACTION {_characteristics(mode)}")

    def limit(self, told: Told, deadline: Deadline) -> None:
        """Set what is valid until the end of the transaction."""
        told.say(f"SET LOCAL statement_timeout = {_milliseconds(deadline)}")

    shorten = limit


class MariaDB(Database):
    """``SET TRANSACTION`` is valid for the next transaction only, a limit for the session."""

    timed_out: frozenset[Code] = frozenset({(Language.MYSQL, 1969)})
    maybe_timed_out: frozenset[Code] = frozenset({(Language.MYSQL, 1205)})
    escapes: bool = True
    proof: str | None = "SELECT @@autocommit = 0"
    joins_foreign: bool = False
    variable: str = "max_statement_time"

    def begin(self, told: Told, mode: TransactionMode) -> None:
        """Set what is valid for the next transaction: it has not begun."""
        told.say(f"SET TRANSACTION {_characteristics(mode)}")

    def limit(self, told: Told, deadline: Deadline) -> None:
        """Set a variable of the session, and keep its value in one of the user's."""
        variable, kept = self.variable, f"@flask_reqsession_{self.variable}"
        told.undo.append(partial(_execute, f"SET SESSION {variable} = {kept}"))
        amount = self.amount(_milliseconds(deadline))
        told.say(f"SET {kept} = @@SESSION.{variable}, SESSION {variable} = {amount}")

    def shorten(self, told: Told, deadline: Deadline) -> None:
        """Set it once more."""
        told.say(f"SET SESSION {self.variable} = {self.amount(_milliseconds(deadline))}")

    def amount(self, milliseconds: int) -> str:
        """Return the time in the variable's unit: seconds."""
        return f"{milliseconds / 1000:.3f}"


class MySQL(MariaDB):
    """As MariaDB, but its limit stops ``SELECT`` only, and it refuses DDL by itself."""

    timed_out: frozenset[Code] = frozenset({(Language.MYSQL, 3024)})
    escapes: bool = False
    variable: str = "max_execution_time"

    def amount(self, milliseconds: int) -> str:
        """Return the time in the variable's unit: milliseconds."""
        return str(milliseconds)


class SQLite(Database):
    """Everything is a setting of the connection."""

    levels: tuple[str, ...] = ("READ UNCOMMITTED", "SERIALIZABLE")
    maybe_timed_out: frozenset[Code] = frozenset((Language.SQLITE, code) for code in (5, 6, 9))
    """SQLITE_BUSY, SQLITE_LOCKED, SQLITE_INTERRUPT."""

    def begin(self, told: Told, mode: TransactionMode) -> None:
        """Set pragmas. Another level than ``SERIALIZABLE`` exists in a shared cache only."""
        if mode.isolation is not None:
            _set_pragma(told, "read_uncommitted", int(mode.isolation == "READ UNCOMMITTED"))
        if mode.read_only:
            _set_pragma(told, "query_only", 1)

    def limit(self, told: Told, deadline: Deadline) -> None:
        """Stop what runs when time is up, and wait no longer for a lock."""
        waits: int = told.ask("PRAGMA busy_timeout")
        _set_pragma(told, "busy_timeout", min(waits, _milliseconds(deadline)))
        told.undo.append(partial(_watch_progress, None))
        _watch_progress(lambda: deadline.is_over, told.connection.connection)

    def shorten(self, told: Told, deadline: Deadline) -> None:
        """Wait no longer for a lock; the clock is looked at anyway."""
        waits: int = told.ask("PRAGMA busy_timeout")
        told.say(f"PRAGMA busy_timeout = {min(waits, _milliseconds(deadline))}")


def _characteristics(mode: TransactionMode) -> str:
    level = None if mode.isolation is None else f"ISOLATION LEVEL {mode.isolation}"
    return ", ".join(filter(None, (level, "READ ONLY" if mode.read_only else None)))


def _milliseconds(deadline: Deadline) -> int:
    return min(max(math.ceil(deadline.left * 1000), 1), _LONGEST)


def _set_pragma(told: Told, pragma: str, value: int) -> None:
    before = told.ask(f"PRAGMA {pragma}")
    told.undo.append(partial(_execute_outside, f"PRAGMA {pragma} = {before}"))
    told.say(f"PRAGMA {pragma} = {value}")


def _execute(sql: str, managed: ManagesConnection) -> None:
    driver: Any = managed.dbapi_connection
    cursor = driver.cursor()
    cursor.execute(sql)
    cursor.close()


def _execute_outside(sql: str, managed: ManagesConnection) -> None:
    """Execute ``sql``, and end the transaction that the driver may begin for it."""
    driver: Any = managed.driver_connection
    was_open: bool = driver.in_transaction
    _execute(sql, managed)
    if not was_open:
        connection: Any = managed.dbapi_connection
        connection.rollback()


_STEPS: Final = 10_000
"""Instructions of SQLite's virtual machine between two looks at the clock."""


def _watch_progress(handler: Callable[[], bool] | None, managed: ManagesConnection) -> None:
    def watch(driver: Any) -> Any:  # noqa: ANN401 - an awaitable, of an asynchronous driver
        return driver.set_progress_handler(handler, _STEPS)

    connection: Any = managed.dbapi_connection
    if hasattr(connection, "run_async"):
        connection.run_async(watch)
    else:
        watch(connection)


_DATABASES: Final = MappingProxyType(
    {
        "postgresql": PostgreSQL(),
        "mariadb": MariaDB(),
        "mysql": MySQL(),
        "sqlite": SQLite(),
    }
)


def database_of(connection: Connection) -> Database:
    """Return how the database of ``connection`` is spoken to.

    :raises ConfigurationError: nobody knows.
    """
    dialect = connection.dialect
    name = "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name
    database = _DATABASES.get(name)
    if database is None:
        known = ", ".join(_DATABASES)
        raise ConfigurationError(
            f"isolation, read_only and timeout can't be kept on {name}: only {known} are known. "
            "Remove the option, or set it on the engine."
        )
    return database


def is_timeout(database: Database, error: BaseException, deadline: Deadline) -> bool:
    """Whether the driver's ``error`` says that a statement took longer than it had.

    Where the code has other causes, too, the clock decides; the server's may be ahead a little.
    """
    codes = frozenset(codes_of(error))
    if codes & database.timed_out:
        return True
    return bool(codes & database.maybe_timed_out) and deadline.left < _CLOCKS_DIFFER


_CLOCKS_DIFFER: Final = 0.01
"""Seconds."""
