"""Refuse to wait for a connection that the waiting thread holds itself (rule T5)."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session
from sqlalchemy.pool import AssertionPool, Pool, QueuePool, SingletonThreadPool, StaticPool

_REPLACED: Final = "get_bind"
_ONE_ONLY: Final = (AssertionPool, SingletonThreadPool, StaticPool)


class PoolLimits:
    """How many connections each pool gives to one thread at most; found out once for each."""

    def __init__(self) -> None:
        self._limits: weakref.WeakKeyDictionary[Pool, int | None] = weakref.WeakKeyDictionary()

    def is_taken_up(self, pool: Pool, held: list[Connection]) -> bool:
        """Whether the connections ``held`` by the running code are all that ``pool`` gives.

        Where other threads hold some, a wait for them may end well.
        """
        try:
            limit = self._limits[pool]
        except KeyError:
            limit = self._limits[pool] = limit_of(pool)
        if limit is None or len(held) < limit:
            return False
        return sum([connection.engine.pool is pool for connection in held]) >= limit


def limit_of(pool: Pool) -> int | None:
    """Return how many connections one thread can have from ``pool``; None: as many as it likes.

    >>> from sqlalchemy import create_engine
    >>> engine = create_engine("sqlite:///app.db", pool_size=2, max_overflow=3)
    >>> limit_of(engine.pool)
    5
    """
    if isinstance(pool, _ONE_ONLY):
        return 1
    if not isinstance(pool, QueuePool):
        return None
    overflow = _max_overflow_of(pool)
    return None if pool.size() == 0 or overflow < 0 else pool.size() + overflow


def _max_overflow_of(pool: QueuePool) -> int:
    """Return how many connections ``pool`` opens beyond its size, -1 without a limit.

    Nothing public tells it. ``test_pool_demand.py`` fails when SQLAlchemy renames the attribute; a
    wait that cannot end well then ends with the pool's timeout.
    """
    overflow: int = getattr(pool, "_max_overflow", -1)
    return overflow


class PoolGuard:
    """Asks before a session takes its first connection from an engine.

    Only :meth:`sqlalchemy.orm.Session.get_bind` comes before that; the pool's own events come after
    the wait. So it is replaced on the one session object while two sessions of one call compete.
    """

    def __init__(self, connections: list[Connection], refuse: Callable[[Engine], None]) -> None:
        self._connections = connections
        self._refuse = refuse
        self._session: Session | None = None

    def attach(self, session: Session) -> None:
        """Look after ``session``, whose open transaction has the connections."""
        self.detach()
        self._session = session
        self._get_bind: Callable[..., Engine | Connection] = session.get_bind
        setattr(session, _REPLACED, self.get_bind)

    def detach(self) -> None:
        """Give the session its own method back."""
        if self._session is not None:
            delattr(self._session, _REPLACED)
        self._session = None

    def get_bind(self, *args: Any, **arguments: Any) -> Engine | Connection:  # noqa: ANN401 - theirs
        """Return what the session's own method returns, unless no connection of it can be had."""
        bind = self._get_bind(*args, **arguments)
        if isinstance(bind, Engine) and all(each.engine is not bind for each in self._connections):
            self._refuse(bind)
        return bind
