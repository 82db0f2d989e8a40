"""The reference model of hooks, against the table of the contract, worked out by hand."""

from __future__ import annotations

import pytest

from flask_reqsession.testing.outcomes import Caught, Fired, Raised
from flask_reqsession.testing.steps import (
    Add,
    Call,
    Doom,
    HookName,
    Options,
    PropagationName,
    Raise,
    Register,
    Step,
    Violate,
)
from tests.unit.predictions import outcome_of, swallow

TROUBLE = Raise("TroubleError", 99)
THE_TROUBLE = Raised("TroubleError", 99)
ALL = tuple(
    Register(kind, kind, ())
    for kind in ("on_completion", "on_rollback", "on_commit", "before_commit")
)


def call(*body: Step, propagation: PropagationName = "REQUIRED") -> Call:
    """Call a function."""
    return Call("call1", Options(propagation), body)


def hooks_of(*body: Step) -> list[tuple[str, str]]:
    """Predict which hooks run, and what they are told."""
    events = outcome_of(*body).events
    return [(event.name, event.outcome) for event in events if isinstance(event, Fired)]


@pytest.mark.rule("T37")
def test_a_commit_runs_three_of_the_four() -> None:
    """Before it, after it, and what waits for either end."""
    expected = [("before_commit", ""), ("on_commit", ""), ("on_completion", "committed")]
    assert hooks_of(call(*ALL)) == expected


@pytest.mark.rule("T37")
@pytest.mark.parametrize("end", [TROUBLE, Doom(), swallow(call(TROUBLE))])
def test_a_rollback_runs_the_others(end: Step) -> None:
    """Whatever it came from."""
    expected = [("on_rollback", ""), ("on_completion", "rolled back")]
    assert hooks_of(swallow(call(*ALL, end))) == expected


@pytest.mark.rule("T35", "T37")
def test_a_released_savepoint_runs_nothing() -> None:
    """Its hooks wait for the end of the transaction."""
    nested = call(*ALL, propagation="NESTED")
    last = Register("before_commit", "last", ())
    assert outcome_of(call(nested, last)).hooks == (
        "before_commit",
        "last",
        "on_commit",
        "on_completion",
    )
    assert outcome_of(call(nested, TROUBLE)).hooks == ("on_rollback", "on_completion")


@pytest.mark.rule("T30", "T37")
def test_a_rolled_back_savepoint_drops_what_waited_in_it() -> None:
    """One kind runs right after it, one at the end of the transaction, which is committed."""
    nested = swallow(call(*ALL, TROUBLE, propagation="NESTED"))
    paid = Register("on_commit", "paid", ())
    assert hooks_of(call(nested, paid)) == [
        ("on_rollback", ""),
        ("paid", ""),
        ("on_completion", "rolled back"),
    ]


@pytest.mark.rule("T37")
def test_a_new_scope_has_hooks_of_its_own() -> None:
    """They wait for its COMMIT, whatever the outer does."""
    new = call(Register("on_commit", "new", ()), propagation="REQUIRES_NEW")
    outer = call(Register("on_commit", "outer", ()), new, TROUBLE)
    assert outcome_of(outer).hooks == ("new",)


@pytest.mark.rule("T31")
def test_a_hook_has_a_transaction_of_its_own() -> None:
    """It is committed, though the work was rolled back; and it may register hooks."""
    again = Register("on_commit", "again", (Add(3),))
    hook = Register("on_rollback", "hook", (Add(2), again))
    outcome = outcome_of(call(Add(1), hook, TROUBLE))
    assert (outcome.rows, outcome.hooks) == (frozenset({2, 3}), ("hook", "again"))


@pytest.mark.rule("T32")
@pytest.mark.parametrize("is_robust", [True, False])
def test_a_failing_hook_silences_no_other(is_robust: bool) -> None:
    """The data is committed; the caller is told only if that was asked for."""
    failing = Register("on_commit", "failing", (Add(2), TROUBLE), is_robust)
    outcome = outcome_of(call(Add(1), failing, Register("on_commit", "next", ())))

    assert (outcome.rows, outcome.hooks) == (frozenset({1}), ("failing", "next"))
    assert outcome.error == (None if is_robust else THE_TROUBLE)


@pytest.mark.rule("T32")
def test_an_exit_goes_on_whatever_the_hook_is() -> None:
    """It also takes the place of an exception that is none; else the first cause wins."""
    halt = Raised("Halt", 98)
    hook = Register("on_completion", "hook", (Raise("Halt", 98),))
    assert outcome_of(call(hook)).error == halt
    assert outcome_of(call(hook, TROUBLE)).error == halt
    failing = Register("on_completion", "failing", (TROUBLE,), is_robust=False)
    assert outcome_of(call(failing, Raise("Halt", 98))).error == halt
    assert outcome_of(call(failing, Raise("OtherTroubleError", 97))).error == Raised(
        "OtherTroubleError", 97
    )


@pytest.mark.rule("T33")
def test_before_commit_is_inside_the_transaction() -> None:
    """What it writes is committed, also by one that another one registered."""
    again = Register("before_commit", "again", (Add(3),))
    outcome = outcome_of(call(Add(1), Register("before_commit", "hook", (Add(2), again))))
    assert (outcome.rows, outcome.hooks) == (frozenset({1, 2, 3}), ("hook", "again"))


@pytest.mark.rule("T33")
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (TROUBLE, "TroubleError"),
        (Doom(), None),
        (swallow(call(TROUBLE)), "UnexpectedRollbackError"),
        (swallow(Violate()), "PendingRollbackError"),
    ],
)
def test_before_commit_may_prevent_it(step: Step, kind: str | None) -> None:
    """By raising, by dooming, and by breaking the session."""
    outcome = outcome_of(call(Add(1), Register("before_commit", "hook", (step,))))
    assert outcome.rows == frozenset()
    assert (None if outcome.error is None else outcome.error.kind) == kind


@pytest.mark.rule("T37")
@pytest.mark.parametrize("kind", ["before_commit", "on_rollback", "on_completion"])
def test_without_a_scope_a_hook_is_refused(kind: HookName) -> None:
    """There is nothing it could wait for."""
    outcome = outcome_of(swallow(Register(kind, "hook", ())))
    assert outcome.events == (Caught(50, Raised("NoActiveScopeError", 0, frozenset({"hook"}))),)
