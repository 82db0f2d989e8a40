"""What each propagation does with a scope that runs, and without one."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flask_reqsession import (
    DatabaseManager,
    PoolDemandError,
    Propagation,
    PropagationError,
    RequestScopedSessionManager,
    UnexpectedRollbackError,
)
from tests.integration.items import any_callable
from tests.integration.transactions.worlds import Base, Note, SyncWorld, World
from tests.never import never

joining = pytest.mark.parametrize(
    "propagation", [Propagation.REQUIRED, Propagation.SUPPORTS, Propagation.MANDATORY]
)


@pytest.mark.rule("T2")
@joining
async def test_three_propagations_join_a_running_scope(
    world: World, propagation: Propagation
) -> None:
    """Same session, no statement of their own, committed with the outer."""

    @world.transactional(propagation=propagation)
    async def note() -> object:
        await world.write("joined")
        return world.given_session

    async with world.scope() as session:
        assert await note() is session
        assert world.kept() == []
    assert world.kept() == ["joined"]
    assert world.sent == ["INSERT", "COMMIT"]


@pytest.mark.rule("T2", "T3")
@joining
async def test_three_propagations_fail_like_required(
    world: World, propagation: Propagation
) -> None:
    """A swallowed failure dooms the outer."""

    @world.transactional(propagation=propagation)
    async def note() -> None:
        await world.write("joined")
        raise ValueError

    async def pay() -> None:
        async with world.scope():
            with pytest.raises(ValueError, match="^$"):
                await note()

    with pytest.raises(UnexpectedRollbackError, match=r"note\(\)"):
        await pay()
    assert world.kept() == []


@pytest.mark.rule("T2")
async def test_supports_without_a_scope_commits_nothing(world: World) -> None:
    """It uses the current session, whose end rolls back."""

    @world.transactional(propagation=Propagation.SUPPORTS)
    async def note() -> object:
        await world.write("loose")
        return world.given_session

    async with world.unit():
        assert await note() is world.given_session
        assert await world.read() == ["loose"]
    await note()
    assert world.kept() == []


@pytest.mark.rule("T2")
async def test_mandatory_without_a_scope_is_refused(world: World) -> None:
    """Outside a unit of work and inside one; the body does not run."""

    @world.transactional(propagation="MANDATORY", name="the audit")
    async def note() -> None:
        never()

    with pytest.raises(PropagationError, match="the audit is MANDATORY.*session_scope"):
        await note()
    async with world.unit():
        with pytest.raises(PropagationError):
            await note()
    assert world.conversation.checkouts == 0


@pytest.mark.rule("T2")
async def test_never_refuses_a_running_scope_and_runs_without_one(world: World) -> None:
    """Without a scope it is like SUPPORTS: nothing is committed."""

    @world.transactional(propagation=Propagation.NEVER)
    async def look() -> list[str]:
        await world.write("loose")
        return await world.read()

    assert await look() == ["loose"]
    async with world.scope():
        await world.write("rent")
        with pytest.raises(PropagationError, match=r"look\(\) is NEVER.*session_scope\(\) is run"):
            await look()
    assert world.kept() == ["rent"]


@pytest.mark.rule("T2")
async def test_not_supported_runs_outside_the_suspended_scope(everywhere: World) -> None:
    """It has a session of its own, sees nothing uncommitted, and is rolled back at its end."""

    @everywhere.transactional(propagation=Propagation.NOT_SUPPORTED)
    async def look() -> list[str]:
        assert everywhere.given_session is not outer
        seen = sorted(await everywhere.read())
        if everywhere.engine.dialect.name != "sqlite":  # which has one writer at a time
            await everywhere.write("lost")
        return seen

    async with everywhere.unit():
        async with everywhere.scope() as outer:
            await everywhere.write("rent")
            assert await look() == []
            assert everywhere.given_session is outer
            await everywhere.write("water")
        outer = everywhere.given_session
        assert await look() == ["rent", "water"]  # also where no scope was running
    assert everywhere.kept() == ["rent", "water"]


@pytest.mark.rule("T2", "M19")
async def test_not_supported_closes_its_session_when_it_fails(world: World) -> None:
    """The exception goes on, the session of the call is gone, and the outer is not doomed."""

    @world.transactional(propagation=Propagation.NOT_SUPPORTED)
    async def look() -> None:
        await world.read()
        raise ValueError("looked")

    async with world.scope():
        with pytest.raises(ValueError, match="looked"):
            await look()
        assert world.conversation.held == 0
        await world.write("rent")
    assert world.kept() == ["rent"]


@pytest.mark.rule("T5", "T2")
async def test_an_audit_row_survives_the_rollback_of_the_outer(everywhere: World) -> None:
    """REQUIRES_NEW commits by itself, on a session and a connection of its own."""

    @everywhere.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit() -> None:
        assert everywhere.given_session is not outer
        await everywhere.write("audit")

    with pytest.raises(ValueError, match="outer"):
        async with everywhere.scope() as outer:
            await everywhere.read()
            await audit()
            assert everywhere.kept() == ["audit"]
            assert everywhere.given_session is outer
            everywhere.session.add(Note(text="rent"))
            raise ValueError("outer")
    assert everywhere.kept() == ["audit"]
    assert everywhere.conversation.checkouts == 2


@pytest.mark.rule("T5")
async def test_the_failure_of_a_new_scope_is_its_own(everywhere: World) -> None:
    """Swallowed, it does not doom the outer, and the outer's work is kept."""

    @everywhere.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit() -> None:
        await everywhere.write("audit")
        raise ValueError("audit")

    async with everywhere.scope():
        await everywhere.read()
        with pytest.raises(ValueError, match="audit"):
            await audit()
        await everywhere.write("rent")
    assert everywhere.kept() == ["rent"]


