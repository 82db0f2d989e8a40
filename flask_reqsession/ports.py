"""Carry out effects on a session: the only place that commits, rolls back and closes."""

from __future__ import annotations

import asyncio
import os
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, TypeVar, cast

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from flask_reqsession.drivers import aattempt
from flask_reqsession.effects import (
    CLOSE,
    DONE,
    FLUSH,
    ROLLBACK,
    ROLLBACK_TO,
    SAVEPOINT,
    Failed,
    Ok,
    Outcome,
    Request,
    Sleep,
)
from flask_reqsession.errors import (
    CommitOutcomeUnknownError,
    ManualCommitError,
    NoActiveScopeError,
    ScopeOwnershipError,
    UnexpectedRollbackError,
)
from flask_reqsession.owners import borrowing_from, who_owns
from flask_reqsession.reattachment import attach

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Engine
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session, SessionTransaction

    from flask_reqsession.observer import Observer
    from flask_reqsession.reattachment import ArgumentPlan
    from flask_reqsession.scope import Scope
    from flask_reqsession.sources import AsyncSessionSource, SessionSource

T = TypeVar("T")

_ENDS: Final = frozenset[Request]({ROLLBACK, ROLLBACK_TO, CLOSE})


class Port(ABC):
    """One session of one unit of work: made at first use, driven by flows, closed once.

    ``scope`` is the scope that runs on the session now; ``paused`` the one of a generator between
    two steps. ``connections`` are those of the open transaction; ``wrote`` says whether it changed
    anything, ``suspect`` how a statement failed in it, ``lost`` whether the database rolled it
    back because of that.
    """

    __slots__ = (
        "_observer",
        "_working",
        "closed",
        "connections",
        "is_rolling_back",
        "lost",
        "of_parent",
        "opened_at",
        "paused",
        "refusal",
        "scope",
        "session",
        "suspect",
        "wrote",
    )

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._working = False
        self.closed: bool = False
        self.connections: list[Connection] = []
        self.is_rolling_back: bool = False
        self.lost: bool = False
        self.of_parent: bool = False
        self.opened_at: float = 0.0
        self.paused: Scope | None = None
        self.refusal: ManualCommitError | None = None
        self.scope: Scope | None = None
        self.session: Session | None = None
        self.suspect: BaseException | None = None
        self.wrote: bool = False

    # -- the session ----------------------------------------------------------------------------

    def open(self) -> Session:
        """Return the session, making it at first use."""
        if self.session is None:
            self.begin()
            self.opened_at = time.perf_counter()
            self.session = self._make()
            self._observer.recorder.created(time.perf_counter() - self.opened_at)
        return self.session

    @abstractmethod
    def _make(self) -> Session:
        """Make the session and have it observed."""

    @property
    @abstractmethod
    def is_only_session(self) -> bool:
        """Whether the source can't give a second session beside this one."""

    @property
    def in_transaction(self) -> bool:
        """Whether anything was begun: ``add``, a change and any SQL begin a transaction."""
        return self.session is not None and self.session.in_transaction()

    @property
    def has_uncommitted_changes(self) -> bool:
        """Whether a rollback now would lose something."""
        session = self.session
        if session is None or not session.in_transaction():
            return False
        if self.wrote or session.new or session.deleted:
            return True
        return any(session.is_modified(instance) for instance in session.dirty)

    @property
    def is_guarded(self) -> bool:
        """Whether a scope decides about commit and rollback, and this is not it deciding."""
        return not self._working and (self.scope is not None or self.paused is not None)

    @property
    def guarded_scope(self) -> Scope:
        """The scope that :attr:`is_guarded` speaks of."""
        scope = self.scope or self.paused
        if scope is None:
            raise RuntimeError("No scope guards this session.")
        return scope

    def take_refusal(self) -> ManualCommitError:
        """Return what the end of the transaction by hand was refused with."""
        refusal, self.refusal = self.refusal, None
        if refusal is None:
            raise RuntimeError("No transaction was ended by hand.")
        return refusal

    def record_failure(self, error: BaseException) -> None:
        """Record a failing database operation, once however many layers it passes."""
        self._observer.record_failure(error)

    def leave_to_parent(self) -> None:
        """Never touch the session again: this process was forked, and it is the parent's.

        The observer goes on to hold it: to collect it would close the parent's connection.
        """
        self.of_parent = self.closed = True

    def refuse_child(self) -> ScopeOwnershipError:
        """Return what a forked process gets that goes on with its parent's session."""
        return ScopeOwnershipError(
            "The session belongs to the parent process, which was forked while the session was in "
            f"use, and this is process {os.getpid()}. Nothing was sent. Fork outside of scopes, "
            "and open manager.unit_of_work() in the child."
        )

    # -- reattachment ---------------------------------------------------------------------------

    def attach(self, instance: T) -> T:
        """Return ``instance`` attached to the session, by the rules of reattachment."""
        recorder = self._recorder_of_reattachments()
        return attach(self.open(), instance, memory=self._observer.memory, reattached=recorder)

    def reattach_arguments(
        self, plan: ArgumentPlan, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return the arguments of a call with its model instances attached to the session."""
        recorder = self._recorder_of_reattachments()
        return plan.apply(
            self.open(), args, kwargs, memory=self._observer.memory, reattached=recorder
        )

    def _recorder_of_reattachments(self) -> Callable[[object], None]:
        started = time.perf_counter()

        def record(instance: object) -> None:
            duration = time.perf_counter() - started
            self._observer.recorder.reattached(type(instance).__name__, duration)

        return record

    # -- effects --------------------------------------------------------------------------------

    def perform(self, request: Request) -> Outcome:
        """Carry out ``request``; what it raises is the outcome."""
        if self.of_parent:
            return DONE if request in _ENDS else Failed(self.refuse_child())
        try:
            if isinstance(request, Sleep):
                time.sleep(request.seconds)
            elif (value := self._verb(request.verb)()) is not None:
                return Ok(value)
        except BaseException as error:  # noqa: BLE001 - the flow decides what follows
            self.record_failure(error)
            return Failed(error)
        return DONE

    def _verb(self, verb: str) -> Callable[[], object]:
        method: Callable[[], object] = getattr(self, verb)
        return method

    def begin(self) -> None:
        """Take over the session as it is; SQLAlchemy begins at the first statement.

        :raises NoActiveScopeError: its request or unit of work is over.
        """
        if self.closed:
            raise NoActiveScopeError(
                "The session of this scope was closed with its request or unit of work. Open the "
                "scope inside, or in a unit of work of its own: manager.unit_of_work()."
            )
        session = self.session
        if session is not None and session.in_transaction() and not session.is_active:
            self.rollback()  # a flush failed in it before: SQLAlchemy only waits to be told

    def flush(self) -> None:
        """Send what is pending, so that a failure in it is not a failure of COMMIT.

        :raises UnexpectedRollbackError: the database would answer COMMIT with a rollback.
        """
        if self.session is not None and self.session.in_transaction():
            self.session.flush()
            if self.suspect is not None:
                self._prove_alive(self.suspect)

    def _prove_alive(self, cause: BaseException) -> None:
        """Refuse to commit what the database has given up when a statement failed.

        PostgreSQL answers COMMIT with a silent ROLLBACK then. MariaDB after a deadlock, and SQLite
        after some errors, have rolled back already, and what came later is half of the work.
        """
        if not self.lost:
            try:
                for connection in self.connections:
                    connection.scalar(select(1))
            except DBAPIError:
                self.lost = True
        if not self.lost:
            return
        raise UnexpectedRollbackError(
            "A statement failed, the database rolled the transaction back or will do so, and the "
            "exception was swallowed. Let it propagate, or run the statement in a savepoint: "
            "propagation=Propagation.NESTED or session.begin_nested()."
        ) from cause

    def commit(self) -> None:
        """COMMIT, if anything was begun.

        :raises CommitOutcomeUnknownError: the connection was lost before the answer came.
        """
        session = self.session
        if session is None or not session.in_transaction():
            return
        self._working = True
        try:
            session.commit()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise CommitOutcomeUnknownError(
                    "The connection was lost during COMMIT, so the database may have committed or "
                    "not. Look there before you repeat the call."
                ) from error
            raise
        finally:
            self._working = False
        self._observer.recorder.committed()

    def rollback(self) -> None:
        """ROLLBACK; a connection on which that failed is invalidated."""
        session = self.session
        if session is None or not session.in_transaction():
            return
        self._working = True
        try:
            self._roll_back(session)
        finally:
            self._working = False
            self._observer.recorder.rolled_back()

    def _roll_back(self, session: Session) -> None:
        connections = list(self.connections)
        self.is_rolling_back = True
        try:
            session.rollback()
        except BaseException as error:
            self._abandon(connections, error)
            if session.in_transaction():  # SQLAlchemy gave up half-way
                session.reset()
            raise
        finally:
            self.is_rolling_back = False

    def savepoint(self) -> SessionTransaction:
        """Flush, then open a savepoint; SAVEPOINT is sent with the first statement in it."""
        return self.open().begin_nested()

    def release_savepoint(self) -> None:
        """RELEASE the savepoint of the running scope."""
        self._working = True
        try:
            self._savepoint().commit()
        finally:
            self._working = False

    def rollback_to_savepoint(self) -> None:
        """Roll back to the savepoint of the running scope, unless its transaction has ended.

        Where it fails the connection stays: the flow dooms the outer, whose ROLLBACK can use it.
        """
        savepoint = self._savepoint()
        opened = None if self.session is None else self.session.get_nested_transaction()
        while opened is not None and opened is not savepoint:
            opened = opened.parent
        if opened is None:
            return
        self._working = True
        try:
            savepoint.rollback()
        finally:
            self._working = False

    def _savepoint(self) -> SessionTransaction:
        return cast("SessionTransaction", self.guarded_scope.savepoint)

    def release(self) -> None:
        """Give the connection back without expiring what is loaded."""
        session = self.session
        if session is None or not session.in_transaction():
            return
        expires = session.expire_on_commit
        session.expire_on_commit = False
        self._working = True
        try:
            session.commit()
        finally:
            self._working = False
            session.expire_on_commit = expires

    # -- closing --------------------------------------------------------------------------------

    def _begin_to_close(self) -> Session | None:
        """Return the session to close, None the second time or if none was made."""
        session = None if self.closed else self.session
        self.closed = True
        if session is not None:
            self._working = self.is_rolling_back = True
            self._doom_what_runs()
        return session

    def _doom_what_runs(self) -> None:
        if self.scope is not None or self.paused is not None:
            scope = self.guarded_scope
            what = "close_request_session()"
            error = ManualCommitError(
                f"The session was closed by {what} or the end of its request, while the scope "
                f"{scope.name} was running on it. Nothing of the scope was kept."
            )
            for unit in scope.lineage():
                unit.doom(error)

    def _end_to_close(self, session: Session, started: float, *, lost: bool) -> None:
        self._observer.forget(session, self)
        self.session = None
        if lost:
            self._observer.recorder.rolled_back()
        self._observer.recorder.closed(time.perf_counter() - started)

    @staticmethod
    def _abandon(connections: list[Connection], error: BaseException) -> None:
        """Let nobody have ``connections``, which could not be rolled back or closed."""
        for connection in connections:
            if not connection.closed:
                connection.invalidate(error)
                connection.close()


class SessionPort(Port):
    """A port to a ``Session``."""

    __slots__ = ("_source",)

    def __init__(self, source: SessionSource, observer: Observer) -> None:
        super().__init__(observer)
        self._source = source

    @property
    def is_only_session(self) -> bool:
        """Whether the source can't give a second session beside this one."""
        return self._source.single_session

    def _make(self) -> Session:
        session = self._source.open()
        self._observer.watch(self, session, self._source.event_target, self._source.engines)
        return session

    def close(self) -> None:
        """Roll back what is left, close the session and give the connection back. Only once."""
        started = time.perf_counter()
        session = self._begin_to_close()
        if session is None:
            return
        lost = self.has_uncommitted_changes
        try:
            try:
                if lost:  # before the user's close_session() can commit it
                    self._roll_back(session)
            finally:
                self._source.close(session)
            if session.in_transaction():  # the user's close_session() does not end it
                session.rollback()
        except BaseException as error:
            self._abandon(self.connections, error)
            raise
        finally:
            self._end_to_close(session, started, lost=lost)


class AsyncSessionPort(Port):
    """A port to an ``AsyncSession``: the same verbs, run in SQLAlchemy's greenlet."""

    __slots__ = ("_source", "async_session")

    def __init__(self, source: AsyncSessionSource, observer: Observer) -> None:
        super().__init__(observer)
        self._source = source
        self.async_session: AsyncSession | None = None

    @property
    def is_only_session(self) -> bool:
        """Whether the source can't give a second session beside this one."""
        return self._source.single_session

    def _make(self) -> Session:
        self.async_session = self._source.open()
        session = self.async_session.sync_session
        self._observer.watch(self, session, self._source.event_target, self._sync_engines)
        return session

    def _sync_engines(self) -> tuple[Engine, ...]:
        return tuple(engine.sync_engine for engine in self._source.engines())

    def open_async(self) -> AsyncSession:
        """Return the session, making it at first use."""
        self.open()
        return cast("AsyncSession", self.async_session)

    async def aperform(self, request: Request) -> Outcome:
        """Carry out ``request``; what it raises is the outcome."""
        if isinstance(request, Sleep):
            return await aattempt(lambda: asyncio.sleep(request.seconds))
        if request is CLOSE:
            closed = await _shielded(aattempt(self.aclose))
            if isinstance(closed, Failed):
                self.record_failure(closed.error)
            return closed
        if self.async_session is None or not self.in_transaction:
            return self.perform(request)
        performed = self.async_session.run_sync(lambda _session: self.perform(request))
        if request is FLUSH or request is SAVEPOINT:
            return await performed
        return await _shielded(performed)

    async def aclose(self) -> None:
        """Roll back what is left, close the session and give the connection back. Only once."""
        started = time.perf_counter()
        session = self._begin_to_close()
        if session is None or self.async_session is None:
            return
        lost = self.has_uncommitted_changes
        try:
            try:
                if lost:
                    await self.async_session.run_sync(self._roll_back)
            finally:
                await self._source.close(self.async_session)
        except BaseException as error:
            await self.async_session.run_sync(self._abandon_all, error)
            raise
        finally:
            self._end_to_close(session, started, lost=lost)

    def _abandon_all(self, _session: Session, error: BaseException) -> None:
        self._abandon(self.connections, error)

    def abandon(self) -> Outcome:
        """Close the session without its event loop, which is all that can be done at a sync end.

        Its connections are invalidated: only the loop could have rolled them back.
        """
        started = time.perf_counter()
        session = self._begin_to_close()
        if session is None:
            return DONE
        lost, used = self.has_uncommitted_changes, bool(self.connections)
        error = ScopeOwnershipError(
            "An async session was left open at the end of its unit of work, and only its event "
            "loop could close it. Use async_unit_of_work(), or init_app() for Flask's views."
        )
        self._abandon(self.connections, error)
        self._end_to_close(session, started, lost=lost)
        return Failed(error) if used else DONE


async def _shielded(work: Awaitable[Outcome]) -> Outcome:
    """Finish ``work`` though the task is cancelled meanwhile, then let the cancellation arrive.

    It arrives when the task waits next. So a COMMIT is never cut in two: the call returns what was
    committed, or raises what was not.
    """
    lender = who_owns()

    async def lent() -> Outcome:
        with borrowing_from(lender):
            return await work

    task = asyncio.ensure_future(lent())
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    running = asyncio.current_task()
    if cancelled is not None and running is not None:
        running.uncancel()  # asyncio.timeout() counts: it is the same request again
        running.cancel(*cancelled.args)
    return task.result()
