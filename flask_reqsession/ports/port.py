"""What is done to a session, whatever its colour."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Final, cast

from flask_reqsession.effects import (
    CLOSE,
    COMMIT,
    DONE,
    ROLLBACK,
    ROLLBACK_TO,
    Effect,
    Elsewhere,
    Failed,
    Ok,
    Outcome,
    Request,
    Run,
)
from flask_reqsession.errors import ManualCommitError, RetryNotAllowedError
from flask_reqsession.ports.deferral import Deferral
from flask_reqsession.ports.ending import EndingSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, SessionTransaction

    from flask_reqsession.losses import Losses

_ENDS: Final = frozenset[Request]({ROLLBACK, ROLLBACK_TO, CLOSE})


class Port(EndingSession):
    """Performs the effects that a flow asks for."""

    __slots__ = ()

    # Said again, since they are set here as well.
    is_rolling_back: bool
    is_working: bool
    losses: Losses | None
    session: Session | None

    def perform(self, request: Request) -> Outcome:
        """Carry out ``request``; what it raises is the outcome."""
        if self.of_parent:
            return DONE if request in _ENDS else Failed(self.refuse_child())
        try:
            if isinstance(request, Effect):
                if (value := request.call(self)) is not None:
                    return Ok(value)
            elif isinstance(request, Elsewhere):
                return request.performer.perform(request.effect)
            elif isinstance(request, Run):
                request.hook.task.run(request.outcome)
            else:
                time.sleep(request.seconds)
        except BaseException as error:  # noqa: BLE001 - the flow decides what follows
            self.record_failure(error)
            return Failed(error, self._was_committed() if request is COMMIT else False)
        return DONE

    @abstractmethod
    async def aperform(self, request: Request) -> Outcome:
        """Carry out ``request`` for a coroutine."""

    @abstractmethod
    def abandon(self) -> Outcome:
        """Close the session at a synchronous end, as well as that can be done there."""

    def begin(self) -> None:
        """Take over the session as it is; SQLAlchemy begins at the first statement.

        :raises NoActiveScopeError: its request or unit of work is over.
        """
        self.refuse_if_closed()
        session = self.session
        if session is not None and session.in_transaction() and not session.is_active:
            self.rollback()  # a flush failed in it before: SQLAlchemy only waits to be told

    def renew(self) -> bool:
        """End a transaction that only read, for one in another mode; leave one with changes.

        Return whether the next statement begins a transaction.
        """
        if self.has_uncommitted_changes:
            return False
        self.release()
        if self.session is not None:
            self._observer.expect_mode(self.observed)
        return True

    # -- commits by hand ------------------------------------------------------------------------

    def defer_commits(self) -> bool:
        """Make a flush of ``session.commit()``; False if it is one already."""
        if self._deferral is not None:
            return False
        self._deferral = Deferral(self)
        if self.session is not None:
            self._deferral.attach(self.session)
        return True

    def stop_deferring(self) -> None:
        """Give the session its own methods back, where :meth:`defer_commits` returned True."""
        cast("Deferral", self._deferral).detach()
        self._deferral = None

    def roll_back_by_hand(self) -> None:
        """Roll back the running scope's unit at once, and doom it: its end keeps nothing.

        The code that asked for it finds the session as after any rollback, and may go on.
        """
        scope, session = self.guarded_scope, self.open()
        scope.doom(
            ManualCommitError(
                f"session.rollback() was called inside the scope {scope.name}, which defers "
                "commits: what was deferred before is rolled back as well, and what came after. "
                "Let the exception propagate, or answer it with set_rollback_only() or an error "
                "status; or give the call propagation=Propagation.NESTED or REQUIRES_NEW."
            )
        )
        if scope.savepoint is None:
            self.is_working = True
            try:
                self._roll_back(session)
                session.begin()  # so that the end finds, and records, a transaction to roll back
            finally:
                self.is_working = False
        else:
            self.rollback_to_savepoint()
            scope.savepoint = session.begin_nested()

    # -- savepoints -----------------------------------------------------------------------------

    def savepoint(self) -> SessionTransaction:
        """Flush, then open a savepoint; SAVEPOINT is sent with the first statement in it."""
        return self.open().begin_nested()

    def release_savepoint(self) -> None:
        """RELEASE the savepoint of the running scope."""
        self.is_working = True
        try:
            self._savepoint().commit()
        finally:
            self.is_working = False

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
        self.is_working = True
        try:
            savepoint.rollback()
        finally:
            self.is_working = False

    def _savepoint(self) -> SessionTransaction:
        return cast("SessionTransaction", self.guarded_scope.savepoint)

    def release(self) -> None:
        """Give the connection back without expiring what is loaded."""
        session = self.session
        if session is None or not session.in_transaction():
            return
        expires = session.expire_on_commit
        session.expire_on_commit = False
        self.is_working = True
        try:
            session.commit()
        finally:
            self.is_working = False
            session.expire_on_commit = expires

    def let_go(self) -> None:
        """Give the connection back before a wait, where a callback has taken it again.

        :raises RetryNotAllowedError: the callback wrote, which the next attempt would take over.
        """
        if self.has_uncommitted_changes:
            self.rollback()
            raise RetryNotAllowedError(
                "before_retry() wrote to the session between two attempts, and what it wrote was "
                "rolled back. Write in a transaction of its own: in a function with @transactional."
            )
        self.release()

    def let_go_if_idle(self) -> None:
        """Give the connection back, unless a scope or uncommitted changes need it."""
        if self.scope is None and self.paused is None and not self.has_uncommitted_changes:
            self.release()

    # -- closing --------------------------------------------------------------------------------

    def close_by_hand(self, close: Callable[[], None]) -> None:
        """Close the session because the user did, and make another one at the next use.

        A scope that runs on it is doomed by the rollback, if there is anything to roll back.
        """
        session = None if self.closed else self.session
        if session is None:
            close()
            return
        started = time.perf_counter()
        lost = self.has_uncommitted_changes
        try:
            close()
        finally:
            self._end_to_close(session, started, lost=lost)

    def _begin_to_close(self) -> Session | None:
        """Return the session to close, None the second time or if none was made."""
        session = None if self.closed else self.session
        self.closed = True
        if session is not None:
            self.is_working = self.is_rolling_back = True
            if self.scope is not None or self.paused is not None:
                self._doom_what_runs()
        return session

    def _doom_what_runs(self) -> None:
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
        if self._pool_guard is not None:
            self._pool_guard.detach()
        self.session = None
        if self.losses is not None:
            self.losses.stop()
        if lost:
            self._observer.recorder.rolled_back()
        self._observer.recorder.closed(time.perf_counter() - started)