@pytest.mark.rule("T5", "T3")
async def test_calls_inside_a_new_scope_join_that_one(world: World) -> None:
    """And their swallowed failure dooms that one alone."""

    @world.transactional()
    async def note() -> None:
        await world.write("noted")
        raise ValueError

    @world.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit() -> None:
        with pytest.raises(ValueError, match="^$"):
            await note()

    async with world.scope():
        await world.read()
        with pytest.raises(UnexpectedRollbackError):
            await audit()
        await world.write("rent")
    assert world.kept() == ["rent"]


@pytest.mark.rule("T5", "M17")
async def test_new_scopes_nest_and_each_connection_goes_back_at_its_end(world: World) -> None:
    """One connection more for each depth, and one less for each end."""

    @world.transactional(propagation=Propagation.REQUIRES_NEW)
    async def dive(depth: int) -> None:
        await world.read()
        assert world.conversation.held == depth + 1
        if depth < 4:
            await dive(depth + 1)
        assert world.conversation.held == depth + 1

    async with world.unit():
        async with world.scope():
            await world.read()
            await dive(1)
            assert world.conversation.held == 1
        assert world.conversation.held == 0


@pytest.mark.rule("T2", "T9")
async def test_a_new_scope_without_an_outer_uses_the_current_session(world: World) -> None:
    """There is nothing to suspend: what it loads stays attached for the request."""

    @world.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit() -> Note:
        return await world.write("audit")

    async with world.unit():
        note = await audit()
        assert note in world.session
        assert world.kept() == ["audit"]


@pytest.mark.rule("T5")
@pytest.mark.parametrize("propagation", [Propagation.REQUIRES_NEW, Propagation.NOT_SUPPORTED])
def test_a_memory_database_has_no_second_connection(propagation: Propagation) -> None:
    """Refused at entry while the outer holds the only one; the outer is not doomed."""
    manager = RequestScopedSessionManager("sqlite://")

    @manager.transactional(propagation=propagation)
    def audit() -> None:
        never()

    with manager.unit_of_work():
        with manager.session_scope() as session:
            Base.metadata.create_all(session.connection())
            session.add(Note(text="rent"))
            with pytest.raises(PoolDemandError, match=r"audit\(\).*bind 'default'.*database file"):
                audit()
        assert manager.session.query(Note).one().text == "rent"
    manager.databases.dispose()


@pytest.mark.rule("T5")
def test_a_memory_database_refuses_the_second_connection_at_first_use() -> None:
    """The outer held none at entry; what it needs later is refused, and nothing is mixed up."""
    manager = RequestScopedSessionManager("sqlite://")

    @manager.transactional(propagation=Propagation.REQUIRES_NEW)
    def audit() -> Generator[None]:
        manager.session.add(Note(text="audit"))
        manager.session.flush()
        yield

    with manager.unit_of_work():
        with manager.session_scope() as session:
            Base.metadata.create_all(session.connection())
        with manager.session_scope() as session:
            audits = audit()
            next(audits)
            with pytest.raises(PoolDemandError):
                session.scalars(select(Note)).all()
            list(audits)
            assert session.scalars(select(Note.text)).all() == ["audit"]
    manager.databases.dispose()


