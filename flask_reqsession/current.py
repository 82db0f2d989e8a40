"""Functions that act on the scope that is running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_reqsession.errors import NoActiveScopeError
from flask_reqsession.options import DEFAULT_BIND
from flask_reqsession.selection import current_keeper

if TYPE_CHECKING:
    from flask_reqsession.ports import Port
    from flask_reqsession.scope import Scope
    from flask_reqsession.units import Unit


def set_rollback_only(*, bind: str = DEFAULT_BIND) -> None:
    """Doom the running scope: it rolls back at its end, and nothing is raised.

    What is doomed is the nearest physical unit, a savepoint or the transaction.

    :raises NoActiveScopeError: no scope is running.

    >>> from flask_reqsession import RequestScopedSessionManager, set_rollback_only
    >>> manager = RequestScopedSessionManager("sqlite://")
    >>> with manager.session_scope() as session:
    ...     set_rollback_only()
    """
    running_scope("set_rollback_only()", bind).rollback_only = True


def running_scope(what: str, bind: str) -> Scope:
    """Return the scope that runs on the session of ``bind``.

    :raises NoActiveScopeError: there is none; ``what`` is who asked.
    """
    scope = scope_in(current_keeper().here(what).unit, bind)
    if scope is None:
        raise NoActiveScopeError(
            f"{what} needs a running transaction scope, and there is none for bind {bind!r}. Call "
            "it from a @transactional function or inside session_scope()."
        )
    return scope


def scope_in(unit: Unit, bind: str, *, awaiting: bool = False) -> Scope | None:
    """Return the scope that runs on the session of ``bind``, on the synchronous one first.

    ``awaiting`` asks for one whose end is awaited, in an event loop.
    """
    port: Port | None = unit.ports.get(bind)
    scope = None if port is None else port.scope
    if scope is not None and (not awaiting or (scope.awaits and scope.transaction.awaits)):
        return scope
    port = unit.async_ports.get(bind)
    return None if port is None else port.scope
