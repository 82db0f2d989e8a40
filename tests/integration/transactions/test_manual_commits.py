"""Inside a scope nobody else commits or rolls back: it is refused, and nothing is kept."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, sessionmaker

from flask_reqsession import (
    ManualCommitError,
    NoActiveScopeError,
    Propagation,
    RequestScopedSessionManager,
    UnexpectedRollbackError,
)
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.worlds import Note, SyncWorld, World
from tests.never import never


def begin(session: Session) -> None:
    """Use the session as SQLAlchemy's tutorial does."""
    with session.begin():
        session.add(Note(text="in begin()"))


ACTS: dict[str, Callable[[Session], Any]] = {
    "session.commit()": lambda session: session.commit(),
    "session.rollback()": lambda session: session.rollback(),
    "COMMIT": lambda session: session.execute(text("COMMIT")),
    "ROLLBACK": lambda session: session.execute(text("ROLLBACK")),
    "a comment before COMMIT": lambda session: session.execute(text("/*c*/ commit")),
    "a line before COMMIT": lambda session: session.execute(text("-- c\ncommit")),
    "connection.commit()": lambda session: session.connection().commit(),
    "transaction.commit()": lambda session: session.get_transaction().commit(),  # type: ignore[union-attr]
    "transaction.rollback()": lambda session: session.get_transaction().rollback(),  # type: ignore[union-attr]
    "commit in begin_nested()": lambda session: session.begin_nested().session.commit(),
    "rollback in begin_nested()": lambda session: session.begin_nested().session.rollback(),
}
every_act = pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())


@pytest.mark.rule("T17")
@every_act
async def test_a_commit_or_rollback_by_hand_is_refused(
    world: World, act: Callable[[Session], Any]
) -> None:
    """The error leaves the scope, nothing was committed before it, nothing is kept."""
    async with world.unit():
        with pytest.raises(ManualCommitError, match=r"transfer.*session\.flush\(\)"):
            async with world.scope(name="transfer"):
                await world.write("before")
                await world.do(act)
        assert world.kept() == []
        async with world.scope():
            await world.write("next")
    assert world.kept() == ["next"]


@pytest.mark.rule("T17")
@every_act
async def test_a_refusal_that_was_swallowed_dooms_the_scope(
    world: World, act: Callable[[Session], Any]
) -> None:
    """What is written after it is not kept either."""

    async def pay() -> None:
        async with world.scope():
            await world.write("before")
            with pytest.raises(ManualCommitError) as refused:
                await world.do(act)
            raised.append(refused.value)
            await world.do(lambda session: session.rollback() if session.is_active else None)

    raised: list[ManualCommitError] = []
    with pytest.raises((UnexpectedRollbackError, ManualCommitError)):
        await pay()
    assert len(raised) == 1
    assert world.kept() == []


@pytest.mark.rule("T17")
@pytest.mark.parametrize("act", [Session.commit, Session.rollback])
async def test_a_swallowed_refusal_is_the_cause_of_the_unexpected_rollback(
    everywhere: World, act: Callable[[Session], None]
) -> None:
    """It says which call has to go."""

    async def pay() -> None:
        async with everywhere.scope():
            await everywhere.write("before")
            with pytest.raises(ManualCommitError):
                await everywhere.do(act)
            await everywhere.write("after")

    with pytest.raises(UnexpectedRollbackError, match=r"session\.(commit|rollback)\(\)") as caught:
        await pay()
    assert isinstance(caught.value.__cause__, ManualCommitError)
    assert everywhere.kept() == []


@pytest.mark.rule("T17")
async def test_a_commit_on_a_connection_is_refused_on_every_database(everywhere: World) -> None:
    """session.connection().commit() would cut the scope in two."""
    with pytest.raises(ManualCommitError, match=r"connection\.commit\(\)"):
        async with everywhere.scope():
            await everywhere.write("before")
            await everywhere.do(lambda session: session.connection().commit())
    assert everywhere.kept() == []


@pytest.mark.rule("T17")
@pytest.mark.filterwarnings("ignore:transaction already deassociated")
async def test_outside_of_scopes_a_commit_on_a_connection_is_the_users(everywhere: World) -> None:
    """It commits at once, and the next scope is guarded as ever."""
    async with everywhere.unit():
        await everywhere.write("one")
        await everywhere.do(lambda session: session.connection().commit())
        assert everywhere.kept() == ["one"]
        await everywhere.do(lambda session: session.rollback())
        with pytest.raises(ManualCommitError):
            async with everywhere.scope():
                await everywhere.write("two")
                await everywhere.do(lambda session: session.connection().commit())
    assert everywhere.kept() == ["one"]


@pytest.mark.rule("T17")
@pytest.mark.filterwarnings("ignore:transaction already deassociated")
async def test_a_rollback_on_a_connection_is_never_followed_by_a_commit(world: World) -> None:
    """The driver says that nothing is open; where it can't be asked, SQLAlchemy refuses."""
    with pytest.raises((ManualCommitError, InvalidRequestError), match="ended|inactive"):
        async with world.scope():
            await world.write("before")
            await world.do(lambda session: session.connection().rollback())
    assert world.kept() == []


