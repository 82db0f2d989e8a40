"""``manual_commit="allow"``: inside the scope, SQLAlchemy's own commit and rollback."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from flask_reqsession import (
    ConfigurationError,
    ManualCommitError,
    Propagation,
    PropagationError,
    RetryNotAllowedError,
    UnexpectedRollbackError,
    set_rollback_only,
    transactional,
)
from tests.integration.transactions.worlds import SyncWorld, World
from tests.never import never

COMMITS: dict[str, Callable[[Session], Any]] = {
    "session.commit()": lambda session: session.commit(),
    "transaction.commit()": lambda session: session.get_transaction().commit(),  # type: ignore[union-attr]
    "connection.commit()": lambda session: session.connection().commit(),
    "COMMIT": lambda session: session.execute(text("COMMIT")),
    "a comment before COMMIT": lambda session: session.execute(text("/*c*/ commit")),
}


def commit(session: Session) -> None:
    """Commit by hand."""
    session.commit()


def roll_back(session: Session) -> None:
    """Roll back by hand."""
    session.rollback()


@pytest.mark.rule("T17")
@pytest.mark.filterwarnings("ignore:transaction already deassociated")
@pytest.mark.parametrize("act", COMMITS.values(), ids=COMMITS.keys())
async def test_a_commit_by_hand_commits_at_once(
    everywhere: World, act: Callable[[Session], Any]
) -> None:
    """A second connection sees it while the scope is running."""
    async with everywhere.scope(manual_commit="allow"):
        await everywhere.write("one")
        await everywhere.do(act)
        assert everywhere.kept() == ["one"]
        await everywhere.do(lambda session: session.rollback())
    assert everywhere.kept() == ["one"]


@pytest.mark.rule("T17", "M7")
async def test_the_end_of_the_scope_commits_the_rest(everywhere: World) -> None:
    """What was rolled back by hand is gone; the scope records its own commit and no other."""
    async with everywhere.unit():
        async with everywhere.scope(manual_commit="allow"):
            await everywhere.write("one")
            await everywhere.do(commit)
            await everywhere.write("lost")
            await everywhere.do(roll_back)
            await everywhere.write("two")
    assert everywhere.kept() == ["one", "two"]
    counted = everywhere.manager.metrics.snapshot()
    assert (counted["commits"], counted.get("rollbacks")) == (1, None)


@pytest.mark.rule("T17", "T1")
async def test_a_failure_rolls_back_the_rest_and_says_what_stays(everywhere: World) -> None:
    """The user accepted that one part may be kept; the exception has a note about it."""
    with pytest.raises(ValueError, match="^two") as caught:
        async with everywhere.scope(manual_commit="allow", name="batch"):
            await everywhere.write("one")
            await everywhere.do(commit)
            await everywhere.write("two")
            raise ValueError("two")
    assert "batch has manual_commit='allow'" in "".join(caught.value.__notes__)
    assert everywhere.kept() == ["one"]


@pytest.mark.rule("T17", "T1")
async def test_a_failure_without_a_commit_by_hand_has_no_such_note(world: World) -> None:
    """Nothing stays."""
    with pytest.raises(ValueError, match="^$") as caught:
        async with world.scope(manual_commit="allow"):
            await world.write("one")
            await world.do(roll_back)
            raise ValueError
    assert not hasattr(caught.value, "__notes__")
    assert world.kept() == []


@pytest.mark.rule("T17", "T3")
@pytest.mark.parametrize("act", COMMITS.values(), ids=COMMITS.keys())
async def test_a_doomed_scope_is_not_committed_by_hand(
    world: World, act: Callable[[Session], Any]
) -> None:
    """Half of a failed call is in it."""

    @world.transactional()
    async def fail() -> None:
        await world.write("half")
        raise ValueError

    async def batch() -> None:
        async with world.scope(manual_commit="allow"):
            with pytest.raises(ValueError, match="^$"):
                await fail()
            with pytest.raises(ManualCommitError):
                await world.do(act)
            await world.do(roll_back)

    with pytest.raises(UnexpectedRollbackError, match=r"fail\(\)"):
        await batch()
    assert world.kept() == []


@pytest.mark.rule("T17", "T4")
async def test_a_savepoint_in_the_scope_is_not_cut_by_a_commit(world: World) -> None:
    """A NESTED call does not inherit the permission: its savepoint would end in the middle."""

    @world.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        await world.write("attempt")
        await world.do(commit)

    with pytest.raises(ManualCommitError):
        async with world.scope(manual_commit="allow"):
            await world.write("one")
            await attempt()
    assert world.kept() == []


@pytest.mark.rule("T17", "T11")
@pytest.mark.parametrize("act", [commit, roll_back])
def test_a_savepoint_of_a_waiting_generator_is_not_cut_either(
    sync_world: SyncWorld, act: Callable[[Session], None]
) -> None:
    """Between its steps its savepoint is open."""
    world = sync_world

    @world.manager.transactional(propagation=Propagation.NESTED)
    def notes() -> Generator[int, None, None]:
        world.put("one")
        yield 1

    with pytest.raises(ManualCommitError):
        with world.manager.session_scope(manual_commit="allow"), closing(notes()) as steps:
            next(steps)
            act(world.session)
    assert world.kept() == []


@pytest.mark.rule("T17")
def test_the_consumer_of_a_generator_is_not_allowed(sync_world: SyncWorld) -> None:
    """Only its body is."""
    world = sync_world

    @world.manager.transactional(manual_commit="allow")
    def notes() -> Generator[int, None, None]:
        world.put("one")
        world.session.commit()
        world.put("two")
        yield 1

    with world.manager.unit_of_work():
        with pytest.raises(ManualCommitError), closing(notes()) as steps:
            next(steps)
            world.session.commit()
    assert world.kept() == ["one"]


# -- calls that join ------------------------------------------------------------------------------


@pytest.mark.rule("T17", "T2")
@pytest.mark.parametrize("outer", [None, "raise", "defer"])
async def test_a_call_that_may_commit_is_not_let_into_a_scope_that_does_not_allow_it(
    world: World, outer: Any
) -> None:
    """It could commit half of the other's work. The refusal does not doom the scope."""

    @world.transactional(manual_commit="allow")
    async def batch() -> None:
        never()

    async with world.scope(manual_commit=outer, name="pay"):
        await world.write("one")
        with pytest.raises(PropagationError, match=r"batch\(\) .*join pay.*REQUIRES_NEW"):
            await batch()
    assert world.kept() == ["one"]


