"""Hold the transactions of read-only, isolated and timed scopes to what was asked for.

A transaction is told its mode when its connection is first used, so an untouched scope costs none.
What outlasts it there is undone by the pool when the connection comes back, whatever failed; where
that fails, the pool throws the connection away.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event, inspect

from flask_reqsession.errors import (
    ConfigurationError,
    PropagationError,
    ReadOnlyViolationError,
    TransactionTimeoutError,
)
from flask_reqsession.mode_statements import Told, database_of, is_timeout
from flask_reqsession.statements import commits_implicitly

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.orm import Session
    from sqlalchemy.pool import ConnectionPoolEntry, ManagesConnection, PoolResetState

    from flask_reqsession.mode_statements import Database
    from flask_reqsession.modes import Deadline, TransactionMode
    from flask_reqsession.ports import Port
    from flask_reqsession.scope import Scope

_UNDO: Final = "flask_reqsession.undo"
_LIMIT: Final = "flask_reqsession.limit"
_MAY_SHRINK_TO: Final = 0.9
"""The limit that a statement had is told anew when less than this share of it is left."""


class Enforcement:
    """The modes of one manager's transactions. ``ports`` are those in use, by their sessions."""

    def __init__(self, ports: dict[Session, Port]) -> None:
        self._ports = ports
        self._flushing: weakref.WeakSet[Any] = weakref.WeakSet()
        self._pooled: weakref.WeakSet[Engine] = weakref.WeakSet()
        self._proven: weakref.WeakSet[Engine] = weakref.WeakSet()

    def begin(
        self, port: Port, scope: Scope, mode: TransactionMode, connection: Connection
    ) -> None:
        """Tell the database the mode of ``scope``; nothing has been executed on ``connection``.

        :raises ConfigurationError: it can't be kept there.
        :raises PropagationError: somebody else began the transaction.
        """
        try:
            self._tell(port, scope, mode, connection)
        except BaseException as error:
            scope.doom_transaction(error)  # what comes next would run in no mode
            raise
        port.enforced = mode

    def _tell(
        self, port: Port, scope: Scope, mode: TransactionMode, connection: Connection
    ) -> None:
        database = database_of(connection)
        is_foreign = _is_foreign(port, connection)
        _refuse_mode(database, mode, connection, is_foreign=is_foreign)
        if port.session is not None and port.session.twophase and not database.joins_foreign:
            _refuse_two_phases(mode, connection)
        told = Told(connection)
        self._undo_on_return(told)
        if scope.deadline is not None:
            connection.info[_LIMIT] = scope.deadline.left
            database.limit(told, scope.deadline)
        if mode.isolation is not None or mode.read_only:
            database.begin(told, mode)
        if not is_foreign:
            self._prove_open(database, connection)

    def _prove_open(self, database: Database, connection: Connection) -> None:
        """Refuse an engine whose transactions are none, in which a mode is lost (rule D5)."""
        if connection.engine in self._proven or database.proof is None:
            return
        if not connection.exec_driver_sql(database.proof).scalar_one():
            raise ConfigurationError(
                f"The driver of {connection.dialect.name} is in AUTOCOMMIT, so there is no "
                "transaction that could be read-only, isolated or limited in time. Remove "
                "autocommit from the engine's connect_args, and what else sets it."
            )
        self._proven.add(connection.engine)

    # -- what outlasts the transaction ----------------------------------------------------------

    def _undo_on_return(self, told: Told) -> None:
        connection = told.connection
        connection.info[_UNDO] = (weakref.ref(connection), told.undo)
        if connection.engine not in self._pooled:
            self._pooled.add(connection.engine)
            event.listen(connection.engine, "reset", _reset)

    def end(self, port: Port) -> None:
        """Forget the mode; the connection stays where somebody else brought it."""
        port.enforced = None
        for connection in port.connections:
            if not connection.closed and not connection.invalidated:
                _undo(connection.connection)

    # -- statements -----------------------------------------------------------------------------

    def before_statement(self, port: Port, connection: Connection, statement: str) -> None:
        """Refuse what comes too late, or what the database does not refuse.

        :raises TransactionTimeoutError: time is up.
        :raises ReadOnlyViolationError: a read-only transaction would end by a commit.
        """
        mode = port.enforced
        if mode is None or not port.is_guarded:  # a scope's own end
            return
        scope = port.guarded_scope
        if not statement.startswith("ROLLBACK"):  # to a savepoint: what was too late goes back
            self._keep_time(scope, connection)
        if mode.read_only and database_of(connection).escapes and commits_implicitly(statement):
            error = ReadOnlyViolationError(
                f"{scope.name} is read_only=True, but a statement was to be executed that commits "
                "implicitly, as DDL does on this database, and ends the read-only transaction. It "
                "was not sent. Execute it outside of the scope."
            )
            scope.doom_transaction(error)
            raise error

    @staticmethod
    def _keep_time(scope: Scope, connection: Connection) -> None:
        deadline = scope.deadline
        if deadline is None:
            return
        left = deadline.left
        if left <= 0:
            raise _timed_out(scope, deadline)
        if left < connection.info[_LIMIT] * _MAY_SHRINK_TO:
            connection.info[_LIMIT] = left
            database_of(connection).shorten(Told(connection), deadline)

    @staticmethod
    def timeout(
        port: Port, connection: Connection, original: BaseException
    ) -> TransactionTimeoutError | None:
        """Return what to raise if the driver's error means that time is up, else None."""
        scope = port.scope or port.paused
        if scope is None or scope.deadline is None:
            return None
        is_late = is_timeout(database_of(connection), original, scope.deadline)
        return _timed_out(scope, scope.deadline) if is_late else None

    # -- flushes --------------------------------------------------------------------------------

    def watch_flushes(self, observed: Any) -> None:  # noqa: ANN401 - whatever has events
        """Listen to the flushes of a session, or of a factory's, from now on: others pay nothing.

        Call it before the first statement, which may be one of a flush.
        """
        if observed not in self._flushing:
            self._flushing.add(observed)
            event.listen(observed, "before_flush", self._before_flush)

    def _before_flush(self, session: Session, _context: object, _instances: object) -> None:
        port = self._ports.get(session)
        scope = None if port is None else port.scope or port.paused
        if scope is None or scope.mode is None or not scope.mode.read_only:
            return
        changed = [
            *(f"new {type(instance).__name__}" for instance in session.new),
            *(_identified(each) for each in session.dirty if session.is_modified(each)),
            *(_identified(each) for each in session.deleted),
        ]
        if changed:
            raise ReadOnlyViolationError(
                f"{scope.name} is read_only=True, but its session has changes to flush: "
                f"{', '.join(changed)}. Nothing was sent. Make the changes outside of the scope, "
                "or in one with propagation=Propagation.REQUIRES_NEW."
            )


