"""Refuse a savepoint that would not be one, on an engine that was not made here (rule D5)."""

from __future__ import annotations

import weakref
from typing import Any, Final

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker

from flask_reqsession import sqlite
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.urls import shown

_WAS_OPEN: Final = "flask_reqsession.was_open"


class SavepointGuard:
    """Looks at the first transaction of each SQLite engine that was not made here.

    SQLite's SAVEPOINT begins a transaction where there is none, and its RELEASE then commits. So a
    transaction that was begun has to be open *before* the first statement in it.

    It listens to sessions, not to the engine: see :mod:`flask_reqsession.sqlite` for the price of
    the latter. An engine that was once found right costs one look-up for each transaction.
    """

    def __init__(self) -> None:
        self.engines: weakref.WeakSet[Engine] = weakref.WeakSet()
        """The engines that the watched sessions were seen to use."""
        # References, not WeakSets: these would be one more call for each transaction.
        self._right: set[weakref.ref[Engine]] = set()
        self._wrong: set[weakref.ref[Engine]] = set()
        self._watched: weakref.WeakSet[Any] = weakref.WeakSet()

    def watch(self, target: sessionmaker[Any] | Session) -> None:
        """Look at the transactions of ``target``, a session or whatever makes sessions; once."""
        if target not in self._watched:
            self._watched.add(target)
            event.listen(target, "after_begin", self._after_begin)

    def examine(self, connection: Connection) -> bool:
        """Say whether ``connection``, on which nothing was executed since BEGIN, did begin.

        Everything but SQLite does.
        """
        if connection.dialect.name != "sqlite" or sqlite.is_known_to_begin(connection):
            _remember(connection.engine, self._right)
            return True
        driver: Any = connection.connection.driver_connection
        is_open: bool = driver.in_transaction
        if not is_open:
            _remember(connection.engine, self._wrong)
        elif not _is_legacy(driver):  # else an earlier write may have opened it
            _remember(connection.engine, self._right)
        return is_open

    def _after_begin(
        self, _session: Session, transaction: SessionTransaction, connection: Connection
    ) -> None:
        engine = connection.engine
        known = weakref.ref(engine)
        if known in self._right:
            return
        is_savepoint = transaction.nested or connection.in_nested_transaction()
        if not is_savepoint and known in self._wrong:
            return  # until one is wanted
        self.engines.add(engine)
        if is_savepoint:
            _refuse_unless_open(connection)
        else:
            connection.info[_WAS_OPEN] = self.examine(connection)


def _remember(engine: Engine, engines: set[weakref.ref[Engine]]) -> None:
    engines.add(weakref.ref(engine, engines.discard))


def _refuse_unless_open(connection: Connection) -> None:
    """Judge a SAVEPOINT that was sent just now, when nothing has been done in it yet."""
    was_open: bool | None = connection.info.get(_WAS_OPEN)
    if was_open is None:  # begun by the user's own code, the session only joined
        driver: Any = connection.connection.driver_connection
        was_open = sqlite.is_known_to_begin(connection) or not _is_legacy(driver)
    if not was_open:
        raise ConfigurationError(
            f"A savepoint on {shown(connection.engine.url)} would not be part of its transaction: "
            "SQLite's driver is in its legacy transaction mode and did not begin one, so what the "
            "savepoint releases would survive a rollback. "
            "Give DatabaseManager the URL instead of an engine, session factory or extension of "
            "your own, or register two events on the engine: on 'connect' set "
            "dbapi_connection.isolation_level = None, and on 'begin' call "
            "connection.exec_driver_sql('BEGIN'); see "
            "https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#sqlite-transactions"
        )


def _is_legacy(driver: Any) -> bool:  # noqa: ANN401 - a connection of any SQLite driver
    """Whether ``driver`` begins before some statements only; the attributes are ``sqlite3``'s."""
    return driver.isolation_level is not None and getattr(driver, "autocommit", None) is not False
