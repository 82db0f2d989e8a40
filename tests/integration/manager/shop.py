"""A small application around one manager, and what its tests ask of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from sqlalchemy import Engine, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import QueuePool
from werkzeug.test import TestResponse

from flask_reqsession import RequestScopedSessionManager
from tests.servers.connections import rows_of


class Base(DeclarativeBase):
    """The tables of these tests."""


class Note(Base):
    """Something that was written."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(40), unique=True)


class Recording(RequestScopedSessionManager):
    """A manager whose events are told, in their order; a reattachment with its type."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.events: list[str] = []
        self.durations: list[float] = []
        super().__init__(*args, **kwargs)

    def _record_session_creation(self, duration: float) -> None:
        self.durations.append(duration)
        self.events.append("created")

    def _record_session_closure(self, duration: float) -> None:
        self.durations.append(duration)
        self.events.append("closed")

    def _record_session_commit(self) -> None:
        self.events.append("commit")

    def _record_session_rollback(self) -> None:
        self.events.append("rollback")

    def _record_session_reattachment(self, object_type: str, duration: float) -> None:
        self.durations.append(duration)
        self.events.append(f"reattached {object_type}")

    def _record_session_error(self, error_type: str, error_message: str) -> None:
        self.events.append(f"error {error_type}: {error_message}")


class Shop:
    """An app with a manager on the database at ``url``, which it leaves as it found it."""

    def __init__(self, url: str, app: Flask | None = None) -> None:
        self.url = url
        self.app = Flask("shop") if app is None else app
        self.manager = Recording(url, self.app)
        self.engine: Engine = self.manager.databases.engine()
        Base.metadata.create_all(self.engine)

    @property
    def session(self) -> Session:
        """The current session."""
        return self.manager.session

    def write(self, text: str = "hello") -> Note:
        """Insert a note; it is sent at once."""
        note = Note(text=text)
        self.session.add(note)
        self.session.flush()
        return note

    def serve(self, view: Callable[[], object], **options: Any) -> TestResponse:
        """Answer one request with ``view``, and close the response."""
        path = f"/{len(self.app.view_functions)}"
        self.app.add_url_rule(path, path, view_func=as_view(view), **options)
        return self.get(path)

    def get(self, path: str) -> TestResponse:
        """Send a request of its own client, and close the response."""
        response = self.app.test_client().get(path, buffered=True)
        response.close()
        return response

    def keep(self, *texts: str) -> None:
        """Commit notes."""
        with self.manager.session_scope() as session:
            session.add_all([Note(text=text) for text in texts])
        self.manager.events.clear()

    def kept(self) -> list[object]:
        """Return the texts that a second connection sees."""
        return [text for (text,) in rows_of(self.url, "SELECT text FROM note ORDER BY id")]

    @property
    def events(self) -> list[str]:
        """The events since the last look."""
        events = list(self.manager.events)
        self.manager.events.clear()
        return events

    def close(self) -> None:
        """End the test: nothing may be checked out."""
        held = connections_held(self.engine)
        self.manager.databases.dispose()
        assert held == 0, f"{held} connections were left checked out"


def as_view(view: Callable[[], object]) -> Callable[[], Any]:
    """Return ``view`` with a type that Flask takes for one of a view."""
    untyped: Any = view
    return untyped  # type: ignore[no-any-return]


def connections_held(engine: Engine) -> int:
    """Count the connections that are out of the pool."""
    assert isinstance(engine.pool, QueuePool)
    return engine.pool.checkedout()


def texts(session: Session) -> list[str]:
    """Return the texts that ``session`` sees."""
    return list(session.scalars(select(Note.text).order_by(Note.id)))
