"""Read the rows of instances again: one SELECT for each mapped class, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import Null, Select, bindparam, or_, select, tuple_
from sqlalchemy.orm import RelationshipDirection, load_only, selectinload
from sqlalchemy.orm.attributes import instance_dict, instance_state, set_committed_value

from flask_reqsession.reattachment.graph import is_never_loaded
from flask_reqsession.reattachment.membership import Members, Watched, is_complete
from flask_reqsession.reattachment.writing import forget_composites

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, Mapper, RelationshipProperty, Session

Values: TypeAlias = dict[str, object]
"""The columns of one row, by the names of the attributes."""

Statements: TypeAlias = "dict[tuple[Mapper[Any], tuple[str, ...], tuple[str, ...]], Select[Any]]"
"""What was made for mapped classes, the attributes that are read, and those it is found by."""

CHUNK: Final = 500
"""Rows for one SELECT: databases limit the parameters of a statement."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """What a refresh has read."""

    rows: dict[InstanceState[object], Values]
    """The present rows of the instances; those that are gone are not in it."""
    members: Members
    """What belongs to their collections by now, where that was read with the rows."""


def read_anew(session: Session, instances: Sequence[object], statements: Statements) -> Fresh:
    """Return the present rows of saved instances, in one SELECT for each mapped class.

    Nothing is flushed, and no instance is touched. ``statements`` are those made before.
    """
    watched = Watched(instances)
    by_mapper: dict[Mapper[object], list[InstanceState[object]]] = {}
    for instance in instances:
        state = instance_state(instance)
        by_mapper.setdefault(state.mapper, []).append(state)
    for mapper in watched.mappers:
        by_mapper.setdefault(mapper, [])
    found: dict[InstanceState[object], Values] = {}
    with session.no_autoflush:
        for mapper, states in by_mapper.items():
            rows = _rows(session, mapper, states, watched, statements)
            found.update((s, rows[s.identity]) for s in states if s.identity in rows)
    return Fresh(found, watched.found)


def _rows(
    session: Session,
    mapper: Mapper[object],
    states: Sequence[InstanceState[object]],
    watched: Watched,
    statements: Statements,
) -> dict[object, Values]:
    keys = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    foreign = watched.keys(mapper)
    names = tuple(dict.fromkeys([*keys, *foreign, *_names(mapper, states)]))
    asked = {"": _identities(states), **foreign}
    rows: dict[object, Values] = {}
    for start in range(0, max(len(values) for values in asked.values()), CHUNK):
        chunks = {name: values[start : start + CHUNK] for name, values in asked.items()}
        given = {f"in_{name}": values for name, values in chunks.items() if values}
        by = tuple(name for name, values in chunks.items() if values)
        statement = statements.get((mapper, names, by))
        if statement is None:
            statement = statements[mapper, names, by] = _statement(mapper, names, by)
        for row in session.execute(statement, given):
            identity = tuple(row[: len(keys)])
            rows[identity] = dict(zip(names, row, strict=True))
            watched.note(mapper, identity, rows[identity])
    return rows


def _statement(mapper: Mapper[Any], names: Iterable[str], by: Iterable[str]) -> Any:  # noqa: ANN401 - of any row
    """Select attributes by the values of others; the primary key has no name among them."""
    columns = {name: getattr(mapper.class_, name) for name in (*names, *by) if name}
    columns[""] = _key_of(mapper)
    found_by = (columns[name].in_(bindparam(f"in_{name}", expanding=True)) for name in by)
    statement: Any = select(*(columns[name] for name in names))
    return statement.where(or_(*found_by))


def _key_attributes(mapper: Mapper[Any]) -> list[Any]:
    names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    return [getattr(mapper.class_, name) for name in names]


def _key_of(mapper: Mapper[Any]) -> Any:  # noqa: ANN401 - a column, or a tuple of columns
    attributes = _key_attributes(mapper)
    return attributes[0] if len(attributes) == 1 else tuple_(*attributes)


def _identities(states: Iterable[InstanceState[object]]) -> list[object]:
    """Return the primary keys, as :func:`_key_of` is compared with them."""
    identities: list[tuple[object, ...]] = [state.identity or () for state in states]
    return [identity[0] if len(identity) == 1 else identity for identity in identities]


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


def outdated(instance: object, members: Members) -> list[str]:
    """Return the loaded relationships that may lead elsewhere by now; changed ones never do."""
    state, loaded = instance_state(instance), instance_dict(instance)
    return [
        relationship.key
        for relationship in state.mapper.relationships
        if relationship.key in loaded
        and relationship.key not in state.committed_state
        and not is_never_loaded(relationship)
        and not _leads_to_its_key(instance, relationship)
        and not is_complete(instance, relationship.key, members)
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


def load_where_awaited(session: Session, expired: Iterable[tuple[object, str]]) -> None:
    """Load expired relationships now if reading them later could not wait for the database."""
    by_name: dict[tuple[Mapper[Any], str], list[InstanceState[object]]] = {}
    for instance, name in expired:
        state = instance_state(instance)
        by_name.setdefault((state.mapper, name), []).append(state)
    for (mapper, name), states in by_name.items():
        if not session.get_bind(mapper).dialect.is_async:
            continue
        model: Any = mapper.class_
        key, wanted = _key_of(mapper), _identities(states)
        relationship = selectinload(getattr(model, name))
        statement = select(model).options(load_only(*_key_attributes(mapper)), relationship)
        for start in range(0, len(wanted), CHUNK):
            session.scalars(statement.where(key.in_(wanted[start : start + CHUNK]))).all()
