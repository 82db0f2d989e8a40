"""Listen to what happens to the sessions of one manager.

SQLAlchemy's events say what no caller can be trusted to say: that a statement wrote, that somebody
committed inside a scope, that a ROLLBACK did not succeed. The listeners are registered once for
each session factory and once for each engine, and look the port up in a dict; the sessions of
others that share them are not touched.

An engine is observed through its dialect's events: one listener to the events of its connections
would make each statement 15 % slower, whoever executes it.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy import event, exc
from sqlalchemy.orm.exc import FlushError, StaleDataError

from flask_reqsession import autocommit
from flask_reqsession.codes import has_rolled_back
from flask_reqsession.enforcement import Enforcement
from flask_reqsession.errors import ManualCommitError
from flask_reqsession.loops import keep_to_loops
from flask_reqsession.reattachment import Memory
from flask_reqsession.replicas import PRIMARY_BIND, REPLICA_BIND
from flask_reqsession.sessions import RequestSession
from flask_reqsession.statements import (
    COMMITS_IMPLICITLY,
    WRITES_BY_START,
    committing_word,
    ends_transaction,
    writes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.engine import Connection, Engine, ExceptionContext
    from sqlalchemy.engine.interfaces import DBAPICursor, ExecutionContext
    from sqlalchemy.orm import Session, SessionTransaction, sessionmaker

    from flask_reqsession.ports import Port
    from flask_reqsession.scope import Scope

# An answer such as NoResultFound is none, nor is a session used wrongly, nor PendingRollbackError,
# which repeats an earlier one.
_FAILURES = (exc.StatementError, exc.TimeoutError, StaleDataError, FlushError)

_REMOVE: Final = (
    "Remove the call, use session.flush() to see database errors early, run the code outside the "
    "scope, or give it manual_commit='defer' where it is not yours."
)
_RUN_OUTSIDE: Final = (
    "The statement was not sent. Run it outside the scope: on a connection of an engine of your "
    "own, or in a migration. Or give the scope manual_commit='allow'."
)


class Recorder(Protocol):
    """Receives what happened; never raises. Durations are seconds."""

    def created(self, duration: float, /) -> None:
        """Record that a session was made."""

    def closed(self, duration: float, /) -> None:
        """Record that a session was closed."""

    def committed(self) -> None:
        """Record that a transaction was committed."""

    def rolled_back(self) -> None:
        """Record that a transaction was rolled back."""

    def reattached(self, object_type: str, duration: float, /) -> None:
        """Record that an instance was attached to a session."""

    def failed(self, error: BaseException) -> None:
        """Record that a database operation failed."""


class Observer:
    """The ports of one manager, by the sessions and connections they use at this moment.

    ``is_connecting`` tells whether the running code has a session of the manager: of a connection
    that could not be made, nobody says for which session it was. ``twophase`` and
    ``allows_many_writers`` are the manager's word on sessions that write through several engines.
    """

    def __init__(self, recorder: Recorder, is_connecting: Callable[[], bool]) -> None:
        self.recorder = recorder
        self.memory: Memory = Memory()
        self.twophase: bool = False
        self.allows_many_writers: bool = False
        self._is_connecting = is_connecting
        self._by_session: dict[Session, Port] = {}
        self.memory.bind_of = partial(_bind_of, self._by_session)
        self._by_connection: dict[Connection, Port] = {}
        self._enforcement = Enforcement(self._by_session)
        self._failures: weakref.WeakSet[BaseException] = weakref.WeakSet()
        # References, not a WeakSet: that would be one more call, each time.
        self._watched: set[weakref.ref[Any]] = set()
        self._autocommitting: set[weakref.ref[Engine]] = set()

    def watch(
        self,
        port: Port,
        session: Session,
        target: sessionmaker[Session] | None,
        engines: Callable[[], Iterable[Engine]],
    ) -> None:
        """Report the events of ``session`` to ``port`` until :meth:`forget`.

        ``engines`` are those that its source can tell; others are met when they connect.
        """
        self._by_session[session] = port
        if isinstance(session, RequestSession):
            session.closer = port
        port.observed = observed = session if target is None else target
        if weakref.ref(observed) not in self._watched:
            self._watched.add(weakref.ref(observed, self._watched.discard))
            self.memory.watch(observed)
            event.listen(observed, "before_commit", self._before_commit)
            event.listen(observed, "after_commit", self._after_commit, insert=True)
            # Before the user's own: a mode has to be told before the first statement.
            event.listen(observed, "after_begin", self._after_begin, insert=True)
            event.listen(observed, "after_soft_rollback", self._after_soft_rollback)
            event.listen(observed, "after_transaction_end", self._after_transaction_end)
            for engine in engines():
                self._watch_engine(engine)

    def expect_mode(self, observed: object) -> None:
        """Prepare for a transaction in a mode, of a session whose events are ``observed``."""
        self._enforcement.watch_flushes(observed)

    def forget(self, session: Session, port: Port) -> None:
        """Stop reporting: the session is closed."""
        self._by_session.pop(session, None)
        if isinstance(session, RequestSession):
            session.closer = None
        if port.connections:
            self._forget_connections(port)

    def record_failure(self, error: BaseException) -> bool:
        """Record a failing database operation, once however many layers it passes.

        An exception of the user's own is none. Return whether it is one.
        """
        is_failure = isinstance(error, _FAILURES)
        if is_failure and error not in self._failures:
            self._failures.add(error)
            self.recorder.failed(error)
        return is_failure

    # -- the session ----------------------------------------------------------------------------

    def _before_commit(self, session: Session) -> None:
        port = self._by_session.get(session)
        if port is None or port.is_working:
            return
        if port.of_parent:
            raise port.refuse_child()
        if port.is_guarded and not session.in_nested_transaction():
            if port.allows_manual_end:
                session.flush()  # what it writes has to be known before the first COMMIT
            self._commit_by_hand(port, "session.commit()")

    def _commit_by_hand(self, port: Port, what: str, remedy: str = _REMOVE) -> None:
        scope = port.guarded_scope
        if scope.is_doomed or not port.allows_manual_end:
            raise self._refuse(port, what, remedy)
        if port.second_writer is not None:
            port.refuse_second_writer()
        scope.committed_by_hand = True

    def _after_soft_rollback(self, session: Session, ended: SessionTransaction) -> None:
        port = self._by_session.get(session)
        if port is None or port.is_working or ended.parent is not None:
            return
        if port.is_guarded and not port.allows_manual_end:
            raise port.take_refusal()

    def _refuse(self, port: Port, what: str, remedy: str = _REMOVE) -> ManualCommitError:
        scope = port.guarded_scope
        error = ManualCommitError(
            f"{what} was called inside the scope {scope.name}, which commits or rolls back by "
            f"itself at its end. Nothing was committed, and the scope will be rolled back. {remedy}"
        )
        for unit in scope.lineage():
            unit.doom(error)
        return error

    def _after_begin(
        self, session: Session, _transaction: SessionTransaction, connection: Connection
    ) -> None:
        port = self._by_session.get(session)
        if port is None or connection in port.connections:
            return
        port.connections.append(connection)
        self._by_connection[connection] = port
        # In the place of the method, as long as the session uses the connection: to listen to the
        # engine's "commit" event would make SQLAlchemy offer every statement to every event.
        vars(connection)["commit"] = partial(self._commit_connection, connection, connection.commit)
        engine = weakref.ref(connection.engine)
        if engine not in self._watched:
            self._watch_engine(connection.engine)
        if (
            autocommit.OPTION in connection.get_execution_options()
            or engine in self._autocommitting
        ):
            self._look_for_autocommit(port, connection)
        scope = port.scope or port.paused
        if scope is not None and scope.mode is not None:
            self._enforcement.begin(port, scope, scope.mode, connection)

    @staticmethod
    def _look_for_autocommit(port: Port, connection: Connection) -> None:
        """Refuse it to a scope; without one it is remembered, for a scope that begins later."""
        if autocommit.commits_each_statement(connection):
            port.autocommit = connection
            if port.is_guarded:
                raise port.refuse_autocommit()

    def _commit_connection(self, connection: Connection, commit: Callable[[], None]) -> None:
        """Refuse ``connection.commit()`` while a scope runs, which would cut it in two."""
        port = self._by_connection.get(connection)
        if port is not None and port.is_guarded:
            self._commit_by_hand(port, "connection.commit()")
        commit()

    def _after_commit(self, session: Session) -> None:
        port = self._by_session.get(session)
        if port is not None and port.committing is not None:
            port.committing.is_over = True

    def _after_transaction_end(self, session: Session, ended: SessionTransaction) -> None:
        port = self._by_session.get(session)
        if port is None or ended.parent is not None:
            return
        if not port.is_working and port.is_guarded and not port.allows_manual_end:
            port.refusal = _refusal_in(port.guarded_scope) or self._refuse(
                port, "session.close() or session.rollback()"
            )
        self._forget_connections(port)

    def _forget_connections(self, port: Port) -> None:
        if port.enforced is not None:
            self._enforcement.end(port)
        for connection in port.connections:
            self._by_connection.pop(connection, None)
            vars(connection).pop("commit", None)
        port.connections.clear()
        port.has_written |= port.wrote
        port.lost = port.wrote = False
        port.suspect = port.writer = port.second_writer = port.driver = port.autocommit = None

    # -- the engine -----------------------------------------------------------------------------

    def _watch_engine(self, engine: Engine) -> None:
        if weakref.ref(engine) in self._watched:
            return
        self._watched.add(weakref.ref(engine, self._watched.discard))
        if autocommit.connects_in_autocommit(engine):
            self._autocommitting.add(weakref.ref(engine, self._autocommitting.discard))
        keep_to_loops(engine)
        event.listen(engine, "do_execute", self._do_execute)
        event.listen(engine, "do_executemany", self._do_execute)
        event.listen(engine, "do_execute_no_params", self._do_execute_no_params)
        event.listen(engine, "handle_error", self._handle_error)

    def _do_execute(
        self,
        cursor: DBAPICursor,
        statement: str,
        _parameters: object,
        context: ExecutionContext | None,
    ) -> None:
        connection = None if context is None else context.root_connection
        port = None if connection is None else self._by_connection.get(connection)
        if port is None or connection is None:
            return
        if port.of_parent:
            raise port.refuse_child()
        if port.autocommit is not None and port.is_guarded:
            raise port.refuse_autocommit()  # the first refusal was swallowed
        if port.enforced is not None:
            self._enforcement.before_statement(port, connection, statement)
        is_write = WRITES_BY_START.get(statement[:6])
        if is_write is None:
            if port.is_guarded:
                self._look_for_commit(port, connection, statement)
            is_write = writes(statement)
        if is_write and (not port.wrote or connection is not port.writer):
            _note_writer(port, connection, cursor)
        if port.losses is not None:
            port.losses.executed(statement)

    def _look_for_commit(self, port: Port, connection: Connection, statement: str) -> None:
        if ends_transaction(statement):
            self._commit_by_hand(port, "COMMIT or ROLLBACK as a statement")
        elif connection.dialect.name in COMMITS_IMPLICITLY:
            word = committing_word(statement)
            if word is not None:
                database = (
                    "MariaDB" if getattr(connection.dialect, "is_mariadb", False) else "MySQL"
                )
                what = f"{word} as a statement, at which {database} commits by itself,"
                self._commit_by_hand(port, what, _RUN_OUTSIDE)

    def _do_execute_no_params(
        self, cursor: DBAPICursor, statement: str, context: ExecutionContext | None
    ) -> None:
        self._do_execute(cursor, statement, None, context)

    def _handle_error(self, context: ExceptionContext) -> BaseException | None:
        connection = context.connection
        port = None if connection is None else self._by_connection.get(connection)
        error = context.sqlalchemy_exception
        if connection is None:
            if error is not None and not context.is_pre_ping and self._is_connecting():
                self.record_failure(error)
        elif port is not None:
            self._failed_on(connection, port, context)
            if port.enforced is not None:
                return self._enforcement.timeout(port, connection, context.original_exception)
        return None

    def _failed_on(self, connection: Connection, port: Port, context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception or context.original_exception
        if port.committing is not None:
            port.committing.see(context)
        port.record_failure(error)
        port.suspect = port.suspect or error
        if port.prepare_failures is not None:
            port.prepare_failures.append(error)
        port.lost |= has_rolled_back(context.original_exception, connection)
        if port.is_rolling_back and not context.is_disconnect:
            # Else the pool would get the connection back before Session.rollback() raises.
            context.is_disconnect = True
            context.invalidate_pool_on_disconnect = False


def _bind_of(ports: dict[Session, Port], session: Session) -> str | None:
    """Return the bind of a session, the primary's for its replica; None of one that is others'."""
    port = ports.get(session)
    if port is None:
        return None
    return PRIMARY_BIND if port.bind == REPLICA_BIND else port.bind


def _refusal_in(scope: Scope) -> ManualCommitError | None:
    """Return the refused commit that a rollback comes after: it is the first thing to remove.

    ``with session.begin():`` rolls back when its COMMIT is refused, and so does careful code. In
    SQLAlchemy's greenlet nobody can tell whether the refusal is being handled now.
    """
    return scope.cause if isinstance(scope.cause, ManualCommitError) else None


def _note_writer(port: Port, connection: Connection, cursor: DBAPICursor) -> None:
    """Remember that ``connection`` has something to commit.

    :raises MultipleBindsError: it is the second one, and COMMIT is on its way.
    """
    port.wrote = True
    if port.writer is None:
        port.writer = connection
        port.driver = getattr(cursor, "connection", None)
    elif port.writer is not connection:
        port.second_writer = connection
        if port.committing is not None:  # a listener wrote, after the check of the scope
            port.refuse_second_writer()
