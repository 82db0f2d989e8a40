"""What ``DatabaseManager`` accepts as a source of sessions."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from flask_reqsession import ConfigurationError, DatabaseManager
from tests.integration.conftest import Manage
from tests.integration.items import (
    Base,
    Item,
    any_callable,
    connections_in_pool,
    count,
    write_and_close,
)
from tests.servers.connections import Rows, async_url_of


@pytest.mark.rule("D1")
@pytest.mark.parametrize(
    "make",
    [
        lambda engine: engine.url.render_as_string(hide_password=False),
        lambda engine: engine.url,
        lambda engine: engine,
        sessionmaker,
        lambda engine: scoped_session(sessionmaker(engine)),
        lambda engine: scoped_session(any_callable(partial(Session, engine))),
    ],
    ids=["str", "URL", "Engine", "sessionmaker", "scoped_session", "scoped_session of a function"],
)
def test_a_synchronous_source_gives_independent_sessions(
    manage: Manage,
    own_engine: Engine,
    sqlite_file_url: str,
    rows: Rows,
    make: Callable[[Engine], object],
) -> None:
    """Whatever it is, its sessions write, and each is another one."""
    databases = manage(make(own_engine))
    source = databases.source()

    first, second = source.open(), source.open()
    assert first is not second
    source.close(second)
    first.add(Item(id=7))
    first.commit()
    source.close(first)

    assert rows(sqlite_file_url, "SELECT id FROM item") == [(7,)]
    assert databases.binds == ("default",)
    assert not source.single_session


@pytest.mark.rule("D1", "T50")
@pytest.mark.parametrize("kind", ["str", "URL", "AsyncEngine", "factory", "scoped", "scoped plain"])
def test_an_asynchronous_source_gives_asynchronous_sessions(
    manage: Manage, own_engine: Engine, sqlite_file_url: str, kind: str
) -> None:
    """Alone it makes those only; the refusal of a synchronous session says what to do."""
    url = async_url_of(sqlite_file_url)
    engine = create_async_engine(url, poolclass=NullPool)
    source: object = {
        "str": url,
        "URL": make_url(url),
        "AsyncEngine": engine,
        "factory": async_sessionmaker(engine),
        "scoped": async_scoped_session(async_sessionmaker(engine), lambda: 1),
        "scoped plain": async_scoped_session(
            any_callable(partial(AsyncSession, engine)), lambda: 1
        ),
    }[kind]
    databases = manage(source)
    with Session(own_engine) as session, session.begin():
        session.add(Item())

    assert asyncio.run(count(databases)) == 1
    assert databases.binds == ("default",)
    with pytest.raises(ConfigurationError, match=r"asynchronous source only.*async_source="):
        databases.source()


@pytest.mark.rule("D1", "T50")
def test_both_colours_may_stand_side_by_side(
    manage: Manage, own_engine: Engine, sqlite_file_url: str
) -> None:
    """One database, two engines."""
    databases = manage(own_engine, async_source=async_url_of(sqlite_file_url))

    write_and_close(databases)

    assert asyncio.run(count(databases)) == 1
    assert databases.binds == ("default",)
    assert databases.engine() is own_engine
    assert databases.async_engine().dialect.is_async


@pytest.mark.rule("D1")
def test_one_driver_can_serve_both_colours(manage: Manage) -> None:
    """``postgresql+psycopg`` is synchronous as a source and asynchronous as ``async_source``."""
    url = "postgresql+psycopg://localhost/bank"
    databases = manage(url, async_source=url)

    assert databases.engine().dialect.is_async is False
    assert databases.async_engine().dialect.is_async is True


@pytest.mark.rule("D1", "M16")
def test_a_dict_names_its_binds(
    manage: Manage, own_engine: Engine, tmp_path: Path, rows: Rows
) -> None:
    """Each bind has sessions of its own kind, of either colour."""
    other = f"sqlite:///{tmp_path / 'other.sqlite'}"
    databases = manage(
        {"default": own_engine, "analytics": other, "events": async_url_of(other)},
        async_source={"analytics": async_url_of(other)},
    )
    Base.metadata.create_all(databases.engine("analytics"))

    write_and_close(databases, "analytics")

    assert databases.binds == ("default", "analytics", "events")
    assert rows(other, "SELECT count(*) FROM item") == [(1,)]
    assert asyncio.run(count(databases, "events")) == 1
    assert asyncio.run(count(databases, "analytics")) == 1
    assert databases.source("default").bind == "default"


@pytest.mark.rule("M16")
def test_an_unknown_bind_is_refused_with_the_known_ones(manage: Manage) -> None:
    """A typing error is told from a missing configuration."""
    databases = manage({"default": "sqlite://", "analytics": "sqlite://"})

    for find in (databases.source, databases.async_source, databases.engine):
        with pytest.raises(ConfigurationError, match=r"no bind 'analytic'.*'default', 'analytics'"):
            find("analytic")


@pytest.mark.rule("D1")
def test_an_asynchronous_session_without_a_source_is_refused_with_the_fix(manage: Manage) -> None:
    """The synchronous engine can't serve it."""
    databases = manage("sqlite://")

    assert not databases.has_async()
    with pytest.raises(ConfigurationError, match=r"no asynchronous source.*async_source="):
        databases.async_source()


