"""Carry out what was decided about one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.orm.attributes import instance_dict, instance_state

from flask_reqsession.reattachment.copies import copy_columns, copy_references
from flask_reqsession.reattachment.graph import history_of
from flask_reqsession.reattachment.refreshing import load_where_awaited, outdated, refresh_columns
from flask_reqsession.reattachment.renewing import instances_of
from flask_reqsession.reattachment.writing import relink

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from flask_reqsession.reattachment.decisions import Decisions


def carry_out(
    decisions: Decisions, session: Session, reattached: Callable[[object], None] | None = None
) -> None:
    """Do what was decided; then report what the call gets for arguments that moved.

    Nothing is refused here any more, and nothing is flushed.
    """
    # A listener of the user's may query while only half of a graph is attached.
    autoflush, session.autoflush = session.autoflush, False
    try:
        if decisions.targets:
            _copy_and_relink(decisions)
        for instance in decisions.roots:
            session.add(instance)
        for _, copy in decisions.copies:
            session.add(copy)
        if decisions.targets:
            _drop_queues(decisions, session)
        for state, values in decisions.fresh.items():
            refresh_columns(state, values)
        _write_changes(decisions, session)
        _expire(decisions, session)
    finally:
        session.autoflush = autoflush
    if reattached is not None:
        for instance in decisions.moved:
            if (target := decisions.target(instance)) is not None:
                reattached(target)


def _copy_and_relink(decisions: Decisions) -> None:
    for original, copy in decisions.copies:
        copy_columns(original, copy)
        copy_references(original, copy, decisions.target)
    for instance in decisions.attached:
        loaded, committed = instance_dict(instance), instance_state(instance).committed_state
        for relationship in instance_state(instance).mapper.relationships:
            if relationship.key in loaded or relationship.key in committed:
                relink(instance, relationship, decisions.target, decisions.stays)


def _drop_queues(decisions: Decisions, session: Session) -> None:
    """Forget the replaced instances that wait for collections which are not loaded.

    They would appear in them beside their replacements.
    """
    for instance in decisions.attached:
        state, loaded = instance_state(instance), instance_dict(instance)
        for relationship in state.mapper.relationships:
            name = relationship.key
            if state.key is None or name in loaded or not relationship.uselist:
                continue
            queued = history_of(instance, name).sum()
            if any(instance_state(member) in decisions.targets for member in queued):
                session.expire(instance, [name])


def _write_changes(decisions: Decisions, session: Session) -> None:
    for write, instance, name, value in decisions.writes:
        write(instance, name, value)
        # SQLAlchemy inserts what the user hung onto a replaced instance, where it cascades.
        relationship = instance_state(instance).mapper.relationships.get(name)
        if relationship is not None and relationship.cascade.save_update:
            for member in history_of(instance, name).added:
                if member is not None and instance_state(member).transient:
                    session.add(member)


def _expire(decisions: Decisions, session: Session) -> None:
    expired = list(decisions.expired)
    if decisions.fresh:
        for instance in instances_of(decisions):
            expired += [(instance, name) for name in outdated(instance, decisions.members)]
    for instance, name in expired:
        session.expire(instance, [name])
    if expired:
        load_where_awaited(session, expired)
