"""Write to attributes as if the user had done so on this very instance.

What was validated when the user wrote it is not validated again: columns are written without
events, and so are members that only change their place. Where an instance is replaced by another
one *and* was added or removed, SQLAlchemy has to know, for the other side of the relationship and
for ``delete-orphan``, and its events are fired.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy.ext.mutable import MutableBase
from sqlalchemy.orm import LoaderCallableStatus
from sqlalchemy.orm.attributes import (
    flag_modified,
    instance_dict,
    instance_state,
    set_attribute,
    set_committed_value,
)
from sqlalchemy.orm.collections import collection_adapter

from flask_reqsession.reattachment.graph import history_of, is_never_loaded

NO_VALUE: Final = LoaderCallableStatus.NO_VALUE
"""SQLAlchemy's mark: the value was set without having been loaded."""

if TYPE_CHECKING:
    from sqlalchemy.orm import RelationshipProperty
    from sqlalchemy.orm.collections import CollectionAdapter

Resolve: TypeAlias = Callable[[object], object]
"""Gives what stands for an instance in the session: itself, another one, or None."""

Stays: TypeAlias = "Callable[[object, RelationshipProperty[object]], bool]"
"""Tells whether a member does not come into a collection, though it was added on the other side."""


def write_column(instance: object, name: str, value: object) -> None:
    """Set a column attribute without events, as a change of what it is now."""
    state, loaded = instance_state(instance), instance_dict(instance)
    if name in state.committed_state:
        loaded[name] = own_value(instance, name, value)
    else:
        base = loaded.get(name, NO_VALUE)
        loaded[name] = own_value(instance, name, value)
        mark_changed(instance, name, base)
    forget_composites(instance, {name})


def own_value(instance: object, name: str, value: object) -> object:
    """Return the value for an attribute of ``instance``: no two instances share a mutable one."""
    if not isinstance(value, MutableBase):
        return value
    copied = copy.deepcopy(value)
    # Documented in spite of its name: it is how a mutable value finds whom to tell of a change.
    parents = copied._parents  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    parents.clear()
    parents[instance_state(instance)] = name
    return copied


def forget_composites(instance: object, names: set[str]) -> None:
    """Have the composite attributes over these columns made anew at their next use."""
    state = instance_state(instance)
    for composite in state.mapper.composites:
        if names.intersection(prop.key for prop in composite.props):
            instance_dict(instance).pop(composite.key, None)


def write_reference(instance: object, name: str, value: object) -> None:
    """Set a reference with SQLAlchemy's events, once for both sides of the relationship."""
    loaded = instance_dict(instance)
    if name in loaded and loaded[name] is value:
        return
    left = _loaded_reverse_of(instance, name, loaded.get(name))
    staying = [] if left is None else _without(left, instance)
    others = _loaded_reverse_of(instance, name, value)
    before = [] if others is None else list(others)
    set_attribute(instance, name, value)
    if left is not None:
        refill(left, staying)  # a list removes the first member that is equal
    if others is not None and _in(before, instance):
        refill(others, before)  # it was there already, and is now twice


def add_member(instance: object, name: str, member: object) -> None:
    """Add to a loaded collection, or to one that is never loaded."""
    adapter = _adapter(instance, name)
    if adapter is None:
        getattr(instance, name).add(member)
    elif not _in(adapter, member):
        adapter.append_with_event(member)


def remove_member(instance: object, name: str, member: object) -> None:
    """Remove from a loaded collection, or from one that is never loaded."""
    adapter = _adapter(instance, name)
    if adapter is None:
        getattr(instance, name).remove(member)
    elif _in(adapter, member):
        staying = _without(adapter, member)
        adapter.remove_with_event(member)
        refill(adapter, staying)  # as in write_reference()


def relink(
    instance: object, relationship: RelationshipProperty[object], resolve: Resolve, stays: Stays
) -> None:
    """Let a relationship lead to what stands for its instances; its changes stay its changes."""
    name = relationship.key
    history = history_of(instance, name)
    if all(member is None or resolve(member) is member for member in history.sum()):
        return
    if not relationship.uselist:
        _relink_reference(instance, name, resolve)
    elif is_never_loaded(relationship):
        _relink_unloaded(instance, relationship, resolve, stays)
    elif (adapter := _adapter(instance, name)) is None:
        return  # what a back-reference queued
    elif name in instance_state(instance).committed_state:
        _relink_changed(instance, relationship, adapter, resolve, stays)
    else:
        refill(adapter, _resolved(adapter, resolve))


