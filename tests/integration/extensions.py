"""What the tests of Flask-SQLAlchemy and Flask-SQLAlchemy-Lite have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from flask import Flask, has_request_context
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session

from flask_reqsession import DatabaseManager


class Extension(Protocol):
    """What both extensions have in common."""

    @property
    def session(self) -> Session | scoped_session[Any]:
        """The session of the current app context, or a proxy of it."""
        ...

    @property
    def engine(self) -> Engine:
        """The default engine of the current app."""
        ...

    def init_app(self, app: Flask) -> None:
        """Serve ``app``."""
        ...


@dataclass
class Requests:
    """Plays the manager's part: one session in a request, none outside."""

    databases: DatabaseManager
    sessions: list[Session] = field(default_factory=list[Session])
    async_sessions: list[AsyncSession] = field(default_factory=list[AsyncSession])

    def current(self, bind: str) -> Session | None:
        """Return the session of the request."""
        if not has_request_context():
            return None
        if not self.sessions:
            self.sessions.append(self.databases.source(bind).open())
        return self.sessions[0]

    def async_current(self, bind: str) -> AsyncSession:
        """Return the asynchronous session of the request."""
        if not self.async_sessions:
            self.async_sessions.append(self.databases.async_source(bind).open())
        return self.async_sessions[0]

    def end(self) -> None:
        """Close the session of the request."""
        self.databases.source().close(self.sessions.pop())
