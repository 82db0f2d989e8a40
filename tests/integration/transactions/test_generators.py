"""A generator keeps its scope open until it ends, and its consumer does not see it."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from flask import Flask, Response, stream_with_context
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from flask_reqsession import (
    ConfigurationError,
    ManualCommitError,
    NoActiveScopeError,
    Propagation,
    PropagationError,
    RequestScopedSessionManager,
    RetryNotAllowedError,
    ScopeOwnershipError,
    UnexpectedRollbackError,
    set_rollback_only,
)
from tests.integration.transactions.worlds import Note, SyncWorld
from tests.never import never

Notes = Callable[..., Generator[str, Any, str]]


@pytest.fixture
def manager(sync_world: SyncWorld) -> RequestScopedSessionManager:
    """Give the manager alone."""
    return sync_world.manager


def notes_of(sync_world: SyncWorld, **options: Any) -> Notes:
    """Return a generator that writes a note in each step, and one at its end."""

    @sync_world.manager.transactional(**options)
    def notes(*texts: str) -> Generator[str, Any, str]:
        for text in texts:
            sync_world.put(text)
            yield text
        sync_world.put("the end")
        return "value"

    return notes


@pytest.mark.rule("T11")
def test_an_exhausted_generator_commits_once_at_its_end(sync_world: SyncWorld) -> None:
    """Nothing is committed between the steps, and nothing sent before the first one."""
    steps = notes_of(sync_world)("one", "two")
    assert sync_world.conversation.checkouts == 0
    assert next(steps) == "one"
    assert next(steps) == "two"
    assert sync_world.kept() == []
    assert list(steps) == []
    assert sync_world.kept() == ["one", "two", "the end"]
    assert sync_world.sent == ["INSERT"] * 3 + ["COMMIT"]


@pytest.mark.rule("T11")
def test_the_return_value_passes_through(sync_world: SyncWorld) -> None:
    """``yield from`` gets what the body returned."""
    heard: list[str] = []

    def consume() -> Generator[str, Any, None]:
        heard.append((yield from notes_of(sync_world)("one")))

    assert list(consume()) == ["one"]
    assert heard == ["value"]
    assert sync_world.kept() == ["one", "the end"]


@pytest.mark.rule("T11")
def test_what_is_sent_reaches_the_body(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """send() gives the yield its value, in every step."""

    @manager.transactional
    def echo() -> Generator[str, str, None]:
        said = yield "ready"
        while said:
            sync_world.put(said)
            said = yield said.upper()

    steps = echo()
    assert next(steps) == "ready"
    assert steps.send("one") == "ONE"
    assert steps.send("two") == "TWO"
    with pytest.raises(StopIteration):
        steps.send("")
    assert sync_world.kept() == ["one", "two"]


@pytest.mark.rule("T11")
def test_what_is_thrown_reaches_the_body_which_may_go_on(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """A body that handles the exception has not failed: it commits at its end."""
    thrown = KeyError("thrown")
    caught: list[BaseException] = []

    @manager.transactional
    def patient() -> Generator[str, None, None]:
        sync_world.put("one")
        try:
            yield "one"
        except KeyError as error:
            caught.append(error)
        sync_world.put("two")
        yield "two"

    steps = patient()
    next(steps)
    assert steps.throw(thrown) == "two"
    assert caught == [thrown]
    assert list(steps) == []
    assert sync_world.kept() == ["one", "two"]


@pytest.mark.rule("T11", "T1")
@pytest.mark.parametrize(
    "thrown", [ValueError("thrown"), KeyboardInterrupt(), StopAsyncIteration()], ids=repr
)
def test_what_is_thrown_and_not_caught_rolls_back_and_is_the_same_object(
    sync_world: SyncWorld, thrown: BaseException
) -> None:
    """throw() of anything, the body lets it pass."""
    steps = notes_of(sync_world)("one", "two")
    next(steps)
    with pytest.raises(type(thrown)) as caught:
        steps.throw(thrown)
    assert caught.value is thrown
    assert sync_world.kept() == []
    assert list(steps) == []


@pytest.mark.rule("T11", "T1")
@pytest.mark.parametrize("raised", [ValueError("raised"), KeyboardInterrupt(), SystemExit()])
def test_what_the_body_raises_rolls_back_and_is_the_same_object(
    sync_world: SyncWorld, manager: RequestScopedSessionManager, raised: BaseException
) -> None:
    """In a later step, as much as in the first one."""

    @manager.transactional
    def failing(successes: int) -> Generator[int, None, None]:
        for number in range(successes):
            sync_world.put(f"note {number}")
            yield number
        raise raised

    for successes in (0, 2):
        with pytest.raises(type(raised)) as caught:
            list(failing(successes))
        assert caught.value is raised
    assert sync_world.kept() == []


@pytest.mark.rule("T11")
def test_a_generator_that_is_closed_early_rolls_back(sync_world: SyncWorld) -> None:
    """close() is an early end, and is quiet."""
    steps = notes_of(sync_world)("one", "two")
    next(steps)
    steps.close()
    assert sync_world.kept() == []
    assert sync_world.sent == ["INSERT", "ROLLBACK"]


@pytest.mark.rule("T11")
def test_a_generator_that_is_dropped_rolls_back(sync_world: SyncWorld) -> None:
    """A loop that is left by ``break`` closes the generator, since nobody holds it."""
    steps = notes_of(sync_world)("one", "two")
    assert next(steps) == "one"
    del steps
    assert sync_world.kept() == []
    assert sync_world.conversation.held == 0


@pytest.mark.rule("T11")
def test_a_body_that_swallows_its_close_is_rolled_back_all_the_same(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """It was closed before it was through; what it writes on its way out is lost, too."""

    @manager.transactional
    def stubborn() -> Generator[str, None, None]:
        sync_world.put("one")
        try:
            yield "one"
        except GeneratorExit:
            sync_world.put("last words")

    steps = stubborn()
    next(steps)
    steps.close()
    assert sync_world.kept() == []


@pytest.mark.rule("T11")
def test_a_body_that_ignores_its_close_is_told_so_by_python(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """Yielding once more is an error of the generator protocol; everything is rolled back."""

    @manager.transactional
    def deaf() -> Generator[str, None, None]:
        sync_world.put("one")
        try:
            yield "one"
        finally:
            yield "two"

    steps = deaf()
    next(steps)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        steps.close()
    assert sync_world.kept() == []


@pytest.mark.rule("T11")
def test_a_generator_that_was_never_started_does_nothing(sync_world: SyncWorld) -> None:
    """The scope opens at the first step."""
    steps = notes_of(sync_world)("one")
    steps.close()
    del steps
    notes_of(sync_world)("one")
    assert sync_world.conversation.checkouts == 0


# -- the consumer, between two steps ------------------------------------------------------------


@pytest.mark.rule("T11")
def test_the_scope_is_not_current_for_the_consumer(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """Nothing that the consumer calls joins it."""
    with manager.unit_of_work():
        steps = notes_of(sync_world)("one")
        next(steps)
        with pytest.raises(NoActiveScopeError):
            set_rollback_only()
        list(steps)
    assert sync_world.kept() == ["one", "the end"]


@pytest.mark.rule("T11", "M10")
def test_without_a_unit_of_work_the_consumer_has_none_between_the_steps(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """The generator's own unit of work is entered and left with each step."""
    steps = notes_of(sync_world)("one", "two")
    next(steps)
    with pytest.raises(NoActiveScopeError):
        manager.get_request_session()
    with manager.session_scope() as session:
        assert session.query(Note).count() == 0
    next(steps)
    list(steps)
    assert sync_world.kept() == ["one", "two", "the end"]


