"""The changes of an instance that wait for a flush, each with what it started from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy.orm import LoaderCallableStatus
from sqlalchemy.orm.attributes import instance_dict, instance_state

from flask_reqsession.reattachment.graph import history_of, is_never_loaded

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from sqlalchemy.orm import ColumnProperty, RelationshipProperty

UNKNOWN: Final = LoaderCallableStatus.NO_VALUE
"""The base of a value that was set without having been loaded; SQLAlchemy's own mark."""


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """A value that was set: what it was when it was loaded, and what it is now."""

    column: ColumnProperty[object]
    base: object
    value: object

    @property
    def name(self) -> str:
        """The name of the attribute."""
        return self.column.key


@dataclass(frozen=True, slots=True)
class ReferenceChange:
    """A related instance that was set."""

    relationship: RelationshipProperty[object]
    base: object
    value: object

    @property
    def name(self) -> str:
        """The name of the attribute."""
        return self.relationship.key


@dataclass(frozen=True, slots=True)
class MembersChange:
    """Members that came into a collection, and others that left it."""

    relationship: RelationshipProperty[object]
    added: Sequence[object]
    removed: Sequence[object]

    @property
    def name(self) -> str:
        """The name of the attribute."""
        return self.relationship.key


Change: TypeAlias = ColumnChange | ReferenceChange | MembersChange


def changes_of(instance: object) -> list[Change]:
    """Return the changes of the instance itself, in the order in which its class maps them.

    What a back-reference queued for a collection that is not loaded is left out: it is a change of
    the instance on the other side.
    """
    state = instance_state(instance)
    committed, loaded = state.committed_state, instance_dict(instance)
    changes: list[Change] = []
    if not state.modified:
        return changes
    for column in state.mapper.column_attrs:
        if column.key in committed:
            history = history_of(instance, column.key)
            if history.has_changes():
                value = history.added[0] if history.added else None
                changes.append(ColumnChange(column, committed[column.key], value))
    for relationship in state.mapper.relationships:
        # A view-only one never has any: SQLAlchemy does not follow its changes.
        if relationship.key in committed:
            history = history_of(instance, relationship.key)
            if not history.has_changes() or _is_queue(relationship, loaded):
                continue
            if relationship.uselist:
                changes.append(MembersChange(relationship, history.added, history.deleted))
            else:
                value = history.added[0] if history.added else None
                base = committed[relationship.key]
                if isinstance(base, LoaderCallableStatus):
                    base = UNKNOWN
                changes.append(ReferenceChange(relationship, base, value))
    return changes


def newly_related(instance: object) -> list[object]:
    """Return what the changes of an instance make it lead to."""
    found: list[object] = []
    for change in changes_of(instance):
        if isinstance(change, MembersChange):
            found += change.added
        elif isinstance(change, ReferenceChange) and change.value is not None:
            found.append(change.value)
    return found


def _is_queue(relationship: RelationshipProperty[object], loaded: Container[str]) -> bool:
    is_loaded = relationship.key in loaded or is_never_loaded(relationship)
    return bool(relationship.uselist) and not is_loaded


def loaded_value(instance: object, name: str) -> object:
    """Return what an attribute was when it was loaded, before it was changed."""
    loaded = instance_dict(instance).get(name, UNKNOWN)
    return instance_state(instance).committed_state.get(name, loaded)
