"""The model instances inside containers, and containers rebuilt around what replaces them."""

# What is in the user's containers has no type that could be known here.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.orm.attributes import instance_state
from werkzeug.datastructures import ImmutableDict, ImmutableList, MultiDict
from werkzeug.local import LocalProxy

from flask_reqsession.reattachment.graph import is_proxy, state_of, unwrapped

if TYPE_CHECKING:
    from flask_reqsession.reattachment.refusals import Place

CONTAINERS: Final = (list, tuple, set, frozenset, dict)
FIELDS: Final = "__dataclass_fields__"
_STORES: Final = (MultiDict, ImmutableDict, ImmutableList)
"""Werkzeug's kinds whose methods show less than is stored, or refuse to be filled.

They are read and filled by the methods of ``dict`` and ``list``: a ``MultiDict`` stores lists.
"""

PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes})
"""Types that are met often, and have nothing in them.

They are asked about first: a ``hasattr()`` that is false makes an exception and drops it.
"""

MISSING: Final = object()
"""Stands for an instance whose row is gone."""


def is_container(kind: type) -> bool:
    """Tell whether values of this type are looked into; a mapped class was asked for before."""
    return issubclass(kind, CONTAINERS) or hasattr(kind, FIELDS)


def not_attached(
    values: Iterable[object], session_key: int, *, doubtful: bool
) -> list[object] | None:
    """Return the model instances in these values that are not in the session.

    None if that takes a closer look: at a proxy, or at an instance that was never initialised.
    ``doubtful`` says that some may have been deleted in the session.
    """
    found: list[object] = []
    waiting = [values]
    seen: set[int] = set()  # all of them are held by the call meanwhile
    while waiting:
        for value in waiting.pop():
            kind = type(value)
            if kind in PLAIN:
                continue
            if hasattr(kind, "__mapper__"):
                try:
                    state = instance_state(value)
                except AttributeError:  # made by __new__ alone
                    return None
                if state.session_id != session_key or (doubtful and state.was_deleted):
                    found.append(value)
            elif issubclass(kind, LocalProxy):
                return None
            elif is_container(kind) and id(value) not in seen:
                seen.add(id(value))
                waiting.append(_members(value))
    return found


class Contents:
    """The containers among the arguments of one call, however they contain each other."""

    __slots__ = ("_containers", "_parents", "has_proxies")

    def __init__(self) -> None:
        self.has_proxies: bool = False
        # By id: they need not be hashable, and live as long as this object.
        self._containers: dict[int, Any] = {}
        self._parents: dict[int, list[int]] = {}

    def models(self, value: object, place: Place) -> Iterable[tuple[object, Place]]:
        """Find the saved or unsaved model instances in a value, itself included, in its order."""
        stack = [self._unwrapped(value)]
        while stack:
            each = stack.pop()
            if state_of(each) is not None:
                yield each, place
            elif is_container(type(each)) and id(each) not in self._containers:
                self._containers[id(each)] = each
                members = [self._unwrapped(member) for member in _members(each)]
                for model in members:
                    if is_container(type(model)):
                        self._parents.setdefault(id(model), []).append(id(each))
                stack += reversed(members)

    def _unwrapped(self, value: object) -> object:
        if not is_proxy(value):
            return value
        self.has_proxies = True
        return unwrapped(value)

    def rebuilt(self, replace: Callable[[object], object]) -> dict[int, object]:
        """Return what takes the place of each container that leads to a replaced instance.

        ``replace`` gives what takes the place of a member, itself or :data:`MISSING`. The
        containers themselves are not touched.
        """
        affected = self._affected(replace)
        new: dict[int, object] = {}
        fixed: list[int] = []
        for key in affected:
            container = self._containers[key]
            if isinstance(container, tuple | frozenset):
                fixed.append(key)
            else:
                new[key] = _shell(container)

        def renew(member: object) -> object:
            return new[id(member)] if id(member) in affected else replace(member)

        # What can't be filled later is made after what it contains. It can't contain itself.
        while fixed:
            key = fixed[-1]
            inner = [id(each) for each in self._containers[key] if id(each) in affected]
            waiting = [each for each in inner if each not in new]
            fixed += waiting
            if not waiting:
                fixed.pop()
                if key not in new:
                    new[key] = _remade(self._containers[key], renew)
        for key in affected:
            _fill(new[key], self._containers[key], renew)
        return new

    def _affected(self, replace: Callable[[object], object]) -> dict[int, None]:
        found = {
            key: None
            for key, container in self._containers.items()
            if any(replace(member) is not member for member in _members(container))
        }
        stack = list(found)
        while stack:
            for parent in self._parents.get(stack.pop(), ()):
                if parent not in found:
                    found[parent] = None
                    stack.append(parent)
        return found


def _members(container: object) -> Iterable[object]:
    if isinstance(container, dict):
        values: Iterable[object] = _methods_of(container).values(container)
        return values
    if isinstance(container, CONTAINERS):
        return container
    names: Iterable[str] = getattr(container, FIELDS)
    return [getattr(container, name, None) for name in names]


def _methods_of(container: object) -> Any:  # noqa: ANN401 - of any of these
    """Return the class by whose methods a dict, list or set is read and filled."""
    if isinstance(container, _STORES):
        return dict if isinstance(container, dict) else list
    return type(container)


def _shell(container: object) -> object:
    """Return an empty container of the same type, or a copy of a dataclass instance."""
    kind: Any = type(container)
    if not isinstance(container, CONTAINERS):
        return copy.copy(container)
    if isinstance(container, _STORES):
        return kind.__new__(kind)
    if not hasattr(container, "_sa_adapter"):
        emptied: Any = copy.copy(container)
        emptied.clear()
        return emptied
    # A relationship's own collection: the new one belongs to no instance.
    shell: Any = kind.__new__(kind)
    for name, value in vars(container).items():
        if not name.startswith("_sa_"):
            setattr(shell, name, value)
    return shell


def _remade(container: Iterable[object], renew: Callable[[object], object]) -> object:
    kind: Any = type(container)
    members = [renew(member) for member in container]
    if hasattr(kind, "_fields"):
        return kind._make(None if member is MISSING else member for member in members)
    kept = [member for member in members if member is not MISSING]
    return tuple.__new__(kind, kept) if isinstance(container, tuple) else kind(kept)


def _fill(new: object, container: object, renew: Callable[[object], object]) -> None:
    if isinstance(new, dict) and isinstance(container, dict):
        methods = _methods_of(container)
        renewed = {key: renew(value) for key, value in methods.items(container)}
        methods.update(new, {k: value for k, value in renewed.items() if value is not MISSING})
    elif isinstance(new, list | set) and isinstance(container, list | set):
        members = [renew(member) for member in container]
        kept = [member for member in members if member is not MISSING]
        methods = _methods_of(container)
        methods.extend(new, kept) if isinstance(new, list) else methods.update(new, kept)
    elif not isinstance(new, CONTAINERS):
        for name in getattr(container, FIELDS):
            if hasattr(container, name):
                member = renew(getattr(container, name))
                object.__setattr__(new, name, None if member is MISSING else member)
