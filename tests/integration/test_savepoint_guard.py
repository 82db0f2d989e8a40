"""Savepoints on engines that were not made here are refused unless they are real."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.ext.asyncio import (
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from flask_reqsession import ConfigurationError, DatabaseManager
from tests.integration.conftest import Manage
from tests.integration.items import (
    Base,
    BegunConnection,
    Item,
    begin_by_recipe,
    connections_in_use,
    leave_legacy_mode,
    nest,
    write_and_close,
)
from tests.servers.connections import Rows, async_url_of


class GetterOnly:
    """The same without ``close_session``."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def get_session(self) -> Session:
        """Return a new session."""
        return Session(self.engine)


def app_with(**config: object) -> Flask:
    """Make an app with ``config``."""
    app = Flask(__name__)
    app.config.update(config)
    return app


FOREIGN: dict[str, Callable[[Engine], object]] = {
    "engine": lambda engine: engine,
    "factory": sessionmaker,
    "scoped": lambda engine: scoped_session(sessionmaker(engine)),
    "getter": GetterOnly,
}


@pytest.mark.rule("D5")
@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("write_first", [False, True])
def test_a_savepoint_in_legacy_mode_is_refused(
    own_engine: Engine, sqlite_file_url: str, rows: Rows, kind: str, *, write_first: bool
) -> None:
    """With the fix in the message, nothing kept, and the connection given back."""
    databases = DatabaseManager(FOREIGN[kind](own_engine))

    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"isolation_level = None.*'BEGIN'"):
            nest(databases, write_first=write_first)

    assert rows(sqlite_file_url, "SELECT id FROM item") == []
    assert connections_in_use(own_engine) == 0


@pytest.mark.rule("D5")
def test_the_session_can_go_on_after_the_refusal(
    own_engine: Engine, sqlite_file_url: str, rows: Rows
) -> None:
    """Only the savepoint is refused, not the work before it."""
    source = DatabaseManager(own_engine).source()
    session = source.open()
    session.add(Item(id=1))
    session.flush()

    savepoint = session.begin_nested()
    session.add(Item(id=2))
    with pytest.raises(ConfigurationError):
        session.flush()
    savepoint.rollback()
    session.commit()
    source.close(session)

    assert rows(sqlite_file_url, "SELECT id FROM item") == [(1,)]


@pytest.mark.rule("D5")
@pytest.mark.parametrize("kind", FOREIGN)
def test_an_engine_that_follows_the_recipe_is_accepted(
    own_engine: Engine, sqlite_file_url: str, rows: Rows, kind: str
) -> None:
    """Its savepoints are real, so nothing is in the way."""
    begin_by_recipe(own_engine)
    databases = DatabaseManager(FOREIGN[kind](own_engine))

    for _ in range(2):
        nest(databases)

    assert rows(sqlite_file_url, "SELECT id FROM item") == []


@pytest.mark.rule("D5")
def test_a_reset_isolation_level_deceives_nobody(own_engine: Engine, rows: Rows) -> None:
    """SQLAlchemy puts the driver's attribute back to legacy mode; BEGIN is sent all the same."""
    begin_by_recipe(own_engine)
    with own_engine.connect() as connection:
        connection.execution_options(isolation_level="SERIALIZABLE").exec_driver_sql("SELECT 1")

    nest(DatabaseManager(own_engine))

    assert rows(str(own_engine.url), "SELECT id FROM item") == []


@pytest.mark.rule("D5")
def test_an_engine_without_begin_is_refused(own_engine: Engine) -> None:
    """Half of the recipe makes the driver commit every statement."""
    event.listen(own_engine, "connect", leave_legacy_mode)
    own_engine.dispose()

    with pytest.raises(ConfigurationError, match=r"savepoint"):
        nest(DatabaseManager(own_engine))


@pytest.mark.rule("D5")
@pytest.mark.parametrize("kind", ["ours", "ours given again", "user's factory"])
def test_our_own_engines_are_accepted(
    manage: Manage, own_engine: Engine, sqlite_file_url: str, rows: Rows, kind: str
) -> None:
    """Also where the user hands one of them to another manager or factory."""
    ours = manage(sqlite_file_url)
    sources: dict[str, object] = {
        "ours": ours,
        "ours given again": DatabaseManager(ours.engine()),
        "user's factory": DatabaseManager(sessionmaker(ours.engine())),
    }
    databases = sources[kind]
    assert isinstance(databases, DatabaseManager)
    assert own_engine.url == ours.engine().url

    nest(databases)

    assert rows(sqlite_file_url, "SELECT id FROM item") == []


