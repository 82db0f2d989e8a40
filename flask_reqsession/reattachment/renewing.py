"""Decide about rows that were read again: who is gone, and what is out of date."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.orm.attributes import instance_state

from flask_reqsession.reattachment.changes import (
    UNKNOWN,
    Change,
    ColumnChange,
    ReferenceChange,
    changes_of,
    newly_related,
)
from flask_reqsession.reattachment.merging import Merge, key_names
from flask_reqsession.reattachment.refusals import conflicting, refusal, stale
from flask_reqsession.reattachment.standing import GONE
from flask_reqsession.reattachment.writing import write_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import InstanceState

    from flask_reqsession.reattachment.choices import ReattachOptions
    from flask_reqsession.reattachment.decisions import Decisions
    from flask_reqsession.reattachment.memory import Abort
    from flask_reqsession.reattachment.refreshing import Values


def instances_of(decisions: Decisions) -> list[object]:
    """Return the saved instances that the call will see, each once."""
    seen = [decisions.target(argument) for argument, _ in decisions.arguments]
    seen += [*decisions.attached, *decisions.targets.values()]
    states = {instance_state(each): each for each in seen if each is not None}
    return [each for state, each in states.items() if state.key is not None]


def renew(
    decisions: Decisions,
    options: ReattachOptions,
    rows: Mapping[InstanceState[object], Values],
    abort: Abort,
) -> None:
    """Decide what the rows mean for the instances that the call will see.

    :raises MissingRowError: the row of an argument, or of a changed instance, is gone.
    :raises ReattachConflictError: the database has another change of an attribute.
    """
    for instance in instances_of(decisions):
        if instance_state(instance) not in rows:
            _lose(instance, decisions, options, abort)
    for instance in instances_of(decisions):
        state = instance_state(instance)
        decisions.fresh[state] = _outdated_part(instance, rows[state], decisions, options)


def _lose(instance: object, decisions: Decisions, options: ReattachOptions, abort: Abort) -> None:
    """Leave an instance out whose row is gone."""
    arguments = [each for each, _ in decisions.arguments if decisions.target(each) is instance]
    if arguments and options.missing == "404":
        abort(404)
    if arguments and options.missing == "raise":
        raise refusal(instance, GONE, decisions.place_of(instance))
    if not arguments and _is_wanted(instance, decisions):
        raise refusal(instance, GONE, decisions.place_of(instance))
    for state, target in decisions.targets.items():
        if target is instance:
            decisions.targets[state] = None
    decisions.targets[instance_state(instance)] = None
    decisions.merges = [pair for pair in decisions.merges if pair[0].holder is not instance]
    decisions.copies = [pair for pair in decisions.copies if pair[1] is not instance]
    decisions.attached = [each for each in decisions.attached if each is not instance]
    # A cascade would have brought others along by way of this one.
    decisions.roots = [each for each in decisions.attached if instance_state(each).key is not None]


def _is_wanted(instance: object, decisions: Decisions) -> bool:
    """Whether something would be lost without an instance: changes of it, or one to lead to it."""
    merged = [merge for merge, _ in decisions.merges]
    if changes_of(instance) or any(merge.holder is instance for merge in merged):
        return True
    parents = [*decisions.attached, *(merge.argument for merge in merged)]
    return any(decisions.target(each) is instance for p in parents for each in newly_related(p))


def _outdated_part(
    instance: object, row: Values, decisions: Decisions, options: ReattachOptions
) -> Values:
    """Return what a row overwrites: not the changes that wait for a flush."""
    changes = changes_of(instance)
    if not changes:
        return row
    merge = Merge(instance, instance, changes, row)
    if instance_state(instance).session_id is not None:
        # The session's own changes, on the version that it has loaded: its flush will tell.
        kept = {change.name for change in changes} | {merge.version}
        return {name: value for name, value in row.items() if name not in kept}
    if merge.is_stale():
        raise stale(instance, decisions.place_of(instance))
    weighed = [(change, *_weigh(change, merge)) for change in changes]
    conflicts = [change for change, _, differs in weighed if differs]
    if conflicts and options.conflict == "raise":
        names = [change.name for change in conflicts]
        raise conflicting(instance, names, decisions.place_of(instance))
    yielding = conflicts if options.conflict == "session" else []
    for change in yielding:
        if isinstance(change, ReferenceChange):
            # Taken back on both sides of the relationship, then loaded anew.
            known = change.base is not None and change.base is not UNKNOWN
            base = decisions.target(change.base) if known else None
            decisions.writes.append((write_reference, instance, change.name, base))
            decisions.expired.append((instance, change.name))
    kept = {change.name for change, stays, _ in weighed if stays and change not in yielding}
    return {name: value for name, value in row.items() if name not in kept}


def _weigh(change: Change, merge: Merge) -> tuple[bool, bool]:
    """Tell whether a change differs from the fresh row, and whether the row has another one."""
    if isinstance(change, ColumnChange):
        same = change.column.columns[0].type.compare_values
        fresh = merge.fresh.get(change.name, UNKNOWN)
        if same(fresh, change.value):
            return False, False
        known = fresh is not UNKNOWN and change.base is not UNKNOWN
        return True, known and not same(fresh, change.base)
    # None, where the foreign key is in another row: of a collection, say.
    names = key_names(merge.argument, change.relationship)
    return True, any(merge.fresh.get(name) != merge.before(name) for name in names)
