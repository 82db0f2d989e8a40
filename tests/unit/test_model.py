"""The reference model, against outcomes that were worked out by hand from the contract."""

from __future__ import annotations

from typing import get_args

import pytest

from flask_reqsession.testing.outcomes import Caught, Raised, Seen
from flask_reqsession.testing.programs import Root
from flask_reqsession.testing.steps import (
    Add,
    Block,
    Body,
    ByHand,
    Call,
    Doom,
    Execute,
    Flush,
    Options,
    PropagationName,
    Raise,
    Read,
    Savepoint,
    Step,
    Try,
    Violate,
)
from tests.unit.predictions import call, outcome_of, swallow

TROUBLE = Raise("TroubleError", 99)
THE_TROUBLE = Raised("TroubleError", 99)


def rows_of(*body: Step, root: Root = "unit") -> set[int]:
    """Predict the rows of a program that raises nothing."""
    outcome = outcome_of(*body, root=root)
    assert outcome.error is None
    return set(outcome.rows)


@pytest.mark.rule("T1")
@pytest.mark.parametrize("root", get_args(Root))
@pytest.mark.parametrize("write", [Add(1), Execute(1)])
def test_a_call_commits_or_rolls_back(root: Root, write: Step) -> None:
    """A normal return keeps the rows, an exception loses them and goes on."""
    assert rows_of(call("call1", write), root=root) == {1}
    failed = outcome_of(call("call1", write, TROUBLE), root=root)
    assert (failed.rows, failed.error) == (frozenset(), THE_TROUBLE)


@pytest.mark.rule("M3")
def test_a_block_is_a_scope_too() -> None:
    """The outermost of two commits."""
    inner = Block("block1", Options(), (Add(1),))
    assert rows_of(Block("block2", Options(), (Add(2), inner))) == {1, 2}
    assert outcome_of(Block("block2", Options(), (inner, TROUBLE))).rows == frozenset()


@pytest.mark.rule("M9")
@pytest.mark.rule("T8")
def test_work_outside_of_scopes_is_lost_unless_a_scope_adopts_it() -> None:
    """A unit of work rolls back at its end what no scope committed."""
    assert rows_of(Add(1), Flush()) == set()
    assert rows_of(Add(1), call("call1", Add(2)), Add(3)) == {1, 2}
    assert outcome_of(Add(1), swallow(call("call1", TROUBLE))).rows == frozenset()


@pytest.mark.rule("T3")
def test_a_swallowed_failure_of_a_joined_call_dooms_all() -> None:
    """The outer is told, by an error that names both and has the inner exception as its cause."""
    inner = call("inner", Add(1), TROUBLE)
    outcome = outcome_of(call("outer", Add(2), swallow(inner), Add(3)))

    names = frozenset({"inner", "outer"})
    assert outcome.rows == frozenset()
    assert outcome.error == Raised("UnexpectedRollbackError", 0, names, THE_TROUBLE)
    assert outcome.events == (Caught(50, THE_TROUBLE),)


@pytest.mark.rule("T3")
def test_the_error_is_raised_where_the_doomed_unit_ends() -> None:
    """A joined call in between returns normally."""
    inner = call("inner", TROUBLE)
    between = call("between", swallow(inner))
    outcome = outcome_of(call("outer", between, Read()))

    assert [type(event) for event in outcome.events] == [Caught, Seen]
    assert outcome.error is not None
    assert outcome.error.names == {"inner", "outer"}


@pytest.mark.rule("T3", "T4")
def test_what_is_doomed_in_a_savepoint_is_the_savepoint() -> None:
    """The error is raised at the end of the NESTED scope, and the outer goes on."""
    nested = call("nested", Add(1), swallow(call("inner", TROUBLE)), propagation="NESTED")
    outcome = outcome_of(call("outer", Add(2), swallow(nested)))

    assert (outcome.rows, outcome.error) == (frozenset({2}), None)
    assert isinstance(outcome.events[1], Caught)
    assert outcome.events[1].raised.names == {"nested", "inner"}


