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


def set_rollback_only(*, bind: str | None = None) -> None:
    """Doom the running scope: it rolls back at its end, and nothing is raised.

    What is doomed is the nearest physical unit, a savepoint or the transaction. Without ``bind`` it
    is that of the default bind, else that of the one bind of which a scope is running.

    :raises NoActiveScopeError: no scope is running, or those of several other binds.

    >>> from flask_reqsession import RequestScopedSessionManager, set_rollback_only
    >>> manager = RequestScopedSessionManager("sqlite://")
    >>> with manager.session_scope() as session:
    ...     set_rollback_only()
    """
    running_scope("set_rollback_only()", bind).rollback_only = True


def running_scope(what: str, bind: str | None) -> Scope:
    """Return the scope that runs on the session of ``bind``, or of the bind that is meant.

    :raises NoActiveScopeError: there is none, or not just one; ``what`` is who asked.
    """
    unit = current_keeper().here(what).unit
    if bind is None:
        bind = bind_meant(what, unit)
    scope = scope_in(unit, bind)
    if scope is None:
        raise NoActiveScopeError(
            f"{what} needs a running transaction scope, and there is none for bind {bind!r}. Call "
            "it from a @transactional function or inside session_scope()."
        )
    return scope


def bind_meant(what: str, unit: Unit | None) -> str:
    """Return the bind that is meant where none is named: the default one, unless another one runs.

    :raises NoActiveScopeError: scopes of several other binds run; ``what`` is who asked.
    """
    if unit is None or scope_in(unit, DEFAULT_BIND) is not None:
        return DEFAULT_BIND
    ports: set[Port] = {*unit.ports.values(), *unit.async_ports.values()}
    running = sorted({port.bind for port in ports if port.scope is not None})
    if len(running) > 1:
        raise NoActiveScopeError(
            f"{what} may mean the scope of any of the binds {', '.join(map(repr, running))}: they "
            f"are all running, and one of bind {DEFAULT_BIND!r} is not. Pass bind= to choose."
        )
    return running[0] if running else DEFAULT_BIND


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
