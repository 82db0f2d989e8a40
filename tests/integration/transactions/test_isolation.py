"""``isolation=``: a transaction runs at the level asked for, and the next one at its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, select, text
from sqlalchemy.orm import Session, sessionmaker

from flask_reqsession import (
    ConfigurationError,
    Propagation,
    PropagationError,
    RequestScopedSessionManager,
)
from tests.integration.transactions.one_connection import one_connection
from tests.integration.transactions.worlds import Base, Note, World

DEFAULTS = {"postgresql": "READ COMMITTED", "mariadb": "REPEATABLE READ"}
LEVELS = ["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


@pytest.fixture(
    params=[("sync", each) for each in DEFAULTS] + [("async", each) for each in DEFAULTS]
)
def on_server(request: pytest.FixtureRequest) -> Iterator[World]:
    """Give a manager with one connection to each server, once for each colour."""
    colour, backend = request.param
    world = one_connection(colour, request.getfixturevalue(f"{backend}_url"))
    yield world
    if colour == "sync":
        world.engine.dispose()
    assert world.conversation.held == 0, "a connection was left checked out"


def default_of(world: World) -> str:
    """Return the level that the server's transactions have if nobody asks."""
    return DEFAULTS[world.engine.dialect.name]


async def level_of(world: World) -> str:
    """Ask the database at which level the running transaction is."""
    sql = "SHOW transaction_isolation"
    if world.engine.dialect.name == "mariadb":
        await world.read()  # InnoDB begins with the first table
        await world.execute("SELECT SLEEP(0.11)")  # the table below is renewed every 0.1 seconds
        sql = (
            "SELECT trx_isolation_level FROM information_schema.innodb_trx "
            "WHERE trx_mysql_thread_id = CONNECTION_ID()"
        )
    level = await world.do(lambda session: session.scalar(text(sql)))
    return str(level).upper()


@pytest.mark.rule("T19")
@pytest.mark.parametrize("level", LEVELS)
async def test_a_scope_runs_at_the_level_asked_for(on_server: World, level: Any) -> None:
    """And the next one on the same connection at the level that it had before."""

    @on_server.transactional(isolation=level)
    async def work() -> str:
        await on_server.write("kept")
        return await level_of(on_server)

    async with on_server.unit():
        assert await work() == level
        async with on_server.scope():
            assert await level_of(on_server) == default_of(on_server)
    assert on_server.kept() == ["kept"]


@pytest.mark.rule("T19")
async def test_the_level_is_gone_after_a_failure(on_server: World) -> None:
    """The pool has no other connection."""
    with pytest.raises(ValueError, match="body"):
        async with on_server.scope(isolation="SERIALIZABLE"):
            await on_server.write("rolled back")
            raise ValueError("body")
    async with on_server.scope():
        assert await level_of(on_server) == default_of(on_server)
    assert on_server.kept() == []


@pytest.mark.rule("T19")
@pytest.mark.parametrize(("level", "sees"), [("READ COMMITTED", True), ("REPEATABLE READ", False)])
async def test_what_others_commit_is_seen_as_the_level_says(
    on_server: World, level: Any, *, sees: bool
) -> None:
    """Proved by a second connection that writes between two reads."""
    async with on_server.scope(isolation=level):
        assert await on_server.read() == []
        with on_server.second_connection() as other:
            other.execute(text("INSERT INTO note (text) VALUES ('meanwhile')"))
        assert await on_server.read() == (["meanwhile"] if sees else [])


@pytest.mark.rule("T19")
async def test_sqlite_is_serializable(on_sqlite: World) -> None:
    """Its other level is a setting of the connection, which is taken back."""

    async def reads_uncommitted() -> object:
        return await on_sqlite.do(lambda session: session.scalar(text("PRAGMA read_uncommitted")))

    for level, reads in (("SERIALIZABLE", 0), ("READ UNCOMMITTED", 1), (None, 0)):
        async with on_sqlite.scope(isolation=level):
            assert await reads_uncommitted() == reads


@pytest.mark.rule("T19")
@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
async def test_a_level_that_the_database_lacks_is_refused(world: World, level: Any) -> None:
    """At first use, with those it has; nothing stronger or weaker is put in its place."""
    with pytest.raises(ConfigurationError, match="'READ UNCOMMITTED', 'SERIALIZABLE'"):
        async with world.scope(isolation=level):
            await world.write("never")
    async with world.scope():
        await world.write("kept")
    assert world.kept() == ["kept"]


