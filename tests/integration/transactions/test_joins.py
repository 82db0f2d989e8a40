"""A joined call that fails dooms the transaction, whatever the code around makes of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.exc import IntegrityError

from flask_reqsession import (
    NoActiveScopeError,
    Propagation,
    PropagationError,
    UnexpectedRollbackError,
    set_rollback_only,
)
from tests.integration.transactions.worlds import Note, SyncWorld, World
from tests.never import never


class RenamedError(Exception):
    """What a layer in between makes of an error."""


@pytest.mark.rule("T3")
async def test_a_swallowed_inner_failure_rolls_everything_back_and_says_so(
    everywhere: World,
) -> None:
    """The cause is the inner exception, the message names the inner function, nothing is kept."""
    error = ValueError("no money")

    @everywhere.transactional()
    async def withdraw() -> None:
        await everywhere.write("withdrawn")
        raise error

    @everywhere.transactional()
    async def pay() -> str:
        await everywhere.write("before")
        with pytest.raises(ValueError, match="no money"):
            await withdraw()
        await everywhere.write("after")
        return "paid"

    with pytest.raises(UnexpectedRollbackError, match=r"withdraw\(\)") as caught:
        await pay()
    assert caught.value.__cause__ is error
    assert "pay()" in str(caught.value)
    assert everywhere.kept() == []
    assert everywhere.sent == ["INSERT", "INSERT", "INSERT", "ROLLBACK"]


@pytest.mark.rule("T3")
@pytest.mark.parametrize("raised", [KeyboardInterrupt(), GeneratorExit(), SystemExit()])
async def test_a_swallowed_base_exception_dooms_as_well(
    world: World, raised: BaseException
) -> None:
    """No class of failure may be swallowed into a half commit."""

    @world.transactional()
    async def withdraw() -> None:
        await world.write("withdrawn")
        raise raised

    @world.transactional()
    async def pay() -> None:
        with pytest.raises(type(raised)):
            await withdraw()

    with pytest.raises(UnexpectedRollbackError) as caught:
        await pay()
    assert caught.value.__cause__ is raised
    assert world.kept() == []


@pytest.mark.rule("T3", "T14")
async def test_a_failure_that_only_the_outer_commits_with_says_whose_rule_was_missing(
    world: World,
) -> None:
    """It was not swallowed, but its caller would take it for a commit."""
    error = LookupError("no such fare")

    @world.transactional()
    async def price() -> None:
        raise error

    @world.transactional(no_rollback_for=LookupError)
    async def book() -> None:
        await world.write("booked")
        await price()

    with pytest.raises(UnexpectedRollbackError, match="the same no_rollback_for") as caught:
        await book()
    assert "swallowed" not in str(caught.value)
    assert caught.value.__cause__ is error
    assert world.kept() == []


@pytest.mark.rule("T3")
async def test_a_generator_that_is_not_exhausted_says_so(sync_world: SyncWorld) -> None:
    """Nobody wrote the exception that doomed the scope, so nobody swallowed it either."""
    manager = sync_world.manager

    @manager.transactional
    def rows() -> Iterator[int]:
        yield 1
        never()

    @manager.transactional
    def first() -> int:
        manager.session.add(Note(text="first"))
        return next(rows())

    with pytest.raises(UnexpectedRollbackError, match="closed before its end") as caught:
        first()
    assert "swallowed" not in str(caught.value)
    assert sync_world.kept() == []


@pytest.mark.rule("T3")
async def test_an_inner_failure_that_goes_on_is_the_same_object_outside(world: World) -> None:
    """Nothing is wrapped where nothing was swallowed."""
    error = ValueError("no money")

    @world.transactional()
    async def withdraw() -> None:
        raise error

    @world.transactional()
    async def pay() -> None:
        await world.write("before")
        await withdraw()

    with pytest.raises(ValueError, match="no money") as caught:
        await pay()
    assert caught.value is error
    assert world.kept() == []


@pytest.mark.rule("T3")
async def test_a_renamed_failure_is_what_the_caller_gets(world: World) -> None:
    """The outer's own exception says that it failed: it is not replaced."""

    @world.transactional()
    async def withdraw() -> None:
        await world.write("withdrawn")
        raise ValueError

    @world.transactional()
    async def pay() -> None:
        try:
            await withdraw()
        except ValueError as error:
            raise RenamedError from error

    with pytest.raises(RenamedError) as caught:
        await pay()
    assert isinstance(caught.value.__cause__, ValueError)
    assert world.kept() == []


