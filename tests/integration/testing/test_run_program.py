"""A program is executed as it is written, and what is seen of it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from flask_reqsession import DatabaseManager, RequestScopedSessionManager
from flask_reqsession.testing import Outcome, Program, arun_program, predict, run_program
from flask_reqsession.testing.programs import Reply, View
from flask_reqsession.testing.running.at_once import at_once
from flask_reqsession.testing.steps import (
    Abort,
    Add,
    Block,
    ByHand,
    Call,
    Doom,
    Execute,
    Flake,
    Flush,
    Generate,
    Options,
    Raise,
    Read,
    Register,
    Savepoint,
    Step,
    Try,
    Violate,
)
from tests.servers.connections import Rows, async_url_of

Run = Callable[[Program], Outcome]


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest, sqlite_file_url: str) -> Iterator[Run]:
    """Give the function that runs a program on a SQLite file, in either colour."""
    databases = DatabaseManager(sqlite_file_url, async_source=async_url_of(sqlite_file_url))
    manager = RequestScopedSessionManager(databases)
    if request.param == "sync":
        yield lambda program: run_program(program, manager)
    else:
        yield lambda program: asyncio.run(arun_program(program, manager))
    databases.dispose()


HOOKS = (
    Register("before_commit", "hook21", (Add(22),)),
    Register("on_commit", "hook23", (Add(24), Raise("TroubleError", 24))),
    Register("on_completion", "hook24", ()),
)
RETRIED = Options(retry=2)
EVERYTHING = Program(
    "unit",
    (
        Block("block1", Options(), (Execute(2), Flush(), Savepoint((Add(3),)), Read())),
        Try((Call("call4", Options("NESTED"), (Add(5), Violate())),), "swallow", 6),
        Try((Try((Raise("Halt", 7),), "reraise", 8),), "swallow", 9),
        Call("call10", Options("REQUIRES_NEW"), (Add(11), Doom())),
        Add(12),
        ByHand("commit"),
        Try((Call("call13", Options("MANDATORY"), ()),), "swallow", 14),
        Generate("generator15", Options(), (Add(16),), (Read(),), (Add(17),), is_closed=False),
        Generate("generator18", Options(), (Add(19),), (), (), is_closed=True),
        Call("call20", Options(), HOOKS),
        Try((Call("call27", RETRIED, (Add(28), Flake(1, 29), Abort(409, 30))),), "swallow", 31),
        Try((Call("call32", RETRIED, (Add(33), Flake(3, 34))),), "swallow", 35),
        Call("call36", RETRIED, (Flake(1, 37), Execute(38))),
        ByHand("close"),
        Add(39),
        ByHand("rollback"),
        Try((Raise("TroubleError", 25),), "convert", 26),
    ),
)


@pytest.mark.rule("K4")
def test_every_kind_of_step_is_executed(run: Run, rows: Rows, sqlite_file_url: str) -> None:
    """What comes of it is what the model says, and what a second connection sees."""
    outcome = run(EVERYTHING)

    assert outcome == predict(EVERYTHING)
    assert outcome.rows == {2, 3, 12, 16, 17, 22, 38}
    assert outcome.hooks == ("hook21", "hook23", "hook24")
    seen = rows(sqlite_file_url, "SELECT number FROM reqsession_program_row ORDER BY number")
    assert {row for (row,) in seen} == outcome.rows | {0}


@pytest.mark.rule("K4")
def test_a_program_starts_from_an_empty_table(run: Run) -> None:
    """Nothing of one program is left for the next."""
    program = Program("bare", (Call("call1", Options(), (Add(2),)),))
    assert [run(program).rows, run(program).rows] == [{2}, {2}]


@pytest.mark.rule("K4")
def test_a_session_that_cannot_be_used_is_told(run: Run) -> None:
    """A failed flush that was swallowed outside of every scope leaves such a one."""
    program = Program("unit", (Try((Violate(),), "swallow", 1),))
    assert run(program) == predict(program)
    assert not run(program).usable


@pytest.mark.rule("K4", "T15")
@pytest.mark.parametrize("options", [None, Options(), Options(rollback_on_status=(404,))])
@pytest.mark.parametrize(
    "reply",
    [
        Reply(),
        Reply("json"),
        Reply("tuple", 409),
        Reply("response", 503),
        Reply("response", 204),
        Reply("redirect", 302),
        Reply("error", 404),
        Reply("nothing"),
    ],
)
def test_a_program_starts_in_a_request(run: Run, options: Options | None, reply: Reply) -> None:
    """In a view, decorated or not, whose answer the client gets."""
    program = Program(
        "request", (Add(1), Call("call2", Options(), (Read(),))), View(options, reply)
    )
    outcome = run(program)
    assert outcome == predict(program)
    assert outcome.status == (None if reply.form == "nothing" else reply.status)


@pytest.mark.rule("K4", "T15", "T16")
@pytest.mark.parametrize("step", [Abort(204, 2), Abort(302, 2), Abort(409, 2), Raise("Halt", 2)])
def test_an_exception_leaves_the_view(run: Run, step: Step) -> None:
    """An HTTP exception is an answer, and any other one comes through to the caller."""
    program = Program("request", (Add(1), step), View(Options()))
    assert run(program) == predict(program)


@pytest.mark.rule("K4")
def test_a_step_without_a_session_is_no_program(run: Run) -> None:
    """The error says where the step belongs."""
    outcome = run(Program("bare", (Add(1),)))
    assert outcome.error is not None
    assert outcome.error.kind == "ValueError"


def test_what_waits_is_not_run_at_once() -> None:
    """A coroutine that gives way to an event loop would never be resumed."""
    with pytest.raises(RuntimeError, match="event loop"):
        at_once(asyncio.sleep(0))
