"""What an instance has in memory: its state, its related instances, its history. No SQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from sqlalchemy.orm import PassiveFlag
from sqlalchemy.orm.attributes import (
    History,
    get_history,
    instance_dict,
    instance_state,
)
from sqlalchemy.orm.collections import collection_adapter
from werkzeug.local import LocalProxy

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, RelationshipProperty

Link: TypeAlias = "tuple[object, RelationshipProperty[object], bool]"
"""A related instance, the relationship to it, and whether ``session.add`` follows that."""

Relation: TypeAlias = "tuple[str, bool, bool, RelationshipProperty[object]]"
"""A relationship's name, whether it leads to many, whether ``session.add`` follows it, itself."""

_LOADED = PassiveFlag.PASSIVE_NO_INITIALIZE
_QUEUED = PassiveFlag.PASSIVE_NO_INITIALIZE | PassiveFlag.INCLUDE_PENDING_MUTATIONS


def state_of(value: object) -> InstanceState[object] | None:
    """Return SQLAlchemy's state of a model instance, None of anything else.

    The type decides, not the attributes: a mock or a proxy has any attribute that is asked for.
    """
    if not hasattr(type(value), "__mapper__"):
        return None
    try:
        return instance_state(value)
    except AttributeError:
        # Made by __new__ alone: there is nothing to attach yet.
        return None


def is_never_loaded(relationship: RelationshipProperty[object]) -> bool:
    """Tell a dynamic or write-only collection: all that it has in memory is its changes."""
    return relationship.lazy in {"dynamic", "write_only"}


def is_proxy(value: object) -> TypeGuard[LocalProxy[object]]:
    """Tell a werkzeug ``LocalProxy``; its own ``__class__`` is that of what is behind it."""
    return issubclass(type(value), LocalProxy)


def unwrapped(value: object) -> object:
    """Return the model instance behind a werkzeug ``LocalProxy``, anything else as it is.

    So is a proxy that is not bound: the call may never look at it.
    """
    if not is_proxy(value):
        return value
    try:
        # Public in spite of its name: werkzeug documents it, since a proxy has no other room.
        current = value._get_current_object()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    except RuntimeError:
        return value
    return value if state_of(current) is None else current


class Graph:
    """Leads from an instance to the related ones in memory.

    Remembers which relationships a mapped class has: going through SQLAlchemy's own collection of
    them takes longer than the rest. One object serves any number of threads.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # By SQLAlchemy's own collection of them: a mapper gets a new one with another relationship.
        self._known: dict[object, list[Relation]] = {}

    def related(self, instance: object) -> Iterable[Link]:
        """Return the links to the related instances in memory.

        That is what each relationship has loaded and, where changes wait for a flush, also what
        was removed from it, and what back-references queued for a collection that is not loaded.
        """
        state = instance_state(instance)
        relationships = state.mapper.relationships
        relations = self._known.get(relationships)
        if relations is None:
            relations = [(r.key, bool(r.uselist), r.cascade.save_update, r) for r in relationships]
            self._known[relationships] = relations
        if not relations:
            return ()
        if state.modified:
            return _links_of_changed(instance, relations)
        loaded = instance_dict(instance)
        links: list[Link] = []
        for name, has_many, cascades, relationship in relations:
            value = loaded.get(name)
            if value is None:
                continue
            if not has_many:
                links.append((value, relationship, cascades))
            elif value is not True:
                # (True is the mark that a change leaves in a dynamic or write-only relationship.)
                links += [(member, relationship, cascades) for member in collection_adapter(value)]
        return links


def _links_of_changed(instance: object, relations: Iterable[Relation]) -> Iterator[Link]:
    loaded = instance_dict(instance)
    for name, _, cascades, relationship in relations:
        for member in history_of(instance, name).sum():
            if member is not None:
                yield member, relationship, cascades and name in loaded


def history_of(instance: object, name: str) -> History:
    """Return the changes of an attribute that wait for a flush, without SQL."""
    # Only what is not loaded has a queue, and SQLAlchemy asserts that.
    passive = _LOADED if name in instance_dict(instance) else _QUEUED
    return get_history(instance, name, passive)
