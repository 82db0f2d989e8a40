"""Somebody else, who stands in the way of one transfer and then steps aside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, NullPool, create_engine, event, update
from sqlalchemy.orm import Session

from examples.bank.models import Account
from examples.bank.patience import order_retrying


class Rival:
    """A second connection that makes the first attempt of a transfer fail."""

    def __init__(self, database_url: str, account_id: int) -> None:
        self._engine = create_engine(database_url, poolclass=NullPool)
        self._account_id = account_id
        self.conflicts: list[BaseException] = []
        """The errors that were answered with a further attempt."""

    @contextmanager
    def in_the_way(self) -> Iterator[None]:
        """Cause one conflict for what runs inside."""
        in_the_way = self._locking if self._engine.dialect.name == "sqlite" else self._overtaking
        with self._engine.connect() as connection, in_the_way(connection):
            yield

    @contextmanager
    def _locking(self, connection: Connection) -> Iterator[None]:
        """Hold SQLite's only write lock, until the app says that it will try again."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

        def release(_sender: object, *, error: BaseException, **_more: object) -> None:
            self.conflicts.append(error)
            connection.rollback()

        with order_retrying.connected_to(release):
            yield

    @contextmanager
    def _overtaking(self, connection: Connection) -> Iterator[None]:
        """Change the payer's row between the app's SELECT and its UPDATE.

        A server would make the app wait for a lock, so that nothing would fail: here the version
        column of the account reveals that the app has decided on what is no longer true.
        """

        def overtake(*_flush: object) -> None:
            newer = update(Account).values(version=Account.version + 1)
            connection.execute(newer.where(Account.id == self._account_id))
            connection.commit()

        def note(_sender: object, *, error: BaseException, **_more: object) -> None:
            self.conflicts.append(error)

        event.listen(Session, "before_flush", overtake, once=True)
        with order_retrying.connected_to(note):
            yield
