"""The small application, with async sessions beside the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncSession
from werkzeug.test import TestResponse

from flask_reqsession import DatabaseManager
from tests.integration.manager.shop import (
    Base,
    Note,
    Recording,
    as_view,
)
from tests.servers.connections import async_url_of, rows_of


class AsyncShop:
    """An app whose manager has a sync and an async engine on one database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app = Flask("async")
        self.app.testing = True
        databases = DatabaseManager(url, async_source=async_url_of(url))
        self.manager = Recording(databases, self.app)
        self.engine: Engine = databases.engine()
        self.async_engine = databases.async_engine()
        self.held = 0
        sync_engine: Any = self.async_engine.sync_engine
        event.listen(sync_engine, "checkout", lambda *_: self._count(1))
        event.listen(sync_engine, "checkin", lambda *_: self._count(-1))
        Base.metadata.create_all(self.engine)

    def _count(self, change: int) -> None:
        self.held += change

    @property
    def session(self) -> AsyncSession:
        """The current async session."""
        return self.manager.get_async_request_session()

    async def write(self, text: str) -> None:
        """Insert a note."""
        self.session.add(Note(text=text))
        await self.session.flush()

    def serve(self, view: Callable[[], object]) -> TestResponse:
        """Answer one request with ``view``."""
        self.app.add_url_rule("/", "view", view_func=as_view(view))
        return self.app.test_client().get("/")

    def kept(self) -> list[object]:
        """Return the texts that a second connection sees."""
        return [text for (text,) in rows_of(self.url, "SELECT text FROM note ORDER BY id")]
