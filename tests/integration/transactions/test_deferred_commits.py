"""``manual_commit="defer"``: code that commits by itself, in a scope that has the last word."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flask_reqsession import (
    ManualCommitError,
    Propagation,
    RequestScopedSessionManager,
    UnexpectedRollbackError,
    set_rollback_only,
)
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.worlds import Note, SyncWorld, World


def commit(session: Session) -> None:
    """Commit by hand."""
    session.commit()


def roll_back(session: Session) -> None:
    """Roll back by hand."""
    session.rollback()


@pytest.mark.rule("T17")
async def test_a_deferred_commit_is_a_flush_and_the_scope_commits(everywhere: World) -> None:
    """One COMMIT, at the end, for all that the code thought it had committed."""
    async with everywhere.scope(manual_commit="defer"):
        everywhere.session.add(Note(text="one"))
        await everywhere.do(commit)
        assert everywhere.sent == ["INSERT"]
        assert everywhere.kept() == []
        everywhere.session.add(Note(text="two"))
        await everywhere.do(commit)
    assert everywhere.sent == ["INSERT", "COMMIT"]
    assert everywhere.kept() == ["one", "two"]


@pytest.mark.rule("T17", "T1")
async def test_what_was_deferred_is_rolled_back_with_the_scope(everywhere: World) -> None:
    """A later failure undoes the commits that were none."""
    with pytest.raises(ValueError, match="later"):
        async with everywhere.scope(manual_commit="defer"):
            await everywhere.write("one")
            await everywhere.do(commit)
            raise ValueError("later")
    assert everywhere.kept() == []


@pytest.mark.rule("T17", "M8")
async def test_the_session_has_its_own_methods_back_after_the_scope(world: World) -> None:
    """Outside, commit() and rollback() are SQLAlchemy's again, on the same session."""
    async with world.unit():
        async with world.scope(manual_commit="defer") as session:
            await world.write("one")
            await world.do(commit)
        assert world.given_session is session
        assert not {"commit", "rollback", "begin"} & vars(world.session).keys()
        await world.write("two")
        await world.do(commit)
        assert world.kept() == ["one", "two"]
        await world.write("three")
        await world.do(roll_back)
    assert world.kept() == ["one", "two"]


@pytest.mark.rule("T17", "T10")
async def test_an_untouched_deferring_scope_takes_no_connection(world: World) -> None:
    """Neither do commit() and rollback() in a scope that has sent nothing."""
    async with world.scope(manual_commit="defer"):
        await world.do(commit)
    with pytest.raises(UnexpectedRollbackError):
        async with world.scope(manual_commit="defer"):
            await world.do(roll_back)
    assert world.conversation.checkouts == 0


@pytest.mark.rule("T17", "T3")
async def test_a_rollback_dooms_the_scope_and_says_so_at_its_end(everywhere: World) -> None:
    """The code after it finds a session that works, and nothing before or after it is kept."""

    async def import_all() -> None:
        async with everywhere.scope(manual_commit="defer", name="import_all"):
            await everywhere.write("before")
            await everywhere.do(commit)
            await everywhere.do(roll_back)
            assert await everywhere.read() == []
            await everywhere.write("after")
            await everywhere.do(commit)

    async with everywhere.unit():
        with pytest.raises(UnexpectedRollbackError, match=r"import_all.*session\.rollback\(\)") as (
            caught
        ):
            await import_all()
        assert isinstance(caught.value.__cause__, ManualCommitError)
        assert everywhere.kept() == []
        async with everywhere.scope():
            await everywhere.write("next")
    assert everywhere.kept() == ["next"]


@pytest.mark.rule("T17", "T1")
async def test_after_a_rollback_the_codes_own_exception_is_what_the_caller_gets(
    everywhere: World,
) -> None:
    """As in: except IntegrityError, roll back, raise."""

    @everywhere.transactional(manual_commit="defer")
    async def save(note: str) -> None:
        try:
            everywhere.session.add(Note(text=note))
            await everywhere.do(commit)
        except IntegrityError as error:
            await everywhere.do(roll_back)
            assert await everywhere.read() == ["taken"]
            raise LookupError(note) from error

    await save("taken")
    with pytest.raises(LookupError, match="taken"):
        await save("taken")
    assert everywhere.kept() == ["taken"]


@pytest.mark.rule("T17", "T6")
async def test_a_rollback_that_is_answered_for_raises_nothing(world: World) -> None:
    """By set_rollback_only(), or in a view by an error status."""
    async with world.scope(manual_commit="defer"):
        await world.write("one")
        await world.do(roll_back)
        set_rollback_only()
    assert world.kept() == []


@pytest.mark.rule("T17", "T4")
async def test_the_end_of_a_deferring_savepoint_leaves_the_outer_scope_deferring(
    world: World,
) -> None:
    """Who has begun to defer is who ends it."""
    async with world.scope(manual_commit="defer"):
        async with world.scope(propagation=Propagation.NESTED, manual_commit="defer"):
            await world.write("one")
            await world.do(commit)
        await world.write("two")
        await world.do(commit)
        assert world.kept() == []
    assert world.kept() == ["one", "two"]


