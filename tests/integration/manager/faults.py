"""A SQLite database on which every step can be made to fail."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from flask_reqsession.engines import make_engine
from flask_reqsession.sqlite import TransactionalConnection


class FaultError(Exception):
    """A step failed, the one named in the message."""


class Faulty:
    """A source of sessions, with one pooled connection, whose steps fail as ``failing`` says.

    ``connect``, ``commit`` and ``rollback`` fail in the driver, ``begin`` in SQLAlchemy's event,
    ``close`` in ``close_session()``. A connection whose ROLLBACK failed is remembered as poisoned;
    it fails once only if it ``heals``.
    """

    def __init__(self, url: str, failing: Collection[str] = ()) -> None:
        self.failing = failing
        self.heals = False
        self.poisoned: list[sqlite3.Connection] = []
        self.engine = self._engine(url)
        event.listen(self.engine, "do_connect", lambda *_: self._fail_in_driver("connect"))
        event.listen(self.engine, "begin", self._begin)

    def _engine(self, url: str) -> Engine:
        faulty = self

        class FaultyConnection(TransactionalConnection):
            def commit(self) -> None:
                faulty._fail_in_driver("commit")
                super().commit()

            def rollback(self) -> None:
                try:
                    faulty._fail_in_driver("rollback")
                except sqlite3.OperationalError:
                    faulty.poisoned.append(self)
                    faulty.failing = () if faulty.heals else faulty.failing
                    raise
                super().rollback()

        options = {"connect_args": {"factory": FaultyConnection}, "pool_timeout": 0}
        return make_engine(url, {**options, "pool_size": 1, "max_overflow": 0})

    def get_session(self) -> Session:
        """Return a new session."""
        return Session(self.engine, expire_on_commit=False, close_resets_only=False)

    def close_session(self, session: Session) -> None:
        """Close ``session``, or fail before that."""
        if "close" in self.failing:
            raise FaultError("close")
        session.close()

    def pooled(self) -> object:
        """Return the driver's connection that the next user gets."""
        self.failing = ()
        with self.engine.connect() as connection:
            return connection.connection.driver_connection

    def _begin(self, _connection: object) -> None:
        if "begin" in self.failing:
            raise FaultError("begin")

    def _fail_in_driver(self, step: str) -> None:
        if step in self.failing:
            raise sqlite3.OperationalError(step)
