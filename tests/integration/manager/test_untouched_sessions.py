"""A session with which nothing was done is let go as it is, where closing it would do nothing."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, sessionmaker

from flask_reqsession import RequestScopedSessionManager
from tests.integration.manager.shop import Note, connections_held


class Telling(Session):
    """A session class of the user's own, whose ``close()`` does more than SQLAlchemy's."""

    closed: int = 0

    def close(self) -> None:
        """Count, and close."""
        Telling.closed += 1
        super().close()


def session_of_a_request(factory: sessionmaker[Any]) -> Session:
    """Return the session of a request that asked for it and did nothing else with it."""
    app, seen = Flask("shop"), list[Session]()
    manager = RequestScopedSessionManager(factory, app)

    @app.get("/")
    def index() -> str:
        seen.append(manager.session)
        return "ok"

    assert app.test_client().get("/").text == "ok"
    assert manager.metrics.snapshot()["sessions_closed"] == 1
    return seen[0]


@pytest.mark.rule("M2", "D4")
def test_the_close_of_a_users_own_class_is_called(sqlite_file_url: str) -> None:
    """It may give back what is its own."""
    Telling.closed = 0
    session_of_a_request(sessionmaker(create_engine(sqlite_file_url), class_=Telling))
    assert Telling.closed == 1


@pytest.mark.rule("D4")
def test_a_user_who_wants_closed_sessions_dead_gets_them_dead(sqlite_file_url: str) -> None:
    """``close_resets_only=False`` is an option of the user's own factory."""
    session = session_of_a_request(
        sessionmaker(create_engine(sqlite_file_url), close_resets_only=False)
    )
    with pytest.raises(InvalidRequestError):
        session.get(Note, 1)


@pytest.mark.rule("M2", "M17")
def test_an_object_that_outlives_its_request_is_detached(sqlite_file_url: str) -> None:
    """Its session has no transaction any more, and could still load for it, unseen."""
    engine, app, seen = create_engine(sqlite_file_url), Flask("shop"), list[tuple[Note, Session]]()
    Note.metadata.create_all(engine)
    manager = RequestScopedSessionManager(sessionmaker(engine), app)

    @app.get("/")
    @manager.transactional
    @manager.with_request_session
    def index(session: Session) -> str:
        note = Note(text="hello")
        session.add(note)
        seen.append((note, session))
        return "ok"

    assert app.test_client().get("/").text == "ok"
    assert inspect(seen[0][0]).detached
    assert connections_held(engine) == 0
    engine.dispose()
