"""A NESTED scope is a savepoint: it fails alone, and the outer goes on."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError

from flask_reqsession import ManualCommitError, Propagation, UnexpectedRollbackError
from tests.integration.transactions.worlds import Note, World
from tests.never import never


@pytest.mark.rule("T4", "T2")
async def test_a_failing_nested_scope_rolls_back_to_its_savepoint(everywhere: World) -> None:
    """The outer's work before and after it is committed."""

    @everywhere.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        await everywhere.write("tried")
        raise ValueError("no")

    @everywhere.transactional()
    async def pay() -> None:
        await everywhere.write("before")
        with pytest.raises(ValueError, match="no"):
            await attempt()
        await everywhere.write("after")

    await pay()
    assert everywhere.kept() == ["before", "after"]
    assert everywhere.sent == ["INSERT", "SAVEPOINT", "INSERT", "ROLLBACK TO", "INSERT", "COMMIT"]


@pytest.mark.rule("T4", "T2")
async def test_a_nested_scope_that_returns_is_released_and_committed_with_the_outer(
    everywhere: World,
) -> None:
    """RELEASE is no COMMIT: a second connection sees nothing before the outer ends."""

    @everywhere.transactional(propagation=Propagation.NESTED)
    async def attempt() -> str:
        await everywhere.write("tried")
        return "done"

    async with everywhere.scope():
        await everywhere.write("before")
        assert await attempt() == "done"
        assert everywhere.kept() == []
    assert everywhere.kept() == ["before", "tried"]
    assert everywhere.sent == ["INSERT", "SAVEPOINT", "INSERT", "RELEASE", "COMMIT"]


@pytest.mark.rule("T4")
async def test_what_the_outer_fails_with_undoes_a_released_savepoint(everywhere: World) -> None:
    """A savepoint is a part of its transaction, also on SQLite."""

    @everywhere.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        await everywhere.write("tried")

    with pytest.raises(ValueError, match="outer"):
        async with everywhere.scope():
            await attempt()
            raise ValueError("outer")
    assert everywhere.kept() == []


@pytest.mark.rule("T4")
async def test_the_outer_goes_on_after_an_integrity_error_inside(everywhere: World) -> None:
    """The session is not poisoned, and PostgreSQL's transaction not aborted."""

    @everywhere.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        await everywhere.write("before")

    async with everywhere.scope():
        await everywhere.write("before")
        with pytest.raises(IntegrityError):
            await attempt()
        await everywhere.write("after")
    assert everywhere.kept() == ["before", "after"]


@pytest.mark.rule("T4")
async def test_pending_work_of_the_outer_is_outside_the_savepoint(everywhere: World) -> None:
    """It is flushed before the savepoint, so the rollback to it leaves it alone."""

    @everywhere.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        await everywhere.write("tried")
        raise ValueError

    pending = Note(text="pending")
    async with everywhere.scope():
        everywhere.session.add(pending)
        with pytest.raises(ValueError, match="^$"):
            await attempt()
        assert pending in everywhere.session
    assert everywhere.kept() == ["pending"]


@pytest.mark.rule("T4")
async def test_an_error_in_the_pending_work_of_the_outer_is_the_outers(world: World) -> None:
    """It comes out of the call that flushed it, and the inner body never ran."""

    @world.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        never()

    async with world.scope():
        await world.write("rent")

    async def pay() -> None:
        async with world.scope():
            world.session.add(Note(text="rent"))
            with pytest.raises(IntegrityError):
                await attempt()

    with pytest.raises(Exception, match="rolled back"):
        await pay()
    assert world.kept() == ["rent"]


@pytest.mark.rule("T4")
async def test_savepoints_nest(everywhere: World) -> None:
    """Each fails on its own, whatever is around and in it."""

    @everywhere.transactional(propagation=Propagation.NESTED)
    async def inner(text: str) -> None:
        await everywhere.write(text)
        if text.startswith("bad"):
            raise ValueError(text)

    @everywhere.transactional(propagation=Propagation.NESTED)
    async def middle(text: str) -> None:
        await everywhere.write(text)
        await inner(f"good in {text}")
        with pytest.raises(ValueError, match="bad"):
            await inner(f"bad in {text}")
        if text.startswith("bad"):
            raise ValueError(text)

    async with everywhere.scope():
        await middle("good")
        with pytest.raises(ValueError, match="^bad$"):
            await middle("bad")
        await middle("better")
    assert everywhere.kept() == ["good", "good in good", "better", "good in better"]


@pytest.mark.rule("T2")
async def test_nested_starts_a_transaction_where_none_is_active(world: World) -> None:
    """It is then an outermost scope: COMMIT, and no savepoint."""

    @world.transactional(propagation=Propagation.NESTED)
    async def pay(text: str) -> None:
        await world.write(text)
        if text == "bad":
            raise ValueError

    await pay("good")
    with pytest.raises(ValueError, match="^$"):
        await pay("bad")
    assert world.kept() == ["good"]
    assert world.sent == ["INSERT", "COMMIT", "INSERT", "ROLLBACK"]


