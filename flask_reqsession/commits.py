"""What a failed COMMIT says about the transaction."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from flask_reqsession.codes import leaves_open

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection, ExceptionContext


class Answer(Enum):
    """What came back when COMMIT had been sent on a connection and failed."""

    NO = "the database refused it"
    NONE = "nothing that tells whether it happened"


def answer_in(context: ExceptionContext) -> Answer:
    """Read the answer out of the error with which the driver came back from COMMIT.

    An error that is none of the driver's comes from the network or from a signal, so the connection
    is of no more use.
    """
    if not isinstance(context.sqlalchemy_exception, DBAPIError):
        context.is_disconnect = True
    unsaid = context.is_disconnect or leaves_open(context.original_exception)
    return Answer.NONE if unsaid else Answer.NO


@dataclass(slots=True)
class CommitAttempt:
    """What is seen while a session does COMMIT on its connections, one after the other.

    ``answer`` is what one came back with that failed; ``is_over`` is set when SQLAlchemy says that
    all are through.
    """

    answer: Answer | None = None
    is_over: bool = False

    def see(self, context: ExceptionContext) -> None:
        """Take note of an error, if it is the one with which a connection came back from COMMIT."""
        if self.answer is None and _comes_from_commit(context.original_exception):
            self.answer = answer_in(context)

    def was_done(self, connections: Iterable[Connection]) -> bool | None:
        """Whether the transaction is committed although an error was raised; None: who knows.

        SQLAlchemy takes a transaction that was committed from its connection; one that failed or
        was not begun stays, until the session is rolled back. Without an answer, the error is that
        of a listener.
        """
        if self.answer is Answer.NONE:
            return None
        if self.is_over:
            return True
        has_begun = any(connection.get_transaction() is None for connection in connections)
        return None if has_begun else False


def _comes_from_commit(error: BaseException) -> bool:
    """Whether ``error`` was raised in the dialect's ``do_commit()``.

    A flush before it and a ROLLBACK after it can fail, too, and the context says only that neither
    COMMIT nor ROLLBACK is a statement.
    """
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_name == "do_commit" for frame, _line in frames)
