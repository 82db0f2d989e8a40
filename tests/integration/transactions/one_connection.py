"""Worlds whose pool has one connection: what a scope leaves on it, the next one finds."""

from __future__ import annotations

from flask_reqsession import RequestScopedSessionManager
from flask_reqsession.engines import make_async_engine, make_engine
from tests.integration.transactions.worlds import AsyncWorld, SyncWorld, World
from tests.servers.connections import async_url_of

ONE = {"pool_size": 1, "max_overflow": 0}


class OneConnection(SyncWorld):
    """Synchronous sessions on one connection."""

    def __init__(self, url: str) -> None:
        World.__init__(self, url)
        engine = make_engine(url, ONE)
        self.manager = RequestScopedSessionManager(engine)
        self.observe(engine)


class OneAsyncConnection(AsyncWorld):
    """Asynchronous sessions on one connection."""

    def __init__(self, url: str) -> None:
        World.__init__(self, url)
        self.async_engine = make_async_engine(async_url_of(url), ONE)
        self.manager = RequestScopedSessionManager(self.async_engine)
        self.observe(self.async_engine.sync_engine)


def one_connection(colour: str, url: str) -> World:
    """Return a world of ``colour`` on one connection to ``url``."""
    return OneAsyncConnection(url) if colour == "async" else OneConnection(url)
