"""A forked worker never uses a connection of its parent."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import flask_sqlalchemy
import flask_sqlalchemy_lite
import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from flask_reqsession import DatabaseManager
from tests.integration.children import in_child
from tests.servers.connections import Rows

BACKEND = "SELECT pg_backend_pid()"


def ask(databases: DatabaseManager, sql: str) -> object:
    """Execute ``sql`` in a session of the default bind."""
    source = databases.source()
    session = source.open()
    try:
        return session.scalar(text(sql))
    finally:
        session.commit()
        source.close(session)


class Getter:
    """An object that tells no engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def get_session(self) -> Session:
        """Return a new session."""
        return Session(self.engine)


@pytest.mark.rule("M20")
@pytest.mark.parametrize("kind", ["url", "engine", "sessionmaker", "get_session"])
def test_a_child_connects_anew_and_the_parent_goes_on(postgresql_url: str, kind: str) -> None:
    """The server sees another client in the child; the parent's connection still answers."""
    engine = create_engine(postgresql_url)
    kinds: dict[str, object] = {
        "url": postgresql_url,
        "engine": engine,
        "sessionmaker": sessionmaker(engine),
        "get_session": Getter(engine),
    }
    databases = DatabaseManager(kinds[kind])
    parents = ask(databases, BACKEND)

    childs = in_child(lambda: ask(databases, BACKEND))

    assert childs != parents
    assert ask(databases, BACKEND) == parents
    databases.dispose()
    engine.dispose()


@pytest.mark.rule("M20")
@pytest.mark.parametrize("lite", [False, True])
def test_the_engines_of_an_extension_are_found_before_anybody_used_them_through_us(
    postgresql_url: str, *, lite: bool
) -> None:
    """``db.create_all()`` at import fills a pool that a preloading server then forks."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = postgresql_url
    app.config["SQLALCHEMY_ENGINES"] = {"default": postgresql_url}
    db: Any = flask_sqlalchemy_lite.SQLAlchemy() if lite else flask_sqlalchemy.SQLAlchemy()
    databases = DatabaseManager(db)
    databases.init_app(app)
    db.init_app(app)
    with app.app_context():
        parents = db.session.scalar(text(BACKEND))

    def in_app() -> object:
        with app.app_context():
            return db.session.scalar(text(BACKEND))

    assert in_child(in_app) != parents
    assert in_app() == parents
    with app.app_context():
        db.engine.dispose()


@pytest.mark.rule("M20")
def test_a_child_writes_to_a_file_beside_its_parent(sqlite_file_url: str, rows: Rows) -> None:
    """SQLite's locks belong to a process: a connection carried across would ignore them."""
    databases = DatabaseManager(sqlite_file_url)
    engine = databases.engine()
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id INTEGER)"))
        parents = weakref.ref(connection.connection.driver_connection)

    def write() -> tuple[bool, bool]:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO t VALUES (1)"))
            used = connection.connection.driver_connection
        gc.collect()
        return used is parents(), parents() is None

    assert in_child(write) == (False, False), "(uses the parent's, has closed the parent's)"
    assert write() == (True, False)
    assert rows(sqlite_file_url, "SELECT count(*) FROM t") == [(2,)]
    databases.dispose()


@pytest.mark.rule("M20")
def test_a_child_has_its_own_copy_of_a_memory_database() -> None:
    """It was copied with the process; an empty one in its place would be a loss."""
    databases = DatabaseManager("sqlite://")
    with databases.engine().begin() as connection:
        connection.execute(text("CREATE TABLE t (id INTEGER)"))

    in_child(lambda: ask(databases, "INSERT INTO t VALUES (1) RETURNING id"))

    assert ask(databases, "SELECT count(*) FROM t") == 0
    databases.dispose()


@pytest.mark.rule("M20", "T50")
def test_asynchronous_engines_are_left_to_the_parent_too() -> None:
    """The thread behind a connection of ``aiosqlite`` does not exist in the child."""
    databases = DatabaseManager("sqlite://", async_source="sqlite+aiosqlite://")

    async def ask_async() -> object:
        async with databases.async_engine().connect() as connection:
            return (await connection.execute(text("SELECT 1"))).scalar()

    assert asyncio.run(ask_async()) == 1
    assert in_child(lambda: asyncio.run(ask_async())) == 1
    assert asyncio.run(ask_async()) == 1
    databases.dispose()


@pytest.mark.rule("M20")
def test_a_manager_that_is_gone_is_not_kept_for_forks() -> None:
    """The hooks of a process can't be unregistered, so they hold nothing."""
    DatabaseManager("sqlite://")

    with pytest.raises(AssertionError, match=r"ZeroDivisionError"):
        in_child(lambda: 1 // 0)
    assert in_child(lambda: 42) == 42


@pytest.mark.rule("M20")
def test_engines_from_the_configuration_are_found(postgresql_url: str) -> None:
    """They belong to the app, and the child has the app as well."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = postgresql_url
    databases = DatabaseManager()
    databases.init_app(app)
    parents = ask(databases, BACKEND)

    assert in_child(lambda: ask(databases, BACKEND)) != parents
    assert ask(databases, BACKEND) == parents
    databases.dispose()
