"""Random gardens: whole graphs with collections, histories on both sides, and every option."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_dict
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession.errors import ReattachError
from flask_reqsession.reattachment import Memory, ReattachOptions, attach
from tests.integration.reattachment.garden import (
    ALL,
    NODES,
    TAGS,
    Garden,
    Node,
    Rows,
    changes_since,
    memories_of,
    model_of,
)
from tests.integration.reattachment.gardening import Outcome, Situation, column, predict

VALUE = st.integers(0, 2)
TAG = st.sampled_from(TAGS)


@dataclass
class History:
    """What happened before the call, and what it is called with."""

    parents: list[int]
    linked: set[tuple[int, int]]
    edits: list[tuple[str, int, int, int]]
    outside: list[tuple[str, int, int, int]]
    inside: list[tuple[str, int, int]]
    flushed: bool
    conflict: str
    passed: list[int]


def histories(few: list[int]) -> st.SearchStrategy[History]:
    """Give histories of these few rows: what happens to different ones rarely meets."""
    number = st.sampled_from(few)
    node = st.sampled_from([each for each in few if each in NODES] or NODES)
    edits = [
        st.tuples(st.just("a"), number, VALUE, TAG),
        st.tuples(st.sampled_from(["move", "join"]), node, VALUE, TAG),
        st.tuples(st.sampled_from(["link", "link from its other side"]), node, VALUE, TAG),
    ]
    outside = st.tuples(st.sampled_from(["a", "delete"]), number, VALUE, TAG)
    inside = st.tuples(st.sampled_from(["load", "a", "move", "delete"]), number, VALUE)
    return st.builds(
        History,
        parents=st.lists(VALUE, min_size=3, max_size=3),
        linked=st.sets(st.sampled_from([(node, tag) for node in NODES for tag in TAGS])),
        edits=st.lists(st.one_of(edits), max_size=4),
        outside=st.lists(outside, max_size=2),
        inside=st.lists(inside, max_size=4),
        flushed=st.booleans(),
        conflict=st.sampled_from(["raise", "raise", "argument", "session"]),
        passed=st.lists(st.sampled_from(ALL), min_size=1, max_size=3),
    )


HISTORIES = st.lists(st.sampled_from(ALL), min_size=1, max_size=3, unique=True).flatmap(histories)
CHECKED = settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def changed_on_both_sides(conflict: str) -> History:
    """Give the shortest history with a conflict."""
    return History(
        parents=[0, 0, 0],
        linked=set(),
        edits=[("a", NODES[0], 1, TAGS[0])],
        outside=[],
        inside=[("a", NODES[0], 2)],
        flushed=False,
        conflict=conflict,
        passed=[NODES[0]],
    )


def changed_in_an_old_version() -> History:
    """Give the shortest history in which a changed instance is older than the session's."""
    return replace(
        changed_on_both_sides("raise"),
        outside=[("a", NODES[0], 2, TAGS[0])],
        inside=[("load", NODES[0], 0)],
    )


def edit(graph: dict[int, Any], rows: Rows, steps: list[tuple[str, int, int, int]]) -> None:
    """Change instances and ``rows`` alike."""
    for kind, number, value, tag in steps:
        if kind == "a":
            graph[number].a = rows.a[number] = value
        elif kind in {"move", "join"}:
            parent = value if 0 < value < number else None
            child, above = graph[number], graph.get(parent or 0)
            if kind == "join" and above is not None and child not in above.children:
                above.children.append(child)
            else:
                child.parent = above
            rows.parents[number] = parent
        else:
            one, other = graph[number].tags, graph[tag]
            if kind != "link":
                one, other = graph[tag].nodes, graph[number]
            one.remove(other) if other in one else one.append(other)
            rows.links ^= {(number, tag)}