def _refuse_mode(
    database: Database, mode: TransactionMode, connection: Connection, *, is_foreign: bool
) -> None:
    if mode.isolation is not None and mode.isolation not in database.levels:
        known = ", ".join(repr(level) for level in database.levels)
        raise ConfigurationError(
            f"isolation={mode.isolation!r} does not exist on {connection.dialect.name}, which has "
            f"{known}. Choose one of them, or leave the option out."
        )
    if is_foreign and (mode.isolation is not None or not database.joins_foreign):
        raise PropagationError(
            "The session is bound to a connection on which a transaction had been begun already, "
            "and that keeps its isolation level and access mode. Bind the session to an engine."
        )


def _refuse_two_phases(mode: TransactionMode, connection: Connection) -> None:
    """Refuse what MySQL and MariaDB take before XA BEGIN only, which SQLAlchemy has sent."""
    if mode.isolation is not None or mode.read_only:
        raise ConfigurationError(
            f"A two-phase transaction of {connection.dialect.name} has the isolation level and "
            "access mode of its connection, so isolation= and read_only=True can't be kept. Leave "
            "them out, give the engine an isolation_level, or read in a scope of a manager without "
            "twophase=True."
        )


def _is_foreign(port: Port, connection: Connection) -> bool:
    """Whether the session's transaction is a part of one that others began on the connection."""
    is_brought = port.session is not None and port.session.bind is connection
    return is_brought or connection.in_nested_transaction()


def _identified(instance: object) -> str:
    identity: tuple[object, ...] = inspect(instance, raiseerr=True).identity or ()
    return f"{type(instance).__name__}({', '.join(map(repr, identity))})"


def _timed_out(scope: Scope, deadline: Deadline) -> TransactionTimeoutError:
    """Doom the transaction, and return why."""
    error = deadline.error()
    scope.doom_transaction(error)
    return error


def _reset(_dbapi: DBAPIConnection, record: ConnectionPoolEntry, state: PoolResetState) -> None:
    """Undo what a mode has set, unless a transaction of the same connection is still open.

    Only a database in memory lends its connection twice. What is not safe is thrown away.
    """
    holder = record.info.get(_UNDO, (None,))[0]
    connection = None if holder is None else holder()
    if state.asyncio_safe and (connection is None or not connection.in_transaction()):
        _undo(record)


def _undo(managed: ManagesConnection) -> None:
    _holder, steps = managed.info.pop(_UNDO, (None, ()))
    for step in reversed(steps):
        step(managed)
