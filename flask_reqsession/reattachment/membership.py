"""Which instances belong to a collection by now, read together with their rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from sqlalchemy import ColumnElement, and_
from sqlalchemy.orm import Mapper, RelationshipDirection
from sqlalchemy.orm.attributes import instance_dict, instance_state
from sqlalchemy.orm.collections import collection_adapter

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, RelationshipProperty

Members: TypeAlias = "dict[tuple[InstanceState[object], str], set[object]]"
"""The identities of the rows that belong to a collection, by its owner and name."""


class Watched:
    """The loaded collections whose members the SELECT of the members' class can tell.

    Those are one-to-many, without changes, and joined by nothing but a foreign key of one column.
    """

    __slots__ = ("_by_mapper", "found")

    def __init__(self, owners: Iterable[object]) -> None:
        self.found: Members = {}
        # By class of the members and attribute of the key: the owners, by the key's value.
        self._by_mapper: dict[
            Mapper[Any], dict[str, dict[object, list[tuple[InstanceState[object], str]]]]
        ] = {}
        for owner in owners:
            self._watch(owner)

    def _watch(self, owner: object) -> None:
        state, loaded = instance_state(owner), instance_dict(owner)
        for relationship in state.mapper.relationships:
            name = relationship.key
            if name not in loaded or name in state.committed_state or not _is_told(relationship):
                continue
            local, remote = _pairs(relationship)[0]
            value = loaded.get(state.mapper.get_property_by_column(local).key)
            if value is not None:
                key = relationship.mapper.get_property_by_column(remote).key
                by_key = self._by_mapper.setdefault(relationship.mapper, {}).setdefault(key, {})
                by_key.setdefault(value, []).append((state, name))
                self.found[state, name] = set()

    @property
    def mappers(self) -> Iterable[Mapper[Any]]:
        """The classes of the members."""
        return self._by_mapper

    def keys(self, mapper: Mapper[Any]) -> Mapping[str, Sequence[object]]:
        """Return the values of the foreign keys to ask for, by attribute."""
        return {name: [*values] for name, values in self._by_mapper.get(mapper, {}).items()}

    def note(self, mapper: Mapper[Any], identity: object, row: Mapping[str, object]) -> None:
        """Note the collections that a row belongs to."""
        for name, owners in self._by_mapper.get(mapper, {}).items():
            for owner in owners.get(row[name], ()):
                self.found[owner].add(identity)


def _is_told(relationship: RelationshipProperty[Any]) -> bool:
    mapper = relationship.mapper
    pairs = _pairs(relationship)
    # Its type is SQLAlchemy's, and has no parameters.
    kind = cast("object", relationship.collection_class)  # pyright: ignore[reportUnknownMemberType]
    return (
        relationship.direction is RelationshipDirection.ONETOMANY
        and relationship.lazy not in {"dynamic", "write_only"}
        and relationship.uselist is True
        and kind in {None, list, set}
        and mapper.polymorphic_on is None
        and mapper.inherits is None
        and len(pairs) == 1
        and _is_ordered_by_key(relationship)
        and _is_joined_by(relationship.primaryjoin, *pairs[0])
    )


def _pairs(relationship: RelationshipProperty[Any]) -> Sequence[tuple[Any, Any]]:
    return relationship.local_remote_pairs or ()


def _is_ordered_by_key(relationship: RelationshipProperty[Any]) -> bool:
    """Whether the order can't have changed: there is none, or it is that of the primary key."""
    order: Any = relationship.order_by or ()
    keys = relationship.mapper.primary_key
    return all(any(key.compare(each) for key in keys) for each in order)


def _is_joined_by(
    join: ColumnElement[bool], local: ColumnElement[Any], remote: ColumnElement[Any]
) -> bool:
    return join.compare(and_(local == remote)) or join.compare(and_(remote == local))


def is_complete(owner: object, name: str, members: Members) -> bool:
    """Tell whether a loaded collection has exactly the members that it should have."""
    wanted = members.get((instance_state(owner), name))
    if wanted is None:
        return False
    adapter = collection_adapter(instance_dict(owner)[name])
    return {instance_state(member).identity for member in adapter} == wanted
