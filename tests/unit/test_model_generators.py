"""The reference model of generators, against outcomes that were worked out by hand."""

from __future__ import annotations

import pytest

from flask_reqsession.testing.outcomes import Caught, Outcome, Raised
from flask_reqsession.testing.programs import Root
from flask_reqsession.testing.steps import (
    Add,
    Body,
    ByHand,
    Doom,
    Generate,
    Options,
    PropagationName,
    Raise,
    Step,
    Violate,
)
from tests.unit.predictions import call, outcome_of, swallow

TROUBLE = Raise("TroubleError", 99)
THE_TROUBLE = Raised("TroubleError", 99)
FIRST: Body = (Add(1),)
REST: Body = (Add(2),)


def generate(
    *between: Step,
    propagation: PropagationName = "REQUIRED",
    first: Body = FIRST,
    rest: Body = REST,
    is_closed: bool = False,
) -> Generate:
    """Take the steps of a generator that writes rows 1 and 2."""
    return Generate("steps", Options(propagation), first, between, rest, is_closed)


def first_caught(outcome: Outcome) -> Raised:
    """Return what was caught first."""
    return next(event.raised for event in outcome.events if isinstance(event, Caught))


@pytest.mark.rule("T11")
@pytest.mark.parametrize("root", ["unit", "bare"])
def test_a_generator_commits_when_it_is_exhausted(root: Root) -> None:
    """Closed early, or left by its consumer's exception, it rolls back."""
    assert outcome_of(generate(), root=root).rows == {1, 2}
    closed = outcome_of(generate(is_closed=True), root=root)
    assert (closed.rows, closed.error) == (frozenset(), None)
    left = outcome_of(generate(TROUBLE), root=root)
    assert (left.rows, left.error) == (frozenset(), THE_TROUBLE)
    failed = outcome_of(generate(rest=(TROUBLE,)), root=root)
    assert (failed.rows, failed.error) == (frozenset(), THE_TROUBLE)


@pytest.mark.rule("T11")
def test_the_scope_is_not_the_consumers() -> None:
    """It cannot doom it, and a scope of its own on the same session is refused meanwhile."""
    refusal = Raised("PropagationError", 0, frozenset({"call1", "steps"}))
    for propagation in ("REQUIRED", "NESTED"):
        inner = call("call1", Add(3), propagation=propagation)
        outcome = outcome_of(generate(swallow(inner)))
        assert (outcome.rows, first_caught(outcome)) == (frozenset({1, 2}), refusal)
    assert first_caught(outcome_of(generate(swallow(Doom())))).kind == "NoActiveScopeError"
    assert outcome_of(generate(call("call1", Add(3), propagation="REQUIRES_NEW"))).rows == {1, 2, 3}
    assert outcome_of(generate(Add(3), is_closed=True), call("call1")).rows == frozenset()


@pytest.mark.rule("T11", "T17")
def test_the_consumer_does_not_end_the_transaction_by_hand() -> None:
    """What a generator waits in is guarded too."""
    outcome = outcome_of(generate(swallow(ByHand("commit"))))
    assert outcome.rows == frozenset()
    assert outcome.error is not None
    assert outcome.error.kind == "UnexpectedRollbackError"


@pytest.mark.rule("T11", "T3")
def test_closing_a_joined_generator_early_dooms_what_it_joined() -> None:
    """Half of its work is a part of it."""
    outcome = outcome_of(call("outer", Add(3), generate(is_closed=True)))
    assert outcome.rows == frozenset()
    assert outcome.error is not None
    assert outcome.error.names == {"outer", "steps"}
    assert outcome.error.cause == Raised("GeneratorExit")


@pytest.mark.rule("T11", "T4")
def test_a_savepoint_takes_what_its_consumer_wrote_with_it() -> None:
    """So the outer is doomed then; what it had not written meanwhile is kept."""
    nested = swallow(generate(propagation="NESTED", rest=(TROUBLE,)))
    assert outcome_of(call("outer", Add(3), nested)).rows == {3}
    shared = swallow(generate(Add(4), propagation="NESTED", rest=(TROUBLE,)))
    outcome = outcome_of(call("outer", Add(3), shared))
    assert outcome.rows == frozenset()
    assert outcome.error is not None
    assert outcome.error.cause == Raised("PropagationError", 0, frozenset({"steps"}))


@pytest.mark.rule("T11", "T4")
def test_two_savepoints_do_not_take_turns() -> None:
    """The second is refused at its first step back, and only that is rolled back."""
    second = Generate("second", Options("NESTED"), (Add(4),), (), (), is_closed=False)
    outcome = outcome_of(call("outer", generate(swallow(second), propagation="NESTED")))
    assert outcome.rows == {1, 2}
    assert first_caught(outcome).names == {"outer", "second", "steps"}


@pytest.mark.rule("T11")
def test_a_broken_session_is_not_left_to_the_consumer() -> None:
    """The flush before the pause fails, where anything is to be flushed."""
    first = (swallow(Violate()), Add(1))
    nested = swallow(generate(propagation="NESTED", first=first))
    outcome = outcome_of(call("outer", Add(3), nested))
    assert outcome.rows == {3}


@pytest.mark.rule("T5", "T11")
def test_a_generator_on_a_session_of_its_own_is_independent() -> None:
    """Its consumer writes on the other one meanwhile."""
    new = generate(Add(3), propagation="REQUIRES_NEW")
    assert outcome_of(call("outer", new, TROUBLE)).rows == {1, 2}
    assert outcome_of(call("outer", generate(Add(3), propagation="NOT_SUPPORTED"))).rows == {3}
