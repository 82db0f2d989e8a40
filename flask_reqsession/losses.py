"""What a request is about to lose: its uncommitted changes outside of every scope.

SQLAlchemy forgets what was flushed once it is flushed; strict mode remembers it, session by session
and only as long as the transaction runs. Only classes and primary keys are named, never a value.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from sqlalchemy import event, inspect

from flask_reqsession.errors import UncommittedChangesWarning
from flask_reqsession.statements import writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.orm import InstanceState, Session, SessionTransaction

_NAMED: Final = 10
"""As many are named in one warning."""

Words: TypeAlias = str
"""One change in words, such as ``changed Note 7``."""
"""One change in words, such as ``changed Note 7``."""


class _Change(NamedTuple):
    words: Words
    transaction: SessionTransaction | None


class Losses:
    """What the running transaction of one session changed outside of every scope.

    ``is_outside`` tells whether no scope runs on the session.
    """

    def __init__(self, is_outside: Callable[[], bool]) -> None:
        self._is_outside = is_outside
        self._session: Session | None = None
        self._flushed: list[_Change] = []
        self._statements: list[_Change] = []
        self._is_flushing = False

    def watch(self, session: Session) -> None:
        """Listen to ``session`` until :meth:`stop`."""
        self._session = session
        for name, listener in self._listeners().items():
            event.listen(session, name, listener)

    def stop(self) -> None:
        """Listen no more: the session is closed, or may be used by others.

        The request may go on with another one, and :meth:`watch` that.
        """
        for name, listener in self._listeners().items():
            event.remove(self._session, name, listener)
        self._session = None

    def _listeners(self) -> dict[str, Callable[..., None]]:
        return {
            "before_flush": self._before_flush,
            "after_flush": self._after_flush,
            "after_soft_rollback": self._after_rollback,
            "after_transaction_end": self._after_transaction_end,
        }

    def executed(self, statement: str) -> None:
        """Remember a statement that writes and is no part of a flush."""
        session = self._session
        if session and not self._is_flushing and self._is_outside() and writes(statement):
            self._statements.append(_Change("", _innermost(session)))

    def describe(self) -> list[Words]:
        """Return what a rollback now would lose, in words."""
        session = self._session
        if session is None or not self._is_outside():
            return []
        flushed = [each.words for each in self._flushed]
        counted = Counter(flushed + _changes_in(session))
        found = [words if n == 1 else f"{n} x {words}" for words, n in counted.items()]
        more = len(found) - _NAMED
        if more > 0:
            found[_NAMED:] = [f"{more} more"]
        count = len(self._statements)
        if count:
            found.append("1 statement" if count == 1 else f"{count} statements")
        return found

    # -- events ---------------------------------------------------------------------------------

    def _before_flush(self, *_event: object) -> None:
        self._is_flushing = True

    def _after_flush(self, session: Session, _context: object) -> None:
        """Remember what was flushed, while the session still tells it."""
        self._is_flushing = False
        if self._is_outside():
            transaction = _innermost(session)
            self._flushed += [
                _Change(words, transaction) for words in _changes_in(session, is_flushed=True)
            ]

    def _after_rollback(self, _session: Session, ended: SessionTransaction) -> None:
        """Forget what a ROLLBACK has undone, of a savepoint or of all."""
        self._is_flushing = False
        self._flushed = [each for each in self._flushed if not _is_in(each.transaction, ended)]
        self._statements = [
            each for each in self._statements if not _is_in(each.transaction, ended)
        ]

    def _after_transaction_end(self, _session: Session, ended: SessionTransaction) -> None:
        """Forget what a COMMIT has kept."""
        if ended.parent is None:
            self._flushed, self._statements, self._is_flushing = [], [], False


def warn_of(losses: Iterable[Words], endpoint: str | None) -> None:
    """Warn that a request ended and lost ``losses``.

    :raises UncommittedChangesWarning: the user's filters make an error of it.
    """
    what = "a request without an endpoint" if endpoint is None else f"the request to {endpoint!r}"
    warnings.warn(
        f"{what[0].upper()}{what[1:]} ended with uncommitted changes outside any scope, and they "
        f"were rolled back: {', '.join(losses)}. Put @transactional on the view or the service "
        "that writes, or session_scope() around it; call session.rollback() if they were not to be "
        "kept.",
        UncommittedChangesWarning,
        stacklevel=2,
    )


def _innermost(session: Session) -> SessionTransaction | None:
    return session.get_nested_transaction() or session.get_transaction()


def _is_in(transaction: SessionTransaction | None, ended: SessionTransaction) -> bool:
    """Whether ``transaction`` is ``ended`` or a savepoint inside of it."""
    while transaction is not None and transaction is not ended:
        transaction = transaction.parent
    return transaction is not None


def _changes_in(session: Session, *, is_flushed: bool = False) -> list[Words]:
    """Return what a flush sends, or has just sent."""
    changed = (each for each in session.dirty if session.is_modified(each))
    return [
        *(_named("new", each, is_flushed=is_flushed) for each in session.new),
        *(_named("changed", each) for each in changed),
        *(_named("deleted", each) for each in session.deleted),
    ]


def _named(words: Words, instance: Any, *, is_flushed: bool = False) -> Words:  # noqa: ANN401
    """Name an instance by its class and its primary key, if the database knows that."""
    state: InstanceState[Any] = inspect(instance)
    identity = state.identity
    if identity is None and is_flushed:
        identity = state.mapper.primary_key_from_instance(instance)
    name = f"{words} {type(instance).__name__}"
    return name if identity is None else f"{name} {', '.join(map(str, identity))}"
