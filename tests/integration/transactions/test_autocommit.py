"""A scope on a connection that commits each statement would keep what it is asked to undo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from flask_reqsession import (
    ConfigurationError,
    DatabaseManager,
    RequestScopedSessionManager,
    UnexpectedRollbackError,
    set_rollback_only,
)
from tests.integration.items import begin
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.worlds import AsyncWorld, Note, SyncWorld, World
from tests.never import never
from tests.servers.connections import async_url_of

AUTOCOMMIT: Any = {"isolation_level": "AUTOCOMMIT"}
EVERYWHERE = [
    (way, backend)
    for way in ("engine", "factory", "option", "body")
    for backend in ("sqlite_file", "postgresql", "mariadb")
]
SOME = [("engine", "sqlite_file"), ("option", "postgresql"), ("body", "postgresql")]
everywhere = pytest.mark.parametrize("place", EVERYWHERE, ids="-".join)
in_some_places = pytest.mark.parametrize("place", SOME, ids="-".join)


class Case(NamedTuple):
    """A world whose manager has an engine of the user's own."""

    world: World
    way: str

    async def begin(self) -> None:
        """Ask for AUTOCOMMIT in the body, where that is the way."""
        if self.way == "body":
            await self.world.do(lambda session: session.connection(execution_options=AUTOCOMMIT))

    async def write(self, written: str) -> None:
        """Insert a note on a connection in AUTOCOMMIT."""
        await self.begin()
        await self.world.write_core(written)


def source_of(world: World, way: str) -> DatabaseManager:
    """Let ``world`` observe an engine of the user's own, and return the databases made of it."""
    options = {"engine": AUTOCOMMIT, "factory": AUTOCOMMIT}.get(way, {})
    if isinstance(world, AsyncWorld):
        world.async_engine = engine = create_async_engine(async_url_of(world.url), **options)
        world.observe(engine.sync_engine)
        optional: AsyncEngine = engine.execution_options(**AUTOCOMMIT)
        sources: dict[str, Any] = {"factory": async_sessionmaker(engine), "option": optional}
        return DatabaseManager(async_source=sources.get(way, engine))
    world.observe(create_engine(world.url, **options))
    made: Engine = world.engine.execution_options(**AUTOCOMMIT)
    return DatabaseManager(
        {"factory": sessionmaker(world.engine), "option": made}.get(way, world.engine)
    )


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    """Give the colour of the session."""
    colour: str = request.param
    return colour


@pytest.fixture
def case(request: pytest.FixtureRequest, colour: str, place: tuple[str, str]) -> Iterator[Case]:
    """Give a way to AUTOCOMMIT on a database, in either colour."""
    way, backend = place
    world = make_world(colour, request.getfixturevalue(f"{backend}_url"))
    world.manager.databases.dispose()
    world.manager = RequestScopedSessionManager(source_of(world, way))
    yield Case(world, way)
    if colour == "sync":
        world.engine.dispose()
    assert world.conversation.held == 0, "a connection was left checked out"


@pytest.mark.rule("T1", "D5")
@everywhere
def test_a_scope_is_refused_before_its_first_statement(case: Case) -> None:
    """Else what it wrote would survive its failure: the message says so, and what to do."""
    world = case.world

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=r"'AUTOCOMMIT'.*Remove the option"):
                async with world.scope():
                    await case.write("one")
                    never("The statement was sent.")
        assert "INSERT" not in world.sent
        assert world.conversation.held == 0

    world.run(main)
    assert world.kept() == []


@pytest.mark.rule("T1", "D5")
@in_some_places
def test_what_comes_after_a_swallowed_refusal_is_refused_as_well(case: Case) -> None:
    """It would be kept, though the scope is rolled back."""
    world = case.world

    async def main() -> None:
        with pytest.raises(UnexpectedRollbackError, match="AUTOCOMMIT"):
            async with world.scope():
                with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
                    await case.write("one")
                with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
                    await world.write_core("two")

    world.run(main)
    assert world.kept() == []


