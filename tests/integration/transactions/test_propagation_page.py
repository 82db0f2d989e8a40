"""``docs/propagation.md`` tells what the code does, in each cell of its tables."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import delete

from flask_reqsession import Propagation, PropagationError, UnexpectedRollbackError
from flask_reqsession.options import TransactionOptions
from flask_reqsession.outcome_rules import Rules
from flask_reqsession.propagation import Entry, ScopeSpec, entry_of
from flask_reqsession.scope import Scope
from tests.integration.transactions.worlds import Note, World
from tests.markdown import blocks_of

PAGE = Path(__file__).parents[3] / "docs" / "propagation.md"
TEXT = PAGE.read_text(encoding="utf-8")
RULES = Rules(TransactionOptions(), None)
SITUATIONS = [
    # (a scope is around, the call fails, the scope fails later)
    ("no scope, it returns", False, False, False),
    ("no scope, it raises", False, True, False),
    ("in a scope, both return", True, False, False),
    ("in a scope, its failure is swallowed", True, True, False),
    ("in a scope that fails later", True, False, True),
]
OURS = (PropagationError, UnexpectedRollbackError)


def table_after(heading: str) -> list[list[str]]:
    """Return the cells of the first table after a heading of the page, its header first."""
    lines = TEXT.partition(f"\n## {heading}\n")[2].partition("\n| ")[2].split("\n\n")[0]
    return [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in lines.split("\n")]


def named(cell: str) -> Propagation:
    """Return the propagation that a row is about."""
    return Propagation[cell.strip("[").split("]")[0].strip("`")]


def entry_in_words(propagation: Propagation, running: Scope | None) -> str:
    """Ask the code how a scope enters."""
    options = TransactionOptions(propagation=propagation)
    try:
        return entry_of(ScopeSpec("note()", "default", options, RULES), running, None).value
    except PropagationError:
        return Entry.REFUSE.value


@pytest.mark.rule("T2")
def test_the_page_tells_how_each_propagation_enters() -> None:
    """With no scope and in one, in the words of the code's own table."""
    _header, _line, *rows = table_after("How each one enters")

    running = Scope("pay()", RULES)
    assert rows == [
        [f"`{each.name}`", entry_in_words(each, None), entry_in_words(each, running)]
        for each in Propagation
    ]


def test_the_page_has_one_example_for_each_cell() -> None:
    """Below the heading of the propagation, which its row links to, in the order of the columns."""
    header, _line, *rows = table_after("What is kept")

    assert header[1:] == [name for name, *_what in SITUATIONS]
    assert [row[0] for row in rows] == [f"[`{p.name}`](#{p.name.lower()})" for p in Propagation]
    for propagation in Propagation:
        section = TEXT.partition(f"\n### `{propagation.name}`\n")[2].partition("\n##")[0]
        declared, *examples = [block.code for block in blocks_of(section)]
        assert f"Propagation.{propagation.name})" in declared
        for name, example in zip(header[1:], examples, strict=True):
            assert example.startswith(f"# {name}\n")
            assert f"{propagation.name.lower()}(" in example
            assert "assert kept() == [" in example


class FailedError(Exception):
    """What the body of a test raises."""


def fail_if(it_fails: bool) -> None:
    """Fail, or go on."""
    if it_fails:
        raise FailedError


async def what_is_kept(
    world: World, propagation: Propagation, *, around: bool, fails: bool, later: bool
) -> str:
    """Do what a cell is about, and tell what came of it in the words of the page."""

    @world.transactional(propagation=propagation)
    async def inner() -> None:
        await world.write("inner")
        fail_if(fails)

    async def outer() -> None:
        async with world.scope():
            try:
                await inner()
            except (FailedError, PropagationError):
                if not fails:
                    raise
            await world.write("outer")
            fail_if(later)

    error = ""
    try:
        await (outer() if around else inner())
    except FailedError:
        pass
    except OURS as refused:
        error = f", `{type(refused).__name__}`"
    kept = ", ".join(str(text) for text in world.kept())
    with world.second_connection() as connection:
        connection.execute(delete(Note))
    return (kept or "nothing") + error


@pytest.mark.rule("T2", "T3", "T4", "T5")
async def test_the_page_tells_what_is_kept(everywhere: World) -> None:
    """On every database, in both colours, as a second connection sees it."""
    _header, _line, *rows = table_after("What is kept")

    for row in rows:
        happened = [
            await what_is_kept(everywhere, named(row[0]), around=around, fails=fails, later=later)
            for _name, around, fails, later in SITUATIONS
        ]
        assert [row[0], *happened] == row
