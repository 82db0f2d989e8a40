"""Read the rows of instances again: one SELECT for each mapped class, chunk by chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import Null, select, tuple_
from sqlalchemy.orm import RelationshipDirection
from sqlalchemy.orm.attributes import instance_dict, instance_state, set_committed_value

from flask_reqsession.reattachment.graph import is_never_loaded
from flask_reqsession.reattachment.writing import forget_composites

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, Session

Values: TypeAlias = dict[str, object]
"""The columns of one row, by the names of the attributes."""

CHUNK: Final = 500
"""Rows for one SELECT: databases limit the parameters of a statement."""


def fresh_values(
    session: Session, instances: Iterable[object]
) -> dict[InstanceState[object], Values]:
    """Return the present rows of saved instances; those that are gone are not in it.

    Nothing is flushed, and no instance is touched.
    """
    by_mapper: dict[Mapper[object], list[InstanceState[object]]] = {}
    for instance in instances:
        state = instance_state(instance)
        by_mapper.setdefault(state.mapper, []).append(state)
    found: dict[InstanceState[object], Values] = {}
    with session.no_autoflush:
        for mapper, states in by_mapper.items():
            rows = _rows(session, mapper, states)
            found.update((s, rows[s.identity]) for s in states if s.identity in rows)
    return found


def _rows(
    session: Session, mapper: Mapper[object], states: Sequence[InstanceState[object]]
) -> dict[object, Values]:
    model: Any = mapper.class_
    keys = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    names = list(dict.fromkeys([*keys, *_names(mapper, states)]))
    statement = select(*(getattr(model, name) for name in names))
    key: Any = getattr(model, keys[0])
    if len(keys) > 1:
        key = tuple_(*(getattr(model, name) for name in keys))
    identities: list[tuple[object, ...]] = [state.identity or () for state in states]
    wanted = identities if len(keys) > 1 else [identity[0] for identity in identities]
    rows: dict[object, Values] = {}
    for start in range(0, len(wanted), CHUNK):
        for row in session.execute(statement.where(key.in_(wanted[start : start + CHUNK]))):
            rows[tuple(row[: len(keys)])] = dict(zip(names, row, strict=True))
    return rows


def _names(mapper: Mapper[object], states: Sequence[InstanceState[object]]) -> Iterator[str]:
    """Name the columns to read: those that are loaded by default or by one of the instances."""
    loaded = {name for state in states for name in state.dict}
    for column in mapper.column_attrs:
        is_placeholder = isinstance(column.expression, Null)  # of a query_expression()
        if not is_placeholder and (column.key in loaded or not column.deferred):
            yield column.key


def refresh_columns(state: InstanceState[object], values: Values) -> None:
    """Give an instance the values of its row, as if they had just been loaded."""
    instance: object = state.obj()
    for name, value in values.items():
        set_committed_value(instance, name, value)
    names = set(values)
    forget_composites(instance, names)
    # What wraps mutable values waits for this event.
    state.manager.dispatch.refresh(state, None, names)


def outdated(instance: object) -> list[str]:
    """Return the loaded relationships that may lead elsewhere by now; changed ones never do."""
    state, loaded = instance_state(instance), instance_dict(instance)
    return [
        relationship.key
        for relationship in state.mapper.relationships
        if relationship.key in loaded
        and relationship.key not in state.committed_state
        and not is_never_loaded(relationship)
        and not _leads_to_its_key(instance, relationship)
    ]


def _leads_to_its_key(instance: object, relationship: RelationshipProperty[object]) -> bool:
    if relationship.direction is not RelationshipDirection.MANYTOONE:
        return False
    loaded, mapper = instance_dict(instance), instance_state(instance).mapper
    target = loaded[relationship.key]
    for local, remote in relationship.local_remote_pairs or ():
        value = loaded.get(mapper.get_property_by_column(local).key)
        key = None
        if target is not None:
            name = instance_state(target).mapper.get_property_by_column(remote).key
            key = instance_dict(target).get(name)
        if value != key:
            return False
    return True
