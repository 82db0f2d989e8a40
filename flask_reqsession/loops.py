"""Keep the pool of an asynchronous engine to connections of event loops that are alive.

Flask runs each async view in an event loop of its own, and asyncpg's and asyncmy's connections
belong to the loop that opened them. A pool that kept one would give it to the next request, in
another loop, and SQLAlchemy's pools do not ask: https://docs.sqlalchemy.org/en/20/orm/extensions/
asyncio.html#using-multiple-asyncio-event-loops
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import NullPool, StaticPool

from flask_reqsession.owners import running_loop

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

_OPENED_IN: Final = "flask_reqsession.loop"

_ending: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar(
    "flask_reqsession.ending_loop", default=None
)


@contextmanager
def in_a_loop_that_ends() -> Generator[None]:
    """Say of the running loop that it ends with what runs now, and its tasks."""
    previous = _ending.get()
    _ending.set(running_loop())
    try:
        yield
    finally:
        _ending.set(previous)


def keep_to_loops(engine: Engine) -> None:
    """Close a connection instead of pooling it, where its loop ends; replace one of another loop.

    ``engine`` is the one inside an ``AsyncEngine``. Without a pool there is nothing to do, and
    aiosqlite's connections belong to no loop.
    """
    pool = engine.pool
    if not engine.dialect.is_async or isinstance(pool, NullPool | StaticPool):
        return
    if engine.dialect.name != "sqlite":
        event.listen(engine, "connect", _connect)
        event.listen(engine, "checkout", _checkout)
        event.listen(engine, "checkin", _checkin)


def _connect(_connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    # An asynchronous driver connects in a running loop only.
    loop = cast("asyncio.AbstractEventLoop", running_loop())
    entry.info[_OPENED_IN] = weakref.ref(loop)


def _checkout(_connection: object, entry: ConnectionPoolEntry, _proxy: object) -> None:
    opened_in = entry.info.get(_OPENED_IN)
    if opened_in is None or opened_in() is not running_loop():
        raise DisconnectionError("The connection belongs to another event loop.")


def _checkin(connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    loop = _ending.get()
    if connection is not None and loop is not None and loop is running_loop():
        entry.close()
