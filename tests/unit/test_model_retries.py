"""The reference model of calls that are run again, against outcomes worked out by hand."""

from __future__ import annotations

import pytest

from flask_reqsession.testing.outcomes import Caught, Raised
from flask_reqsession.testing.steps import (
    Add,
    ByHand,
    Call,
    Execute,
    Flake,
    Options,
    PropagationName,
    Raise,
    Register,
    Step,
    Violate,
)
from tests.unit.predictions import outcome_of, swallow


def call(*body: Step, retry: int = 3, propagation: PropagationName = "REQUIRED") -> Call:
    """Call a function that may be run again."""
    return Call("call1", Options(propagation, retry=retry), body)


@pytest.mark.rule("T20", "T23")
def test_only_the_last_attempt_is_kept() -> None:
    """Its row has the number of its attempt, and the hooks are its own."""
    waiting = Register("on_completion", "waiting", ())
    hook = Register("on_rollback", "hook", ())
    outcome = outcome_of(call(Add(1), Execute(2), waiting, hook, Flake(2, 9)))
    assert (outcome.rows, outcome.error) == (frozenset({2001, 2002}), None)
    assert outcome.hooks == ("waiting",)


@pytest.mark.rule("T25")
@pytest.mark.parametrize("attempts", [1, 2])
def test_when_attempts_run_out_the_last_error_says_so(attempts: int) -> None:
    """Nothing is kept, and the hooks of the last attempt run."""
    hook = Register("on_rollback", "hook", ())
    outcome = outcome_of(call(Add(1), hook, Flake(3, 9), retry=attempts))
    assert outcome.error == Raised("FlakyError", 9, attempts=(attempts,))
    assert (outcome.rows, outcome.hooks) == (frozenset(), ("hook",))


@pytest.mark.rule("T21")
def test_nothing_else_is_run_again() -> None:
    """Not another error, nor one that left what was committed, nor one of a hook."""
    assert outcome_of(call(Add(1), Raise("TroubleError", 9))).error == Raised("TroubleError", 9)
    kept = Options(retry=3, no_rollback_for=("FlakyError",))
    outcome = outcome_of(Call("call1", kept, (Add(1), Flake(1, 9))))
    assert (outcome.rows, outcome.error) == (frozenset({1}), Raised("FlakyError", 9))
    hook = Register("on_commit", "hook", (Flake(1, 9),), is_robust=False)
    outcome = outcome_of(call(Add(1), hook))
    assert (outcome.rows, outcome.error) == (frozenset({1}), Raised("FlakyError", 9))


@pytest.mark.rule("T22")
@pytest.mark.parametrize("propagation", ["REQUIRED", "NESTED"])
def test_half_a_transaction_is_not_run_again(propagation: PropagationName) -> None:
    """The refusal dooms nothing; on a session of its own a call may be run again."""
    inner = swallow(call(Add(1), propagation=propagation))
    outcome = outcome_of(Call("outer", Options(), (Add(2), inner)))
    refusal = Raised("RetryNotAllowedError", 0, frozenset({"call1", "outer"}))
    assert (outcome.rows, outcome.events) == (frozenset({2}), (Caught(50, refusal),))
    new = call(Add(1), Flake(1, 9), propagation="REQUIRES_NEW")
    assert outcome_of(Call("outer", Options(), (Add(2), new))).rows == {1001, 2}


@pytest.mark.rule("T8")
def test_earlier_work_is_not_run_again() -> None:
    """Unless it is lost already."""
    refusal = Raised("RetryNotAllowedError", 0, frozenset({"call1"}))
    retried = call(Add(1), Flake(1, 9))
    assert outcome_of(Add(2), retried).error == refusal
    assert outcome_of(Execute(2), retried).error == refusal
    assert outcome_of(Add(2), ByHand("commit"), retried).rows == {1001, 2}
    assert outcome_of(Execute(2), ByHand("rollback"), retried).rows == {1001}
    assert outcome_of(Execute(2), swallow(Violate()), retried).rows == {1001}


@pytest.mark.rule("T20", "T25")
def test_what_is_run_again_may_run_again_what_is_inside() -> None:
    """Each has attempts of its own, and the error tells of both."""
    inner = Call("inner", Options("REQUIRES_NEW", retry=2), (Add(1), Flake(5, 9)))
    outcome = outcome_of(call(Add(2), inner, retry=3))
    assert (outcome.rows, outcome.error) == (frozenset({5001, 2002}), None)
    outcome = outcome_of(call(Add(2), inner, retry=2))
    assert outcome.error == Raised("FlakyError", 9, attempts=(2, 2))
