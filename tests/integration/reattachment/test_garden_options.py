"""Random gardens with the options: fresh rows, rows that are gone, instances of other sessions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import NotFound

from flask_reqsession.errors import ForeignInstanceError, ReattachError
from flask_reqsession.reattachment import Memory, ReattachOptions, attach
from tests.integration.reattachment.garden import (
    ALL,
    NODES,
    TAGS,
    Garden,
    Rows,
    changes_since,
    memories_of,
    model_of,
)

VALUE = st.integers(0, 2)
CHECKED = settings(
    max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


@dataclass
class Story:
    """What happened before the call, and what it is called with."""

    parents: list[int]
    linked: set[tuple[int, int]]
    edits: dict[int, int]
    early: list[tuple[str, int, int, int]]
    loaded: set[int]
    pending: dict[int, int]
    late: list[tuple[str, int, int, int]]
    missing: str
    conflict: str
    passed: list[int]


def stories(few: list[int]) -> st.SearchStrategy[Story]:
    """Give stories of these few rows: what happens to different ones rarely meets."""
    number = st.sampled_from(few)
    kinds = st.sampled_from(["a", "a", "move", "link", "delete"])
    changes = st.lists(st.tuples(kinds, number, VALUE, st.sampled_from(TAGS)), max_size=3)
    return st.builds(
        Story,
        parents=st.lists(VALUE, min_size=3, max_size=3),
        linked=st.sets(st.sampled_from([(node, tag) for node in NODES for tag in TAGS])),
        edits=st.dictionaries(number, VALUE, max_size=2),
        early=changes,
        loaded=st.sets(number, max_size=2),
        pending=st.dictionaries(number, VALUE, max_size=2),
        late=changes,
        missing=st.sampled_from(["raise", "none", "404"]),
        conflict=st.sampled_from(["raise", "argument", "session"]),
        passed=st.lists(st.sampled_from(ALL), min_size=1, max_size=3),
    )


STORIES = st.lists(st.sampled_from(ALL), min_size=1, max_size=3, unique=True).flatmap(stories)


def changed_and_gone() -> Story:
    """Give the shortest story in which the row of a changed parent is gone."""
    return Story(
        parents=[0, 1, 0],
        linked=set(),
        edits={1: 1},
        early=[("delete", 1, 0, TAGS[0])],
        loaded=set(),
        pending={},
        late=[],
        missing="raise",
        conflict="raise",
        passed=[2],
    )


class Fresh:
    """The model: what a call with ``refresh=True`` does. It shares no code with the package."""

    def __init__(self, story: Story, base: Rows, rows: Rows, own: dict[int, Any]) -> None:
        self.story, self.base, self.rows = story, base, rows
        # What the session has loaded; what it has changed; what it was before.
        self.own = {number: each.a for number, each in own.items()}
        self.versions = {number: getattr(each, "version", 0) for number, each in own.items()}
        self.loaded = {n: instance_state(each).committed_state.get("a") for n, each in own.items()}
        self.pending = {
            number: self.own[number]
            for number, value in self.loaded.items()
            if value is not None and value != self.own[number]
        }
        self.edits = {number: value for number, value in story.edits.items() if value}
        self.refusals = set[str]()
        self.values: dict[int, int] = {}
        self.writes = dict(self.pending)
        for number in reach(base, story.passed):
            self._decide(number)
        self.fails = any(not self._is_current(n) for n in self.pending if n in self.writes)

    def _is_current(self, number: int) -> bool:
        known = self.rows.versions.get(number, 0)
        return number in self.rows.a and known == self.versions[number]

    def refuse(self) -> None:
        """Predict what is committed after the refusal: what the session has changed itself."""
        self.writes = dict(self.pending)
        self.fails = any(not self._is_current(number) for number in self.pending)

    def _decide(self, number: int) -> None:
        if number in self.rows.a:
            self._renew(number)
        elif number in self.story.passed:
            answers = {"raise": {"MissingRowError"}, "404": {"NotFound"}}
            self.refusals |= answers.get(self.story.missing, set())
        elif number in self.edits or number in self.pending:
            self.refusals.add("MissingRowError")

    def _renew(self, number: int) -> None:
        fresh = self.pending.get(number, self.rows.a[number])
        self.values[number] = fresh
        wanted = self.edits.get(number)
        if wanted is None:
            return
        mine = self.base.versions.get(number, 0)
        theirs = self.rows.versions.get(number, 0)
        if number in self.pending:
            theirs = self.versions[number]
        if theirs != mine:
            self.refusals.add("StaleDataError")
        if fresh not in {0, wanted}:
            if self.story.conflict == "raise":
                self.refusals.add("ReattachConflictError")
            if self.story.conflict != "argument":
                return
        self.values[number] = wanted
        was = self.loaded[number] if number in self.pending else self.rows.a[number]
        if wanted != was:
            self.writes[number] = wanted
        else:
            self.writes.pop(number, None)


@pytest.mark.rule("R9", "R5", "R7", "R8", "R10", "R15")
@CHECKED
@example(story=changed_and_gone())
@given(story=STORIES)
def test_a_refresh_keeps_the_rules(garden: Garden, story: Story) -> None:
    """Everything that is reached is what the database has, in one SELECT for each class."""
    base = garden.fill(story.parents, story.linked)
    with garden.make() as loading:
        graph = garden.load(loading)
    for number, value in story.edits.items():
        graph[number].a = value
    rows = base.copy()
    garden.change(rows, story.early)

    with garden.make() as session:
        kept = {n: session.get(model_of(n), n) for n in story.loaded | set(story.pending)}
        held: dict[int, Any] = {n: each for n, each in kept.items() if each is not None}
        for number, each in held.items():
            each.a = story.pending.get(number, each.a)
        with session.no_autoflush:
            garden.change(rows, story.late, session.connection())
        model = Fresh(story, base, rows, held)
        options = ReattachOptions(
            refresh=True,
            missing=story.missing,  # type: ignore[arg-type]
            conflict=story.conflict,  # type: ignore[arg-type]
        )
        garden.sql.clear()
        memory = Memory()
        arguments = [graph[number] for number in story.passed]
        if model.refusals:
            here, there = [*session], [*graph.values()]
            before = memories_of([*here, *there])
            with pytest.raises((ReattachError, StaleDataError, NotFound)) as refused:
                attach(session, arguments, memory=memory, options=options)
            assert refused.typename in model.refusals
            assert {id(each) for each in session} == {id(each) for each in here}
            assert changes_since(before) == []
            event(refused.typename)
            model.refuse()
            commit(session, garden, model)
            return
        results = attach(session, arguments, memory=memory, options=options)
        assert all(sql.startswith("SELECT") for sql in garden.sql)
        assert len(garden.sql) <= 2
        wanted = [number for number in story.passed if number in rows.a]
        assert [each.id for each in results] == wanted
        with session.no_autoflush:
            check_fresh(session, results, model)
        commit(session, garden, model)


def check_fresh(session: Session, results: list[Any], model: Fresh) -> None:
    """Compare the instances, and all that they lead to, with the rows."""
    waiting, seen = list(results), set[int]()
    while waiting:
        each = waiting.pop()
        if each.id in seen:
            continue
        seen.add(each.id)
        assert each in session
        assert each.a == model.values[each.id]
        related = each.tags if each.id in NODES else each.nodes
        assert [other.id for other in related] == model.rows.linked(each.id)
        if each.id in NODES:
            assert sorted(child.id for child in each.children) == model.rows.children(each.id)
            parents = [] if each.parent is None else [each.parent]
            assert (each.parent and each.parent.id) == model.rows.parents[each.id]
            related = [*related, *each.children, *parents]
        # What was read only now may be an instance that the session has had before.
        waiting += [other for other in related if other.id in model.values]
    event(f"{len(seen)} instances")


def commit(session: Session, garden: Garden, model: Fresh) -> None:
    """Commit: only what was changed is written."""
    garden.sql.clear()
    if model.fails:
        event("fails")
        with pytest.raises(StaleDataError):
            session.commit()
        session.rollback()
        return
    session.commit()
    found = garden.rows()
    assert found.a == {**model.rows.a, **model.writes}
    assert (found.parents, found.links) == (model.rows.parents, model.rows.links)
    assert not any(sql.startswith(("INSERT", "DELETE")) for sql in garden.sql)
    assert garden.columns_written() <= {"node.a", "tag.a"}


@pytest.mark.rule("R6", "R10", "R13", "R15")
@CHECKED
@given(story=STORIES, raising=st.booleans())
def test_instances_of_another_session_keep_the_rules(
    garden: Garden, story: Story, *, raising: bool
) -> None:
    """Copies with the loaded values, no SQL, and the originals stay where they are."""
    base = garden.fill(story.parents, story.linked)
    with garden.make() as other, garden.make() as session:
        graph = garden.load(other)
        kept: dict[int, Any] = {
            number: session.get_one(model_of(number), number) for number in story.loaded
        }
        for number, each in kept.items():
            each.a = story.pending.get(number, 0)
        for number, value in story.edits.items():
            graph[number].a = value
        reached = reach(base, story.passed, kept)
        refused = raising or any(story.edits.get(number) for number in reached)
        options = ReattachOptions(foreign="raise" if raising else "copy")
        arguments = [graph[number] for number in story.passed]
        garden.sql.clear()
        if refused:
            with pytest.raises(ForeignInstanceError):
                attach(session, arguments, options=options)
            assert {id(each) for each in session} == {id(each) for each in kept.values()}
        else:
            results = attach(session, arguments, options=options)
            assert [each.id for each in results] == story.passed
            check_copies(session, results, base, kept, graph)
        assert garden.sql == []
        assert all(each in other for each in graph.values())
        session.commit()
        assert garden.columns_written() <= {"node.a", "tag.a"}
        pending = {n: story.pending.get(n, 0) for n in kept}
        assert garden.rows().a == {**base.a, **pending}
        assert not any(sql.startswith(("INSERT", "DELETE")) for sql in garden.sql)


def reach(base: Rows, passed: list[int], ends: Iterable[int] = ()) -> set[int]:
    """Return all that instances lead to, without what only those at the ``ends`` lead to."""
    found, waiting = set[int](), list(passed)
    while waiting:
        number = waiting.pop()
        if number in found:
            continue
        found.add(number)
        if number not in ends:
            waiting += [*base.children(number), *base.linked(number)]
            parent = base.parents.get(number)
            waiting += [] if parent is None else [parent]
    return found


def check_copies(
    session: Session,
    results: list[Any],
    base: Rows,
    kept: dict[int, Any],
    graph: dict[int, Any],
) -> None:
    """Look for the session's own instances, and for copies that lead to each other."""
    waiting, seen = list(results), dict[int, Any]()
    while waiting:
        each = waiting.pop()
        if each.id in seen:
            assert each is seen[each.id]
            continue
        seen[each.id] = each
        assert each in session
        assert each is not graph[each.id]
        if each.id in kept:
            assert each is kept[each.id]
            continue
        assert each.a == 0
        loaded = instance_dict(each)
        related = loaded["tags" if each.id in NODES else "nodes"]
        assert [other.id for other in related] == base.linked(each.id)
        waiting += related
        if each.id in NODES:
            assert [child.id for child in loaded["children"]] == base.children(each.id)
            parent = loaded["parent"]
            assert (parent and parent.id) == base.parents[each.id]
            waiting += [*loaded["children"], *([] if parent is None else [parent])]
    event(f"{len(seen)} copies")