@pytest.mark.rule("T1", "D5")
@in_some_places
def test_a_flush_at_the_end_of_a_scope_is_refused(case: Case) -> None:
    """The first statement may be one of its COMMIT."""
    world = case.world

    async def main() -> None:
        async with world.scope():
            await world.do(lambda session: session.add(Note(text="one")))
            await case.begin()

    with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
        world.run(main)
    assert world.kept() == []


@pytest.mark.rule("T6", "D5")
@in_some_places
def test_a_scope_that_is_to_be_rolled_back_is_refused_as_well(case: Case) -> None:
    """``set_rollback_only()`` would undo nothing."""
    world = case.world

    async def main() -> None:
        async with world.scope():
            set_rollback_only()
            await case.write("one")
            never("The statement was sent.")

    with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
        world.run(main)
    assert world.kept() == []


@pytest.mark.rule("T3", "D5")
@in_some_places
def test_a_savepoint_is_refused(case: Case) -> None:
    """There is no transaction that it could be a part of, and the outer scope can't go on."""
    world = case.world

    @world.transactional(propagation="NESTED")
    async def inner() -> None:
        await case.write("one")
        never("The statement was sent.")

    async def main() -> None:
        with pytest.raises(UnexpectedRollbackError, match="AUTOCOMMIT"):
            async with world.scope():
                with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
                    await inner()
        assert {"SAVEPOINT", "INSERT"}.isdisjoint(world.sent)

    world.run(main)
    assert world.kept() == []


@pytest.mark.rule("T8", "D5")
@in_some_places
def test_a_scope_does_not_adopt_such_a_connection(case: Case) -> None:
    """What the request does without a scope stays allowed, before and afterwards."""
    world = case.world

    @world.transactional()
    async def service() -> None:
        never("The body ran.")

    async def main() -> None:
        async with world.unit():
            await case.write("before")
            with pytest.raises(ConfigurationError, match=r"service\(\) can't be a transaction"):
                await service()
            with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
                async with world.scope():
                    never("The block ran.")
            await world.write_core("after")

    world.run(main)
    assert world.kept() == ["before", "after"]


@pytest.mark.rule("T8")
def test_the_next_transaction_of_the_session_is_one(colour: str, sqlite_file_url: str) -> None:
    """AUTOCOMMIT asked for by ``session.connection()`` ends with what it was asked for."""
    world = make_world(colour, sqlite_file_url)
    case = Case(world, "body")

    @world.transactional()
    async def service(written: str, error: BaseException | None = None) -> None:
        await world.write_core(written)
        if error is not None:
            raise error

    async def main() -> None:
        async with world.unit():
            await case.begin()
            await world.execute("VACUUM")
            await world.do(lambda session: session.commit())
            await service("kept")
            with pytest.raises(ValueError, match="gone"):
                await service("gone", ValueError("gone"))

    world.run(main)
    assert world.kept() == ["kept"]
    assert world.conversation.held == 0


def _begin(engine: Engine) -> Engine:
    event.listen(engine, "begin", begin)
    return engine


@pytest.mark.rule("T1", "D5")
@pytest.mark.parametrize(
    "leave",
    [_begin, lambda engine: engine.execution_options(isolation_level="SERIALIZABLE")],
    ids=["BEGIN is sent by a listener", "an option wins"],
)
def test_a_connection_that_has_a_transaction_all_the_same_is_not_refused(
    sqlite_file_url: str, leave: Callable[[Engine], Engine]
) -> None:
    """The engine was made in AUTOCOMMIT, and what the connection does is rolled back."""
    world = SyncWorld(sqlite_file_url)
    world.manager.databases.dispose()
    engine = leave(create_engine(sqlite_file_url, **AUTOCOMMIT))
    manager = RequestScopedSessionManager(engine)
    with manager.session_scope() as session:
        session.execute(text("INSERT INTO note (text) VALUES ('kept')"))
    with suppress(ValueError), manager.session_scope() as session:
        session.execute(text("INSERT INTO note (text) VALUES ('gone')"))
        raise ValueError
    engine.dispose()
    assert world.kept() == ["kept"]
