"""What the package does with a random program is what the reference model says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings

from flask_reqsession.testing import Program, predict
from tests.stateful.arenas import Arena, async_arena, sync_arena
from tests.stateful.rare_programs import RARE

EXAMPLES = {"sync": 20 * settings().max_examples, "async": 10 * settings().max_examples}
"""2,000 and 1,000 with the profile of commits, and more with ``--hypothesis-profile=nightly``.

Both colours perform the same flows.
"""

BACKENDS = ["sqlite_file", "sqlite_memory", "postgresql", "mariadb"]


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest) -> str:
    """Give the colour in which the programs run."""
    colour: str = request.param
    return colour


@pytest.fixture(params=BACKENDS)
def arena(request: pytest.FixtureRequest, colour: str) -> Iterator[Arena]:
    """Give each backend in each colour, for all the programs of a test."""
    url = request.getfixturevalue(f"{request.param}_url")
    with (sync_arena if colour == "sync" else async_arena)(url) as arena:
        yield arena


def judge(arena: Arena, program: Program) -> None:
    """Run ``program``, and compare what came of it with the prediction."""
    outcome = arena.run(program)
    assert outcome == predict(program)
    assert arena.kept(outcome) == outcome.rows


@pytest.mark.rule("K4", "T8", "T15", "T17", "T20", "T23", "T25")
def test_a_rare_program_does_what_the_model_predicts(arena: Arena) -> None:
    """What random programs come across in one of a thousand is there in every run."""
    for program in RARE.values():
        judge(arena, program)


def uncounted(act: Callable[[Arena], object], arena: Arena) -> None:  # pragma: no cover
    """Call ``act`` without the tracer of coverage, with which it would take twice as long."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        act(arena)
    finally:
        sys.settrace(tracer)


@pytest.mark.timeout(1800)
@pytest.mark.rule("K4", "T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8", "T11", "T14", "T15")
@pytest.mark.rule("T16", "T17", "T20", "T22", "T23", "T25", "T50", "M9", "M10", "M17", "M18")
@pytest.mark.rule("T30", "T31", "T32", "T33", "T35", "T37")
def test_a_program_does_what_the_model_predicts(arena: Arena, colour: str) -> None:
    """Rows, hooks, exceptions, reads, a usable session, no connection held: as it says."""
    judge_all = given(program=arena.programs)
    settings(max_examples=1)(judge_all(judge))(arena)
    uncounted(settings(max_examples=EXAMPLES[colour])(judge_all(judge)), arena)
