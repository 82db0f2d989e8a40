"""What instances were before the first attempt of a call that may be run again."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.ext.mutable import MutableBase
from sqlalchemy.orm.attributes import History, instance_dict, instance_state, set_committed_value
from sqlalchemy.orm.collections import collection_adapter

from flask_reqsession.reattachment.graph import history_of, is_never_loaded
from flask_reqsession.reattachment.writing import (
    add_member,
    mark_changed,
    own_value,
    refill,
    remove_member,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import InstanceState, RelationshipProperty


class Recall:
    """Brings instances back to what they were: detached, with the changes that they carried.

    A ROLLBACK expires what was attached, changes included. One object serves one call.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[InstanceState[object], Snapshot] = {}

    def keep(self, instances: Iterable[object]) -> None:
        """Remember instances as they are before they are attached for the first time."""
        for instance in instances:
            # For some of them, an earlier attempt may have had the session's own instance.
            if (state := instance_state(instance)) not in self._kept:
                self._kept[state] = Snapshot(instance)

    def restore(self) -> None:
        """Before another attempt, take them out of the session and undo what became of them."""
        for snapshot in self._kept.values():
            snapshot.detach()
        for snapshot in self._kept.values():
            snapshot.restore()


class Snapshot:
    """The attributes of one instance, and what its changes started from."""

    __slots__ = ("_committed", "_instance", "_loaded")

    def __init__(self, instance: object) -> None:
        state, loaded = instance_state(instance), instance_dict(instance)
        self._instance = instance
        self._loaded: dict[str, object] = {
            attribute.key: _contents(instance, attribute.key)
            for attribute in state.mapper.attrs
            if attribute.key in loaded
        }
        self._committed: dict[str, object] = {**state.committed_state}

    def detach(self) -> None:
        """Take the instance out of its session, if it is in one."""
        session = instance_state(self._instance).session
        if session is not None:
            session.expunge(self._instance)

    def restore(self) -> None:
        """Give the instance its attributes and changes back."""
        instance, state = self._instance, instance_state(self._instance)
        loaded: dict[str, Any] = instance_dict(instance)
        for attribute in state.mapper.attrs:
            loaded.pop(attribute.key, None)
            state.committed_state.pop(attribute.key, None)
        relationships = state.mapper.relationships
        for name, value in self._loaded.items():
            relationship = relationships.get(name)
            if relationship is None or not relationship.uselist:
                self._restore_scalar(name, value)
            else:
                self._restore_collection(relationship, value)

    def _restore_scalar(self, name: str, value: object) -> None:
        instance = self._instance
        set_committed_value(instance, name, own_value(instance, name, value))
        if name in self._committed:
            mark_changed(instance, name, self._committed[name])

    def _restore_collection(
        self, relationship: RelationshipProperty[object], contents: object
    ) -> None:
        instance, name = self._instance, relationship.key
        if isinstance(contents, History):
            for member in contents.added:
                add_member(instance, name, member)
            for member in contents.deleted:
                remove_member(instance, name, member)
            return
        set_committed_value(instance, name, [])
        if name in self._committed:
            mark_changed(instance, name, self._committed[name])
        refill(collection_adapter(instance_dict(instance)[name]), cast("list[object]", contents))


def _contents(instance: object, name: str) -> object:
    """Return what an attribute has; of a collection that is never loaded its changes."""
    value: Any = instance_dict(instance)[name]
    relationship = instance_state(instance).mapper.relationships.get(name)
    if relationship is None:
        return copy.deepcopy(value) if isinstance(value, MutableBase) else value
    if is_never_loaded(relationship):
        return history_of(instance, name)
    return list(collection_adapter(value)) if relationship.uselist else value