@pytest.mark.rule("T4")
@pytest.mark.parametrize("failure", [TROUBLE, Violate(), Raise("Halt", 99)])
def test_a_failing_nested_scope_takes_nothing_along(failure: Step) -> None:
    """The outer's pending work and what it writes later are kept."""
    nested = call("nested", Execute(1), failure, propagation="NESTED")
    assert rows_of(call("outer", Add(2), swallow(nested), Add(3))) == {2, 3}


@pytest.mark.rule("T5")
def test_a_new_scope_decides_by_itself() -> None:
    """Its row survives the outer's rollback, its rollback leaves the outer alone."""
    new = call("new", Add(1), propagation="REQUIRES_NEW")
    assert outcome_of(call("outer", Add(2), new, TROUBLE)).rows == {1}
    failing = call("new", Add(1), TROUBLE, propagation="REQUIRES_NEW")
    assert rows_of(call("outer", Add(2), swallow(failing))) == {2}


@pytest.mark.rule("T2")
@pytest.mark.parametrize(
    ("propagation", "alone", "inside"),
    [
        ("REQUIRED", {1}, {1, 2}),
        ("REQUIRES_NEW", {1}, {1, 2}),
        ("NESTED", {1}, {1, 2}),
        ("SUPPORTS", set[int](), {1, 2}),
        ("MANDATORY", None, {1, 2}),
        ("NOT_SUPPORTED", set[int](), {2}),
        ("NEVER", set[int](), None),
    ],
)
def test_the_table_of_propagations(
    propagation: PropagationName, alone: set[int] | None, inside: set[int] | None
) -> None:
    """What is kept of row 1, without a scope and inside one that keeps row 2; None: refused."""
    inner = call("inner", Add(1), propagation=propagation)
    for expected, body in ((alone, inner), (inside, call("outer", Add(2), inner))):
        outcome = outcome_of(body)
        if expected is None:
            assert outcome.error is not None
            assert outcome.error.kind == "PropagationError"
        else:
            assert (outcome.rows, outcome.error) == (frozenset(expected), None)


@pytest.mark.rule("T2", "T7")
@pytest.mark.parametrize(
    "options", [Options("NEVER"), Options(durable=True), Options("NESTED", durable=True)]
)
def test_a_refusal_at_entry_dooms_nothing(options: Options) -> None:
    """The body does not run, and the outer commits."""
    refused = Call("inner", options, (Add(1),))
    outcome = outcome_of(call("outer", Add(2), swallow(refused)))

    assert outcome.rows == {2}
    refusal = Raised("PropagationError", 0, frozenset({"inner", "outer"}))
    assert outcome.events == (Caught(50, refusal),)


@pytest.mark.rule("T7")
@pytest.mark.parametrize("propagation", ["REQUIRED", "REQUIRES_NEW"])
def test_a_durable_scope_commits_where_it_is_outermost(propagation: PropagationName) -> None:
    """So does a new one inside of another."""
    durable = Call("durable", Options(propagation, durable=True), (Add(1),))
    assert rows_of(durable) == {1}
    if propagation == "REQUIRES_NEW":
        assert outcome_of(call("outer", durable, TROUBLE)).rows == {1}


@pytest.mark.rule("T6")
def test_set_rollback_only_rolls_back_without_raising() -> None:
    """Also where a swallowed failure had doomed the unit already; without a scope it is refused."""
    failed = swallow(call("inner", TROUBLE))
    assert rows_of(call("outer", Add(1), Doom())) == set()
    assert rows_of(call("outer", Add(1), failed, Doom())) == set()
    assert rows_of(call("outer", Add(1), call("nested", Add(2), Doom(), propagation="NESTED"))) == {
        1
    }
    assert outcome_of(Doom()).error == Raised("NoActiveScopeError")


