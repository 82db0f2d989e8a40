"""What databases say by code, whichever driver brings it. The text of a message is never asked.

One table for everybody who needs to know: what is run again, which transaction is gone already,
and after which answer to COMMIT nobody knows whether it happened.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


class Language(Enum):
    """Who numbers the errors."""

    SQLSTATE = "SQLSTATE"
    """The five characters of the SQL standard: PostgreSQL's drivers, and some of MariaDB's."""
    MYSQL = "MySQL and MariaDB"
    SQLITE = "SQLite"
    """Primary result codes: the lowest eight bits of an extended one."""


Code: TypeAlias = tuple[Language, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What follows from a code.

    ``asks_again``: the same transaction may succeed when it is run again. ``has_rolled_back``: the
    whole transaction is gone, although only a statement failed. ``leaves_open``: as an answer to
    COMMIT it does not say whether the transaction was committed.
    """

    source: str
    asks_again: bool = False
    has_rolled_back: bool = False
    leaves_open: bool = False


_NOTHING: Final = Meaning(source="")

_POSTGRESQL: Final = "https://www.postgresql.org/docs/current/errcodes-appendix.html"
_MARIADB: Final = (
    "https://mariadb.com/docs/server/reference/error-codes/mariadb-error-code-reference"
)
_SNAPSHOT: Final = (
    "https://mariadb.com/docs/server/server-usage/storage-engines/innodb/"
    "innodb-system-variables#innodb_snapshot_isolation"
)
_SQLITE: Final = "https://www.sqlite.org/rescode.html"

MEANINGS: Final[Mapping[Code, Meaning]] = MappingProxyType(
    {
        # serialization_failure
        (Language.SQLSTATE, "40001"): Meaning(source=_POSTGRESQL, asks_again=True),
        # deadlock_detected
        (Language.SQLSTATE, "40P01"): Meaning(source=_POSTGRESQL, asks_again=True),
        # statement_completion_unknown
        (Language.SQLSTATE, "40003"): Meaning(source=_POSTGRESQL, leaves_open=True),
        # transaction_resolution_unknown
        (Language.SQLSTATE, "08007"): Meaning(source=_POSTGRESQL, leaves_open=True),
        # ER_LOCK_WAIT_TIMEOUT: of the statement only, innodb_rollback_on_timeout is off by default
        (Language.MYSQL, 1205): Meaning(source=_MARIADB, asks_again=True),
        # ER_LOCK_DEADLOCK: InnoDB rolls the whole transaction back
        (Language.MYSQL, 1213): Meaning(source=_MARIADB, asks_again=True, has_rolled_back=True),
        # ER_CHECKREAD: a row that was read has changed since; InnoDB rolls the transaction back
        (Language.MYSQL, 1020): Meaning(source=_SNAPSHOT, asks_again=True, has_rolled_back=True),
        # ER_SERVER_SHUTDOWN
        (Language.MYSQL, 1053): Meaning(source=_MARIADB, leaves_open=True),
        # ER_ERROR_DURING_COMMIT: of one storage engine; another may have committed
        (Language.MYSQL, 1180): Meaning(source=_MARIADB, leaves_open=True),
        # SQLITE_BUSY: another connection holds the lock
        (Language.SQLITE, 5): Meaning(source=_SQLITE, asks_again=True),
        # SQLITE_LOCKED: the same, inside one process
        (Language.SQLITE, 6): Meaning(source=_SQLITE, asks_again=True),
    }
)
"""Every code that is acted upon. What is not here is an error like any other."""

_PRIMARY: Final = 0xFF


def codes_of(original: object) -> Iterator[Code]:
    """Yield the codes of a driver's error, in each language that it speaks.

    ``sqlstate``: psycopg, asyncpg, mysql-connector; ``pgcode``: psycopg2; ``args[0]``: PyMySQL,
    asyncmy, aiomysql, mysqlclient, mysql-connector; ``errno``: mariadb; ``sqlite_errorcode``:
    sqlite3, aiosqlite.
    """
    sqlite_code: object = getattr(original, "sqlite_errorcode", None)
    if isinstance(sqlite_code, int):
        yield Language.SQLITE, sqlite_code & _PRIMARY
    number = _number_of(original)
    if number is not None:
        yield Language.MYSQL, number
    for name in ("sqlstate", "pgcode"):
        state: object = getattr(original, name, None)
        if isinstance(state, str):
            yield Language.SQLSTATE, state


def _number_of(original: object) -> int | None:
    if isinstance(original, OSError):
        return None  # the operating system's number
    arguments = cast("tuple[object, ...]", getattr(original, "args", ()))
    for number in (*arguments[:1], getattr(original, "errno", None)):
        if isinstance(number, int):
            return number
    return None


def _meanings_of(original: object) -> Iterator[Meaning]:
    return (MEANINGS.get(code, _NOTHING) for code in codes_of(original))


def asks_again(original: object) -> bool:
    """Whether the database says that the same transaction may succeed when it is run again."""
    return any(meaning.asks_again for meaning in _meanings_of(original))


def leaves_open(original: object) -> bool:
    """Whether ``original``, an answer to COMMIT, does not say if it happened."""
    return any(meaning.leaves_open for meaning in _meanings_of(original))


def has_rolled_back(original: object, connection: Connection) -> bool:
    """Whether the database has rolled the whole transaction back when a statement failed.

    SQLite does it for the errors listed at https://www.sqlite.org/lang_transaction.html and for
    ``ON CONFLICT ROLLBACK``, and can be asked.
    """
    if connection.dialect.name != "sqlite":
        return any(meaning.has_rolled_back for meaning in _meanings_of(original))
    if connection.invalidated or asks_again(original):
        return False
    driver: Any = connection.connection.driver_connection
    return not driver.in_transaction


def spelled(original: object) -> object:
    """Return the code that an operator would search for, in the words of the driver, or None."""
    number = _number_of(original)
    if number is not None:
        return number
    for name in ("sqlstate", "pgcode", "sqlite_errorname"):
        word: object = getattr(original, name, None)
        if word:
            return word
    return None
