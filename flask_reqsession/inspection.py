"""Describe the running session for a person or a log, without touching it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from flask_reqsession.contexts import in_request

if TYPE_CHECKING:
    from flask_reqsession.keeper import UnitKeeper
    from flask_reqsession.ports import Port
    from flask_reqsession.scope import Scope


def describe(keeper: UnitKeeper, bind: str) -> dict[str, Any]:
    """Return what ``get_session_info()`` promises; everything in it is JSON-serialisable."""
    unit = keeper.peek()
    port = None if unit is None else unit.port_to_show(bind)
    exists = port is not None and port.session is not None
    mine = port if unit is not None and unit.is_mine else None
    return {
        "has_request_context": in_request(),
        "has_session": exists,
        "owner": None if unit is None else unit.owner_name,
        "age_seconds": time.perf_counter() - port.opened_at if exists and port else None,
        **_of_session(mine),
        **_of_scope(None if mine is None else mine.scope or mine.paused),
    }


def _of_session(port: Port | None) -> dict[str, Any]:
    """Look into the session; not into one that another thread is using, which would be a race."""
    session = None if port is None else port.session
    return {
        "session_active": session is not None and session.is_active,
        "session_dirty": session is not None and bool(session.dirty),
        "session_new": session is not None and bool(session.new),
        "session_deleted": session is not None and bool(session.deleted),
        "in_transaction": session is not None and session.in_transaction(),
        "pool": [] if port is None else _pools(port),
    }


def _of_scope(scope: Scope | None) -> dict[str, Any]:
    mode = None if scope is None else scope.mode
    return {
        "depth": 0 if scope is None else scope.depth,
        "propagation": None if scope is None else scope.propagation,
        "isolation": None if mode is None else mode.isolation,
        "read_only": mode is not None and mode.read_only,
        "rollback_only": scope is not None and scope.is_doomed,
        "pending_hooks": len((scope and scope.transaction.hooks) or ()),
    }


def _pools(port: Port) -> list[str]:
    """Return the state of the pools in use; a pool's status has no URL in it."""
    return sorted({connection.engine.pool.status() for connection in port.connections})