@pytest.mark.rule("T3")
async def test_joined_calls_in_between_return_normally(world: World) -> None:
    """The error is raised where the physical unit ends, not at the first join around."""
    heard: list[str] = []

    @world.transactional()
    async def deepest(text: str) -> None:
        await world.write(text)
        raise ValueError

    @world.transactional()
    async def between(text: str) -> str:
        with pytest.raises(ValueError, match="^$"):
            await deepest(text)
        return text

    @world.transactional()
    async def outermost() -> str:
        heard.append(await between("first"))
        heard.append(await between("second"))
        return "outermost"

    with pytest.raises(UnexpectedRollbackError, match=r"deepest\(\)"):
        await outermost()
    assert heard == ["first", "second"]
    assert world.kept() == []


@pytest.mark.rule("T3")
async def test_the_first_of_several_swallowed_failures_is_the_cause(world: World) -> None:
    """What fails later usually fails because of it."""
    errors = [ValueError("first"), ValueError("second")]

    @world.transactional()
    async def fail(error: ValueError) -> None:
        raise error

    @world.transactional()
    async def pay() -> None:
        for error in errors:
            with pytest.raises(ValueError, match=str(error)):
                await fail(error)

    with pytest.raises(UnexpectedRollbackError) as caught:
        await pay()
    assert caught.value.__cause__ is errors[0]


@pytest.mark.rule("T3", "M3")
async def test_a_swallowed_failure_of_a_joined_with_block_dooms_too(world: World) -> None:
    """session_scope() in session_scope(), the inner one failing and swallowed."""
    with pytest.raises(UnexpectedRollbackError) as caught:
        async with world.scope(name="transfer"):
            await world.write("before")
            with pytest.raises(ValueError, match="inner"):
                async with world.scope(name="booking"):
                    await world.write("inner")
                    raise ValueError("inner")
    assert "transfer" in str(caught.value)
    assert "booking" in str(caught.value)
    assert world.kept() == []


@pytest.mark.rule("T3", "T4")
async def test_what_is_doomed_is_the_nearest_savepoint(everywhere: World) -> None:
    """The error is raised where the savepoint ends; the transaction around it goes on."""

    @everywhere.transactional()
    async def fail() -> None:
        await everywhere.write("failing")
        raise ValueError("cause")

    @everywhere.transactional(propagation=Propagation.NESTED)
    async def nested() -> None:
        await everywhere.write("nested")
        with pytest.raises(ValueError, match="cause"):
            await fail()

    @everywhere.transactional()
    async def outermost() -> str:
        await everywhere.write("before")
        with pytest.raises(UnexpectedRollbackError, match=r"fail\(\)") as caught:
            await nested()
        assert "nested()" in str(caught.value)
        await everywhere.write("after")
        return "done"

    assert await outermost() == "done"
    assert everywhere.kept() == ["before", "after"]


@pytest.mark.rule("T3")
async def test_a_failed_flush_that_was_swallowed_is_never_a_success(everywhere: World) -> None:
    """The session refuses what comes after it, or the commit does; nothing is kept."""

    @everywhere.transactional()
    async def pay() -> None:
        await everywhere.write("rent")
        with pytest.raises(IntegrityError):
            await everywhere.write("rent")

    with pytest.raises(Exception, match="rolled back"):
        await pay()
    assert everywhere.kept() == []


@pytest.mark.rule("T6")
async def test_set_rollback_only_rolls_back_and_returns(everywhere: World) -> None:
    """A decision, not an accident: the value is returned, nothing is raised or kept."""

    @everywhere.transactional()
    async def pay() -> str:
        await everywhere.write("rent")
        set_rollback_only()
        return "not today"

    async with everywhere.unit():
        assert await pay() == "not today"
    assert everywhere.kept() == []
    assert everywhere.sent == ["INSERT", "ROLLBACK"]


@pytest.mark.rule("T6")
async def test_set_rollback_only_without_a_unit_of_work_around(world: World) -> None:
    """The call has a unit of work of its own, in which the scope is found."""
    async with world.scope():
        await world.write("rent")
        set_rollback_only()
    assert world.kept() == []


