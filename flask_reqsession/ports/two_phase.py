"""Commit on several databases at once: all PREPARE, and only then all COMMIT (rule T13).

From the moment that all are prepared the decision is COMMIT, and nothing may be rolled back any
more: what fails then is tried on every other connection and told with the words to finish it by.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import TwoPhaseTransaction
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection

logger: Final = logging.getLogger("flask_reqsession")


class Part(NamedTuple):
    """What a transaction of two phases does on one connection."""

    connection: Connection
    transaction: TwoPhaseTransaction

    @property
    def place(self) -> str:
        """The prepared transaction's name, and the database that knows it."""
        return f"{self.transaction.xid!r} in database {self.connection.engine.url.database!r}"

    @property
    def words(self) -> tuple[str, str]:
        """How to find what is prepared, and how to end it: ``COMMIT PREPARED``, say."""
        if self.connection.dialect.name == "postgresql":
            return "SELECT gid FROM pg_prepared_xacts", "{} PREPARED '{}'"
        return "XA RECOVER", "XA {} '{}'"

    def how_to(self, verb: str) -> str:
        """Return the statements to recover by."""
        find, end = self.words
        return f"{end.format(verb, self.transaction.xid)} (while {find} lists it)"


def parts_of(connections: Iterable[Connection]) -> list[Part]:
    """Return the parts of the transaction that ``connections`` are in."""
    begun = ((connection, connection.get_transaction()) for connection in connections)
    return [Part(where, each) for where, each in begun if isinstance(each, TwoPhaseTransaction)]


def log_decision(parts: list[Part]) -> None:
    """Write down what belongs together, for whoever recovers after a crash of this process."""
    logger.info(
        "Two-phase COMMIT, all prepared: %s. If this process ends before all are committed, commit "
        "those that are left.",
        ", ".join(part.place for part in parts),
    )


def note_unanswered(parts: list[Part], error: BaseException) -> None:
    """Tell of PREPAREs without an answer, when the rest was rolled back."""
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    for part in parts if lost or not isinstance(error, Exception) else ():
        error.add_note(
            f"PREPARE failed and everything was rolled back, but {part.place} may have been "
            f"prepared and hold its locks. There: {part.how_to('ROLLBACK')}."
        )


def commit_the_rest(parts: list[Part]) -> list[Part]:
    """Commit what was not tried yet; return the parts of which nobody knows.

    Each is given back to its pool, or invalidated where its end is not known.
    """
    for part in parts:
        if part.transaction.is_active:
            with suppress(Exception):
                part.transaction.commit()
    # SQLAlchemy takes a transaction that was committed from its connection, and leaves one there
    # whose COMMIT failed, or was not even sent since a listener failed before.
    unknown = [part for part in parts if part.connection.get_transaction() is part.transaction]
    for part in unknown:
        part.connection.invalidate()
    return unknown


def recovery_of(unknown: list[Part]) -> str:
    """Return what an operator has to do."""
    return "; ".join(f"{part.place}: {part.how_to('COMMIT')}" for part in unknown)