@pytest.mark.rule("T17")
async def test_a_commit_before_anything_was_sent_is_refused_as_well(world: World) -> None:
    """Nothing has been sent, and nothing will be."""
    with pytest.raises(ManualCommitError):
        async with world.scope():
            world.session.add(Note(text="pending"))
            await world.do(lambda session: session.commit())
    assert world.conversation.checkouts == 0
    assert world.kept() == []


@pytest.mark.rule("T17")
@pytest.mark.parametrize("begun", [False, True])
async def test_session_begin_inside_a_scope_commits_nothing(
    world: World,
    begun: bool,
) -> None:
    """Where the scope has begun SQLAlchemy refuses it, else its commit is refused."""
    refusal = (
        pytest.raises(InvalidRequestError)
        if begun
        else pytest.raises(ManualCommitError, match=r"^session\.commit\(\)")
    )
    with refusal:
        async with world.scope():
            if begun:
                await world.write("before")
            await world.do(begin)
    assert world.kept() == []


@pytest.mark.rule("T17")
async def test_the_error_names_the_commit_where_careful_code_then_rolls_back(world: World) -> None:
    """What has to go is the first call; the rollback only answers its error."""

    def save(session: Session) -> None:
        try:
            session.commit()
        except ManualCommitError:
            session.rollback()
            never()

    with pytest.raises(ManualCommitError, match=r"^session\.commit\(\)"):
        async with world.scope():
            await world.write("before")
            await world.do(save)
    assert world.kept() == []


@pytest.mark.rule("T17", "T50")
@pytest.mark.parametrize("swallowed", [False, True])
def test_the_error_names_the_commit_where_a_coroutine_then_rolls_back(
    sqlite_file_url: str, swallowed: bool
) -> None:
    """In SQLAlchemy's greenlet no exception is being handled; the refused commit came first."""
    world = make_world("async", sqlite_file_url)

    async def main() -> None:
        async with world.scope() as session:
            await world.write("before")
            try:
                await session.commit()
            except ManualCommitError as refused:
                refusals.append(refused)
                if not swallowed:
                    await session.rollback()
            await session.rollback()
            never()

    refusals: list[ManualCommitError] = []
    with pytest.raises(ManualCommitError, match=r"^session\.commit\(\)") as caught:
        world.run(main)
    assert refusals == [caught.value]
    assert world.kept() == []


@pytest.mark.rule("T17")
async def test_a_rollback_before_anything_was_begun_has_nothing_to_refuse(world: World) -> None:
    """SQLAlchemy does nothing and tells nobody, whoever made the session; the scope goes on."""
    async with world.scope():
        await world.do(lambda session: session.rollback())
        await world.write("x")
    assert world.sent == ["INSERT", "COMMIT"]
    assert world.kept() == ["x"]


@pytest.mark.rule("T17", "T5")
def test_the_error_names_a_rollback_that_answers_the_refusal_of_another_scope(
    sync_world: SyncWorld,
) -> None:
    """The scope around was well until then, so the rollback is the first mistake in it."""
    scope = sync_world.manager.session_scope
    with pytest.raises(ManualCommitError, match=r"^session\.close\(\) or session\.rollback\(\)"):
        with scope() as session:
            session.scalars(select(Note)).all()
            try:
                with scope(propagation="REQUIRES_NEW") as own:
                    own.commit()
            except ManualCommitError:
                session.rollback()
                never()
    assert sync_world.kept() == []


@pytest.mark.rule("T17", "T3")
@pytest.mark.parametrize("swallowed", [False, True])
async def test_a_commit_in_a_joined_call_is_refused(
    world: World,
    swallowed: bool,
) -> None:
    """A service or a library that commits by itself; the message names who swallowed it."""

    @world.transactional()
    async def library() -> None:
        await world.write("written by the library")
        await world.do(lambda session: session.commit())

    @world.transactional()
    async def pay() -> None:
        await world.write("before")
        if swallowed:
            with pytest.raises(ManualCommitError):
                await library()
        else:
            await library()

    expected = UnexpectedRollbackError if swallowed else ManualCommitError
    with pytest.raises(expected, match=r"library\(\)" if swallowed else r"pay\(\)"):
        await pay()
    assert world.kept() == []


@pytest.mark.rule("T17", "T5")
async def test_a_commit_in_a_new_scope_dooms_that_one_alone(world: World) -> None:
    """Its session is its own."""

    @world.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit() -> None:
        await world.write("audit")
        await world.do(lambda session: session.commit())

    async with world.scope():
        await world.read()
        with pytest.raises(ManualCommitError, match=r"audit\(\)"):
            await audit()
        await world.write("rent")
    assert world.kept() == ["rent"]


@pytest.mark.rule("T17", "T4")
async def test_a_commit_in_a_savepoint_dooms_the_whole(world: World) -> None:
    """session.commit() commits to the root, so the whole is what it would have cut in two."""

    @world.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        await world.write("tried")
        await world.do(lambda session: session.commit())

    async def pay() -> None:
        async with world.scope():
            await world.write("before")
            with pytest.raises(ManualCommitError):
                await attempt()

    with pytest.raises(UnexpectedRollbackError):
        await pay()
    assert world.kept() == []


