"""A model of the rules of reattachment for whole graphs: plain data, no code of the package.

One detached graph has everything loaded: nodes with parents, children and tags, tags with nodes.
The session holds some of the rows, has changed some and has deleted some.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.integration.reattachment.garden import NODES, Rows


@dataclass
class Situation:
    """All that a call can meet."""

    base: Rows
    """What the detached graph started from."""
    now: Rows
    """What it is now."""
    committed: Rows
    """What is in the database, others' changes included."""
    own: Rows
    """The same as the session sees it, with its changes, flushed or not."""
    held: dict[int, int]
    """The numbers whose instances the session has, with the version that it loaded."""
    deleted: set[int]
    """What the session has deleted."""
    conflict: str = "raise"

    def changes(self, number: int) -> set[str]:
        """Return which attributes of a detached instance were changed."""
        base, now = self.base, self.now
        compared = {
            "a": base.a[number] != now.a[number],
            "parent_id": base.parents.get(number) != now.parents.get(number),
            "children": base.children(number) != now.children(number),
            "links": base.linked(number) != now.linked(number),
        }
        return {name for name, changed in compared.items() if changed}

    def neighbours(self, number: int) -> set[int]:
        """Return what a detached instance leads to, and has led to."""
        found = set[int]()
        for rows in (self.base, self.now):
            found |= {*rows.children(number), *rows.linked(number)}
            found |= {parent for parent in [rows.parents.get(number)] if parent is not None}
        return found


@dataclass
class Outcome:
    """What a call does."""

    refusals: set[str] = field(default_factory=set[str])
    """The errors that it may raise; none if it succeeds."""
    fails: bool = False
    """Whether the commit meets a row that is gone or has another version."""
    rows: Rows = field(default_factory=Rows)
    """What is committed after it, apart from versions."""
    written: set[str] = field(default_factory=set[str])
    """The columns that may be updated."""
    reached: set[int] = field(default_factory=set[int])


def predict(situation: Situation, arguments: Iterable[int]) -> Outcome:
    """Apply the rules to whatever the arguments lead to."""
    outcome = Outcome(rows=situation.own.copy())
    outcome.written = _differences(situation.committed, situation.own)
    known = -1
    while known != len(situation.held):
        known = len(situation.held)
        outcome.reached.clear()
        _reach(situation, arguments, outcome)
        if not outcome.refusals:
            _read(situation, outcome.reached)
    for number in outcome.reached:
        _merge(situation, number, outcome)
    for node, tag in situation.now.links - situation.base.links:
        if node in outcome.reached:
            outcome.rows.links.add((node, tag))
    for link in situation.base.links - situation.now.links:
        if link[0] in outcome.reached:
            outcome.fails |= link not in outcome.rows.links
            outcome.rows.links.discard(link)
    return outcome


def _read(situation: Situation, reached: set[int]) -> None:
    """Let the session load what changed collections are compared with."""
    for number in reached.intersection(situation.held):
        changes = situation.changes(number)
        members = situation.own.children(number) if "children" in changes else []
        members += situation.own.linked(number) if "links" in changes else []
        for member in members:
            situation.held.setdefault(member, situation.committed.versions.get(member, 0))


def _differences(before: Rows, after: Rows) -> set[str]:
    found = set[str]()
    for number, value in after.a.items():
        if value != before.a.get(number):
            found.add(column(number, "a"))
        if before.parents.get(number) != after.parents.get(number):
            found.add("node.parent_id")
    return found


def column(number: int, name: str) -> str:
    """Name a column of a row."""
    return f"{'node' if number in NODES else 'tag'}.{name}"


def _reach(situation: Situation, arguments: Iterable[int], outcome: Outcome) -> None:
    waiting = [(number, True) for number in arguments]
    while waiting:
        number, refuses = waiting.pop()
        if number in situation.deleted:
            if refuses or situation.changes(number):
                outcome.refusals.add("MissingRowError")
        elif number not in outcome.reached:
            outcome.reached.add(number)
            attached = number not in situation.held
            waiting += [(each, attached) for each in situation.neighbours(number)]


def _merge(situation: Situation, number: int, outcome: Outcome) -> None:
    changes = situation.changes(number)
    is_held = number in situation.held
    current = situation.own if is_held else situation.base
    start_version = situation.base.versions.get(number, 0)
    if changes and is_held and situation.held[number] != start_version:
        outcome.refusals.add("StaleDataError")
    is_updated = False
    for name, start, wanted, here in (
        ("a", situation.base.a, situation.now.a, current.a),
        ("parent_id", situation.base.parents, situation.now.parents, current.parents),
    ):
        if name not in changes or here.get(number) == wanted[number]:
            continue
        if here.get(number) != start[number]:
            if situation.conflict == "raise":
                outcome.refusals.add("ReattachConflictError")
            if situation.conflict != "argument":
                continue
        is_updated = True
        outcome.written.add(column(number, name))
        target = outcome.rows.a if name == "a" else outcome.rows.parents
        target[number] = wanted[number]  # type: ignore[assignment]
    if is_updated:
        known = situation.committed.versions.get(number, 0)
        is_old = not is_held and known != start_version
        outcome.fails |= number not in situation.committed.a or is_old
