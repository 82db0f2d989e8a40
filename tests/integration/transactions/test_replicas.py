"""``read_only=True`` scopes read from the bind ``replica``, in the same session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import sessionmaker

from flask_reqsession import DatabaseManager, Propagation, RequestScopedSessionManager
from flask_reqsession.engines import make_async_engine, make_engine
from tests.integration.transactions.worlds import AsyncWorld, Base, Note, SyncWorld, World
from tests.servers.connections import async_url_of, rows_of


class Routed(SyncWorld):
    """Synchronous sessions of a primary that has a replica."""

    def __init__(self, primary: str, source: Any) -> None:
        World.__init__(self, primary)
        self.manager = RequestScopedSessionManager(DatabaseManager(source))
        self.observe(self.manager.databases.engine())


class AsyncRouted(AsyncWorld):
    """Asynchronous sessions of a primary that has a replica."""

    def __init__(self, primary: str, source: Any) -> None:
        World.__init__(self, primary)
        self.manager = RequestScopedSessionManager(DatabaseManager(async_source=source))
        self.async_engine = self.manager.databases.async_engine()
        self.observe(self.async_engine.sync_engine)


def make_copy(url: str) -> str:
    """Make a database that is told from the primary by its row."""
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Note).values(text="copied"))
    engine.dispose()
    return url


@pytest.fixture
def copy_url(tmp_path: Path) -> str:
    """Give the URL of a replica."""
    return make_copy(f"sqlite:///{tmp_path / 'copy.sqlite'}")


@pytest.fixture(params=["sync urls", "sync engines", "async urls", "async engines"])
def routed(request: pytest.FixtureRequest, sqlite_file_url: str, copy_url: str) -> Iterator[World]:
    """Give a manager with a replica, once for each colour and each kind of source."""
    colour, kind = request.param.split()
    urls: dict[str, Any] = {"default": sqlite_file_url, "replica": copy_url}
    engines: list[Any] = []
    if colour == "async":
        urls = {bind: async_url_of(url) for bind, url in urls.items()}
    if kind == "engines":
        make: Any = make_async_engine if colour == "async" else make_engine
        urls = {bind: make(url) for bind, url in urls.items()}
        engines = [] if colour == "async" else list(urls.values())
    world = (AsyncRouted if colour == "async" else Routed)(sqlite_file_url, urls)
    yield world
    for engine in engines:
        engine.dispose()
    assert world.conversation.held == 0, "a connection was left checked out"


@pytest.mark.rule("D7", "M1")
async def test_a_read_only_scope_reads_from_the_replica(routed: World) -> None:
    """In the same session; what follows goes to the primary again."""
    async with routed.unit():
        session = routed.given_session
        async with routed.scope(read_only=True):
            assert await routed.read() == ["copied"]
            assert routed.given_session is session
        assert await routed.read() == []
        async with routed.scope():
            await routed.write("kept")
        assert routed.given_session is session
    assert routed.kept() == ["kept"]


@pytest.mark.rule("D7", "T18")
async def test_the_replica_is_read_only_too(routed: World) -> None:
    """And can be written to afterwards by whoever fills it."""
    with pytest.raises(DBAPIError):
        async with routed.scope(read_only=True):
            await routed.execute("DELETE FROM note")
    async with routed.scope(read_only=True):
        assert await routed.read() == ["copied"]


@pytest.mark.rule("D7")
async def test_every_scope_of_a_request_that_only_reads_goes_there(routed: World) -> None:
    """Savepoints and joined calls in it, too."""

    @routed.transactional(propagation=Propagation.NESTED)
    async def inner() -> list[str]:
        return await routed.read()

    async with routed.unit():
        for _ in range(2):
            async with routed.scope(read_only=True):
                assert await inner() == ["copied"]
                async with routed.scope():
                    assert await routed.read() == ["copied"]


@pytest.mark.rule("D7")
async def test_a_request_that_wrote_reads_its_own_writes(routed: World) -> None:
    """From the primary, in any scope to come, also by a session that is closed; others don't."""

    @routed.transactional(propagation=Propagation.REQUIRES_NEW, read_only=True)
    async def look() -> list[str]:
        return await routed.read()

    async with routed.unit():
        async with routed.scope():
            await routed.write("mine")
        async with routed.scope(read_only=True):
            assert await routed.read() == ["mine"]
        assert await look() == ["mine"]
    assert await look() == ["copied"]


@pytest.mark.rule("D7")
async def test_a_write_by_a_session_of_its_own_counts(routed: World) -> None:
    """It is closed at its end, and remembered."""

    @routed.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit() -> None:
        await routed.write("audited")

    async with routed.unit():
        async with routed.scope():
            await audit()
        async with routed.scope(read_only=True):
            assert await routed.read() == ["audited"]


@pytest.mark.rule("D7")
async def test_an_open_transaction_stays_with_the_primary(routed: World) -> None:
    """What the request has read there and what it reads now shall belong together."""
    async with routed.unit():
        assert await routed.read() == []
        async with routed.scope(read_only=True):
            assert await routed.read() == []
        async with routed.scope(read_only=True):
            assert await routed.read() == ["copied"]


