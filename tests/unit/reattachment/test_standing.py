"""The table of standings and steps, and what the documentation says about it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flask_reqsession.reattachment.standing import Standing, Step

PAGE = Path(__file__).parents[3] / "docs" / "reattachment.md"


def rows_of(first: str) -> list[list[str]]:
    """Return the cells of the page's table whose first heading is ``first``."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    assert found is not None
    return [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in found[1].splitlines()
    ]


@pytest.mark.rule("R3", "R4", "R5", "R6", "R7")
def test_the_documented_table_is_the_one_that_is_followed() -> None:
    """Each standing, with its steps."""
    assert rows_of("standing") == [
        [each.name, each.meaning, each.unchanged.name, each.changed.name] for each in Standing
    ]


def test_the_documented_steps_are_those_that_there_are() -> None:
    """Each step, in words."""
    assert rows_of("step") == [[step.name, step.value] for step in Step]
