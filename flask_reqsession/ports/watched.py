"""One session of one unit of work, and what is known of it."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flask_reqsession.autocommit import refusal
from flask_reqsession.driver_states import DriverState, state_of
from flask_reqsession.errors import (
    ConfigurationError,
    ManualCommitError,
    MultipleBindsError,
    NoActiveScopeError,
    ScopeOwnershipError,
    UnexpectedRollbackError,
)
from flask_reqsession.pools import PoolGuard
from flask_reqsession.reattachment import attach
from flask_reqsession.replicas import RoutedSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session

    from flask_reqsession.commits import CommitAttempt
    from flask_reqsession.losses import Losses
    from flask_reqsession.modes import TransactionMode
    from flask_reqsession.observer import Observer
    from flask_reqsession.ports.deferral import Deferral
    from flask_reqsession.reattachment import ArgumentPlan, Memory, ReattachOptions, Recall
    from flask_reqsession.scope import Scope

T = TypeVar("T")


class WatchedSession(ABC):
    """One session of one unit of work: made at first use, and closed once.

    ``scope`` is the scope that runs on the session now; ``paused`` the one of a generator between
    two steps. ``connections`` are those of the open transaction; ``wrote`` says whether it changed
    anything, ``suspect`` how a statement failed in it, ``lost`` whether the database rolled it back
    because of that; ``autocommit`` is one of them that commits each statement; ``enforced`` is the
    mode in which it was begun. ``committing`` is what is seen of COMMIT while it is being done.
    ``has_written`` says whether an earlier transaction changed anything. ``observed`` is what its
    events are those of; ``memory`` is what reattachment remembers.
    """

    __slots__ = (
        "_deferral",
        "_observer",
        "_pool_guard",
        "autocommit",
        "closed",
        "committing",
        "connections",
        "driver",
        "enforced",
        "has_written",
        "is_rolling_back",
        "is_working",
        "losses",
        "lost",
        "memory",
        "observed",
        "of_parent",
        "opened_at",
        "paused",
        "prepare_failures",
        "refusal",
        "scope",
        "second_writer",
        "session",
        "suspect",
        "writer",
        "wrote",
    )

    def __init__(self, observer: Observer) -> None:
        self._deferral: Deferral | None = None
        self._observer = observer
        self.memory: Memory = observer.memory
        self._pool_guard: PoolGuard | None = None
        self.autocommit: Connection | None = None
        self.is_working: bool = False
        self.closed: bool = False
        self.committing: CommitAttempt | None = None
        self.connections: list[Connection] = []
        self.enforced: TransactionMode | None = None
        self.has_written: bool = False
        self.driver: Any = None
        self.is_rolling_back: bool = False
        self.losses: Losses | None = None
        self.lost: bool = False
        self.observed: object = None
        self.of_parent: bool = False
        self.opened_at: float = 0.0
        self.paused: Scope | None = None
        self.prepare_failures: list[BaseException] | None = None
        self.refusal: ManualCommitError | None = None
        self.scope: Scope | None = None
        self.session: Session | None = None
        self.second_writer: Connection | None = None
        self.suspect: BaseException | None = None
        self.writer: Connection | None = None
        self.wrote: bool = False

    # -- the session ----------------------------------------------------------------------------

    def open(self) -> Session:
        """Return the session, making it at first use."""
        if self.session is None:
            if self.closed:
                self.refuse_if_closed()
            self.opened_at = time.perf_counter()
            self.session = session = self._make()
            if isinstance(session, RoutedSession):
                session.reader = self
            if self.losses is not None:
                self.losses.watch(session)
            if self._deferral is not None:
                self._deferral.attach(session)
            if self._pool_guard is not None:
                self._pool_guard.attach(session)
            self._observer.recorder.created(time.perf_counter() - self.opened_at)
            scope = self.scope or self.paused
            if scope is not None and scope.mode is not None:
                self._observer.expect_mode(self.observed)
        return self.session

    @abstractmethod
    def _make(self) -> Session:
        """Make the session and have it observed."""

    @property
    @abstractmethod
    def bind(self) -> str:
        """The bind that the session is of."""

    @property
    def reads_replica(self) -> bool:
        """Whether the running scope may read from a copy of the database."""
        scope = self.scope or self.paused
        return scope is not None and scope.reads_replica

    @property
    @abstractmethod
    def is_only_session(self) -> bool:
        """Whether the source can't give a second session beside this one."""

    @property
    def in_transaction(self) -> bool:
        """Whether anything was begun: ``add``, a change and any SQL begin a transaction."""
        return self.session is not None and self.session.in_transaction()

    @property
    def is_free(self) -> bool:
        """Whether a scope may begin on it as it is: no other is there, and nothing to clean up."""
        if self.scope is not None or self.paused is not None or self.of_parent:
            return False
        if self.autocommit is not None:
            return False
        session = self.session
        return session is None or session.is_active or not session.in_transaction()

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
        return not self.is_working and (self.scope is not None or self.paused is not None)

    @property
    def guarded_scope(self) -> Scope:
        """The scope that :attr:`is_guarded` speaks of."""
        return cast("Scope", self.scope or self.paused)

    @property
    def allows_manual_end(self) -> bool:
        """Whether the scope that guards this session lets others commit and roll back."""
        return self.scope is not None and self.scope.allows_manual_end

    def refuse_second_writer(self) -> None:
        """Refuse to commit on one connection after the other, unless that was asked for.

        :raises MultipleBindsError: the session wrote through two engines.
        """
        observer, connections = self._observer, (self.writer, self.second_writer)
        if observer.allows_many_writers or observer.twophase:
            return
        names = " and ".join(
            repr(each.engine.url.database) for each in connections if each is not None
        )
        raise MultipleBindsError(
            f"The session of {self.guarded_scope.name} wrote to the databases {names}, and one "
            "COMMIT may fail when the other is done. Nothing was committed. Give the databases "
            "a bind and a scope each, or make the manager with twophase=True, or with "
            "multiple_binds='allow' where half of the work is better than none."
        )

    def refuse_to_commit_nothing(self, connection: Connection) -> None:
        """Refuse a COMMIT that would commit nothing, for what was done on the driver's connection.

        :raises UnexpectedRollbackError: a statement failed on its cursor, unseen, or it was closed.
        :raises ManualCommitError: its ``commit()`` or ``rollback()`` was called.
        """
        if connection.closed or connection.invalidated:
            raise UnexpectedRollbackError(
                f"The connection of {self.guarded_scope.name} was closed or invalidated inside it, "
                "and its transaction went with it: nothing was kept. Leave the session's "
                "connection to the scope, and give connection-level work an engine.connect() of "
                "its own."
            )
        wrote = self.wrote and connection is self.writer
        state = state_of(connection, self.driver if wrote else None, wrote=wrote)
        scope = self.guarded_scope
        if state is DriverState.ABORTED:
            raise UnexpectedRollbackError(
                f"A statement failed in {scope.name}, on the driver's own cursor, and PostgreSQL "
                "would answer COMMIT with a silent rollback. Let its exception propagate, or run "
                "it in a savepoint: propagation=Propagation.NESTED or session.begin_nested()."
            )
        if state is DriverState.OVER and not scope.committed_by_hand:
            raise ManualCommitError(
                f"The transaction of {scope.name} was ended on the driver's own connection, by "
                "its commit() or rollback(), or by a statement on its cursor. What was written "
                "before is committed or lost accordingly, and what came after may be committed: "
                "look there. Remove the call; the scope commits and rolls back by itself."
            )

    def take_refusal(self) -> ManualCommitError:
        """Return what the end of the transaction by hand, which has just been refused, raises."""
        refusal, self.refusal = self.refusal, None
        return cast("ManualCommitError", refusal)

    def record_failure(self, error: BaseException) -> None:
        """Record a failing database operation, once however many layers it passes."""
        self._observer.record_failure(error)

    @abstractmethod
    def engines(self) -> tuple[Engine, ...]:
        """Return the engines that can be told without a session, the default one first."""

    def guard_pool(self, refuse: Callable[[Engine], None]) -> bool:
        """Call ``refuse(engine)`` before a connection is taken; False if that is done already."""
        if self._pool_guard is not None:
            return False
        self._pool_guard = PoolGuard(self.connections, refuse)
        if self.session is not None:
            self._pool_guard.attach(self.session)
        return True

    def stop_guarding_pool(self) -> None:
        """Let the session take what it likes, where :meth:`guard_pool` returned True."""
        cast("PoolGuard", self._pool_guard).detach()
        self._pool_guard = None

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

    def refuse_autocommit(self) -> ConfigurationError:
        """Doom the running scope, and return why: nothing can be rolled back on a connection."""
        scope = self.guarded_scope
        error = refusal(cast("Connection", self.autocommit), scope.name)
        scope.doom_transaction(error)
        return error

    def refuse_if_closed(self) -> None:
        """Refuse what comes after the end.

        :raises NoActiveScopeError: the request or unit of work of the session is over.
        """
        if self.closed:
            raise NoActiveScopeError(
                "The session of this scope was closed with its request or unit of work. Open the "
                "scope inside, or in a unit of work of its own: manager.unit_of_work()."
            )

    # -- reattachment ---------------------------------------------------------------------------

    def attach(self, instance: T, options: ReattachOptions) -> T:
        """Return ``instance`` attached to the session, by the rules of reattachment."""
        return attach(
            self.open(),
            instance,
            memory=self.memory,
            options=options,
            reattached=self._recorder_of_reattachments(),
        )

    def reattach_arguments(
        self,
        plan: ArgumentPlan,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        recall: Recall | None = None,
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return the arguments of a call with its model instances attached to the session."""
        if recall is not None:
            recall.restore()
        return plan.apply(
            self.open(),
            args,
            kwargs,
            memory=self.memory,
            reattached=self._recorder_of_reattachments(),
            recall=recall,
        )

    def _recorder_of_reattachments(self) -> Callable[[object], None]:
        started = time.perf_counter()

        def record(instance: object) -> None:
            duration = time.perf_counter() - started
            self._observer.recorder.reattached(type(instance).__name__, duration)

        return record