@pytest.mark.rule("D7", "T2")
async def test_a_scope_of_its_own_goes_there_by_itself(routed: World) -> None:
    """Unless the request has something open."""

    @routed.transactional(propagation=Propagation.REQUIRES_NEW, read_only=True)
    async def look() -> list[str]:
        return await routed.read()

    async with routed.scope():
        assert await look() == ["copied"]
        assert await routed.read() == []
        assert await look() == []


@pytest.mark.rule("D7")
def test_other_binds_have_no_replica(sqlite_file_url: str, copy_url: str, tmp_path: Path) -> None:
    """What is written there does not matter to the default bind either."""
    analytics = make_copy(f"sqlite:///{tmp_path / 'analytics.sqlite'}")
    world = Routed(
        sqlite_file_url, {"default": sqlite_file_url, "analytics": analytics, "replica": copy_url}
    )
    manager = world.manager
    with manager.unit_of_work():
        with manager.session_scope(bind="analytics") as session:
            session.execute(text("UPDATE note SET text = 'analysed'"))
        with manager.session_scope(bind="analytics", read_only=True) as session:
            assert session.scalars(text("SELECT text FROM note")).all() == ["analysed"]
        with manager.session_scope(read_only=True) as session:
            assert session.scalars(text("SELECT text FROM note")).all() == ["copied"]
        with manager.session_scope(bind="replica") as session:  # by whoever fills it
            session.execute(text("UPDATE note SET text = 'copied anew'"))
    manager.databases.dispose()
    assert rows_of(copy_url, "SELECT text FROM note") == [("copied anew",)]


@pytest.mark.rule("D7", "D1")
def test_binds_of_the_configuration_are_routed(sqlite_file_url: str, copy_url: str) -> None:
    """In whichever order they come."""
    Routed(sqlite_file_url, sqlite_file_url).manager.databases.dispose()
    app = Flask("shop")
    app.config["SQLALCHEMY_ENGINES"] = {"replica": copy_url, "default": sqlite_file_url}
    manager = RequestScopedSessionManager(None, app)
    with app.app_context(), manager.session_scope(read_only=True) as session:
        assert session.scalars(text("SELECT text FROM note")).all() == ["copied"]
    with app.app_context(), manager.session_scope() as session:
        assert session.scalars(text("SELECT text FROM note")).all() == []
    manager.databases.dispose()


@pytest.mark.rule("D7", "D4")
def test_a_users_own_factory_is_not_routed(sqlite_file_url: str, copy_url: str) -> None:
    """It is used untouched: read-only on the primary."""
    engine = make_engine(sqlite_file_url)
    Base.metadata.create_all(engine)
    manager = RequestScopedSessionManager({"default": sessionmaker(engine), "replica": copy_url})
    with manager.session_scope(read_only=True) as session:
        assert session.scalars(text("SELECT text FROM note")).all() == []
    with pytest.raises(DBAPIError), manager.session_scope(read_only=True) as session:
        session.execute(text("INSERT INTO note (text) VALUES ('refused')"))
    engine.dispose()
    manager.databases.dispose()


@pytest.mark.rule("D7")
@pytest.mark.parametrize("bound", [True, False])
def test_a_replica_that_does_not_tell_its_engine_is_not_read_from(
    sqlite_file_url: str, copy_url: str, *, bound: bool
) -> None:
    """A factory tells it if it is bound to one."""
    engine = make_engine(copy_url)
    world = Routed(
        sqlite_file_url,
        {"default": sqlite_file_url, "replica": sessionmaker(engine if bound else None)},
    )
    with world.manager.session_scope(read_only=True) as session:
        assert list(session.scalars(text("SELECT text FROM note"))) == (["copied"] if bound else [])
    engine.dispose()
    world.manager.databases.dispose()


@pytest.mark.rule("D7", "T50")
def test_a_replica_of_the_other_colour_is_none(sqlite_file_url: str, copy_url: str) -> None:
    """Synchronous sessions can't use an asynchronous engine."""
    engine = make_async_engine(async_url_of(copy_url))
    world = Routed(
        sqlite_file_url, {"default": sqlite_file_url, "replica": async_sessionmaker(engine)}
    )
    with world.manager.session_scope(read_only=True) as session:
        assert list(session.scalars(text("SELECT text FROM note"))) == []
    world.manager.databases.dispose()


@pytest.mark.rule("D7")
def test_a_bind_that_is_asked_for_is_given(sqlite_file_url: str, copy_url: str) -> None:
    """By SQLAlchemy's own argument, which says more than a scope."""
    world = Routed(sqlite_file_url, {"default": sqlite_file_url, "replica": copy_url})
    with world.manager.session_scope(read_only=True) as session:
        rows = session.execute(text("SELECT text FROM note"), bind_arguments={"bind": world.engine})
        assert rows.all() == []
    world.manager.databases.dispose()