def work(session: Session, own: Rows, history: History) -> tuple[list[Any], set[int], set[str]]:
    """Let the session load, change and delete.

    Return its instances, what it deleted, and the columns that it changed, perhaps back again.
    """
    kept: list[Any] = []
    deleted, touched = set[int](), set[str]()
    for kind, number, value in history.inside:
        instance: Any = session.get(model_of(number), number)
        if instance is None:
            continue
        kept.append(instance)
        if kind == "a":
            touched.add(column(number, "a"))
            instance.a = own.a[number] = value
        elif kind == "move" and number in NODES:
            touched.add("node.parent_id")
            parent = value if 0 < value < number and value in own.a else None
            instance.parent = None if parent is None else session.get(Node, parent)
            own.parents[number] = parent
        elif kind == "delete":
            session.delete(instance)
            session.flush()
            own.remove(number)
            deleted.add(number)
    if history.flushed:
        session.flush()
    kept += list(session)
    return kept, deleted, touched


@pytest.mark.rule("R4", "R5", "R7", "R8", "R10", "R13", "R15")
@CHECKED
@example(history=changed_on_both_sides("raise"))
@example(history=changed_on_both_sides("argument"))
@example(history=changed_on_both_sides("session"))
@example(history=changed_in_an_old_version())
@given(history=HISTORIES)
def test_whole_graphs_keep_the_rules(garden: Garden, history: History) -> None:
    """Collections, versions, deletes: no INSERT, nothing lost, nothing back, all or nothing."""
    rows = garden.fill(history.parents, history.linked)
    with garden.make() as loading:
        graph = garden.load(loading)
    now = rows.copy()
    edit(graph, now, history.edits)
    committed = rows.copy()
    garden.change(committed, history.outside)

    memory = Memory()
    with garden.make() as session:
        memory.watch(session)
        own = committed.copy()
        kept, deleted, touched = work(session, own, history)
        held = {each.id: getattr(each, "version", 0) for each in cast("Iterable[Any]", session)}
        situation = Situation(rows, now, committed, own, held, deleted, conflict=history.conflict)
        outcome = predict(situation, history.passed)
        garden.sql.clear()
        options: Any = ReattachOptions(conflict=history.conflict)  # type: ignore[arg-type]
        arguments = [graph[number] for number in history.passed]
        if outcome.refusals:
            before = memories_of([*session, *graph.values()])
            check_refusal(session, arguments, memory, options, outcome)
            assert changes_since(before) == []
            assert not any(each in session for each in graph.values())
            outcome = Outcome(rows=own)
        else:
            results = attach(session, arguments, memory=memory, options=options)
            check_results(session, arguments, results, outcome)
            assert all(sql.startswith("SELECT") for sql in garden.sql)
            assert not garden.sql or any(situation.changes(n) for n in held)
            garden.sql.clear()
        outcome.written |= touched
        commit(session, garden, outcome)
        del kept


def check_refusal(
    session: Session, arguments: list[Any], memory: Memory, options: Any, outcome: Outcome
) -> None:
    """One of the predicted errors, and no other."""
    with pytest.raises((ReattachError, StaleDataError)) as refused:
        attach(session, arguments, memory=memory, options=options)
    assert refused.typename in outcome.refusals
    event(refused.typename)


def check_results(
    session: Session, arguments: list[Any], results: list[Any], outcome: Outcome
) -> None:
    """Every argument has its place, and whatever it leads to is in the session."""
    assert [each.id for each in results] == [instance_dict(each)["id"] for each in arguments]
    waiting, seen = list(results), set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        assert each in session
        for name in ("parent", "children", "tags", "nodes"):
            value = instance_dict(each).get(name)
            waiting += value if isinstance(value, list) else [value] * (value is not None)
    event(f"{len(outcome.reached)} instances")


def commit(session: Session, garden: Garden, outcome: Outcome) -> None:
    """Commit: the rows are those of the model, and only what was changed was written."""
    if outcome.fails:
        event("fails")
        with pytest.raises(StaleDataError):
            session.commit()
        session.rollback()
        return
    session.commit()
    inserts = [sql for sql in garden.sql if sql.startswith("INSERT")]
    assert all(sql.startswith("INSERT INTO node_tag") for sql in inserts)
    assert garden.columns_written() <= outcome.written
    found = garden.rows()
    assert (found.a, found.parents, found.links) == (
        outcome.rows.a,
        outcome.rows.parents,
        outcome.rows.links,
    )
