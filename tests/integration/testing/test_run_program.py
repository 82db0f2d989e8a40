"""A program is executed as it is written, and what is seen of it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from flask_reqsession import DatabaseManager, RequestScopedSessionManager
from flask_reqsession.testing import Outcome, Program, arun_program, predict, run_program
from flask_reqsession.testing.running.at_once import at_once
from flask_reqsession.testing.steps import (
    Add,
    Block,
    ByHand,
    Call,
    Doom,
    Execute,
    Flush,
    Generate,
    Options,
    Raise,
    Read,
    Register,
    Savepoint,
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
        Try((Raise("TroubleError", 25),), "convert", 26),
    ),
)


@pytest.mark.rule("K4")
def test_every_kind_of_step_is_executed(run: Run, rows: Rows, sqlite_file_url: str) -> None:
    """What comes of it is what the model says, and what a second connection sees."""
    outcome = run(EVERYTHING)

    assert outcome == predict(EVERYTHING)
    assert outcome.rows == {2, 3, 12, 16, 17, 22}
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


@pytest.mark.rule("K4")
def test_a_program_starts_in_a_request(sqlite_file_url: str) -> None:
    """In a view, whose exception comes through to the caller."""
    manager = RequestScopedSessionManager(sqlite_file_url)
    body = (Add(1), Call("call2", Options(), (Read(),)), Add(3), Raise("TroubleError", 4))
    program = Program("request", body)

    assert run_program(program, manager) == predict(program)
    assert predict(program).rows == {1}
    assert run_program(Program("request", body[:3]), manager).error is None
    with pytest.raises(ValueError, match="root='unit'"):
        asyncio.run(arun_program(program, manager))
    manager.databases.dispose()


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
