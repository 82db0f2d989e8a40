"""A model, and what the tests of sources do with it."""

from __future__ import annotations

import sqlite3
from typing import Any, Literal

from sqlalchemy import Connection, Engine, ForeignKey, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import QueuePool

from flask_reqsession import DatabaseManager


class Base(DeclarativeBase):
    """The models of the tests of sources."""


class Item(Base):
    """A row to write."""

    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int | None] = mapped_column(ForeignKey("item.id"))


class OwnSession(Session):
    """A session class of the user's own."""


class BegunConnection(sqlite3.Connection):
    """What Python 3.12's ``autocommit=False`` gives: a transaction is always open."""

    # Without effect: it can be read and set, and begins nothing.
    isolation_level: Literal["DEFERRED", "EXCLUSIVE", "IMMEDIATE"] | None = "DEFERRED"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("BEGIN")

    def rollback(self) -> None:
        """Begin again after each end."""
        super().rollback()
        self.execute("BEGIN")


def any_callable(factory: object) -> Any:
    """Return ``factory``: SQLAlchemy documents more kinds of them than it has types for."""
    return factory


def leave_legacy_mode(connection: DBAPIConnection, _record: object) -> None:
    """Do the first half of what SQLAlchemy's documentation says about SQLite."""
    connection.isolation_level = None


def begin(connection: Connection) -> None:
    """Do the second half."""
    connection.exec_driver_sql("BEGIN")


def begin_by_recipe(engine: Engine) -> None:
    """Do what SQLAlchemy's documentation says about SQLite."""
    engine.dispose()
    event.listen(engine, "connect", leave_legacy_mode)
    event.listen(engine, "begin", begin)


def write_and_close(databases: DatabaseManager, bind: str = "default") -> Session:
    """Write one row through a session of ``bind``; return the closed session."""
    source = databases.source(bind)
    session = source.open()
    try:
        session.add(Item())
        session.commit()
    finally:
        source.close(session)
    return session


def nest(databases: DatabaseManager, *, write_first: bool = False) -> None:
    """Write a row in a savepoint, and roll everything back."""
    source = databases.source()
    session = source.open()
    try:
        if write_first:
            session.add(Item())
            session.flush()
        with session.begin_nested():
            session.add(Item())
            session.flush()
        session.rollback()
    finally:
        source.close(session)


def connections_in_use(engine: Engine) -> int:
    """Count the connections that are out of the pool."""
    assert isinstance(engine.pool, QueuePool)
    return engine.pool.checkedout()


def connections_in_pool(engine: Engine) -> int:
    """Count the connections that are in the pool."""
    assert isinstance(engine.pool, QueuePool)
    return engine.pool.checkedin()


async def count(databases: DatabaseManager, bind: str = "default") -> object:
    """Count the rows through an asynchronous session of ``bind``."""
    source = databases.async_source(bind)
    session = source.open()
    found = await session.scalar(text("SELECT count(*) FROM item"))
    await source.close(session)
    return found