def _relink_reference(instance: object, name: str, resolve: Resolve) -> None:
    loaded, committed = instance_dict(instance), instance_state(instance).committed_state
    value = loaded.get(name)
    target = None if value is None else resolve(value)
    if name not in committed:
        set_committed_value(instance, name, target)
        return
    base = committed[name]
    if isinstance(base, LoaderCallableStatus):  # it was not loaded when the new one was set
        loaded.pop(name, None)
    else:
        set_committed_value(instance, name, None if base is None else resolve(base))
    write_reference(instance, name, target)


def _relink_unloaded(
    instance: object, relationship: RelationshipProperty[object], resolve: Resolve, stays: Stays
) -> None:
    name = relationship.key
    history = history_of(instance, name)
    instance_state(instance).committed_state.pop(name)
    for target in _resolved(history.added, resolve):
        if not stays(target, relationship):
            add_member(instance, name, target)
    for target in _resolved(history.deleted, resolve):
        remove_member(instance, name, target)


def _relink_changed(
    instance: object,
    relationship: RelationshipProperty[object],
    adapter: CollectionAdapter,
    resolve: Resolve,
    stays: Stays,
) -> None:
    name = relationship.key
    history = history_of(instance, name)
    base = _resolved((*history.unchanged, *history.deleted), resolve)
    current = [
        each
        for each in _resolved(adapter, resolve)
        if _in(base, each) or not stays(each, relationship)
    ]
    added = [each for each in _replacements(history.added, resolve) if _in(current, each)]
    removed = _replacements(history.deleted, resolve)
    quiet = [each for each in current if not _in(added, each) or _in(base, each)]
    quiet += [each for each in removed if not _in(quiet, each)]
    refill(adapter, quiet)
    mark_changed(instance, name, base)
    for member in removed:
        if not _in(current, member):
            adapter.remove_with_event(member)
    for member in added:
        if not _in(adapter, member):
            adapter.append_with_event(member)
    refill(adapter, current)


def refill(adapter: CollectionAdapter, members: Iterable[object]) -> None:
    """Give a collection these members without events."""
    adapter.clear_without_event()
    adapter.append_multiple_without_event(members)


def mark_changed(instance: object, name: str, base: object) -> None:
    """Make what an attribute is now a change of ``base``."""
    flag_modified(instance, name)
    # The public call forgets what the attribute was; a later comparison needs it.
    instance_state(instance).committed_state[name] = base


def _adapter(instance: object, name: str) -> CollectionAdapter | None:
    """Return SQLAlchemy's view of a loaded collection."""
    collection = instance_dict(instance).get(name)
    # True is the mark that a change leaves in a collection that is never loaded.
    return None if collection is None or collection is True else collection_adapter(collection)


def _loaded_reverse_of(instance: object, name: str, value: object) -> CollectionAdapter | None:
    if value is None:
        return None
    reverse = _back_populates(instance, name)
    if reverse is None or not instance_state(value).mapper.relationships[reverse].uselist:
        return None
    return _adapter(value, reverse)


def _resolved(members: Iterable[Any], resolve: Resolve) -> list[object]:
    """Return what stands for the members, each once, without those for which nothing does."""
    found: list[object] = []
    seen = set[object]()
    for member in members:
        target = None if member is None else resolve(member)
        if target is not None and instance_state(target) not in seen:
            seen.add(instance_state(target))
            found.append(target)
    return found


def _replacements(members: Iterable[object], resolve: Resolve) -> list[object]:
    """Return what stands for those members that something else stands for."""
    targets = ((member, resolve(member)) for member in members)
    return [target for member, target in targets if target is not None and target is not member]


def _without(members: Iterable[object], unwanted: object) -> list[object]:
    return [member for member in members if member is not unwanted]


def _in(members: Iterable[object], wanted: object) -> bool:
    """Tell by identity: a model may define its own equality."""
    return any(member is wanted for member in members)


def _back_populates(instance: object, name: str) -> str | None:
    relationship: RelationshipProperty[Any] = instance_state(instance).mapper.relationships[name]
    reverse: str | None = relationship.back_populates
    return reverse
