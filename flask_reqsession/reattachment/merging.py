"""Carry changes over from an instance to the session's own one of the same row.

Each changed attribute has three sides: what the argument started from, what it is there now, and
what it is in the session. Where only the argument differs from its start, its value is carried
over; where both do, and not to the same value, that is a conflict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy.orm import RelationshipDirection
from sqlalchemy.orm.attributes import instance_dict, instance_state

from flask_reqsession.reattachment.changes import (
    UNKNOWN,
    Change,
    ColumnChange,
    MembersChange,
    ReferenceChange,
    loaded_value,
)
from flask_reqsession.reattachment.graph import is_never_loaded
from flask_reqsession.reattachment.writing import (
    Resolve,
    Stays,
    add_member,
    remove_member,
    write_column,
    write_reference,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sqlalchemy.orm import InstanceState, RelationshipProperty

Write: TypeAlias = "tuple[Callable[[object, str, object], None], object, str, object]"
"""A function of ``writing``, and its three arguments."""

SETTERS: Final = (write_column, write_reference)
"""Those of them that replace a value."""


@dataclass(frozen=True, slots=True)
class Merge:
    """The changes of one instance, and the session's own instance that they are carried over to."""

    argument: object
    holder: object
    changes: list[Change]
    fresh: dict[str, object] = field(default_factory=dict[str, object])
    """What the holder is about to be refreshed with."""
    planned: dict[str, object] = field(default_factory=dict[str, object])
    """What is about to be carried over to it from other instances."""

    @property
    def held(self) -> dict[str, object]:
        """What the holder has, or will have."""
        return {**instance_dict(self.holder), **self.fresh, **self.planned}

    def is_changed(self, name: str) -> bool:
        """Whether an attribute of the holder has a change that waits for a flush, or will have."""
        return name in self.planned or name in instance_state(self.holder).committed_state

    def unread(self) -> list[str]:
        """Return the attributes of the holder that must be loaded before anything is decided."""
        if instance_state(self.holder).session_id is None:
            return []  # it is about to be attached, and what it has not loaded it has not changed
        loaded = instance_dict(self.holder)
        version = self.version
        needed = {change.name for change in self.changes if _is_needed(change, self.holder)}
        if version is not None:
            needed.add(version)
        return sorted(name for name in needed if name not in loaded)

    def is_stale(self) -> bool:
        """Whether the argument was loaded with another version of the row than the holder has."""
        name = self.version
        if name is None:
            return False
        own = self.fresh.get(name, loaded_value(self.holder, name))
        versions = loaded_value(self.argument, name), own
        return UNKNOWN not in versions and versions[0] != versions[1]

    def writes(self, resolve: Resolve, prefer: str) -> tuple[list[Write], list[str]]:
        """Return which values are to be set in the holder, and which attributes conflict.

        The value of an attribute that conflicts is set with ``prefer="argument"`` only.
        """
        writes: list[Write] = []
        conflicts: list[str] = []
        for change in self.changes:
            if isinstance(change, MembersChange):
                continue
            differs, conflicting = self._compare(change, resolve)
            if conflicting:
                conflicts.append(change.name)
            if differs and (prefer == "argument" or not conflicting):
                writes.append(_write_of(change, self.holder, resolve))
        return writes, conflicts

    def member_writes(self, resolve: Resolve, stays: Stays) -> list[Write]:
        """Return which members are to be added to, and removed from, the holder's collections."""
        return [
            write
            for change in self.changes
            if isinstance(change, MembersChange)
            for write in _member_writes(change, self.holder, resolve, stays)
        ]

    def _compare(
        self, change: ColumnChange | ReferenceChange, resolve: Resolve
    ) -> tuple[bool, bool]:
        """Tell whether the holder differs from the argument, and whether both were changed."""
        if isinstance(change, ColumnChange):
            return _compare_column(change, self)
        return _compare_reference(change, self, resolve)

    def before(self, name: str) -> object:
        """Return what an attribute of the argument was when it was loaded."""
        return loaded_value(self.argument, name)

    @property
    def version(self) -> str | None:
        """The attribute that counts the versions of the row, if there is one."""
        mapper = instance_state(self.argument).mapper
        column = mapper.version_id_col
        return None if column is None else mapper.get_property_by_column(column).key


