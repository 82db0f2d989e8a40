"""The strategy draws programs that the database can run, of every kind."""

from __future__ import annotations

import pytest
from hypothesis import find, given, settings
from hypothesis.strategies import SearchStrategy

from flask_reqsession.testing import Program, predict, scope_programs
from flask_reqsession.testing.outcomes import Caught
from flask_reqsession.testing.steps import Body, Savepoint, Step, Try

FEW = settings(max_examples=200)


def inside(step: Step) -> Body:
    """Return the steps that stand in ``step``."""
    body: Body = getattr(step, "body", ())
    return body


def size(body: Body) -> int:
    """Count the steps of a body and all that are in them."""
    return sum(1 + size(inside(step)) for step in body)


@pytest.mark.rule("K4")
@FEW
@given(scope_programs(steps=12))
def test_a_program_has_a_limited_size(program: Program) -> None:
    """And every one of them can be predicted and printed."""
    assert size(program.body) <= 12
    assert predict(program).held == 0
    compile(repr(program) + "\npass", "program", "exec")


@pytest.mark.rule("K4")
@pytest.mark.parametrize(
    "programs",
    [
        scope_programs(),
        scope_programs(second_writer=False),
        scope_programs(second_session=False),
        scope_programs(roots=["bare"]),
    ],
)
def test_what_can_happen_is_drawn(programs: SearchStrategy[Program]) -> None:
    """Every kind of failure and of hook, in some program, whatever the limits are."""
    kinds: set[str] = set()
    hooks: set[str] = set()

    @settings(max_examples=500)
    @given(programs)
    def collect(program: Program) -> None:
        outcome = predict(program)
        kinds.add("" if outcome.error is None else outcome.error.kind)
        kinds.update(event.raised.kind for event in outcome.events if isinstance(event, Caught))
        hooks.update(outcome.hooks)

    collect()
    assert hooks
    assert kinds >= {
        "",
        "Halt",
        "IntegrityError",
        "ManualCommitError",
        "PropagationError",
        "UnexpectedRollbackError",
    }


@pytest.mark.rule("K4")
def test_a_counterexample_shrinks_to_its_core() -> None:
    """What does not matter is gone from the example that is shown."""
    smallest = find(
        scope_programs(roots=["unit"]),
        lambda program: any(isinstance(step, Try) for step in program.body),
    )
    assert smallest == Program("unit", (Try((), "swallow", 1),))
    assert inside(Savepoint(())) == ()