@pytest.mark.rule("T19", "T8")
async def test_a_transaction_begun_by_reading_is_ended_first(on_server: World) -> None:
    """What it loaded stays loaded, and the level applies to everything that follows."""
    async with on_server.scope():
        await on_server.write("kept")
    async with on_server.unit():
        user = await on_server.do(lambda session: session.scalars(select(Note)).one())
        on_server.conversation.clear()
        async with on_server.scope(isolation="SERIALIZABLE"):
            assert user.text == "kept"
            assert on_server.sent == ["COMMIT"]
            assert await level_of(on_server) == "SERIALIZABLE"


@pytest.mark.rule("T19", "T8")
async def test_a_request_that_wrote_before_is_refused(on_server: World) -> None:
    """Its transaction keeps the level that it began at."""
    async with on_server.unit():
        await on_server.write("before")
        with pytest.raises(PropagationError, match="uncommitted changes from before it"):
            async with on_server.scope(isolation="SERIALIZABLE"):
                ...
        async with on_server.scope():
            assert await level_of(on_server) == default_of(on_server)
    assert on_server.kept() == ["before"]


@pytest.mark.rule("T19", "T8")
async def test_a_transaction_that_only_waits_to_be_rolled_back_is_no_obstacle(
    on_server: World,
) -> None:
    """A flush failed in it, so there is nothing to be kept."""
    async with on_server.scope():
        await on_server.write("kept")
    async with on_server.unit():
        with pytest.raises(Exception, match=r"(?i)duplicate"):
            await on_server.write("kept")
        async with on_server.scope(isolation="SERIALIZABLE"):
            assert await level_of(on_server) == "SERIALIZABLE"


@pytest.mark.rule("T19")
@pytest.mark.parametrize("propagation", ["REQUIRED", "NESTED", "MANDATORY"])
async def test_another_level_cannot_join(world: World, propagation: str) -> None:
    """Nor can any where the running scope has not asked for one; the outer scope goes on."""

    @world.transactional(propagation=propagation, isolation="SERIALIZABLE")
    async def inner() -> None:
        await world.write("inner")

    for options in ({}, {"isolation": "READ UNCOMMITTED"}, {"read_only": True}):
        async with world.scope(**options):
            with pytest.raises(PropagationError, match="has isolation='SERIALIZABLE', but"):
                await inner()
            await world.read()
    async with world.scope(isolation="SERIALIZABLE"):
        await inner()
    assert world.kept() == ["inner"]


@pytest.mark.rule("T19", "M6")
async def test_a_scope_inside_inherits_the_level(world: World) -> None:
    """``get_session_info()`` tells it, also in a savepoint, and only while it lasts."""
    told = []

    @world.transactional(propagation=Propagation.NESTED)
    async def inner() -> None:
        info = world.manager.get_session_info()
        told.append((info["isolation"], info["read_only"], info["depth"]))

    async with world.scope(isolation="SERIALIZABLE", read_only=True):
        await inner()
    async with world.scope():
        await inner()
    assert told == [("SERIALIZABLE", True, 2), (None, False, 2)]


@pytest.mark.rule("T19", "T5")
async def test_a_scope_of_its_own_has_its_own_level(on_mariadb: World) -> None:
    """On its own connection."""

    @on_mariadb.transactional(propagation=Propagation.REQUIRES_NEW, isolation="READ COMMITTED")
    async def inner() -> str:
        return await level_of(on_mariadb)

    async with on_mariadb.scope(isolation="SERIALIZABLE"):
        assert await level_of(on_mariadb) == "SERIALIZABLE"
        assert await inner() == "READ COMMITTED"


@pytest.mark.rule("T19", "T10")
async def test_an_untouched_scope_costs_no_connection(on_server: World) -> None:
    """The level is told with the first statement, after one look at whether there is one."""
    async with on_server.scope(isolation="SERIALIZABLE"):
        ...
    assert on_server.conversation.checkouts == 0
    for proof in (["SELECT"], []):  # the first time it is asked whether there is a transaction
        async with on_server.scope(isolation="SERIALIZABLE"):
            await on_server.read()
        assert on_server.sent == ["SET", *proof, "SELECT", "COMMIT"]


@pytest.mark.rule("T19")
def test_the_users_own_first_statement_comes_after_the_level(postgresql_url: str) -> None:
    """A tenant that is set in ``after_begin`` is common; PostgreSQL wants the level before it."""
    engine = create_engine(postgresql_url)
    Base.metadata.create_all(engine)
    factory = sessionmaker(engine)

    def set_tenant(_session: Session, _transaction: object, connection: Connection) -> None:
        connection.execute(text("SELECT set_config('app.tenant', 'one', true)"))

    event.listen(factory, "after_begin", set_tenant)
    manager = RequestScopedSessionManager(factory)
    with manager.session_scope(isolation="SERIALIZABLE", read_only=True) as session:
        assert session.scalar(text("SHOW transaction_isolation")) == "serializable"
        assert session.scalar(text("SHOW app.tenant")) == "one"
    engine.dispose()