@pytest.mark.rule("T17", "T11")
def test_a_commit_in_a_step_of_a_generator_is_refused(sync_world: SyncWorld) -> None:
    """As in any other body."""

    @sync_world.manager.transactional
    def notes() -> Generator[str, None, None]:
        sync_world.put("one")
        yield "one"
        sync_world.manager.session.commit()

    steps = notes()
    next(steps)
    with pytest.raises(ManualCommitError):
        next(steps)
    assert sync_world.kept() == []


@pytest.mark.rule("T17")
@pytest.mark.parametrize("sends", [False, True])
async def test_a_session_closed_by_hand_is_never_reported_as_committed(
    world: World,
    sends: bool,
) -> None:
    """session.close() rolls back without a word, also what was only added."""

    async def pay() -> None:
        async with world.scope():
            world.session.add(Note(text="before"))
            if sends:
                await world.do(lambda session: session.flush())
            await world.do(lambda session: session.close())

    with pytest.raises(UnexpectedRollbackError, match=r"session\.close\(\)"):
        await pay()
    assert world.kept() == []


@pytest.mark.rule("T17")
def test_a_session_that_can_be_used_after_its_close_does_not_hide_the_loss(
    sync_world: SyncWorld,
) -> None:
    """A user's own factory makes sessions that close() only resets."""
    engine = create_engine(sync_world.url)
    manager = RequestScopedSessionManager(sessionmaker(engine))

    def pay() -> None:
        with manager.session_scope() as session:
            session.add(Note(text="before"))
            session.close()
            session.add(Note(text="after"))

    with pytest.raises(UnexpectedRollbackError, match=r"session\.close\(\)"):
        pay()
    assert sync_world.kept() == []
    engine.dispose()


@pytest.mark.rule("T17", "M2")
def test_close_request_session_inside_a_scope_is_no_success(sync_world: SyncWorld) -> None:
    """Old code closes the session in a ``finally``. Nothing of the scope is kept, and it says so.

    There is no other session before the scope has ended: a call that joined it would commit.
    """
    manager = sync_world.manager

    def pay() -> None:
        with manager.session_scope():
            sync_world.put("before")
            manager.close_request_session()
            manager.close_request_session()
            with pytest.raises(NoActiveScopeError), manager.session_scope():
                never()

    with manager.unit_of_work():
        with pytest.raises(UnexpectedRollbackError, match=r"close_request_session\(\)"):
            pay()
        with manager.session_scope():
            sync_world.put("next")
    assert sync_world.kept() == ["next"]


@pytest.mark.rule("T17", "M2", "T5")
def test_close_request_session_inside_a_new_scope_is_no_success(sync_world: SyncWorld) -> None:
    """It closes both sessions, and neither scope reports success."""
    manager = sync_world.manager

    @manager.transactional(propagation=Propagation.REQUIRES_NEW)
    def audit() -> None:
        manager.session.query(Note).all()
        manager.close_request_session()

    def pay() -> None:
        with manager.session_scope():
            manager.session.query(Note).all()
            with pytest.raises(UnexpectedRollbackError):
                audit()

    with manager.unit_of_work():
        with pytest.raises(UnexpectedRollbackError):
            pay()
        with manager.session_scope():
            sync_world.put("next")
    assert sync_world.kept() == ["next"]


@pytest.mark.rule("T17")
async def test_outside_a_scope_commit_and_rollback_are_the_users(world: World) -> None:
    """Before one and after one, in the same unit of work."""
    async with world.unit():
        await world.write("first")
        await world.do(lambda session: session.commit())
        assert world.kept() == ["first"]
        async with world.scope():
            await world.write("second")
        await world.write("third")
        await world.do(lambda session: session.rollback())
        await world.write("fourth")
        await world.do(lambda session: session.commit())
    assert world.kept() == ["first", "second", "fourth"]


@pytest.mark.rule("T17", "T16")
def test_a_refused_commit_reaches_the_error_handlers_of_the_app(sync_world: SyncWorld) -> None:
    """A view that commits by itself answers no 200."""
    app = Flask("shop")
    sync_world.manager.init_app(app)

    @app.get("/")
    @sync_world.manager.transactional
    def view() -> str:
        sync_world.put("x")
        sync_world.manager.session.commit()
        return never()

    assert app.test_client().get("/").status_code == 500
    assert sync_world.kept() == []


@pytest.mark.rule("T17")
def test_other_sessions_of_the_same_factory_are_left_alone(sync_world: SyncWorld) -> None:
    """The user's own session commits inside a scope as it likes."""
    engine = create_engine(sync_world.url)
    factory = sessionmaker(engine)
    manager = RequestScopedSessionManager(factory)
    with manager.session_scope() as session:
        session.query(Note).all()
        with factory() as own:
            own.add(Note(text="own"))
            own.commit()
        assert sync_world.kept() == ["own"]
    engine.dispose()