@pytest.mark.rule("T14")
@pytest.mark.parametrize(
    ("raised", "kept"),
    [("TroubleError", True), ("WorseTroubleError", False), ("Halt", False)],
)
def test_the_most_specific_class_wins(raised: str, kept: bool) -> None:
    """With ``no_rollback_for`` the work is kept and the exception raised."""
    options = Options(rollback_for=("WorseTroubleError",), no_rollback_for=("TroubleError",))
    body: Body = (Add(1), Raise(raised, 99))  # type: ignore[arg-type]
    outcome = outcome_of(Call("call1", options, body))

    assert outcome.rows == ({1} if kept else set())
    assert outcome.error == Raised(raised, 99)


@pytest.mark.rule("T14", "T3")
def test_what_was_to_be_kept_and_is_not_is_told() -> None:
    """A doomed unit that ends with an exception of ``no_rollback_for`` says so."""
    options = Options(no_rollback_for=("TroubleError",))
    outcome = outcome_of(Call("outer", options, (Add(1), call("inner", TROUBLE))))

    assert outcome.rows == frozenset()
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.cause) == ("UnexpectedRollbackError", THE_TROUBLE)


@pytest.mark.rule("T17")
@pytest.mark.parametrize("work", ["commit", "rollback"])
@pytest.mark.parametrize("propagation", ["REQUIRED", "NESTED"])
def test_ending_by_hand_dooms_the_whole_transaction(
    work: str, propagation: PropagationName
) -> None:
    """From inside a savepoint too; swallowed, it comes up at the end."""
    by_hand = ByHand(work)  # type: ignore[arg-type]
    inner = call("inner", Add(1), swallow(by_hand), propagation=propagation)
    outcome = outcome_of(call("outer", Add(2), swallow(inner)))

    assert outcome.rows == frozenset()
    assert outcome.error is not None
    assert outcome.error.kind == "UnexpectedRollbackError"
    assert outcome.error.cause is not None
    assert outcome.error.cause.kind == "ManualCommitError"


@pytest.mark.rule("T17")
def test_outside_of_scopes_ending_by_hand_is_sqlalchemys() -> None:
    """A commit keeps, a rollback loses; one with nothing begun does nothing, in a scope too."""
    assert rows_of(Add(1), ByHand("commit"), Add(2), ByHand("rollback")) == {1}
    assert rows_of(ByHand("commit"), ByHand("rollback")) == set()
    assert rows_of(call("call1", ByHand("rollback"), Add(1))) == {1}


@pytest.mark.rule("T17")
@pytest.mark.parametrize("propagation", ["REQUIRED", "NESTED"])
def test_a_close_by_hand_loses_the_whole_transaction(propagation: PropagationName) -> None:
    """Nothing is raised there; the end says so. What comes after it is lost with the rest."""
    inner = call("inner", Add(1), ByHand("close"), Add(3), Read(), propagation=propagation)
    outcome = outcome_of(call("outer", Add(2), swallow(inner)))

    assert (outcome.rows, outcome.events[0]) == (frozenset(), Seen(frozenset({3})))
    assert outcome.error is not None
    assert outcome.error.kind == "UnexpectedRollbackError"
    assert outcome.error.cause is not None
    assert outcome.error.cause.kind == "ManualCommitError"


@pytest.mark.rule("T17", "M18")
def test_a_close_by_hand_that_loses_nothing_is_no_end() -> None:
    """The scope goes on with another session, and so does the request outside of scopes."""
    assert rows_of(call("call1", ByHand("close"), Add(1))) == {1}
    assert rows_of(Add(1), ByHand("close"), call("call1", Add(2))) == {2}
    outcome = outcome_of(call("call1", Add(1)), ByHand("close"), Read())
    assert (outcome.rows, outcome.events) == (frozenset({1}), (Seen(frozenset()),))