@pytest.mark.rule("T2")
async def test_nested_with_blocks_are_savepoints_too(world: World) -> None:
    """session_scope(propagation="NESTED") in session_scope()."""
    async with world.scope():
        await world.write("before")
        with pytest.raises(ValueError, match="^$"):
            async with world.scope(propagation="NESTED"):
                await world.write("tried")
                raise ValueError
    assert world.kept() == ["before"]


@pytest.mark.rule("T4", "M18")
async def test_objects_of_the_outer_stay_usable_after_a_failed_savepoint(world: World) -> None:
    """What was loaded before stays readable, what was changed outside is kept."""

    @world.transactional(propagation=Propagation.NESTED)
    async def attempt(note: Note) -> None:
        note.text = "changed inside"
        await world.write("tried")
        raise ValueError

    async with world.scope():
        note = await world.write("rent")
        note.text = "changed outside"
        with pytest.raises(ValueError, match="^$"):
            await attempt(note)
        assert await world.do(lambda _session: note.text) == "changed outside"
    assert world.kept() == ["changed outside"]


@pytest.mark.rule("T17", "T4")
async def test_savepoints_of_the_users_own_are_legal_in_a_scope(everywhere: World) -> None:
    """session.begin_nested() is SQLAlchemy's, and decides nothing for the scope."""

    def attempt(session: object, text: str) -> None:
        with everywhere.session.begin_nested():
            everywhere.session.add(Note(text=text))
            if text == "bad":
                raise ValueError

    async with everywhere.scope():
        await everywhere.do(lambda session: attempt(session, "good"))
        with pytest.raises(ValueError, match="^$"):
            await everywhere.do(lambda session: attempt(session, "bad"))
        await everywhere.write("after")
    assert everywhere.kept() == ["good", "after"]


@pytest.mark.rule("T4", "T17")
async def test_a_savepoint_of_the_users_left_open_ends_with_the_scope(world: World) -> None:
    """It is committed or rolled back with what it is in."""

    @world.transactional(propagation=Propagation.NESTED)
    async def attempt(text: str) -> None:
        await world.do(lambda session: session.begin_nested())
        await world.write(text)
        if text == "bad":
            raise ValueError

    async with world.scope():
        await attempt("good")
        with pytest.raises(ValueError, match="^$"):
            await attempt("bad")
        await world.do(lambda session: session.begin_nested())
        await world.write("last")
    assert world.kept() == ["good", "last"]


@pytest.mark.rule("T17", "T4")
async def test_a_manual_rollback_in_a_savepoint_dooms_the_whole_transaction(world: World) -> None:
    """It ended all of it, so the outer must not report success either."""

    @world.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        await world.write("tried")
        await world.do(lambda session: session.rollback())

    async def pay() -> None:
        async with world.scope():
            await world.write("before")
            with pytest.raises(ManualCommitError) as caught:
                await attempt()
            assert not hasattr(caught.value, "__notes__")
            await world.write("after")

    with pytest.raises(UnexpectedRollbackError) as raised:
        await pay()
    assert isinstance(raised.value.__cause__, ManualCommitError)
    assert world.kept() == []


@pytest.mark.rule("T17", "T4")
async def test_a_savepoint_after_a_manual_rollback_is_still_found(world: World) -> None:
    """The savepoints of an ended transaction are forgotten, in the body and in the next scope."""

    @world.transactional(propagation=Propagation.NESTED)
    async def attempt(text: str) -> None:
        await world.write(text)
        raise ValueError(text)

    @world.transactional(propagation=Propagation.NESTED)
    async def roll_back() -> None:
        with pytest.raises(ManualCommitError):
            await world.do(lambda session: session.rollback())
        await world.write("in a new transaction")
        with pytest.raises(ValueError, match="deeper"):
            await attempt("deeper")

    async with world.unit():
        with pytest.raises(UnexpectedRollbackError):
            async with world.scope():
                with pytest.raises(UnexpectedRollbackError):
                    await roll_back()
        async with world.scope():
            await world.write("kept")
            with pytest.raises(ValueError, match="not kept"):
                await attempt("not kept")
    assert world.kept() == ["kept"]


@pytest.mark.rule("T4", "M19")
async def test_a_savepoint_that_cannot_be_rolled_back_dooms_the_outer(world: World) -> None:
    """The inner's work is still there, so the outer must not commit it."""

    @world.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        await world.write("tried")
        await world.execute("RELEASE SAVEPOINT sa_savepoint_1")
        raise ValueError("first cause")

    async def pay() -> None:
        async with world.scope():
            await world.write("before")
            with pytest.raises(ValueError, match="first cause") as caught:
                await attempt()
            [note] = caught.value.__notes__
            assert "ROLLBACK also failed: OperationalError" in note

    with pytest.raises(UnexpectedRollbackError) as raised:
        await pay()
    assert isinstance(raised.value.__cause__, ValueError)
    assert world.kept() == []
    async with world.scope():
        await world.write("next")
    assert world.kept() == ["next"]
