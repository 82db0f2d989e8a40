"""Children of relationships that do not lead back: moved by an argument and by the session.

Where the child has a reference of its own that is what is compared. Without one, its foreign key
changes by nothing but the collections that it is in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy.orm import RelationshipDirection
from sqlalchemy.orm.attributes import instance_dict, instance_state

from flask_reqsession.reattachment.changes import (
    UNKNOWN,
    MembersChange,
    changes_of,
    loaded_value,
)
from flask_reqsession.reattachment.graph import history_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import RelationshipProperty, Session

    from flask_reqsession.reattachment.decisions import Decisions

_UNMOVED: Final = object()


@dataclass(frozen=True, slots=True)
class Move:
    """A child that an argument gave to a parent, and the session to another one, or to none."""

    argument: object
    relationship: RelationshipProperty[object]
    child: object
    """The session's own instance of it."""
    rival: object
    """The session's parent, if it has not been flushed."""


def moved_on_both_sides(session: Session, decisions: Decisions) -> Iterator[Move]:
    """Find the children that were given to different parents. No SQL."""
    parents = [*decisions.attached, *(merge.argument for merge, _ in decisions.merges)]
    for parent in parents:
        # Most have no change, and a refresh asks for all of them.
        if not instance_state(parent).modified:
            continue
        for change in changes_of(parent):
            if not isinstance(change, MembersChange) or not _is_one_way(change.relationship):
                continue
            for member in change.added:
                child = decisions.target(member)
                if child is None:
                    continue
                holder = decisions.target(parent)
                rival = _rival(session, child, holder, change.relationship)
                if rival is _UNMOVED and _has_other_key(member, parent, change, decisions):
                    rival = None
                if rival is not _UNMOVED:
                    yield Move(parent, change.relationship, child, rival)


def _is_one_way(relationship: RelationshipProperty[object]) -> bool:
    is_owner = relationship.direction is RelationshipDirection.ONETOMANY
    return is_owner and not relationship.back_populates


def _rival(
    session: Session, child: object, holder: object, relationship: RelationshipProperty[object]
) -> object:
    """Return the parent that a change in the session gives a child, None if it only takes one."""
    found: object = _UNMOVED
    for parent in (*session.dirty, *session.new):
        state = instance_state(parent)
        if (
            not state.mapper.isa(relationship.parent)
            or relationship.key not in state.committed_state
        ):
            continue
        history = history_of(parent, relationship.key)
        if any(each is child for each in history.added):
            return _UNMOVED if parent is holder else parent
        if any(each is child for each in history.deleted):
            found = None
    return found


def _has_other_key(
    member: object, parent: object, change: MembersChange, decisions: Decisions
) -> bool:
    """Whether the foreign key is neither what the argument started from nor what it leads to."""
    child = decisions.target(member)
    fresh = decisions.fresh.get(instance_state(child), {})
    held = {} if child is member else instance_dict(child)
    for local, remote in change.relationship.local_remote_pairs or ():
        name = instance_state(child).mapper.get_property_by_column(remote).key
        base = loaded_value(member, name)
        current = fresh.get(name, held.get(name, UNKNOWN))
        wanted = instance_dict(parent).get(
            instance_state(parent).mapper.get_property_by_column(local).key
        )
        if UNKNOWN not in (base, current) and current not in (base, wanted):
            return True
    return False
