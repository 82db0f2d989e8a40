"""Units of live requests: found by the request, lost with it, never mixed up."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from flask_reqsession.effects import Failed, Ok
from flask_reqsession.units import Failures, Unit, Units


class Request:
    """Something that a unit belongs to."""


def have_open(unit: Unit) -> None:
    """Let ``unit`` have something open."""
    opened: list[Any] = unit.opened
    opened.append("a port")


@pytest.mark.rule("M12")
def test_a_unit_is_found_by_its_request_alone() -> None:
    """An object at the address of one that is gone is another one."""
    units = Units()
    one, two = Request(), Request()
    units.add(one, Unit("request"))
    found = units.get(one)
    assert found is not None
    assert units.get(two) is None
    del one
    assert [units.get(Request()) for _ in range(100)] == [None] * 100
    assert units.all() == []


@pytest.mark.rule("M12")
def test_an_orphan_is_handed_out_once() -> None:
    """If it has something open; until then it is among all units, for a fork."""
    units = Units()
    empty, open_unit, key = Unit("request"), Unit("request"), Request()
    have_open(open_unit)
    units.add(key, open_unit)
    units.add(other := Request(), empty)
    del key, other
    gc.collect()
    assert units.all() == [open_unit]
    assert units.take_orphans() == [open_unit]
    assert units.take_orphans() == []


@pytest.mark.rule("M12")
def test_a_unit_that_replaces_another_one_is_kept_as_long() -> None:
    """The key was there before."""
    units, key = Units(), Request()
    first, second = Unit("request"), Unit("request")
    have_open(second)
    units.add(key, first)
    units.add(key, second)
    assert units.get(key) is second
    del key
    assert units.take_orphans() == [second]


@pytest.mark.rule("M11")
def test_a_unit_knows_the_context_that_it_began_in() -> None:
    """Not a copy of it; one opened by hand began in none."""
    context, copy = Request(), Request()
    unit = Unit("request", context)
    assert unit.began_in(context)
    assert not unit.began_in(copy)
    assert not Unit("unit of work").began_in(copy)


@pytest.mark.rule("M19")
def test_failures_of_closing_become_notes_and_only_an_exit_is_raised() -> None:
    """The first exit, after everything was seen."""
    error = ValueError("body")
    failures = Failures(error)
    first, second = KeyboardInterrupt("first"), SystemExit("second")
    for outcome in (Ok(), Failed(OSError("gone")), Failed(first), Failed(second)):
        failures.see(outcome)
    with pytest.raises(KeyboardInterrupt) as raised:
        failures.raise_exit()
    assert raised.value is first
    assert error.__notes__ == [
        "CLOSE also failed: OSError: gone",
        "CLOSE also failed: KeyboardInterrupt: first",
        "CLOSE also failed: SystemExit: second",
    ]
    failures.raise_exit()
    Failures(None).see(Failed(OSError("gone")))
