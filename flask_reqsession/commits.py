"""What a failed COMMIT says about the transaction."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from flask_reqsession.codes import leaves_open

if TYPE_CHECKING:
    from sqlalchemy.engine import ExceptionContext


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


def was_done(answer: Answer | None, sent: int) -> bool | None:
    """Whether the transaction is committed whose end raised an error; None: nobody can tell.

    ``sent`` connections were sent COMMIT, the last of which gave ``answer``, or none failed: then
    the error is that of a listener, before the first or after the last.
    """
    if answer is Answer.NO:
        return False if sent == 1 else None  # those before it have committed
    return None if answer is Answer.NONE else sent > 0
