"""Decide how a scope enters: the table of propagations against what is running."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

from flask_reqsession.errors import PoolDemandError, PropagationError, RetryNotAllowedError
from flask_reqsession.option_values import ALLOW
from flask_reqsession.options import Propagation

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask_reqsession.modes import TransactionMode
    from flask_reqsession.option_values import ManualCommit
    from flask_reqsession.options import TransactionOptions
    from flask_reqsession.retry_flows import RetryPolicy
    from flask_reqsession.scope import CallRules, Scope


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


@dataclass(frozen=True, slots=True)
class ScopeSpec:
    """What is known of a scope before it is entered: made once, at decoration.

    Without options there is no scope: the call only needs a session. ``mode`` is what a transaction
    of its own begins in, ``demands_mode`` whether a running one has to be of a certain mode.
    """

    name: str
    bind: str
    options: TransactionOptions | None
    rules: CallRules
    manual_commit: ManualCommit | None = None
    mode: TransactionMode | None = None
    demands_mode: bool = False
    retry: Callable[[], RetryPolicy] | None = None

    @property
    def propagation(self) -> str:
        """The name of the propagation, for people."""
        return "" if self.options is None else self.options.propagation.name

    @property
    def starts_plainly(self) -> bool:
        """Whether starting a transaction, where none runs, needs nothing but its record.

        Ask of those that join plainly, which have no ``retry`` and no ``manual_commit``.
        """
        options = self.options
        if options is None or _ENTRIES[options.propagation][False] is not Entry.START:
            return False
        return self.mode is None


def entry_of(spec: ScopeSpec, running: Scope | None, paused: Scope | None) -> Entry:
    """Return how a scope enters where ``running`` runs, and the generator ``paused`` waits.

    :raises PropagationError: the propagation or ``durable`` does not allow it.
    :raises RetryNotAllowedError: ``retry`` on what would be a part of a transaction.
    """
    name, options = spec.name, spec.options
    if options is None:
        return Entry.BARE
    entry = _ENTRIES[options.propagation][running is not None]
    if entry is Entry.REFUSE:
        raise PropagationError(_refusal(options.propagation, name, running))
    if running is None:
        is_new = options.propagation is Propagation.REQUIRES_NEW
        return Entry.OWN_SESSION if is_new and paused is not None else entry
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
    if spec.manual_commit == ALLOW and entry is Entry.JOIN and running.manual_commit != ALLOW:
        raise PropagationError(
            f"{name} is manual_commit='allow', but it would join {running.name}, which is not, and "
            f"could commit half of it. Give {name} manual_commit='defer' or "
            f"propagation=Propagation.REQUIRES_NEW, or {running.name} manual_commit='allow'."
        )
    if spec.demands_mode and entry in {Entry.JOIN, Entry.SAVEPOINT}:
        refuse_other_mode(name, options, running)
    return entry


def refuse_other_mode(name: str, options: TransactionOptions, running: Scope) -> None:
    """Refuse to make ``name`` a part of a transaction that is not of the mode it asks for.

    :raises PropagationError: the level is another one, the transaction is read-only, or its limit
        in time is longer or missing.
    """
    mode = running.mode
    level, limit = (None, None) if mode is None else (mode.isolation, mode.timeout)
    if options.isolation is not None and options.isolation != level:
        asked, has = f"isolation={options.isolation!r}", level or "the level of its engine"
    elif options.read_only is False and mode is not None and mode.read_only:
        asked, has = "read_only=False", "read_only=True"
    elif options.timeout is not None and (limit is None or limit > options.timeout):
        asked = f"timeout={options.timeout:g}"
        has = "no timeout" if limit is None else f"timeout={limit:g}"
    else:
        return
    raise PropagationError(
        f"{name} has {asked}, but would be a part of the transaction of {running.name}, which has "
        f"{has}. A transaction keeps the mode that it began in. Give the option to the outermost "
        f"scope, or {name} propagation=Propagation.REQUIRES_NEW."
    )


def occupied_error(name: str, paused: str) -> PropagationError:
    """Refuse to start ``name`` where a generator is in the middle of a transaction."""
    return PropagationError(
        f"{name} would start a transaction on a session in which the generator {paused} is between "
        "two steps of its own. Exhaust or close the generator first, or use "
        "propagation=Propagation.REQUIRES_NEW."
    )


def earlier_work_error(name: str) -> RetryNotAllowedError:
    """Refuse to retry ``name`` where its transaction began with somebody else's writes."""
    return RetryNotAllowedError(
        f"{name} has retry=, but this request wrote before it, outside any scope, and that work "
        "can't be run again. Put it into the scope, or into a committed scope of its own before."
    )


def no_second_session_error(name: str, bind: str) -> PoolDemandError:
    """Refuse ``name`` a session of its own where there is only one."""
    return PoolDemandError(
        f"{name} runs on a session of its own and needs a second connection, but this call itself "
        f"holds all that bind {bind!r} gives, and would wait for itself. Make the pool larger "
        "(pool_size, max_overflow), or call it outside; where there is only one, a memory database "
        "or a single shared session, use a database file or a server instead."
    )


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
