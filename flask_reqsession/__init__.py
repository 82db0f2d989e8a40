"""Who commits, and with which session, in a Flask and SQLAlchemy application."""

from __future__ import annotations

from flask_reqsession.atomic_requests import non_transactional
from flask_reqsession.current import set_rollback_only
from flask_reqsession.databases import DatabaseManager
from flask_reqsession.decorators import reattach_args, transactional, with_request_session
from flask_reqsession.errors import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    ForeignInstanceError,
    ManualCommitError,
    MissingRowError,
    MultipleBindsError,
    NoActiveScopeError,
    PoolDemandError,
    PropagationError,
    ReadOnlyViolationError,
    ReattachConflictError,
    ReattachError,
    ReqSessionError,
    RetryNotAllowedError,
    ScopeOwnershipError,
    TransactionTimeoutError,
    UncommittedChangesWarning,
    UnexpectedRollbackError,
)
from flask_reqsession.hooks import before_commit, on_commit, on_completion, on_rollback
from flask_reqsession.manager import RequestScopedSessionManager
from flask_reqsession.options import Propagation, Retry, TransactionOutcome
from flask_reqsession.selection import current_manager

__all__ = [
    "CommitOutcomeUnknownError",
    "ConfigurationError",
    "DatabaseManager",
    "ForeignInstanceError",
    "ManualCommitError",
    "MissingRowError",
    "MultipleBindsError",
    "NoActiveScopeError",
    "PoolDemandError",
    "Propagation",
    "PropagationError",
    "ReadOnlyViolationError",
    "ReattachConflictError",
    "ReattachError",
    "ReqSessionError",
    "RequestScopedSessionManager",
    "Retry",
    "RetryNotAllowedError",
    "ScopeOwnershipError",
    "TransactionOutcome",
    "TransactionTimeoutError",
    "UncommittedChangesWarning",
    "UnexpectedRollbackError",
    "before_commit",
    "current_manager",
    "non_transactional",
    "on_commit",
    "on_completion",
    "on_rollback",
    "reattach_args",
    "set_rollback_only",
    "transactional",
    "with_request_session",
]
