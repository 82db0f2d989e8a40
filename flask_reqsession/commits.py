"""What a failed COMMIT says about the transaction."""

from __future__ import annotations

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


def was_done(answer: Answer | None, sent: int, connections: Iterable[Connection]) -> bool | None:
    """Whether the transaction is committed whose end raised an error; None: nobody can tell.

    The COMMITs of a session with several connections go out one after the other. ``sent`` of them
    were begun, and the last one came back with ``answer``; with None none failed, and the error is
    that of a listener, before or after a COMMIT. SQLAlchemy takes a transaction that was committed
    from its connection.
    """
    if answer is Answer.NONE:
        return None
    ends = {connection.get_transaction() is None for connection in connections}
    if len(ends) > 1:
        return None  # a part of the work
    return sent > 0 and False not in ends
