"""A world for each test, in both colours, and asynchronous tests that run in either."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import pytest

from tests.integration.transactions.one_connection import one_connection
from tests.integration.transactions.pairs import Pair, pair_on
from tests.integration.transactions.worlds import (
    AsyncWorld,
    AwaitedWorld,
    BothWorld,
    SyncWorld,
    World,
)
from tests.servers.connections import async_url_of
from tests.servers.processes import Server

DEFERRED = """
    CREATE TABLE line (
        id INTEGER PRIMARY KEY,
        note_id INTEGER REFERENCES note (id) DEFERRABLE INITIALLY DEFERRED
    )
"""


def make_world(kind: str, url: str) -> World:
    """Return a world on the database at ``url``."""
    if kind == "async":
        return AsyncWorld(url, async_url_of(url))
    kinds: dict[str, Callable[[str], World]] = {
        "sync": SyncWorld,
        "awaited": AwaitedWorld,
        "both": BothWorld,
    }
    return kinds[kind](url)


@pytest.fixture(params=["sync", "async", "awaited"])
def world(request: pytest.FixtureRequest, sqlite_file_url: str) -> Iterator[World]:
    """Give a manager on a SQLite file: for functions, for coroutines with either session."""
    world = make_world(request.param, sqlite_file_url)
    yield world
    assert world.conversation.held == 0, "a connection was left checked out"


@pytest.fixture(params=["async", "awaited"])
def awaiting_world(request: pytest.FixtureRequest, sqlite_file_url: str) -> Iterator[World]:
    """Give a manager on a SQLite file for coroutines, with either kind of session."""
    world = make_world(request.param, sqlite_file_url)
    yield world
    assert world.conversation.held == 0, "a connection was left checked out"


@pytest.fixture(params=[BothWorld, AwaitedWorld])
def served(request: pytest.FixtureRequest, sqlite_file_url: str) -> Iterator[World]:
    """Give a world whose coroutines have an AsyncSession, or a Session."""
    world: World = request.param(sqlite_file_url)
    yield world
    world.manager.databases.dispose()
    assert world.conversation.held == 0


@pytest.fixture
def sync_world(sqlite_file_url: str) -> Iterator[SyncWorld]:
    """Give a manager of synchronous sessions on a SQLite file."""
    world = SyncWorld(sqlite_file_url)
    yield world
    world.manager.databases.dispose()
    assert world.conversation.held == 0, "a connection was left checked out"


@pytest.fixture
def async_world(sqlite_file_url: str) -> Iterator[AsyncWorld]:
    """Give a manager that has asynchronous sessions only, on a SQLite file."""
    world = AsyncWorld(sqlite_file_url, async_url_of(sqlite_file_url))
    yield world
    assert world.conversation.held == 0, "a connection was left checked out"


@pytest.fixture(params=["sqlite_file", "postgresql"])
def deferring_url(request: pytest.FixtureRequest) -> str:
    """Give the URL of a database that checks a foreign key at COMMIT."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    world = SyncWorld(url)
    with world.engine.begin() as connection:
        connection.exec_driver_sql(DEFERRED)
    world.manager.databases.dispose()
    return url


@pytest.fixture(params=["sync", "async"])
def everywhere(request: pytest.FixtureRequest, database_url: str) -> Iterator[World]:
    """Give a manager on each database, once for each colour."""
    world = make_world(request.param, database_url)
    yield world
    assert world.conversation.held == 0, "a connection was left checked out"


@pytest.fixture(params=["sync", "async"])
def pooled(request: pytest.FixtureRequest, database_url: str) -> Iterator[World]:
    """Give a manager with one connection to each database, once for each colour."""
    world = one_connection(request.param, database_url)
    yield world
    if request.param == "sync":
        world.engine.dispose()
    assert world.conversation.held == 0, "a connection was left checked out"


@pytest.fixture
def on_postgresql(postgresql_url: str) -> Iterator[World]:
    """Give a manager with one connection to PostgreSQL."""
    world = one_connection("sync", postgresql_url)
    yield world
    world.engine.dispose()


@pytest.fixture
def on_mariadb(mariadb_url: str) -> Iterator[World]:
    """Give a manager of synchronous sessions on MariaDB."""
    world = SyncWorld(mariadb_url)
    yield world
    world.engine.dispose()


@pytest.fixture
def on_sqlite(sqlite_file_url: str) -> Iterator[World]:
    """Give a manager with one connection to a SQLite file."""
    world = one_connection("sync", sqlite_file_url)
    yield world
    world.engine.dispose()


@pytest.fixture
def postgresql_pair(postgresql_server: Server) -> Iterator[Pair]:
    """Give two databases of a PostgreSQL that can prepare transactions."""
    with pair_on(postgresql_server) as pair:
        yield pair


@pytest.fixture(params=["postgresql", "mariadb"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Give two databases of one server."""
    with pair_on(request.getfixturevalue(f"{request.param}_server")) as pair:
        yield pair


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function in its world."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {
        name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters
    }
    worlds = [given for given in arguments.values() if isinstance(given, World)]
    worlds[0].run(lambda: pyfuncitem.obj(**arguments))
    return True