def _is_needed(change: Change, holder: object) -> bool:
    if isinstance(change, ColumnChange):
        return change.base is not UNKNOWN
    if is_never_loaded(change.relationship):
        return False
    # The foreign key says as much as the reference.
    return isinstance(change, MembersChange) or not _keys(
        instance_dict(holder), holder, change.relationship
    )


def _compare_column(change: ColumnChange, merge: Merge) -> tuple[bool, bool]:
    current = merge.held.get(change.name, UNKNOWN)
    if current is UNKNOWN:
        return True, False
    same = change.column.columns[0].type.compare_values
    if same(current, change.value):
        return False, False
    if change.base is UNKNOWN:
        return True, merge.is_changed(change.name)
    return True, not same(current, change.base)


def _compare_reference(
    change: ReferenceChange, merge: Merge, resolve: Resolve
) -> tuple[bool, bool]:
    argument, holder, loaded = merge.argument, merge.holder, merge.held
    relationship = change.relationship
    value = None if change.value is None else resolve(change.value)
    if change.name in loaded:
        current = loaded[change.name]
        if current is value:
            return False, False
        if change.base is not UNKNOWN:
            return True, not _same_row(current, change.base)
        if merge.is_changed(change.name):
            return True, True
    keys = _keys(loaded, holder, relationship)
    bases = tuple(loaded_value(argument, name) for name in key_names(holder, relationship))
    if not keys or UNKNOWN in bases:
        return True, False
    return True, keys != bases and keys != _remote_keys(value, relationship)


def _same_row(one: object, other: object) -> bool:
    if one is None or other is None:
        return one is other
    key: object = instance_state(one).key
    return one is other or (key is not None and key == instance_state(other).key)


def key_names(instance: object, relationship: RelationshipProperty[object]) -> list[str]:
    """Return the attributes with the foreign key of a reference, or none: it is elsewhere."""
    if relationship.direction is not RelationshipDirection.MANYTOONE:
        return []
    mapper = instance_state(instance).mapper
    pairs = relationship.local_remote_pairs or ()
    return [mapper.get_property_by_column(local).key for local, _ in pairs]


def _keys(
    loaded: Mapping[str, object], instance: object, relationship: RelationshipProperty[object]
) -> tuple[object, ...]:
    """Return the loaded foreign key of a reference, or nothing."""
    names = key_names(instance, relationship)
    return tuple(loaded[name] for name in names if name in loaded) if names else ()


def _remote_keys(value: object, relationship: RelationshipProperty[object]) -> tuple[object, ...]:
    pairs = relationship.local_remote_pairs or ()
    if value is None:
        return (None,) * len(pairs)
    mapper, loaded = instance_state(value).mapper, instance_dict(value)
    return tuple(loaded.get(mapper.get_property_by_column(remote).key) for _, remote in pairs)


def _write_of(change: ColumnChange | ReferenceChange, holder: object, resolve: Resolve) -> Write:
    if isinstance(change, ColumnChange):
        return write_column, holder, change.name, change.value
    value = None if change.value is None else resolve(change.value)
    return write_reference, holder, change.name, value


def _member_writes(
    change: MembersChange, holder: object, resolve: Resolve, stays: Stays
) -> Iterable[Write]:
    for member in change.removed:
        target = resolve(member)
        if target is not None and not _has_moved(target, holder, change.relationship):
            yield remove_member, holder, change.name, target
    for member in change.added:
        target = resolve(member)
        if target is not None and not stays(target, change.relationship):
            yield add_member, holder, change.name, target


def _has_moved(child: object, parent: object, relationship: RelationshipProperty[object]) -> bool:
    """Whether a removed child belongs to another parent by now: it is left there."""
    if relationship.direction is not RelationshipDirection.ONETOMANY:
        return False
    children: InstanceState[object] = instance_state(child)
    loaded, own = instance_dict(child), instance_dict(parent)
    for local, remote in relationship.local_remote_pairs or ():
        name = children.mapper.get_property_by_column(remote).key
        value = loaded.get(name)
        key = instance_state(parent).mapper.get_property_by_column(local).key
        if value is not None and key in own and value != own[key]:
            return True
    return False