@pytest.mark.rule("T17", "T2")
async def test_calls_that_join_an_allowing_scope_decide_for_themselves(world: World) -> None:
    """Unset does as the scope does; "raise" and "defer" are for their own bodies."""

    @world.transactional()
    async def plain(note: str) -> None:
        await world.write(note)
        await world.do(commit)

    @world.transactional(manual_commit="defer")
    async def deferring(note: str) -> None:
        await plain(note)

    @world.transactional(manual_commit="allow")
    async def allowing(note: str) -> None:
        await plain(note)

    @world.transactional(manual_commit="raise")
    async def strict(note: str) -> None:
        await plain(note)

    async with world.scope(manual_commit="allow"):
        await plain("one")
        assert world.kept() == ["one"]
        await deferring("two")
        assert world.kept() == ["one"]
        await allowing("three")
        assert world.kept() == ["one", "two", "three"]
        with pytest.raises(ManualCommitError):
            await strict("four")
        set_rollback_only()
    assert world.kept() == ["one", "two", "three"]


@pytest.mark.rule("T17", "T2")
@pytest.mark.parametrize("manual_commit", ["raise", "defer", "allow"])
async def test_a_call_that_found_no_scope_leaves_a_commit_to_the_user(
    world: World, manual_commit: Any
) -> None:
    """SUPPORTS without a scope commits nothing, and there is nothing that a commit could cut."""

    @world.transactional(propagation="SUPPORTS", manual_commit=manual_commit)
    async def note() -> None:
        await world.write("one")
        await world.do(commit)
        assert world.kept() == ["one"]
        await world.write("lost")

    async with world.unit():
        await note()
    assert world.kept() == ["one"]


@pytest.mark.rule("T17")
@pytest.mark.parametrize(("manual_commit", "kept"), [("defer", []), ("allow", ["one"])])
async def test_the_first_scope_of_a_unit_of_work_decides_as_one_without_a_unit(
    world: World, manual_commit: Any, kept: list[object]
) -> None:
    """Plain scopes begin there in a shorter way, which these must not take."""

    @world.transactional(manual_commit=manual_commit)
    async def batch() -> None:
        await world.write("one")
        await world.do(commit)
        assert world.kept() == kept
        await world.write("two")

    async with world.unit():
        await batch()
    assert world.kept() == ["one", "two"]


# -- refused where it is declared -----------------------------------------------------------------


@pytest.mark.rule("T17", "T22")
def test_retry_and_allow_exclude_each_other() -> None:
    """A second run would repeat what the first one committed."""
    with pytest.raises(RetryNotAllowedError, match="manual_commit='defer'"):
        transactional(retry=3, manual_commit="allow")


@pytest.mark.rule("T17", "T4")
def test_nested_and_allow_exclude_each_other() -> None:
    """A commit ends the savepoint."""
    with pytest.raises(ConfigurationError, match="savepoint"):
        transactional(propagation="NESTED", manual_commit="allow")


@pytest.mark.rule("T17")
@pytest.mark.parametrize("wrong", ["deny", True, 1, "RAISE", [], "Defer"])
def test_another_value_is_refused_at_decoration(wrong: Any) -> None:
    """The message lists the values that there are."""
    with pytest.raises(ConfigurationError, match="'raise', 'defer', 'allow'"):
        transactional(manual_commit=wrong)
