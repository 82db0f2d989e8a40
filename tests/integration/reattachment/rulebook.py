"""A model of the rules of reattachment, in plain data: it shares no code with the package.

Nodes have two columns and a parent with a lower number. One detached graph has all of them, further
detached copies have no parent loaded; a session has loaded, changed and deleted some.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Column: TypeAlias = Literal["a", "b", "parent"]
Values: TypeAlias = dict[Column, int | None]
COLUMNS: tuple[Column, ...] = ("a", "b", "parent")


@dataclass
class Copy:
    """A detached instance: what it was when it was loaded, and what it is now."""

    number: int
    base: Values
    now: Values
    leads: bool
    """Whether it has loaded its parent."""

    @property
    def changes(self) -> list[Column]:
        """The columns that were changed."""
        return [column for column in COLUMNS if self.now[column] != self.base[column]]


@dataclass
class Situation:
    """All that a call can meet."""

    graph: dict[int, Copy]
    loose: list[Copy]
    rows: dict[int, Values]
    """What is committed, others' changes included."""
    held: dict[int, Values] = field(default_factory=dict[int, Values])
    """What the session has, flushed or not."""
    deleted: set[int] = field(default_factory=set[int])
    """What the session has deleted."""


@dataclass
class Prediction:
    """What a call does."""

    refusals: set[str] = field(default_factory=set[str])
    """The errors that it may raise; none if it succeeds."""
    stale: bool = False
    """Whether the commit meets a row that is gone."""
    rows: dict[int, Values] = field(default_factory=dict[int, Values])
    """What is committed after it."""
    written: set[Column] = field(default_factory=set[Column])
    """The columns that may be updated."""


def predict(situation: Situation, arguments: list[Copy]) -> Prediction:
    """Apply the rules, one after the other, to whatever the arguments lead to."""
    prediction = Prediction()
    reached = _reach(situation, arguments, prediction)
    rows = {number: dict(values) for number, values in situation.rows.items()}
    for number, values in situation.held.items():
        rows[number] = dict(values)
        prediction.written |= {c for c in COLUMNS if values[c] != situation.rows[number][c]}
    for number in situation.deleted:
        del rows[number]
    for number in {copy.number for copy in reached}:
        copies = [copy for copy in reached if copy.number == number]
        _merge(situation, copies, rows, prediction)
    prediction.rows = rows
    return prediction


def _reach(situation: Situation, arguments: list[Copy], prediction: Prediction) -> list[Copy]:
    reached: list[Copy] = []
    waiting = [(copy, True) for copy in arguments]
    while waiting:
        copy, refuses = waiting.pop()
        if copy.number in situation.deleted:
            if refuses or copy.changes:
                prediction.refusals.add("MissingRowError")
            continue
        if any(copy is known for known in reached):
            continue
        reached.append(copy)
        if copy.leads:
            parents = {copy.base["parent"], copy.now["parent"]} - {None}
            attached = copy.number not in situation.held
            wanted = copy.now["parent"] if "parent" in copy.changes else None
            waiting += [
                (situation.graph[number], attached or number == wanted)
                for number in parents
                if number
            ]
    return reached


def _merge(
    situation: Situation,
    copies: list[Copy],
    rows: dict[int, Values],
    prediction: Prediction,
) -> None:
    number = copies[0].number
    current = dict(situation.held.get(number) or copies[0].base)
    start = dict(current)
    for copy in copies:
        for column in copy.changes:
            wanted = copy.now[column]
            if current[column] not in {copy.base[column], wanted}:
                prediction.refusals.add("ReattachConflictError")
            current[column] = wanted
    changed = [column for column in COLUMNS if current[column] != start[column]]
    prediction.written |= set(changed)
    if changed and number not in situation.rows:
        prediction.stale = True
    elif changed:
        rows[number].update({column: current[column] for column in changed})
