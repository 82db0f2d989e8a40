"""Attach instances of which nothing has to be decided: the usual case of detached ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.orm.attributes import instance_state

from flask_reqsession.reattachment.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import InstanceState, Session

    from flask_reqsession.reattachment.recalling import Recall


def attach_plainly(
    session: Session,
    instances: Sequence[object],
    memory: Memory | None,
    reattached: Callable[[object], None] | None = None,
    recall: Recall | None = None,
) -> bool:
    """Attach instances if they, and all that they have loaded, are free or in the session.

    Return whether they are; if not, nothing has been touched. The result is that of the long way.
    But where the step is the same for all, and is known, there is nothing to compare, to replace or
    to read, and no record to be made. So this takes little more than ``session.add()``.
    """
    rows: dict[object, object] = {}
    apart = _find_free(session, instances, memory or Memory(), rows)
    if apart is None:
        return False
    if recall is not None:
        recall.keep(rows.values())
    here = session.hash_key
    # A listener of the user's may query while only half of a graph is attached.
    autoflush, session.autoflush = session.autoflush, False
    try:
        for instance in instances:
            session.add(instance)
        for instance in apart:
            # Not what the session has: there this would take a deletion back.
            if instance_state(instance).session_id != here:
                session.add(instance)
    finally:
        session.autoflush = autoflush
    if reattached is not None:
        for instance in {id(each): each for each in instances}.values():
            reattached(instance)
    return True


def _find_free(
    session: Session, instances: Sequence[object], memory: Memory, rows: dict[object, object]
) -> list[object] | None:
    """Find what is to be attached, ``rows`` by identity key, and what no cascade leads to.

    None if one of them takes another step. What is free, and what is in the session, is as in
    ``standing_of()``: that would be two calls more for each instance, and half of all the time.
    """
    here, held, related = session.hash_key, session.identity_map.keys(), memory.graph.related
    deleted = memory.deleted if here in memory.deleted.sessions else None
    apart: list[object] = []
    seen: set[InstanceState[object]] = set()
    waiting = [*instances]
    for instance in waiting:  # which grows meanwhile
        state = instance_state(instance)
        if state in seen:
            continue
        seen.add(state)
        if state.was_deleted:
            return None
        key, owner = state.key, state.session_id
        if owner == here:
            continue
        if (
            owner is not None
            or key is None
            or key in held
            or rows.setdefault(key, instance) is not instance
            or (deleted is not None and deleted.holds(session, key))
        ):
            return None
        for each, _, cascades in related(instance):
            waiting.append(each)
            if not cascades:
                apart.append(each)
    return apart
