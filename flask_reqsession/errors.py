"""The errors of the package.

Each class carries a stable :attr:`~ReqSessionError.code`; the page ``docs/errors.md`` has one
paragraph for each code. A message says what was refused, where, why, and what to do next.
SQLAlchemy's own errors are never wrapped where they are the cause.
"""

from __future__ import annotations

from typing import ClassVar


class ReqSessionError(Exception):
    """Base of every error that this package raises on its own account.

    >>> from flask_reqsession import PropagationError, ReqSessionError
    >>> issubclass(PropagationError, ReqSessionError), PropagationError.code
    (True, 'propagation')
    """

    code: ClassVar[str] = "reqsession"


class NoActiveScopeError(ReqSessionError, RuntimeError):
    """Refuse what needs a request, a unit of work or a scope when none is active."""

    code = "no-scope"


class PropagationError(ReqSessionError):
    """Refuse a scope whose propagation does not fit what is already running."""

    code = "propagation"


class UnexpectedRollbackError(ReqSessionError):
    """Tell that a scope returned normally but its work was rolled back.

    The ``__cause__`` tells why. Most often it is the exception of a call that had joined the scope
    and failed, which the outer code swallowed.
    """

    code = "unexpected-rollback"


class ManualCommitError(ReqSessionError):
    """Refuse to end a scope's transaction by hand, by a commit, a rollback or a close."""

    code = "manual-commit"


class ReadOnlyViolationError(ReqSessionError):
    """Refuse a flush with changes inside a read-only scope."""

    code = "read-only"


class TransactionTimeoutError(ReqSessionError):
    """Tell that a scope took longer than its ``timeout`` and was rolled back."""

    code = "timeout"


class RetryNotAllowedError(ReqSessionError):
    """Refuse to retry what is only a part of a transaction."""

    code = "retry-not-allowed"


class CommitOutcomeUnknownError(ReqSessionError):
    """Tell that the connection was lost during COMMIT: it may or may not have happened."""

    code = "commit-outcome-unknown"


class PoolDemandError(ReqSessionError):
    """Refuse a scope that needs a second connection which the pool cannot give."""

    code = "pool-demand"


class MultipleBindsError(ReqSessionError):
    """Refuse to commit one session's writes through two engines one after the other."""

    code = "multiple-binds"


class ScopeOwnershipError(ReqSessionError):
    """Refuse a session to a thread, greenlet or task that does not own it."""

    code = "ownership"


class ConfigurationError(ReqSessionError):
    """Refuse a set-up, an option or a bind that cannot work."""

    code = "configuration"


class ReattachError(ReqSessionError):
    """Base of the refusals of reattachment."""

    code = "reattach"


class MissingRowError(ReattachError):
    """Tell that the row of an argument is gone."""

    code = "missing-row"


class ReattachConflictError(ReattachError):
    """Tell that an argument and the session hold different changes of one row."""

    code = "reattach-conflict"


class ForeignInstanceError(ReattachError):
    """Refuse an instance that belongs to another live session."""

    code = "foreign-instance"


class UncommittedChangesWarning(UserWarning):
    """Warn that a request ended with uncommitted changes outside any scope."""