@pytest.mark.rule("T17")
def test_a_commit_by_hand_in_a_savepoint_is_refused_at_the_transaction() -> None:
    """SQLAlchemy has released the savepoint by then; nothing of it is kept all the same."""
    nested = call("nested", Add(1), swallow(ByHand("commit")), Read(), propagation="NESTED")
    outcome = outcome_of(call("outer", swallow(nested)))

    assert outcome.events[1] == Seen(frozenset({1}))
    assert outcome.rows == frozenset()


def test_a_failed_flush_stops_its_unit() -> None:
    """SQLAlchemy refuses everything until a rollback: at the end too, if that was swallowed."""
    pending = Raised("PendingRollbackError")
    broken = swallow(Violate())
    outcome = outcome_of(call("call1", Add(1), broken, swallow(Read()), Add(2)))
    assert outcome.events[1] == Caught(50, pending)
    assert (outcome.rows, outcome.error) == (frozenset(), pending)
    outcome = outcome_of(
        call("outer", Add(1), swallow(call("nested", broken, propagation="NESTED")))
    )
    assert (outcome.rows, outcome.error) == (frozenset({1}), None)
    assert outcome.events[1] == Caught(50, pending)


@pytest.mark.rule("M18")
def test_a_failed_flush_outside_of_scopes_leaves_the_session_to_a_rollback() -> None:
    """A scope that starts rolls back what is left of it."""
    assert not outcome_of(swallow(Violate())).usable
    assert rows_of(Add(1), swallow(Violate()), call("call1", Add(2))) == {2}
    assert outcome_of(swallow(Violate()), ByHand("rollback")).usable


def test_a_savepoint_of_sqlalchemys_own_is_no_unit() -> None:
    """It keeps, it loses, it ends silently after a failed flush, and shields no joined call."""
    assert rows_of(call("call1", Savepoint((Add(1),)))) == {1}
    assert rows_of(call("call1", Add(1), swallow(Savepoint((Add(2), TROUBLE))))) == {1}
    assert rows_of(call("call1", Add(1), Savepoint((Add(2), swallow(Violate()))), Add(3))) == {1, 3}
    # What is added after the failure is pending still when the block has closed.
    assert rows_of(call("call1", Savepoint((swallow(Violate()), Add(1))))) == {1}
    refused = Raised("InvalidRequestError")
    for step in (Execute(1), Read()):
        assert outcome_of(call("call1", Savepoint((swallow(Violate()), step)))).error == refused
    late = Savepoint((swallow(Violate()), Add(1), TROUBLE))
    assert rows_of(call("call1", swallow(late))) == {1}
    inner = swallow(call("inner", TROUBLE))
    assert outcome_of(call("outer", Savepoint((inner,)))).error is not None
    ended = Savepoint((Add(1), swallow(ByHand("rollback"))))
    assert outcome_of(call("outer", ended)).rows == frozenset()


def test_an_answer_is_seen() -> None:
    """An exception goes on as it is, or as the cause of another one."""
    again = outcome_of(Try((TROUBLE,), "reraise", 7))
    assert (again.error, again.events) == (THE_TROUBLE, (Caught(7, THE_TROUBLE),))
    converted = outcome_of(Try((TROUBLE,), "convert", 7))
    assert converted.error == Raised("OtherTroubleError", 7, cause=THE_TROUBLE)


def test_a_read_sees_what_its_session_wrote() -> None:
    """Pending rows are sent first; those of a suspended or new session are not its own."""
    new = call("new", Add(1), Read(), propagation="REQUIRES_NEW")
    outcome = outcome_of(call("outer", Add(2), new, Read()), Read())
    assert outcome.events == (Seen(frozenset({1})), Seen(frozenset({2})), Seen(frozenset({2})))


def test_a_step_without_a_session_is_no_program() -> None:
    """A bare program uses a session inside of calls and blocks only."""
    with pytest.raises(LookupError, match="no session"):
        outcome_of(Add(1), root="bare")