@pytest.mark.rule("T6", "T3")
async def test_set_rollback_only_answers_a_swallowed_failure(world: World) -> None:
    """The code says that it knows: no UnexpectedRollbackError."""

    @world.transactional()
    async def withdraw() -> None:
        await world.write("withdrawn")
        raise ValueError

    @world.transactional()
    async def pay() -> str:
        try:
            await withdraw()
        except ValueError:
            set_rollback_only()
        return "no money"

    async with world.unit():
        assert await pay() == "no money"
    assert world.kept() == []


@pytest.mark.rule("T6")
async def test_set_rollback_only_in_a_joined_call_dooms_the_whole(world: World) -> None:
    """The nearest physical unit is the transaction, and the outer returns normally."""

    @world.transactional()
    async def veto() -> None:
        set_rollback_only()

    @world.transactional()
    async def pay() -> str:
        await world.write("rent")
        await veto()
        await world.write("more")
        return "done"

    async with world.unit():
        assert await pay() == "done"
    assert world.kept() == []


@pytest.mark.rule("T6", "T4")
async def test_set_rollback_only_in_a_savepoint_dooms_that_alone(everywhere: World) -> None:
    """The nearest physical unit is the savepoint."""

    @everywhere.transactional(propagation=Propagation.NESTED)
    async def attempt() -> str:
        await everywhere.write("tried")
        set_rollback_only()
        return "tried"

    @everywhere.transactional()
    async def pay() -> str:
        await everywhere.write("rent")
        return str(await attempt())

    async with everywhere.unit():
        assert await pay() == "tried"
    assert everywhere.kept() == ["rent"]


@pytest.mark.rule("T6", "T5")
async def test_set_rollback_only_in_a_new_scope_leaves_the_outer_alone(world: World) -> None:
    """REQUIRES_NEW has a transaction of its own, and is the nearest one."""

    @world.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit() -> None:
        await world.write("audit")
        set_rollback_only()

    async with world.unit(), world.scope():
        await audit()
        await world.write("rent")
    assert world.kept() == ["rent"]


@pytest.mark.rule("T6")
async def test_an_exception_after_set_rollback_only_is_raised(world: World) -> None:
    """The decision does not hide what happens later."""
    with pytest.raises(ValueError, match="later"):
        async with world.scope():
            await world.write("rent")
            set_rollback_only()
            raise ValueError("later")
    assert world.kept() == []


@pytest.mark.rule("T6")
async def test_set_rollback_only_without_a_scope_is_refused(world: World) -> None:
    """In a unit of work, after a scope has ended, and outside of everything."""
    async with world.unit():
        with pytest.raises(NoActiveScopeError, match="session_scope"):
            set_rollback_only()
        async with world.scope():
            await world.write("rent")
        with pytest.raises(NoActiveScopeError):
            set_rollback_only()
    with pytest.raises(NoActiveScopeError):
        set_rollback_only()
    assert world.kept() == ["rent"]


@pytest.mark.rule("T6", "T2")
async def test_set_rollback_only_does_not_reach_a_suspended_scope(world: World) -> None:
    """NOT_SUPPORTED suspends the scope, so there is none to doom."""

    @world.transactional(propagation=Propagation.NOT_SUPPORTED)
    async def look() -> None:
        with pytest.raises(NoActiveScopeError):
            set_rollback_only()

    async with world.unit(), world.scope():
        await world.write("rent")
        await look()
    assert world.kept() == ["rent"]


@pytest.mark.rule("T2", "T3")
@pytest.mark.parametrize("propagation", [Propagation.NEVER, Propagation.MANDATORY])
async def test_a_refusal_at_entry_does_not_doom_the_outer_scope(
    world: World, propagation: Propagation
) -> None:
    """The refused function did nothing, so the caller may go on without it."""

    @world.transactional(propagation=Propagation.NOT_SUPPORTED)
    async def outside() -> None:
        await refused()

    @world.transactional(propagation=propagation)
    async def refused() -> None:
        never()

    async with world.scope():
        await world.write("rent")
        with pytest.raises(PropagationError):
            await (refused() if propagation is Propagation.NEVER else outside())
    assert world.kept() == ["rent"]