class OneSession:
    """A source whose registry is the only door to its sessions."""

    def __init__(self, url: str) -> None:
        self.registry = scoped_session(sessionmaker(create_engine(url)))

    def get_session(self) -> scoped_session[Session]:
        """Return the session of this thread."""
        return self.registry


@pytest.mark.rule("T5")
def test_a_source_with_one_session_cannot_give_a_second(sync_world: SyncWorld) -> None:
    """A scoped_session that is the only door: PoolDemandError, never the same session twice."""
    source = OneSession(sync_world.url)
    manager = RequestScopedSessionManager(DatabaseManager(source))

    @manager.transactional(propagation=Propagation.REQUIRES_NEW)
    def audit() -> None:
        never(manager.session)

    with manager.session_scope() as session:
        session.add(Note(text="rent"))
        session.flush()
        with pytest.raises(PoolDemandError):
            audit()
    assert sync_world.kept() == ["rent"]
    source.registry.remove()
    source.registry.get_bind().engine.dispose()


@pytest.mark.rule("T5")
@pytest.mark.parametrize("propagation", ["REQUIRES_NEW", "NOT_SUPPORTED"])
def test_a_registry_without_a_factory_cannot_give_a_second(
    sync_world: SyncWorld, propagation: str
) -> None:
    """Refused at entry, before the body and before the outer scope has a connection."""
    engine = create_engine(sync_world.url)
    registry = scoped_session(sessionmaker(engine))
    registry.session_factory = any_callable(None)  # all it has left is its registry
    manager = RequestScopedSessionManager(DatabaseManager(registry))

    @manager.transactional(propagation=propagation)
    def audit() -> None:
        never()

    with manager.session_scope() as session:
        with pytest.raises(PoolDemandError, match=r"audit\(\)"):
            audit()
        session.add(Note(text="rent"))
    assert sync_world.kept() == ["rent"]
    registry.remove()
    engine.dispose()


@pytest.mark.rule("T7")
@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.NESTED])
async def test_a_durable_scope_is_outermost_or_refused(
    world: World, propagation: Propagation
) -> None:
    """Its end must be a COMMIT; the refusal does not doom the outer."""

    @world.transactional(durable=True, propagation=propagation)
    async def pay(text: str) -> None:
        await world.write(text)

    await pay("outermost")
    assert world.kept() == ["outermost"]
    async with world.scope(name="the import"):
        await world.write("rent")
        with pytest.raises(PropagationError, match=r"pay\(\) is durable=True.*the import"):
            await pay("inside")
    assert world.kept() == ["outermost", "rent"]


@pytest.mark.rule("T7", "T5")
async def test_a_durable_new_scope_is_durable_inside_another(world: World) -> None:
    """REQUIRES_NEW ends with a COMMIT wherever it is called."""

    @world.transactional(durable=True, propagation=Propagation.REQUIRES_NEW)
    async def audit() -> None:
        await world.write("audit")

    async with world.scope():
        await audit()
        assert world.kept() == ["audit"]


@pytest.mark.rule("T13")
def test_scopes_of_two_binds_are_independent(tmp_path: Path) -> None:
    """A failure in one does not touch the other, and neither joins the other."""
    worlds = {name: SyncWorld(f"sqlite:///{tmp_path / name}") for name in ("default", "analytics")}
    manager = RequestScopedSessionManager({name: each.url for name, each in worlds.items()})

    @manager.transactional(bind="analytics")
    def count() -> None:
        manager.get_request_session("analytics").add(Note(text="counted"))
        raise ValueError

    with manager.session_scope() as session:
        session.add(Note(text="rent"))
        with pytest.raises(ValueError, match="^$"):
            count()
        with manager.session_scope(bind="analytics") as other:
            other.add(Note(text="kept"))
        assert worlds["analytics"].kept() == ["kept"]
    assert worlds["default"].kept() == ["rent"]
    manager.databases.dispose()