@pytest.mark.rule("T11")
@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.NESTED])
def test_an_outermost_scope_of_the_consumer_on_the_same_session_is_refused(
    sync_world: SyncWorld, manager: RequestScopedSessionManager, propagation: Propagation
) -> None:
    """Its commit would cut the generator's transaction in two. Afterwards it is allowed."""

    @manager.transactional(propagation=propagation)
    def pay() -> None:
        sync_world.put("rent")

    with manager.unit_of_work():
        steps = notes_of(sync_world)("one")
        next(steps)
        with pytest.raises(PropagationError, match=r"pay\(\).*notes\(\) is between two steps"):
            pay()
        list(steps)
        pay()
    assert sync_world.kept() == ["one", "the end", "rent"]


@pytest.mark.rule("T11", "T5")
def test_a_scope_of_the_consumer_with_a_session_of_its_own_is_allowed(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """REQUIRES_NEW, which the refusal recommends, commits by itself between two steps."""

    @manager.transactional
    def reading() -> Generator[int, None, None]:
        yield manager.session.query(Note).count()
        yield never()

    @manager.transactional(propagation=Propagation.REQUIRES_NEW)
    def audit() -> None:
        sync_world.put("audit")

    with manager.unit_of_work():
        steps = reading()
        next(steps)
        audit()
        assert sync_world.kept() == ["audit"]
        steps.close()
    assert sync_world.kept() == ["audit"]


@pytest.mark.rule("T11", "T17")
@pytest.mark.parametrize("swallowed", [False, True])
@pytest.mark.parametrize("act", [Session.commit, Session.rollback])
def test_a_manual_commit_of_the_consumer_between_two_steps_is_refused(
    sync_world: SyncWorld,
    manager: RequestScopedSessionManager,
    act: Callable[[Session], None],
    swallowed: bool,
) -> None:
    """The generator is doomed, and says so at its end if nobody else does."""
    with manager.unit_of_work():
        steps = notes_of(sync_world)("one")
        next(steps)
        with pytest.raises(ManualCommitError, match=r"notes\(\)"):
            act(manager.session)
        if swallowed:
            with pytest.raises(UnexpectedRollbackError) as caught:
                list(steps)
            assert isinstance(caught.value.__cause__, ManualCommitError)
        else:
            steps.close()
    assert sync_world.kept() == []


@pytest.mark.rule("T11")
def test_what_the_consumer_writes_between_the_steps_is_a_part_of_the_transaction(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """It is on the same session: committed or rolled back with the generator."""
    with manager.unit_of_work():
        for text in notes_of(sync_world)("one"):
            sync_world.put(f"after {text}")
    assert sync_world.kept() == ["one", "after one", "the end"]


# -- a generator inside a scope -----------------------------------------------------------------


@pytest.mark.rule("T11", "T3")
def test_a_generator_inside_a_scope_joins_it(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """Between the steps the scope around is current, as it was before."""
    with manager.session_scope():
        for text in notes_of(sync_world)("one"):
            with manager.session_scope():
                sync_world.put(f"after {text}")
        assert sync_world.kept() == []
    assert sync_world.kept() == ["one", "after one", "the end"]
    assert sync_world.sent == ["INSERT"] * 3 + ["COMMIT"]


@pytest.mark.rule("T11", "T3")
@pytest.mark.parametrize("early", [False, True])
def test_a_joined_generator_that_fails_or_is_closed_early_dooms_the_scope(
    sync_world: SyncWorld,
    manager: RequestScopedSessionManager,
    early: bool,
) -> None:
    """Half of its work must not be committed with the outer."""

    def consume() -> None:
        with manager.session_scope():
            steps = notes_of(sync_world)("one", "two")
            next(steps)
            if early:
                steps.close()
            else:
                with pytest.raises(ValueError, match="thrown"):
                    steps.throw(ValueError("thrown"))

    with pytest.raises(UnexpectedRollbackError, match=r"notes\(\)"):
        consume()
    assert sync_world.kept() == []


@pytest.mark.rule("T11", "T4")
def test_a_nested_generator_is_released_at_its_end(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """Its consumer may write between the steps, where the generator succeeds."""
    with manager.session_scope():
        sync_world.put("before")
        for text in notes_of(sync_world, propagation="NESTED")("one"):
            sync_world.put(f"after {text}")
    assert sync_world.kept() == ["before", "one", "after one", "the end"]


@pytest.mark.rule("T11", "T4")
def test_a_nested_generator_that_is_closed_early_rolls_back_to_its_savepoint(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """What it had pending is its own as well: it is flushed before the consumer goes on."""

    @manager.transactional(propagation=Propagation.NESTED)
    def pending() -> Generator[None, None, None]:
        manager.session.add(Note(text="pending"))
        yield

    with manager.session_scope():
        sync_world.put("before")
        for steps in (notes_of(sync_world, propagation="NESTED")("one"), pending()):
            next(steps)
            assert manager.session.query(Note).count() == 2
            steps.close()
        sync_world.put("after")
    assert sync_world.kept() == ["before", "after"]


@pytest.mark.rule("T11", "M7")
def test_what_was_written_before_a_pause_is_still_known_after_it(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """A session that is closed then has lost something, which is recorded as one rollback."""

    @manager.transactional(propagation=Propagation.NESTED)
    def nested() -> Generator[None, None, None]:
        sync_world.put("inside")
        yield

    with pytest.raises(UnexpectedRollbackError):
        with manager.session_scope() as session:
            sync_world.put("before")
            list(nested())
            session.close()
    assert sync_world.kept() == []
    assert manager.metrics.snapshot()["rollbacks"] == 1


@pytest.mark.rule("T11", "T4")
@pytest.mark.parametrize("sends", [False, True])
def test_a_failing_nested_generator_dooms_the_outer_that_wrote_between_its_steps(
    sync_world: SyncWorld,
    manager: RequestScopedSessionManager,
    sends: bool,
) -> None:
    """The rollback to its savepoint takes the consumer's work along: that is no success."""

    def consume() -> None:
        with manager.session_scope():
            steps = notes_of(sync_world, propagation="NESTED")("one", "two")
            next(steps)
            note = Note(text="the consumer's")
            manager.session.add(note)
            if sends:
                manager.session.flush()
            next(steps)
            steps.close()

    with pytest.raises(UnexpectedRollbackError, match="its consumer wrote") as caught:
        consume()
    assert isinstance(caught.value.__cause__, PropagationError)
    assert sync_world.kept() == []


@pytest.mark.rule("T11", "T4")
def test_nested_generators_cannot_take_turns(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """Savepoints end in the reverse order of their begin. One after the other they may."""
    nested = notes_of(sync_world, propagation="NESTED")
    with manager.session_scope():
        first, second = nested("one"), nested("two")
        next(first)
        with pytest.raises(PropagationError, match="take turns"):
            next(second)
        assert list(first) == []
        steps = nested("three")
        assert next(steps) == "three"
        steps.close()
        sync_world.put("after")
    assert sync_world.kept() == ["one", "the end", "after"]


@pytest.mark.rule("T11", "T4")
def test_a_nested_scope_inside_the_steps_of_a_nested_generator_is_legal(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """Both in its body and in its consumer's loop: each ends before the next step."""

    @manager.transactional(propagation=Propagation.NESTED)
    def attempt(text: str) -> None:
        sync_world.put(text)
        if text.startswith("bad"):
            raise ValueError

    @manager.transactional(propagation=Propagation.NESTED)
    def attempts() -> Generator[str, None, None]:
        for text in ("one", "bad", "two"):
            try:
                attempt(text)
            except ValueError:
                yield "failed"
            else:
                yield text

    with manager.session_scope():
        for result in attempts():
            attempt(f"after {result}")
    assert sync_world.kept() == ["one", "after one", "after failed", "two", "after two"]


@pytest.mark.rule("T11", "T4")
@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.NESTED])
def test_a_scope_cannot_end_while_a_nested_generator_stands_in_it(
    sync_world: SyncWorld, manager: RequestScopedSessionManager, propagation: Propagation
) -> None:
    """Its work is half done: neither commit nor release may keep it. Nothing else is touched."""
    left: list[Generator[str, Any, str]] = []

    @manager.transactional(propagation=propagation)
    def leave() -> None:
        left.append(notes_of(sync_world, propagation="NESTED")("one"))
        next(left[0])

    @manager.transactional
    def around() -> None:
        sync_world.put("before")
        with pytest.raises(PropagationError, match=r"leave\(\) ended while.*notes\(\)"):
            leave()
        with pytest.raises(PropagationError, match="has ended"):
            next(left[0])
        sync_world.put("after")

    if propagation is Propagation.NESTED:
        around()
        assert sync_world.kept() == ["before", "after"]
    else:
        with manager.unit_of_work():
            with pytest.raises(PropagationError, match=r"leave\(\) ended while.*notes\(\)"):
                leave()
            with manager.session_scope():
                sync_world.put("after")
        assert sync_world.kept() == ["after"]


@pytest.mark.rule("T11", "T5")
def test_a_generator_with_a_session_of_its_own_alternates_with_the_outer(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """In each step its own session is current, between them the outer's."""
    seen: list[Session] = []

    @manager.transactional(propagation=Propagation.REQUIRES_NEW)
    def audits() -> Generator[None, None, None]:
        for text in ("one", "two"):
            sync_world.put(text)
            seen.append(manager.session)
            yield

    with manager.session_scope() as session:
        for _ in audits():
            assert manager.session is session
        assert sync_world.kept() == ["one", "two"]
        sync_world.put("rent")
    assert seen[0] is seen[1]
    assert seen[0] is not session
    assert sync_world.kept() == ["one", "two", "rent"]


@pytest.mark.rule("T11", "T5")
def test_the_step_of_a_joined_generator_uses_its_own_session_wherever_it_is_asked_for(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """Also if the consumer is inside a REQUIRES_NEW scope, whose session is current again after."""
    used: list[Session] = []

    @manager.transactional
    def sessions() -> Generator[None, None, None]:
        while True:
            used.append(manager.session)
            yield

    @manager.transactional(propagation=Propagation.REQUIRES_NEW)
    def elsewhere(steps: Iterator[None]) -> None:
        mine = manager.session
        next(steps)
        assert manager.session is mine

    def consume() -> None:
        with manager.session_scope() as session:
            steps = sessions()
            next(steps)
            elsewhere(steps)
            assert manager.session is session
            assert used == [session, session]

    with pytest.raises(PropagationError, match=r"ended while the generator .*sessions\(\)"):
        consume()


@pytest.mark.rule("T11")
def test_a_generator_goes_on_only_in_the_scope_in_which_it_began(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """Inside a later savepoint its own would end too late."""

    @manager.transactional(propagation=Propagation.NESTED)
    def later(steps: Iterator[str]) -> None:
        with pytest.raises(PropagationError, match="is not the one in which it began"):
            next(steps)

    with pytest.raises(PropagationError, match="ended while"), manager.session_scope():
        steps = notes_of(sync_world, propagation="NESTED")("one", "two")
        next(steps)
        later(steps)
        assert list(steps) == []
    assert sync_world.kept() == []


@pytest.mark.rule("T4", "T11")
def test_a_generator_whose_savepoint_cannot_be_opened_does_not_run(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """What the outer had pending fails in the flush before it."""

    def pay() -> None:
        with manager.session_scope() as session:
            sync_world.put("rent")
            session.add(Note(text="rent"))
            with pytest.raises(IntegrityError):
                next(notes_of(sync_world, propagation="NESTED")("never"))

    with pytest.raises(Exception, match="rolled back"):
        pay()
    assert sync_world.kept() == []


# -- a generator that outlives what it runs in --------------------------------------------------


@pytest.mark.rule("T11")
def test_a_joined_generator_does_not_outlive_its_scope(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """The scope ends with half of its work: nothing is kept. The body learns of it, to clean up."""
    cleaned: list[str] = []

    @manager.transactional
    def lasting() -> Generator[str, None, None]:
        try:
            sync_world.put("one")
            yield "one"
            never()
        finally:
            cleaned.append("lasting")

    with manager.unit_of_work():
        with pytest.raises(PropagationError, match=r"lasting\(\), which is a part of it"):
            with manager.session_scope():
                steps = lasting()
                next(steps)
        with pytest.raises(PropagationError, match=r"lasting\(\) goes on after"):
            next(steps)
    assert cleaned == ["lasting"]
    assert sync_world.kept() == []


@pytest.mark.rule("T11", "M17")
@pytest.mark.parametrize("end", ["next", "close", "drop"])
@pytest.mark.parametrize("propagation", list(Propagation))
def test_a_generator_does_not_outlive_its_unit_of_work(
    sync_world: SyncWorld, manager: RequestScopedSessionManager, end: str, propagation: Propagation
) -> None:
    """Its session is gone with its request; what it wrote was rolled back; closing is quiet."""
    scoped = propagation is Propagation.MANDATORY
    with manager.unit_of_work():
        steps = notes_of(sync_world, propagation=propagation)("one", "two")
        with pytest.raises(PropagationError) if scoped else nullcontext():
            next(steps)
    assert sync_world.conversation.held == 0
    if end == "next":
        with pytest.raises(StopIteration if scoped else PropagationError):
            next(steps)
    elif end == "close":
        steps.close()
    del steps
    assert sync_world.kept() == []
    with manager.session_scope():
        sync_world.put("next")
    assert sync_world.kept() == ["next"]


@pytest.mark.rule("T11")
@pytest.mark.parametrize("answer", ["return", "go on"])
def test_a_body_that_swallows_a_refusal_does_not_end_well(
    sync_world: SyncWorld, manager: RequestScopedSessionManager, answer: str
) -> None:
    """Its consumer must not take it for exhausted, and gets no further value."""

    @manager.transactional
    def stubborn() -> Generator[str, None, None]:
        while True:
            try:
                sync_world.put("lost")
                yield "value"
            except PropagationError:
                if answer == "return":
                    return
                yield "one more"

    with manager.unit_of_work():
        steps = stubborn()
        next(steps)
    with pytest.raises(PropagationError, match="has ended"):
        next(steps)
    with pytest.raises(StopIteration):
        next(steps)
    assert sync_world.kept() == []


@pytest.mark.rule("T11")
def test_what_is_thrown_into_a_generator_that_is_over_is_the_context_of_the_refusal(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """The body gets the refusal, since it may not go on whatever it makes of the exception."""
    thrown = ValueError("thrown")
    with manager.unit_of_work():
        steps = notes_of(sync_world)("one", "two")
        next(steps)
    with pytest.raises(PropagationError, match="has ended") as caught:
        steps.throw(thrown)
    assert caught.value.__context__ is thrown


@pytest.mark.rule("T11", "M2")
def test_a_generator_does_not_go_on_after_its_session_was_closed_by_hand(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """close_request_session() between two steps: nothing is kept, and the body is told."""
    with manager.unit_of_work():
        steps = notes_of(sync_world)("one", "two")
        next(steps)
        manager.close_request_session()
        with manager.session_scope():
            sync_world.put("meanwhile")
        with pytest.raises(PropagationError, match="has ended"):
            next(steps)
        with manager.session_scope():
            sync_world.put("after")
    assert sync_world.kept() == ["meanwhile", "after"]


@pytest.mark.rule("T11", "M13")
def test_a_generator_of_a_unit_of_work_is_not_continued_by_another_thread(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """The session is one thread's; the owner can still use it afterwards."""
    refused: list[BaseException] = []

    def proceed() -> None:
        try:
            next(steps)
        except ScopeOwnershipError as error:
            refused.append(error)

    with manager.unit_of_work():
        steps = notes_of(sync_world)("one", "two")
        next(steps)
        thread = threading.Thread(target=proceed, name="the other")
        thread.start()
        thread.join()
        assert "the other" in str(refused)
        assert "MainThread" in str(refused)
    assert sync_world.kept() == []


@pytest.mark.rule("T11", "M10", "M13")
def test_a_generator_with_a_unit_of_its_own_may_be_handed_from_thread_to_thread(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """Nobody else can reach its session, and its steps come one after the other."""

    @manager.transactional
    def counting() -> Generator[bool, None, None]:
        yield manager.is_session_active()
        with manager.session_scope():
            yield True

    steps = counting()
    results = [contextvars.Context().run(next, steps)]
    thread = threading.Thread(target=lambda: results.append(next(steps)))
    thread.start()
    thread.join()
    assert results == [False, True]
    assert list(steps) == []


# -- Flask --------------------------------------------------------------------------------------


@pytest.fixture
def app(manager: RequestScopedSessionManager) -> Flask:
    """Give an app that the manager serves."""
    app = Flask("shop")
    manager.init_app(app)
    return app


@pytest.mark.rule("T11", "M22")
def test_a_streamed_response_commits_when_its_body_has_been_sent(
    sync_world: SyncWorld, manager: RequestScopedSessionManager, app: Flask
) -> None:
    """The body starts after the request's teardown, in a transaction of its own."""

    @app.get("/")
    def stream() -> Response:
        return Response(stream_with_context(notes_of(sync_world)("one", "two")))

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.text) == (200, "onetwo")
    answer.close()
    assert sync_world.kept() == ["one", "two", "the end"]
    assert sync_world.conversation.held == 0


@pytest.mark.rule("T11", "M22")
def test_a_streamed_response_that_the_client_leaves_is_rolled_back(
    sync_world: SyncWorld, manager: RequestScopedSessionManager, app: Flask
) -> None:
    """The server closes the body early."""

    @app.get("/")
    def stream() -> Response:
        return Response(stream_with_context(notes_of(sync_world)("one", "two")))

    answer = app.test_client().get("/", buffered=False)
    assert next(answer.iter_encoded()) == b"one"
    answer.close()
    assert sync_world.kept() == []
    assert sync_world.conversation.held == 0


@pytest.mark.rule("T11", "T15")
def test_a_generator_function_may_be_the_view_itself(
    sync_world: SyncWorld, manager: RequestScopedSessionManager, app: Flask
) -> None:
    """That a generator returns None is no missing response: it commits."""

    @app.get("/")
    @stream_with_context
    @manager.transactional
    def stream() -> Generator[str, None, None]:
        sync_world.put("one")
        yield "one"

    assert app.test_client().get("/").text == "one"
    assert sync_world.kept() == ["one"]


@pytest.mark.rule("T11")
def test_a_generator_without_a_request_of_its_own_cannot_outlive_the_request(
    sync_world: SyncWorld, manager: RequestScopedSessionManager, app: Flask
) -> None:
    """Begun in the view and streamed without stream_with_context: refused, not lost silently."""

    @app.get("/")
    def stream() -> Response:
        steps = notes_of(sync_world)("one", "two")
        next(steps)
        return Response(steps)

    with pytest.raises(PropagationError, match="stream_with_context"):
        app.test_client().get("/")
    assert sync_world.kept() == []


@pytest.mark.rule("T26")
def test_a_generator_cannot_be_retried(manager: RequestScopedSessionManager) -> None:
    """What it yielded cannot be taken back: refused at decoration."""

    def notes() -> Generator[str, None, None]:
        yield never()

    with pytest.raises(RetryNotAllowedError, match=r"notes\(\) is a generator function"):
        manager.transactional(retry=3)(notes)


@pytest.mark.rule("T11")
def test_a_context_manager_is_made_of_a_scoped_generator_not_scoped_itself(
    sync_world: SyncWorld, manager: RequestScopedSessionManager
) -> None:
    """Over @contextmanager the commit would come before the block: refused at decoration."""

    def writing(text: str) -> Generator[None, None, None]:
        sync_world.put(text)
        yield

    with pytest.raises(ConfigurationError, match=r"writing\(\).*directly on the generator"):
        manager.transactional(contextmanager(writing))
    block = contextmanager(manager.transactional(writing))
    with block("kept"):
        ...
    with pytest.raises(ValueError, match="^$"), block("lost"):
        raise ValueError
    assert sync_world.kept() == ["kept"]
