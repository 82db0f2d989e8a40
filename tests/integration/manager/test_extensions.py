"""With Flask-SQLAlchemy and Flask-SQLAlchemy-Lite, ``db.session`` is the request session."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from typing import Any

import flask_sqlalchemy
import flask_sqlalchemy_lite
import pytest
from flask import Flask
from sqlalchemy import Engine, NullPool
from sqlalchemy.orm import Session

from flask_reqsession import RequestScopedSessionManager, ScopeOwnershipError
from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import Base, Note, connections_held, texts
from tests.integration.manager.threads import in_thread
from tests.servers.connections import async_url_of, rows_of


class Wired:
    """An app with an extension and a manager around it, initialised in either order."""

    def __init__(self, url: str, kind: str, order: str) -> None:
        self.url = url
        self.app = Flask("wired")
        self.app.testing = True
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.app.config["SQLALCHEMY_ENGINES"] = {"default": url}
        # A pool would keep connections of event loops that have ended.
        async_engine = {"url": async_url_of(url), "poolclass": NullPool}
        self.app.config["SQLALCHEMY_ASYNC_ENGINES"] = {"default": async_engine}
        lite = kind == "Flask-SQLAlchemy-Lite"
        self.db: Any = flask_sqlalchemy_lite.SQLAlchemy() if lite else flask_sqlalchemy.SQLAlchemy()
        self.manager = RequestScopedSessionManager(self.db)
        inits = [self.db.init_app, self.manager.init_app]
        for init in inits if order == "extension first" else reversed(inits):
            init(self.app)
        with self.app.app_context():
            self.engine: Engine = self.db.engine
            Base.metadata.create_all(self.engine)

    @property
    def session(self) -> Session:
        """The session behind ``db.session``."""
        found = self.db.session
        session: Session = found if isinstance(found, Session) else found()
        return session

    def kept(self) -> list[object]:
        """Return the texts that a second connection sees."""
        return [text for (text,) in rows_of(self.url, "SELECT text FROM note ORDER BY id")]


@pytest.fixture(params=["Flask-SQLAlchemy", "Flask-SQLAlchemy-Lite"])
def kind(request: pytest.FixtureRequest) -> str:
    """Give the name of each extension."""
    name: str = request.param
    return name


@pytest.fixture(params=["extension first", "manager first"])
def wired(request: pytest.FixtureRequest, sqlite_file_url: str, kind: str) -> Iterator[Wired]:
    """Give an app with each extension, in each order; nothing may be checked out at the end."""
    wired = Wired(sqlite_file_url, kind, request.param)
    yield wired
    held = connections_held(wired.engine)
    wired.engine.dispose()
    assert held == 0


@pytest.mark.rule("D2", "M1", "M17")
def test_existing_code_joins_the_transaction_of_the_view(wired: Wired) -> None:
    """It writes through ``db.session``; the scope of the view commits, or rolls back, all of it."""

    def legacy(text: str) -> None:
        wired.db.session.add(Note(text=text))
        wired.db.session.flush()

    @wired.app.get("/<text>")
    @wired.manager.transactional
    def view(text: str) -> str:
        legacy(text)
        assert wired.session is wired.manager.session
        with wired.app.app_context():
            assert wired.session is wired.manager.session
        if text == "lost":
            raise FaultError("view")
        return str(texts(wired.manager.session))

    client = wired.app.test_client()
    assert client.get("/kept").text == "['kept']"
    with pytest.raises(FaultError):
        client.get("/lost")
    assert wired.kept() == ["kept"]
    assert connections_held(wired.engine) == 0


@pytest.mark.rule("D2", "M9")
def test_a_unit_of_work_is_what_the_extension_sees(wired: Wired) -> None:
    """In a command or a job; outside of it the extension is on its own."""
    with wired.app.app_context():
        own = wired.session
        with wired.manager.unit_of_work():
            assert wired.session is wired.manager.session
            assert wired.session is not own
        assert wired.session is own


@pytest.mark.rule("D2", "M13")
def test_a_background_thread_does_not_reach_the_session_through_the_extension(
    wired: Wired,
) -> None:
    """The refusal is the manager's own, not another session without a word."""
    with wired.app.test_request_context():
        assert wired.session is wired.manager.session
        context = contextvars.copy_context()
        refused = in_thread(lambda: context.run(lambda: wired.session))
        assert isinstance(refused, ScopeOwnershipError)


@pytest.mark.rule("D2", "T50")
def test_the_async_session_of_lite_is_the_requests(sqlite_file_url: str) -> None:
    """In an async view, and committed by its scope."""
    wired = Wired(sqlite_file_url, "Flask-SQLAlchemy-Lite", "extension first")

    @wired.app.get("/")
    @wired.manager.transactional
    async def view() -> str:
        session = wired.manager.get_async_request_session()
        assert wired.db.async_session is session
        session.add(Note(text="kept"))
        return "ok"

    assert wired.app.test_client().get("/").text == "ok"
    assert wired.kept() == ["kept"]
    with wired.app.app_context():
        assert wired.session is wired.session
    wired.engine.dispose()