@pytest.mark.rule("T17", "M7")
async def test_a_rollback_by_hand_is_recorded_once(world: World) -> None:
    """It is the scope's own, whatever was begun after it."""
    async with world.unit():
        with pytest.raises(UnexpectedRollbackError):
            async with world.scope(manual_commit="defer"):
                await world.write("one")
                await world.do(roll_back)
                await world.write("two")
                await world.do(commit)
    counted = world.manager.metrics.snapshot()
    assert (counted.get("commits"), counted["rollbacks"]) == (None, 1)


@pytest.mark.rule("T17", "T4")
async def test_a_rollback_in_a_savepoint_dooms_that_one_alone(everywhere: World) -> None:
    """Also what is written after it in the savepoint; the outer goes on and commits."""

    @everywhere.transactional(propagation=Propagation.NESTED, manual_commit="defer")
    async def legacy() -> None:
        await everywhere.write("legacy")
        await everywhere.do(commit)
        await everywhere.do(roll_back)
        await everywhere.write("after")
        await everywhere.do(roll_back)
        await everywhere.write("after")

    async with everywhere.scope():
        await everywhere.write("before")
        with pytest.raises(UnexpectedRollbackError, match=r"legacy\(\)"):
            await legacy()
        assert await everywhere.read() == ["before"]
        await everywhere.write("end")
    assert everywhere.kept() == ["before", "end"]


def twice_in_begin(session: Session) -> None:
    """Use the session as SQLAlchemy's tutorial does."""
    with session.begin():
        session.add(Note(text="one"))
    with session.begin():
        session.add(Note(text="two"))
        session.commit()
    with pytest.raises(ZeroDivisionError), session.begin() as block:
        assert block.nested
        session.add(Note(text="lost"))
        session.flush()
        raise ZeroDivisionError
    with session.begin_nested():
        session.add(Note(text="three"))
    session.begin(nested=True)
    session.add(Note(text="four"))


@pytest.mark.rule("T17")
@pytest.mark.parametrize("begun", [False, True])
async def test_a_begin_block_is_a_savepoint_of_the_scope(everywhere: World, begun: bool) -> None:
    """Each block commits or rolls back what is in it, and the scope decides about all of it."""
    async with everywhere.unit():
        async with everywhere.scope(manual_commit="defer"):
            if begun:
                await everywhere.read()
            await everywhere.do(twice_in_begin)
            assert everywhere.kept() == []
        assert everywhere.kept() == ["one", "two", "three", "four"]
        await everywhere.execute("DELETE FROM note")
        await everywhere.do(commit)
        with pytest.raises(ValueError, match="^$"):
            async with everywhere.scope(manual_commit="defer"):
                await everywhere.do(twice_in_begin)
                raise ValueError
    assert everywhere.kept() == []


@pytest.mark.rule("T17", "T50")
def test_the_asynchronous_methods_are_deferred_too(postgresql_url: str) -> None:
    """AsyncSession's commit(), rollback(), begin() and begin_nested()."""
    world = make_world("async", postgresql_url)

    async def main() -> None:
        async with world.scope(manual_commit="defer") as session:
            assert isinstance(session, AsyncSession)
            session.add(Note(text="one"))
            await session.commit()
            assert world.kept() == []
            async with session.begin():
                session.add(Note(text="two"))
            async with session.begin_nested():
                session.add(Note(text="three"))
            assert world.kept() == []
        assert world.kept() == ["one", "two", "three"]
        with pytest.raises(UnexpectedRollbackError):
            async with world.scope(manual_commit="defer") as session:
                await session.rollback()
                session.add(Note(text="four"))
                await session.commit()

    world.run(main)
    assert world.kept() == ["one", "two", "three"]


SLIPS: dict[str, Callable[[Session], Any]] = {
    "COMMIT": lambda session: session.execute(text("COMMIT")),
    "ROLLBACK": lambda session: session.execute(text("ROLLBACK")),
    "connection.commit()": lambda session: session.connection().commit(),
    "transaction.commit()": lambda session: session.get_transaction().commit(),  # type: ignore[union-attr]
    "transaction.rollback()": lambda session: session.get_transaction().rollback(),  # type: ignore[union-attr]
    "Session.commit(session)": Session.commit,
    "Session.rollback(session)": Session.rollback,
}


@pytest.mark.rule("T17")
@pytest.mark.parametrize("act", SLIPS.values(), ids=SLIPS.keys())
async def test_what_cannot_be_deferred_is_refused(
    world: World, act: Callable[[Session], Any]
) -> None:
    """An end of the transaction that does not go through the session never slips through."""
    with pytest.raises(ManualCommitError):
        async with world.scope(manual_commit="defer"):
            await world.write("before")
            await world.do(act)
    assert world.kept() == []


