"""Flask-SQLAlchemy and Flask-SQLAlchemy-Lite: ``db.session`` is the session of the request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import flask_sqlalchemy
import flask_sqlalchemy_lite
import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from flask_reqsession import ConfigurationError, DatabaseManager
from tests.integration.extensions import Extension, Requests
from tests.servers.connections import Rows, async_url_of

TABLE = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY)"


@pytest.fixture
def app(sqlite_file_url: str) -> Flask:
    """Give an app that is configured for both extensions."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = sqlite_file_url
    app.config["SQLALCHEMY_ENGINES"] = {"default": sqlite_file_url}
    app.config["SQLALCHEMY_ASYNC_ENGINES"] = {"default": async_url_of(sqlite_file_url)}
    return app


@pytest.fixture(params=["Flask-SQLAlchemy", "Flask-SQLAlchemy-Lite"])
def db(request: pytest.FixtureRequest) -> Extension:
    """Give each extension, not yet initialised."""
    if request.param == "Flask-SQLAlchemy":
        return flask_sqlalchemy.SQLAlchemy()
    return flask_sqlalchemy_lite.SQLAlchemy()


@pytest.fixture
def requests(db: Extension) -> Requests:
    """Give a manager's part for ``db``."""
    requests = Requests(DatabaseManager(db))
    requests.databases.adopt(requests.current, requests.async_current)
    return requests


@pytest.fixture(params=["extension first", "manager first"])
def wired(
    request: pytest.FixtureRequest, app: Flask, db: Extension, requests: Requests
) -> Iterator[Flask]:
    """Give the app after both ``init_app``, in either order, and with a table."""
    if request.param == "extension first":
        db.init_app(app)
        requests.databases.init_app(app)
    else:
        requests.databases.init_app(app)
        db.init_app(app)
    with app.app_context(), db.engine.begin() as connection:
        connection.execute(text(TABLE))
    yield app
    with app.app_context():
        db.engine.dispose()


def session_of(db: Extension) -> Session:
    """Return the session behind ``db.session``: Flask-SQLAlchemy's is a proxy."""
    found = db.session
    session: Session = found if isinstance(found, Session) else found()
    return session


@pytest.mark.rule("D2")
def test_db_session_is_the_session_of_the_request(
    wired: Flask, db: Extension, requests: Requests, sqlite_file_url: str, rows: Rows
) -> None:
    """What existing code writes through it belongs to the same transaction."""
    with wired.test_request_context():
        db.session.execute(text("INSERT INTO t VALUES (1)"))
        (session,) = requests.sessions
        assert session_of(db) is session
        assert rows(sqlite_file_url, "SELECT id FROM t") == []
        session.execute(text("INSERT INTO t VALUES (2)"))
        session.commit()
        requests.end()

    assert rows(sqlite_file_url, "SELECT id FROM t") == [(1,), (2,)]


@pytest.mark.rule("D2", "M11")
def test_a_nested_app_context_neither_closes_nor_replaces_it(
    wired: Flask, db: Extension, requests: Requests, sqlite_file_url: str, rows: Rows
) -> None:
    """The extension tidies up at the end of each app context, and only what is its own."""
    with wired.test_request_context():
        db.session.execute(text("INSERT INTO t VALUES (1)"))
        session = session_of(db)
        with wired.app_context():
            assert session_of(db) is session
        assert session_of(db) is session
        assert session.in_transaction()
        session.commit()
        requests.end()

    assert rows(sqlite_file_url, "SELECT id FROM t") == [(1,)]


@pytest.mark.rule("D2")
def test_the_extension_makes_no_session_that_nobody_asked_for(
    wired: Flask, requests: Requests
) -> None:
    """Neither at the end of a request nor at the end of a nested app context."""
    with wired.test_request_context(), wired.app_context():
        pass

    assert requests.sessions == []


@pytest.mark.rule("D2")
def test_outside_a_request_the_extension_is_on_its_own(
    wired: Flask, db: Extension, requests: Requests
) -> None:
    """In a shell or a script ``db.session`` is what it always was."""
    with wired.app_context():
        own = session_of(db)
        own.execute(text("INSERT INTO t VALUES (1)"))
        assert session_of(db) is own
        assert requests.sessions == []

    assert not own.in_transaction()


@pytest.mark.rule("D2")
def test_a_request_inside_an_outer_app_context_has_its_own(
    wired: Flask, db: Extension, requests: Requests
) -> None:
    """A test client in a pushed context: the outer session is not touched, nor used."""
    with wired.app_context():
        outer = session_of(db)
        outer.execute(text("SELECT 1"))
        with wired.test_request_context():
            assert session_of(db) is not outer
            requests.end()
        assert session_of(db) is outer
        assert outer.in_transaction()


