"""How a session's transaction ends: COMMIT, in one phase or two, or ROLLBACK."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from flask_reqsession.commits import Answer, CommitAttempt
from flask_reqsession.driver_states import may_be_over
from flask_reqsession.errors import CommitOutcomeUnknownError, UnexpectedRollbackError
from flask_reqsession.ports.two_phase import (
    commit_the_rest,
    log_decision,
    note_unanswered,
    parts_of,
    recovery_of,
)
from flask_reqsession.ports.watched import WatchedSession

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session


class EndingSession(WatchedSession):
    """A session whose transaction can be ended; afterwards it is known what became of it."""

    __slots__ = ()

    # Said again, since they are set here as well.
    committing: CommitAttempt | None
    is_rolling_back: bool
    is_working: bool
    prepare_failures: list[BaseException] | None

    def flush(self) -> None:
        """Send what is pending, so that a failure in it is not a failure of COMMIT.

        :raises UnexpectedRollbackError: the database would answer COMMIT with a rollback.
        :raises MultipleBindsError: there would be two COMMITs, one after the other.
        """
        session = self.session
        if session is not None and session.in_transaction():
            session.flush()
            if self.suspect is not None:
                if not session.is_active:
                    session.begin_nested()  # raises: a flush failed, and nobody rolled back
                self._prove_alive(self.suspect)
            if self.second_writer is not None:
                self.refuse_second_writer()

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
        for connection in self.connections:
            if may_be_over(connection, self.driver):
                self.refuse_to_commit_nothing(connection)
        self.is_working = True
        self.committing = CommitAttempt()
        try:
            if self._observer.twophase:
                self._commit_in_two_phases(session, self.committing)
            else:
                session.commit()
        except BaseException as error:
            self._failed_to_commit(session, self.committing, error)
            raise
        finally:
            self.is_working = False
        self._observer.recorder.committed()
        self.committing = None  # last: a signal that strikes before finds that COMMIT was done

    def _commit_in_two_phases(self, session: Session, attempt: CommitAttempt) -> None:
        self._prepare(session)
        parts = parts_of(self.connections)
        log_decision(parts)
        try:
            session.commit()
        except BaseException as error:
            unknown = commit_the_rest(parts)
            if not unknown:
                attempt.is_over = True
                raise
            attempt.answer = Answer.NONE
            self._give_up(session)
            what = (
                "All databases had prepared to commit, and COMMIT then failed on some of them. "
                "They keep what was prepared, and its locks, until somebody ends it; the others "
                f"have committed, so commit it: {recovery_of(unknown)}"
            )
            if isinstance(error, Exception):
                raise CommitOutcomeUnknownError(what) from error
            error.add_note(what)
            raise

    def _prepare(self, session: Session) -> None:
        """Let all databases prepare, or none: SQLAlchemy rolls the others back."""
        parts = parts_of(self.connections)
        failures: list[BaseException] = []
        self.prepare_failures = failures
        try:
            session.prepare()
        except BaseException as error:  # noqa: BLE001 - it goes on below
            # psycopg fails once more when a PREPARE that failed is rolled back.
            first = failures[0] if failures else error
        else:
            return
        finally:
            self.prepare_failures = None
        note_unanswered(parts, first)
        if not session.in_transaction():  # SQLAlchemy 2.0 leaves the end to whoever caught it
            self._observer.recorder.rolled_back()
        raise first

    @staticmethod
    def _give_up(session: Session) -> None:
        """End what SQLAlchemy has left of a transaction whose COMMIT did not come to an end."""
        ended = session.get_transaction()
        if ended is not None:
            ended.close()

    def _failed_to_commit(
        self, session: Session, attempt: CommitAttempt, error: BaseException
    ) -> None:
        """Tell what has become of the transaction when ``session.commit()`` raised ``error``.

        :raises CommitOutcomeUnknownError: nobody knows.
        """
        done = attempt.was_done(self.connections)
        if done:  # a listener failed that SQLAlchemy told of the COMMIT
            error.add_note("The transaction had been committed before this was raised.")
            self._observer.recorder.committed()
            self._give_up(session)
        elif isinstance(error, CommitOutcomeUnknownError):
            return
        elif attempt.answer is Answer.NONE and isinstance(error, Exception):
            raise CommitOutcomeUnknownError(
                "The connection was lost during COMMIT, so the database may have committed or not. "
                "Look there before you repeat the call."
            ) from error
        elif done is None:
            error.add_note("It struck during COMMIT: the work may be committed, or a part of it.")

    def _was_committed(self) -> bool | None:
        """Whether a COMMIT that failed was done all the same; None: nobody can tell."""
        attempt = self.committing
        return attempt is not None and attempt.was_done(self.connections)

    def rollback(self) -> None:
        """ROLLBACK; a connection on which that failed is invalidated."""
        session = self.session
        attempt, self.committing = self.committing, None
        if session is None or not session.in_transaction():
            return
        self.is_working = True
        try:
            self._roll_back(session)
        finally:
            self.is_working = False
            if attempt is None or attempt.answer is not Answer.NONE:
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

    @staticmethod
    def _abandon(connections: list[Connection], error: BaseException) -> None:
        """Let nobody have ``connections``, which could not be rolled back or closed."""
        for connection in connections:
            if not connection.closed:
                connection.invalidate(error)
                connection.close()
