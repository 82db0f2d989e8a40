"""The experiments that show whether an engine's transactions are real ones.

Each is a function that gets a :class:`Probe` with an empty table, and returns a sentence about what
it saw go wrong, or None.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.orm import Session
from sqlalchemy.pool import SingletonThreadPool, StaticPool


class Probe:
    """A throwaway table on one engine, and a second connection that looks into it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.table: Table = Table(
            f"reqsession_verify_{uuid.uuid4().hex}",
            MetaData(),
            Column("id", Integer, primary_key=True, autoincrement=False),
        )
        # A pool like the engine's beside it, since the limits of that one could make us wait. Where
        # all share one connection there is no second one, and a memory database would be another.
        shares_one = isinstance(engine.pool, StaticPool | SingletonThreadPool)
        self._others = None if shares_one else engine.pool.recreate()
        self._count = select(func.count()).select_from(self.table)

    @property
    def has_second_connection(self) -> bool:
        """Whether others look through a connection of their own."""
        return self._others is not None

    def insert(self, connection: Connection | Session, *rows: int) -> None:
        """Insert ``rows``, one statement for each."""
        for row in rows:
            connection.execute(self.table.insert().values(id=row))

    def count(self, connection: Connection) -> int:
        """Count the rows that ``connection`` sees."""
        return connection.execute(self._count).scalar_one()

    def seen_by_others(self) -> int:
        """Count the rows that a second connection sees; without one, a new transaction."""
        if self._others is None:
            with self.engine.connect() as connection:
                return self.count(connection)
        other = self._others.connect()
        try:
            cursor = other.cursor()
            cursor.execute(str(self._count.compile(self.engine)))
            (found,) = cursor.fetchall()
            cursor.close()
        finally:
            other.close()
        count: int = found[0]
        return count

    def clear(self) -> None:
        """Delete what an experiment left."""
        with self.engine.begin() as connection:
            connection.execute(self.table.delete())

    @contextmanager
    def existing(self) -> Generator[None]:
        """Make the table, and drop it whatever happens."""
        with self.engine.begin() as connection:
            self.table.create(connection)
        try:
            yield
        finally:
            if self._others is not None:
                self._others.dispose()
            with self.engine.begin() as connection:
                self.table.drop(connection)


def _rollback(probe: Probe) -> str | None:
    with probe.engine.connect() as connection:
        probe.count(connection)
        probe.insert(connection, 1)
        connection.rollback()
    if probe.seen_by_others():
        return "a row that was inserted after a SELECT is still there after ROLLBACK"
    return None


def _isolation(probe: Probe) -> str | None:
    with probe.engine.connect() as connection:
        probe.insert(connection, 1)
        seen = probe.has_second_connection and probe.seen_by_others()
        connection.rollback()
    return "a second connection sees a row that was not committed" if seen else None


def _release(probe: Probe) -> str | None:
    with probe.engine.connect() as connection:
        connection.begin()
        savepoint = connection.begin_nested()
        probe.insert(connection, 1)
        savepoint.commit()
        connection.rollback()
    if probe.seen_by_others():
        return "a row from a released savepoint is still there after ROLLBACK"
    return None


def _rollback_to_savepoint(probe: Probe) -> str | None:
    with probe.engine.connect() as connection:
        probe.insert(connection, 1)
        savepoint = connection.begin_nested()
        probe.insert(connection, 2)
        savepoint.rollback()
        connection.commit()
    if probe.seen_by_others() != 1:
        return "ROLLBACK TO SAVEPOINT did not undo exactly what came after the savepoint"
    return None


def _ddl(probe: Probe) -> str | None:
    if probe.engine.dialect.name not in {"postgresql", "sqlite"}:
        return None  # others commit before DDL, which is documented and can't be helped
    other = Table(f"{probe.table.name}_ddl", MetaData(), Column("id", Integer))
    with probe.engine.connect() as connection:
        other.create(connection)
        connection.rollback()
        kept = inspect(connection).has_table(other.name)
        connection.rollback()
    if not kept:
        return None
    other.drop(probe.engine)
    return "a table is still there after the ROLLBACK of its creation"


def _test_isolation(probe: Probe) -> str | None:
    with probe.engine.connect() as connection:
        connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            probe.insert(session, 1)
            session.commit()
            probe.insert(session, 2)
            session.rollback()
        kept = probe.count(connection)
        connection.rollback()
    if kept != 1 or probe.seen_by_others():
        return "a test that is undone at its end by one outer ROLLBACK would leave rows behind"
    return None


def _storage_engines(probe: Probe) -> str | None:
    if probe.engine.dialect.name not in {"mysql", "mariadb"}:
        return None
    with probe.engine.connect() as connection:
        names = [str(name) for name in connection.scalars(_TABLES_WITHOUT_TRANSACTIONS)]
    if names:
        return f"these tables have no transactions: {', '.join(names)}"
    return None


_TABLES_WITHOUT_TRANSACTIONS: Final = text(
    "SELECT t.table_name FROM information_schema.tables t "
    "JOIN information_schema.engines e ON e.engine = t.engine "
    "WHERE t.table_schema = DATABASE() AND e.transactions = 'NO' ORDER BY t.table_name"
)

PROOFS: Final = MappingProxyType(
    {
        "rollback": _rollback,
        "isolation": _isolation,
        "release of a savepoint": _release,
        "rollback to a savepoint": _rollback_to_savepoint,
        "rollback of DDL": _ddl,
        "test isolation": _test_isolation,
        "storage engines": _storage_engines,
    }
)
"""The experiments by name, in the order in which they are done."""
