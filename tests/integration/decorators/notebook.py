"""A small application for each test: one table, one manager, one Flask app."""

from __future__ import annotations

from flask import Flask
from sqlalchemy import event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from flask_reqsession import DatabaseManager, RequestScopedSessionManager
from tests.servers.connections import rows_of


class Base(DeclarativeBase):
    """The tables of these tests."""


class Note(Base):
    """Something that was written."""

    __tablename__ = "note"

    text: Mapped[str] = mapped_column(primary_key=True)


class Notebook:
    """A manager on the SQLite file at ``url``, bound to an app of its own."""

    def __init__(self, url: str, *, app: Flask | None = None) -> None:
        self.url = url
        self.app = app or Flask(__name__)
        self.manager = RequestScopedSessionManager(DatabaseManager(url), self.app)
        self.in_use = 0
        engine = self.manager.databases.engine()
        Base.metadata.create_all(engine)
        event.listen(engine, "checkout", self._checkout)
        event.listen(engine, "checkin", self._checkin)

    def kept(self) -> list[object]:
        """Return the texts that a second connection sees."""
        return [text for (text,) in rows_of(self.url, "SELECT text FROM note ORDER BY text")]

    def close(self) -> None:
        """Let go of the file; no connection may be checked out."""
        self.manager.databases.dispose()
        assert self.in_use == 0, "a connection was left checked out"

    def _checkout(self, *_event: object) -> None:
        self.in_use += 1

    def _checkin(self, *_event: object) -> None:
        self.in_use -= 1


def write(session: Session, text: str) -> str:
    """Write a note; it is sent at once."""
    session.add(Note(text=text))
    session.flush()
    return text


def read(session: Session) -> list[str]:
    """Return the texts that the session sees."""
    return list(session.scalars(select(Note.text).order_by(Note.text)))