class Refused:
    """Not a source."""

    get_session = "not callable"


@pytest.mark.rule("D1")
@pytest.mark.parametrize("given", [42, Refused(), Session(), lambda: None, {"default": 42}])
def test_anything_else_is_refused_with_what_is_accepted(given: object) -> None:
    """At construction, not at the first request."""
    with pytest.raises(ConfigurationError, match=r"URL.*Engine.*sessionmaker.*get_session\(\)"):
        DatabaseManager(given)


@pytest.mark.rule("D1")
@pytest.mark.parametrize("given", [{}, {1: "sqlite://"}, {None: "sqlite://"}])
def test_a_dict_needs_names(given: object) -> None:
    """A bind is asked for by name."""
    with pytest.raises(ConfigurationError, match=r"name of each bind"):
        DatabaseManager(given)


@pytest.mark.rule("D1")
def test_an_async_source_has_to_be_one(own_engine: Engine, sqlite_file_url: str) -> None:
    """A synchronous object in its place is a mistake, and so are two for one bind."""
    with pytest.raises(ConfigurationError, match=r"Engine, which gives synchronous sessions"):
        DatabaseManager(async_source=own_engine)
    with pytest.raises(ConfigurationError, match=r"two asynchronous sources"):
        DatabaseManager(async_url_of(sqlite_file_url), async_source=async_url_of(sqlite_file_url))


def test_dispose_ends_what_was_made_here_and_nothing_else(
    manage: Manage, own_engine: Engine, sqlite_file_url: str
) -> None:
    """A user's engine keeps its pool."""
    databases = manage(
        {"default": sqlite_file_url, "own": own_engine},
        async_source={"default": "sqlite+aiosqlite://", "own": async_url_of(sqlite_file_url)},
    )
    write_and_close(databases)
    write_and_close(databases, "own")

    async def touch() -> None:
        async with databases.async_engine().connect() as connection:
            await connection.exec_driver_sql("SELECT 1")

    asyncio.run(touch())
    databases.dispose()

    assert connections_in_pool(databases.engine()) == 0
    assert connections_in_pool(databases.engine("own")) == 1


def test_an_async_factory_that_knows_no_engine_says_so() -> None:
    """An asynchronous session can't be asked for it."""
    databases = DatabaseManager(async_sessionmaker())

    with pytest.raises(ConfigurationError, match=r"async_sessionmaker\(engine\)"):
        databases.async_engine()


def test_the_engines_of_a_factory_with_several_are_told(own_engine: Engine) -> None:
    """The default one is the first, and none is told twice."""
    other = create_engine("sqlite://")
    factory = sessionmaker(own_engine, binds={Item: other, Base: own_engine})

    assert DatabaseManager(factory).source().engines() == (own_engine, other)


@pytest.mark.rule("D1")
def test_the_extensions_are_not_imported() -> None:
    """Who does not use them does not need them."""
    code = (
        "import sys; from flask_reqsession import DatabaseManager; DatabaseManager('sqlite://');"
        "print([name for name in sys.modules if name.startswith('flask_sqlalchemy')])"
    )

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout == "[]\n"


@pytest.mark.rule("D1")
def test_a_missing_default_bind_is_not_told_to_be_added_twice() -> None:
    """Who named their only bind otherwise has to name it in each call, or to rename it."""
    databases = DatabaseManager({"main": "sqlite://"})

    with pytest.raises(
        ConfigurationError, match=r"are 'main'.*bind=.*Manager\(\{'default': \.\.\.\}\)"
    ):
        databases.source()
    databases.dispose()