@pytest.mark.rule("D5")
def test_other_databases_need_no_look(postgresql_url: str, rows: Rows) -> None:
    """Their drivers begin, so what a savepoint released is rolled back with the rest."""
    engine = create_engine(postgresql_url)
    Base.metadata.create_all(engine)

    nest(DatabaseManager(engine))

    assert rows(postgresql_url, "SELECT id FROM item") == []
    engine.dispose()


@pytest.mark.rule("D5", "T50")
@pytest.mark.parametrize("is_right", [True, False])
def test_asynchronous_engines_are_looked_at_as_well(
    own_engine: Engine, sqlite_file_url: str, rows: Rows, *, is_right: bool
) -> None:
    """Whether the events of their sessions have a target or not."""
    assert own_engine.dialect.name == "sqlite"
    engine = create_async_engine(async_url_of(sqlite_file_url), poolclass=NullPool)
    if is_right:
        begin_by_recipe(engine.sync_engine)

    async def nest_async(source: object) -> None:
        sessions = DatabaseManager(source).async_source()
        session = sessions.open()
        try:
            async with session.begin_nested():
                session.add(Item())
                await session.flush()
            await session.rollback()
        finally:
            await sessions.close(session)

    for source in (engine, async_sessionmaker(engine)):
        if is_right:
            asyncio.run(nest_async(source))
        else:
            with pytest.raises(ConfigurationError, match=r"savepoint"):
                asyncio.run(nest_async(source))
    assert rows(sqlite_file_url, "SELECT id FROM item") == []


@pytest.mark.rule("D5", "K1")
@pytest.mark.parametrize("is_right", [True, False])
def test_a_session_that_joined_a_transaction_by_a_savepoint(
    own_engine: Engine, sqlite_file_url: str, rows: Rows, *, is_right: bool
) -> None:
    """The isolation of tests is a savepoint too, in a transaction that others began."""
    if is_right:
        begin_by_recipe(own_engine)
    with own_engine.connect() as connection:
        connection.begin()
        factory = sessionmaker(connection, join_transaction_mode="create_savepoint")
        databases = DatabaseManager(factory)
        assert databases.engine() is own_engine
        if is_right:
            write_and_close(databases)
        else:
            with pytest.raises(ConfigurationError, match=r"savepoint"):
                write_and_close(databases)
        connection.rollback()

    assert rows(sqlite_file_url, "SELECT id FROM item") == []


@pytest.mark.rule("D5")
def test_luck_is_not_taken_for_proof(own_engine: Engine, rows: Rows) -> None:
    """Where the user's write had opened the transaction, the savepoint is real; the next is not."""
    with own_engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO item (id) VALUES (1)")
        databases = DatabaseManager(
            {"joined": sessionmaker(connection), "default": sessionmaker(own_engine)}
        )
        source = databases.source("joined")
        session = source.open()
        with session.begin_nested():
            session.add(Item(id=2))
            session.flush()
        source.close(session)
        connection.rollback()

    with pytest.raises(ConfigurationError, match=r"savepoint"):
        nest(databases)
    assert rows(str(own_engine.url), "SELECT id FROM item") == []


@pytest.mark.rule("D5")
@pytest.mark.parametrize("factory", [BegunConnection, sqlite3.Connection])
def test_a_driver_of_the_users_in_our_engine_is_looked_at(
    manage: Manage,
    own_engine: Engine,
    sqlite_file_url: str,
    rows: Rows,
    factory: type[sqlite3.Connection],
) -> None:
    """Options win over ours, and are checked then."""
    assert own_engine.dialect.name == "sqlite"
    app = app_with(
        SQLALCHEMY_DATABASE_URI=sqlite_file_url,
        SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"factory": factory}},
    )
    databases = manage()
    databases.init_app(app)

    if factory is BegunConnection:
        nest(databases)
        nest(databases)
    else:
        with pytest.raises(ConfigurationError, match=r"savepoint"):
            nest(databases)
    assert rows(sqlite_file_url, "SELECT id FROM item") == []
