"""Decide how a scope enters: the table of propagations against what is running."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from flask_reqsession.errors import PropagationError, RetryNotAllowedError
from flask_reqsession.options import Propagation

if TYPE_CHECKING:
    from flask_reqsession.options import TransactionOptions
    from flask_reqsession.scope import Scope


class Entry(Enum):
    """What entering a scope does."""

    START = "start a transaction on the current session"
    JOIN = "join the running scope"
    SAVEPOINT = "open a savepoint in the running scope"
    OWN_SESSION = "start a transaction on a session of its own"
    BARE = "run on the current session with no scope"
    OUTSIDE = "run on a session of its own with no scope"
    REFUSE = "refuse"


_ENTRIES = MappingProxyType(
    {  # propagation: (no scope is running, a scope is running)
        Propagation.REQUIRED: (Entry.START, Entry.JOIN),
        Propagation.REQUIRES_NEW: (Entry.START, Entry.OWN_SESSION),
        Propagation.NESTED: (Entry.START, Entry.SAVEPOINT),
        Propagation.SUPPORTS: (Entry.BARE, Entry.JOIN),
        Propagation.MANDATORY: (Entry.REFUSE, Entry.JOIN),
        Propagation.NOT_SUPPORTED: (Entry.OUTSIDE, Entry.OUTSIDE),
        Propagation.NEVER: (Entry.BARE, Entry.REFUSE),
    }
)


def entry_of(options: TransactionOptions, name: str, running: Scope | None) -> Entry:
    """Return how the scope ``name`` enters where ``running`` is running.

    :raises PropagationError: the propagation or ``durable`` does not allow it.
    :raises RetryNotAllowedError: ``retry`` on what would be a part of a transaction.
    """
    entry = _ENTRIES[options.propagation][running is not None]
    if entry is Entry.REFUSE:
        raise PropagationError(_refusal(options.propagation, name, running))
    if running is None:
        return entry
    if options.durable and entry in {Entry.JOIN, Entry.SAVEPOINT}:
        raise PropagationError(
            f"{name} is durable=True, so its end must be a COMMIT, but {running.name} is already "
            "running and would decide later. Call it outside that scope."
        )
    if options.retry is not None and entry in {Entry.JOIN, Entry.SAVEPOINT}:
        raise RetryNotAllowedError(
            f"{name} has retry=, but it is a part of the transaction of {running.name}, and half a "
            "transaction cannot be run again. Put retry= on the outermost scope, or give "
            f"{name} propagation=Propagation.REQUIRES_NEW."
        )
    return entry


def _refusal(propagation: Propagation, name: str, running: Scope | None) -> str:
    if running is None:
        return (
            f"{name} is {propagation.name}: it needs a running scope and there is none. Call it "
            "from a @transactional function or inside session_scope()."
        )
    return (
        f"{name} is {propagation.name}: it must not run inside a scope, but {running.name} is "
        "running. Call it outside, or use NOT_SUPPORTED to suspend that scope."
    )