@pytest.mark.rule("T17")
async def test_a_session_closed_in_a_deferring_scope_is_no_success(world: World) -> None:
    """What was deferred went with it, and what comes after it has another session."""

    async def save() -> None:
        async with world.scope(manual_commit="defer"):
            await world.write("before")
            await world.do(commit)
            await world.do(lambda session: session.close())
            await world.write("after")
            await world.do(commit)

    async with world.unit():
        with pytest.raises(UnexpectedRollbackError, match=r"session\.close\(\)"):
            await save()
        assert world.kept() == []
        async with world.scope():
            await world.write("next")
    assert world.kept() == ["next"]


# -- calls that join ------------------------------------------------------------------------------


@pytest.mark.rule("T17")
async def test_a_joined_call_decides_for_its_own_body(world: World) -> None:
    """Old code is deferred in a scope that refuses; before it and after it, it is refused."""

    @world.transactional(manual_commit="defer")
    async def legacy() -> None:
        await world.write("legacy")
        await world.do(commit)
        await plain()

    @world.transactional()
    async def plain() -> None:
        await world.do(commit)  # what a call does not say, the one around it does

    @world.transactional(manual_commit="raise")
    async def strict() -> None:
        await world.do(commit)

    @world.transactional(manual_commit="defer")
    async def legacy_around_strict() -> None:
        await world.write("never")
        with pytest.raises(ManualCommitError):
            await strict()

    async with world.scope():
        await legacy()
        assert world.kept() == []
    assert world.kept() == ["legacy"]
    with pytest.raises(ManualCommitError):
        async with world.scope():
            await world.execute("DELETE FROM note")
            await legacy()
            await world.do(commit)
    with pytest.raises(UnexpectedRollbackError, match=r"strict\(\)"):
        await legacy_around_strict()
    assert world.kept() == ["legacy"]


@pytest.mark.rule("T17", "T2")
async def test_a_new_scope_decides_for_itself(world: World) -> None:
    """REQUIRES_NEW does not inherit, a savepoint does."""

    @world.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit() -> None:
        await world.write("audit")
        await world.do(commit)

    @world.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        await world.write("attempt")
        await world.do(commit)

    async with world.scope(manual_commit="defer"):
        with pytest.raises(ManualCommitError):
            await audit()
        await attempt()
        assert world.kept() == []
    assert world.kept() == ["attempt"]


@pytest.mark.rule("T17", "T11")
def test_a_generator_defers_in_its_steps_only(sync_world: SyncWorld) -> None:
    """Its consumer, between two steps, is refused as ever."""
    world = sync_world

    @world.manager.transactional(manual_commit="defer")
    def notes() -> Generator[str, None, None]:
        for note in ("one", "two"):
            world.put(note)
            world.manager.session.commit()
            yield note

    with world.manager.session_scope():
        for _ in notes():
            assert "commit" not in vars(world.session)
    assert world.kept() == ["one", "two"]
    with world.manager.session_scope() as session:
        session.execute(text("DELETE FROM note"))
    with world.manager.unit_of_work():
        with pytest.raises(ManualCommitError), closing(notes()) as steps:
            next(steps)
            world.session.commit()


# -- other people's sessions ----------------------------------------------------------------------


@pytest.mark.rule("T17", "D1")
@pytest.mark.parametrize("kind", ["sessionmaker", "scoped_session"])
def test_the_users_own_factory_defers_as_well(sync_world: SyncWorld, kind: str) -> None:
    """Its class is left alone, and so are its other sessions."""
    engine = create_engine(sync_world.url)
    factory = sessionmaker(engine)
    scoped = scoped_session(factory)
    manager = RequestScopedSessionManager(scoped if kind == "scoped_session" else factory)
    with manager.session_scope(manual_commit="defer"):
        session: Any = scoped if kind == "scoped_session" else manager.session
        with factory() as own:
            own.add(Note(text="own"))
            own.commit()
        session.add(Note(text="one"))
        session.commit()
        assert sync_world.kept() == ["own"]
    assert sync_world.kept() == ["own", "one"]
    engine.dispose()


@pytest.mark.rule("T17", "T15")
def test_a_view_of_legacy_code_commits_once_and_rolls_back_whole(sync_world: SyncWorld) -> None:
    """Its error status answers for the rollback, and undoes the commit before it."""
    app = Flask("shop")
    manager = sync_world.manager
    manager.init_app(app)

    @app.get("/<note>")
    @manager.transactional(manual_commit="defer")
    def view(note: str) -> tuple[str, int]:
        session = manager.session
        session.add(Note(text=f"log {note}"))
        session.commit()
        try:
            session.add(Note(text=note))
            session.commit()
        except IntegrityError:
            session.rollback()
            return "taken", 409
        return "saved", 201

    client = app.test_client()
    assert client.get("/one").status_code == 201
    assert sync_world.kept() == ["log one", "one"]
    with manager.session_scope() as session:
        session.execute(text("DELETE FROM note WHERE text = 'log one'"))
    assert client.get("/one").status_code == 409
    assert sync_world.kept() == ["one"]
