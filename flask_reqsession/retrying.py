"""When to run a call again, and how long to wait before.

The table holds codes, never message texts. Sources: PostgreSQL manual, appendix A (class 40); the
error references of MariaDB and MySQL; https://www.sqlite.org/rescode.html (SQLITE_BUSY 5,
SQLITE_LOCKED 6).
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession.errors import CommitOutcomeUnknownError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from flask_reqsession.options import Retry

SERIALIZATION_FAILURE: Final = "40001"
DEADLOCK_DETECTED: Final = "40P01"
_SQLSTATES: Final = frozenset({SERIALIZATION_FAILURE, DEADLOCK_DETECTED})
MYSQL_LOCK_TIMEOUT: Final = 1205
MYSQL_DEADLOCK: Final = 1213
_MYSQL_ERRORS: Final = frozenset({MYSQL_LOCK_TIMEOUT, MYSQL_DEADLOCK})
_SQLITE_BUSY_OR_LOCKED: Final = frozenset({5, 6})
_PRIMARY_CODE: Final = 0xFF


def is_transient(error: BaseException) -> bool:
    """Whether the database itself says that the same work may succeed when run again.

    A connection that was lost before COMMIT was sent is transient as well, and so is a versioned
    row that somebody else changed meanwhile.
    """
    if isinstance(error, StaleDataError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    original = error.orig
    return (
        _sqlstate(original) in _SQLSTATES
        or _is_busy_or_locked(original)
        or _mysql_code(original) in _MYSQL_ERRORS
    )


def is_rolled_back(original: BaseException, connection: Connection) -> bool:
    """Whether the database has rolled the whole transaction back because of a driver's error.

    InnoDB does it for a deadlock, SQLite for the errors listed at
    https://www.sqlite.org/lang_transaction.html and for ``ON CONFLICT ROLLBACK``.
    """
    if connection.dialect.name != "sqlite":
        return _mysql_code(original) == MYSQL_DEADLOCK
    if connection.invalidated or _is_busy_or_locked(original):
        return False
    driver: Any = connection.connection.driver_connection
    return not driver.in_transaction


def _sqlstate(original: object) -> object:
    return getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)


def _is_busy_or_locked(original: object) -> bool:
    code: int = getattr(original, "sqlite_errorcode", 0)
    return code & _PRIMARY_CODE in _SQLITE_BUSY_OR_LOCKED


def _mysql_code(original: object) -> object:
    arguments: tuple[object, ...] = getattr(original, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


class RetryRun:
    """The attempts of one call under a :class:`~flask_reqsession.Retry`."""

    __slots__ = ("_policy", "_started", "attempts")

    def __init__(self, policy: Retry) -> None:
        self._policy = policy
        self._started = time.monotonic()
        self.attempts: int = policy.attempts

    def allows(self, error: BaseException) -> bool:
        """Whether ``error`` is one that another attempt may not meet."""
        if isinstance(error, CommitOutcomeUnknownError):
            return False  # the work may be there already
        return is_transient(error) or isinstance(error, self._policy.on)

    def delay(self, attempt: int) -> float:
        """Return the seconds to wait after ``attempt``: exponential, with full jitter.

        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        """
        policy = self._policy
        longest = min(policy.maximum, policy.initial * 2.0 ** (attempt - 1))
        return random.uniform(0, longest) if policy.jitter else longest  # noqa: S311 - no secret

    def announce(self, attempt: int, error: BaseException) -> None:
        """Tell the user that ``attempt`` failed with ``error`` and another one follows."""
        if self._policy.before_retry is not None:
            self._policy.before_retry(attempt, error)

    def exhausted(self, error: BaseException) -> None:
        """Note on ``error`` how many attempts were made and how long they took."""
        seconds = time.monotonic() - self._started
        error.add_note(f"Gave up after {self.attempts} attempts in {seconds:.3f} seconds.")
