"""When to run a call again, and how long to wait before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.exc import StaleDataError
from tenacity import RetryCallState, Retrying, wait_exponential, wait_none, wait_random_exponential

from flask_reqsession.codes import asks_again
from flask_reqsession.errors import CommitOutcomeUnknownError

if TYPE_CHECKING:
    from tenacity.wait import wait_base

    from flask_reqsession.options import Retry


def is_transient(error: BaseException) -> bool:
    """Whether the database itself says that the same work may succeed when run again.

    A connection that was lost before COMMIT was sent is transient as well, and so is a versioned
    row that somebody else changed meanwhile.
    """
    if isinstance(error, StaleDataError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or asks_again(error.orig)


class RetryRun:
    """The attempts of one call under a :class:`~flask_reqsession.Retry`.

    ``is_idempotent``: the call may be run again although an attempt was perhaps committed.
    """

    __slots__ = ("_has_unanswered", "_is_idempotent", "_policy", "_started", "attempts")

    def __init__(self, policy: Retry, *, is_idempotent: bool = False) -> None:
        self._has_unanswered = False
        self._is_idempotent = is_idempotent
        self._policy = policy
        self._started = time.monotonic()
        self.attempts: int = policy.attempts

    def allows(self, error: BaseException) -> bool:
        """Whether ``error`` is one that another attempt may not meet."""
        if isinstance(error, CommitOutcomeUnknownError):
            return self._is_idempotent  # else the work may be there already
        return is_transient(error) or isinstance(error, self._policy.on)

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after ``attempt``: exponential, with full jitter.

        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = attempt
        return _wait_of(self._policy)(state)

    def announce(self, attempt: int, error: BaseException) -> None:
        """Tell the user that ``attempt`` failed with ``error`` and another one follows."""
        self._has_unanswered |= isinstance(error, CommitOutcomeUnknownError)
        if self._policy.before_retry is not None:
            self._policy.before_retry(attempt, error)

    def give_up(self, attempt: int, error: BaseException) -> None:
        """Note on ``error``, with which ``attempt`` failed for good, what the caller has to know.

        How many attempts were made and how long they took; and that an earlier one may have been
        committed, since its COMMIT got no answer.
        """
        if attempt == self.attempts:
            seconds = time.monotonic() - self._started
            plural = "" if attempt == 1 else "s"
            error.add_note(f"Gave up after {attempt} attempt{plural} in {seconds:.3f} seconds.")
        if self._has_unanswered:
            error.add_note(
                "The COMMIT of an earlier attempt got no answer, so its work may be in the "
                "database. Look there before you repeat the call."
            )


def _wait_of(policy: Retry) -> wait_base:
    if policy.initial == 0:
        return wait_none()
    kind = wait_random_exponential if policy.jitter else wait_exponential
    return kind(multiplier=policy.initial, max=policy.maximum)
