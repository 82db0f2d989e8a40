"""Instances for a session of rows that another session has loaded, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import make_transient_to_detached
from sqlalchemy.orm.attributes import instance_dict, instance_state, set_committed_value
from sqlalchemy.orm.collections import collection_adapter

from flask_reqsession.reattachment.writing import Resolve, own_value

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState


def blank_of(state: InstanceState[object]) -> object:
    """Return a new, detached instance of the same row; ``__init__`` is not called."""
    mapper = state.mapper
    blank: object = mapper.class_manager.new_instance()
    # Of the original these may have expired; the identity has not.
    for column, value in zip(mapper.primary_key, state.identity or (), strict=True):
        set_committed_value(blank, mapper.get_property_by_column(column).key, value)
    make_transient_to_detached(blank)
    return blank


def copy_columns(original: object, blank: object) -> None:
    """Give ``blank`` the column values that ``original`` has loaded."""
    loaded = instance_dict(original)
    for column in instance_state(original).mapper.column_attrs:
        if column.key in loaded:
            value = own_value(blank, column.key, loaded[column.key])
            set_committed_value(blank, column.key, value)


def copy_references(original: object, blank: object, resolve: Resolve) -> None:
    """Let ``blank`` lead to what stands for the instances that ``original`` has loaded."""
    loaded = instance_dict(original)
    for relationship in instance_state(original).mapper.relationships:
        name = relationship.key
        value: Any = loaded.get(name, True)
        if value is True:  # not loaded, or the mark of one that never is
            continue
        if not relationship.uselist:
            set_committed_value(blank, name, None if value is None else resolve(value))
            continue
        members = [resolve(member) for member in collection_adapter(value)]
        set_committed_value(blank, name, [each for each in members if each is not None])
