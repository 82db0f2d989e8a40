"""Which rows the running transactions deleted."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, cast

from sqlalchemy import event

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, Session, SessionTransaction, sessionmaker


class DeletedRows:
    """Remember the rows that were deleted by flushes of transactions that still run.

    A flushed DELETE takes the row's instance out of the identity map; another, detached instance
    of the row could then be attached as if nothing had happened. This object listens to sessions,
    and forgets what a ROLLBACK (of a savepoint, too) undoes and what a COMMIT ends. Of a DELETE
    statement it learns the rows whose instances the session holds.
    """

    __slots__ = ("_rows", "sessions")

    def __init__(self) -> None:
        self.sessions: set[int] = set()
        """``hash_key`` of each living session that has ever deleted a row."""
        # By transaction, since a savepoint may be rolled back: True for a row that was deleted,
        # False for one that was inserted again. The innermost that knows the row is right.
        self._rows: weakref.WeakKeyDictionary[SessionTransaction, dict[object, bool]] = (
            weakref.WeakKeyDictionary()
        )

    def watch(self, target: Session | type[Session] | sessionmaker[Session]) -> None:
        """Listen to a session, or to every session that a factory or class makes from now on."""
        event.listen(target, "persistent_to_deleted", self._row_deleted, raw=True)

    def holds(self, session: Session, key: object) -> bool:
        """Tell whether the running transaction deleted the row with this identity key."""
        transaction = _innermost(session)
        while transaction is not None:
            rows = self._rows.get(transaction, {})
            if key in rows:
                return rows[key]
            transaction = transaction.parent
        return False

    def _row_deleted(self, session: Session, state: InstanceState[object]) -> None:
        if session.hash_key not in self.sessions:
            self.sessions.add(session.hash_key)
            weakref.finalize(session, self.sessions.discard, session.hash_key)
            # Only now: few sessions delete, and all of them commit and insert.
            event.listen(session, "pending_to_persistent", self._row_inserted, raw=True)
            event.listen(session, "after_commit", self._committed)
        self._note(session, state, deleted=True)

    def _row_inserted(self, session: Session, state: InstanceState[object]) -> None:
        self._note(session, state, deleted=False)

    def _note(self, session: Session, state: InstanceState[object], *, deleted: bool) -> None:
        # A flush has a transaction, and what it has written has a key.
        transaction = cast("SessionTransaction", _innermost(session))
        self._rows.setdefault(transaction, {})[state.identity_key] = deleted

    def _committed(self, session: Session) -> None:
        """Hand what happened in a released savepoint to the transaction around it."""
        savepoint = session.get_nested_transaction()
        if savepoint is not None and (rows := self._rows.pop(savepoint, None)) is not None:
            around = cast("SessionTransaction", savepoint.parent)
            self._rows.setdefault(around, {}).update(rows)


def _innermost(session: Session) -> SessionTransaction | None:
    return session.get_nested_transaction() or session.get_transaction()