@pytest.mark.rule("D2")
def test_remove_inside_a_request_discards_what_the_request_has(app: Flask) -> None:
    """It is the request's session still; the outer context's is not closed by accident."""
    db = flask_sqlalchemy.SQLAlchemy(app)
    requests = Requests(DatabaseManager(db))
    requests.databases.adopt(requests.current)
    with app.app_context():
        outer = db.session()
        outer.execute(text("SELECT 1"))
        with app.test_request_context():
            session = db.session()
            session.execute(text("SELECT 1"))
            db.session.remove()
            assert db.session() is session
            assert not session.in_transaction()
            requests.end()
        assert outer.in_transaction()


@pytest.mark.rule("D2")
def test_two_apps_that_share_the_extension_do_not_share_their_managers(
    wired: Flask, db: Extension, requests: Requests
) -> None:
    """A manager answers in the contexts of the apps that it serves."""
    other_app = Flask("other")
    other_app.config.update(wired.config)
    db.init_app(other_app)
    others = Requests(DatabaseManager(db))
    others.databases.init_app(other_app)
    others.databases.adopt(others.current, others.async_current)

    for app, mine, theirs in ((wired, requests, others), (other_app, others, requests)):
        with app.test_request_context():
            assert session_of(db) is mine.sessions[0]
            assert theirs.sessions == []
            mine.end()


@pytest.mark.rule("D2")
def test_further_sessions_are_the_extensions_own_kind(
    wired: Flask, db: Extension, requests: Requests
) -> None:
    """A scope with a session of its own gets one that finds the engines as ``db.session`` does."""
    with wired.app_context():
        source = requests.databases.source()
        first, second = source.open(), source.open()

        assert first is not second
        assert type(first) is type(session_of(db))
        assert second.get_bind() is db.engine
        assert source.event_target is not None
        assert isinstance(first, source.event_target.class_)
        source.close(first)
        source.close(second)


@pytest.mark.rule("D5")
def test_their_engines_are_looked_at(wired: Flask, requests: Requests) -> None:
    """Both make SQLite engines in the driver's legacy mode."""
    with wired.app_context():
        source = requests.databases.source()
        session = source.open()
        with pytest.raises(ConfigurationError, match=r"savepoint"), session.begin_nested():
            session.execute(text("INSERT INTO t VALUES (1)"))
        source.close(session)


@pytest.mark.rule("D1")
def test_the_engines_are_those_of_the_current_app(
    app: Flask, tmp_path: Path, sqlite_file_url: str
) -> None:
    """The default one is the first; outside an app there is none."""
    other = f"sqlite:///{tmp_path / 'other.sqlite'}"
    app.config["SQLALCHEMY_BINDS"] = {"aa": other}
    app.config["SQLALCHEMY_ENGINES"] = {"aa": other, "default": sqlite_file_url}
    extensions: list[Extension] = [
        flask_sqlalchemy.SQLAlchemy(),
        flask_sqlalchemy_lite.SQLAlchemy(),
    ]
    for number, db in enumerate(extensions):
        this = Flask(f"app{number}")
        this.config.update(app.config)
        databases = DatabaseManager(db)
        databases.init_app(this)
        source = databases.source()
        with this.app_context():
            assert source.engines() == ()
        db.init_app(this)

        assert source.engines() == ()
        with this.app_context():
            assert source.engines()[0] is db.engine is databases.engine()
            assert len(source.engines()) == 2


@pytest.mark.rule("D1", "D2", "T50")
def test_the_asynchronous_session_of_lite_joins_as_well(
    app: Flask, sqlite_file_url: str, rows: Rows
) -> None:
    """A named session stays a session of its own, by the user's wish."""
    db = flask_sqlalchemy_lite.SQLAlchemy(app)
    requests = Requests(DatabaseManager(db))
    requests.databases.init_app(app)
    requests.databases.adopt(requests.current, requests.async_current)
    source = requests.databases.async_source()

    async def write() -> None:
        session = db.async_session
        assert session is db.async_session is requests.async_sessions[0]
        assert db.get_async_session("other") is not session
        await session.execute(text(TABLE))
        await session.execute(text("INSERT INTO t VALUES (1)"))
        await session.commit()
        await source.close(session)
        await db.async_engine.dispose()

    with app.test_request_context():
        assert db.get_session("other") is not db.session
        assert source.event_target is None
        assert source.engines() == (db.async_engine,)
        asyncio.run(write())
        requests.end()
    assert rows(sqlite_file_url, "SELECT id FROM t") == [(1,)]


@pytest.mark.rule("D6")
def test_their_engines_are_verified_in_every_app(wired: Flask, requests: Requests) -> None:
    """Legacy mode is found out, without an app context of the caller's."""
    assert wired.name
    report = requests.databases.verify()

    assert "released savepoint" in " ".join(report.problems)
    assert {engine.bind for engine in report.engines} == {"default"}
