"""Decide about every instance that a call leads to, before the first one is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sqlalchemy.orm.attributes import instance_state

from flask_reqsession.reattachment.changes import changes_of, newly_related
from flask_reqsession.reattachment.copies import blank_of
from flask_reqsession.reattachment.decisions import Decisions
from flask_reqsession.reattachment.merging import SETTERS, Merge
from flask_reqsession.reattachment.moving import moved_on_both_sides
from flask_reqsession.reattachment.refreshing import read_anew
from flask_reqsession.reattachment.refusals import conflicting, refusal, stale
from flask_reqsession.reattachment.renewing import instances_of, renew
from flask_reqsession.reattachment.standing import (
    ATTACH,
    CARRY_OVER,
    COPY,
    FOREIGNERS,
    FREE,
    GONE,
    KEEP,
    OF_OTHER_BIND,
    REFUSE,
    TRANSIENT,
    standing_of,
)
from flask_reqsession.reattachment.writing import remove_member

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, RelationshipProperty, Session

    from flask_reqsession.reattachment.choices import ReattachOptions
    from flask_reqsession.reattachment.memory import Memory
    from flask_reqsession.reattachment.refusals import Place
    from flask_reqsession.reattachment.standing import Standing, Step


def decide(
    session: Session,
    memory: Memory,
    options: ReattachOptions,
    arguments: list[tuple[object, Place]],
) -> Decisions:
    """Return what is to be done about model instances, each with its place in the call.

    Touches nothing. It reads from the database what the session must have loaded for changes to be
    compared, and what is to be refreshed. Raises what :func:`attach` raises.
    """
    read: list[object] = []  # the identity map is weak
    while True:
        decisions = Survey(session, memory, options).of(arguments)
        unread = [(merge.holder, name) for merge, _ in decisions.merges for name in merge.unread()]
        if not unread:
            break
        with session.no_autoflush:
            # What is read brings instances into the session, so that everything is decided anew.
            read += [getattr(holder, name) for holder, name in unread]
    if options.refresh:
        fresh = read_anew(session, instances_of(decisions), memory.statements)
        decisions.members = fresh.members
        renew(decisions, options, fresh.rows, memory.abort)
    _compare(decisions, options)
    if decisions.targets or decisions.fresh:
        _settle_moves(session, decisions, options)
    for merge, _ in decisions.merges:
        decisions.writes += merge.member_writes(decisions.target, decisions.stays)
    return decisions


def _compare(decisions: Decisions, options: ReattachOptions) -> None:
    """Turn the changes of replaced instances into what is written to their replacements."""
    planned: dict[InstanceState[object], dict[str, object]] = {}
    for merge, place in decisions.merges:
        state = instance_state(merge.holder)
        merge.fresh.update(decisions.fresh.get(state, {}))
        # Two arguments may be instances of one row, and contradict each other.
        merge.planned.update(planned.get(state, {}))
        if merge.is_stale():
            raise stale(merge.argument, place)
        writes, conflicts = merge.writes(decisions.target, options.conflict)
        if conflicts and options.conflict == "raise":
            raise conflicting(merge.argument, conflicts, place)
        if options.conflict == "session":
            decisions.kept.update((state, name) for name in conflicts)
        decisions.writes += writes
        settled = {name: value for write, _, name, value in writes if write in SETTERS}
        planned.setdefault(state, {}).update(settled)


def _settle_moves(session: Session, decisions: Decisions, options: ReattachOptions) -> None:
    """Decide about children that only collections lead to, and that both sides have moved."""
    for move in moved_on_both_sides(session, decisions):
        name = move.relationship.key
        if options.conflict == "raise":
            place = decisions.place_of(decisions.target(move.argument))
            raise conflicting(move.argument, [name], place)
        if options.conflict == "session":
            decisions.kept.add((instance_state(move.child), move.relationship))
        elif move.rival is not None:
            decisions.writes.append((remove_member, move.rival, name, move.child))


class Survey:
    """One look at the arguments of a call and at everything that they have loaded. No SQL."""

    __slots__ = (
        "_abort",
        "_bind_of",
        "_claims",
        "_decisions",
        "_deleted",
        "_graph",
        "_options",
        "_session",
        "_stack",
        "_unsaved",
    )

    def __init__(self, session: Session, memory: Memory, options: ReattachOptions) -> None:
        self._session = session
        self._options = options
        self._graph = memory.graph
        self._abort = memory.abort
        self._bind_of = memory.bind_of
        deleted = memory.deleted
        self._deleted = deleted if session.hash_key in deleted.sessions else None
        self._decisions = Decisions([])
        # Every instance that will be attached, by its identity key.
        self._claims: dict[object, object] = {}
        self._unsaved: set[InstanceState[object]] = set()
        # Whose related instances are still to be looked at; whether session.add() goes there.
        self._stack: list[tuple[object, Place, bool]] = []

    def of(self, arguments: list[tuple[object, Place]]) -> Decisions:
        """Return the decisions, without the comparison of changes. Raises what is refused."""
        session, claims, deleted = self._session, self._claims, self._deleted
        decisions = self._decisions
        decisions.arguments = arguments
        free: list[object] = []
        others: list[tuple[object, Place]] = []
        # Detached arguments come first: whoever holds one goes on with the same object.
        for argument, place in arguments:
            state = instance_state(argument)
            standing, _ = standing_of(argument, state, session, claims, deleted)
            if standing is FREE:
                self._attach(argument, state, place)
                free.append(argument)
            else:
                others.append((argument, place))
        replaced = [each for each, place in others if self._judge(each, place, None) is not KEEP]
        decisions.roots += free
        decisions.moved = free + replaced
        self._follow()
        return decisions

    def _judge(
        self, instance: object, place: Place, loaded_by: RelationshipProperty[object] | None
    ) -> Step:
        """Decide about one instance, and note what is to be done."""
        state = instance_state(instance)
        if self._decisions.targets.get(state) is not None:
            return KEEP
        standing, holder = standing_of(instance, state, self._session, self._claims, self._deleted)
        binds = self._binds(state) if standing in FOREIGNERS else ()
        if len(binds) > 1:
            standing = OF_OTHER_BIND
        step = self._step(instance, standing, holder, place)
        if step is ATTACH:
            self._attach(instance, state, place)
        elif step is COPY:
            self._copy(instance, state, place)
        elif standing is GONE and loaded_by is None and self._options.missing != "raise":
            self._leave_out(state)
        elif step is REFUSE:
            raise refusal(instance, standing, place, loaded_by, binds)
        elif step is not KEEP:
            self._decisions.targets[state] = holder
            if standing not in FOREIGNERS:
                self._stack.append((instance, place, False))
        return step

    def _binds(self, state: InstanceState[object]) -> tuple[str, ...]:
        """Return the bind of an instance's live session, and that of this one if it differs."""
        theirs, ours = self._bind_of(cast("Session", state.session)), self._bind_of(self._session)
        return tuple(dict.fromkeys(bind for bind in (theirs, ours) if bind is not None))

    def _leave_out(self, state: InstanceState[object]) -> None:
        if self._options.missing == "404":
            self._abort(404)
        self._decisions.targets[state] = None

    def _step(self, instance: object, standing: Standing, holder: object, place: Place) -> Step:
        """Look up the step in the table of standings; note the changes to carry over."""
        state = instance_state(instance)
        if standing in FOREIGNERS:
            if self._options.foreign == "raise" or _is_changed_elsewhere(instance, state):
                return standing.changed
        elif standing.changed is CARRY_OVER and (changes := changes_of(instance)):
            self._decisions.merges.append((Merge(instance, holder, changes), place))
            return standing.changed
        return standing.unchanged

    def _attach(self, instance: object, state: InstanceState[object], place: Place) -> None:
        self._claims[state.key] = instance
        self._decisions.attached.append(instance)
        self._stack.append((instance, place, True))

    def _copy(self, instance: object, state: InstanceState[object], place: Place) -> None:
        copy = blank_of(state)
        self._claims[state.key] = self._decisions.targets[state] = copy
        self._decisions.copies.append((instance, copy))
        self._stack.append((instance, place, False))

    def _follow(self) -> None:
        """Decide about everything that the arguments have loaded."""
        session, claims, deleted = self._session, self._claims, self._deleted
        # An explicit stack: a graph may be deeper than Python's own.
        while self._stack:
            parent, place, is_added = self._stack.pop()
            for instance, relationship, cascades in self._graph.related(parent):
                state = instance_state(instance)
                if claims.get(state.key) is instance:
                    continue
                standing, _ = standing_of(instance, state, session, claims, deleted)
                if standing is GONE and not is_added and not _is_wanted(instance, parent):
                    # It stays behind with its parent.
                    self._decisions.targets.setdefault(state, None)
                elif standing.unchanged is not KEEP:
                    step = self._judge(instance, place, relationship)
                    if step is ATTACH and not (cascades and is_added):
                        self._decisions.roots.append(instance)
                elif standing is TRANSIENT and cascades and state not in self._unsaved:
                    # SQLAlchemy will save what the user hung onto a relationship, and attach what
                    # that leads to.
                    self._unsaved.add(state)
                    self._decisions.attached.append(instance)
                    self._stack.append((instance, place, is_added))


def _is_changed_elsewhere(instance: object, state: InstanceState[object]) -> bool:
    owner = cast("Session", state.session)
    return (state.modified and owner.is_modified(instance)) or instance in owner.deleted


def _is_wanted(instance: object, parent: object) -> bool:
    """Whether a change would be lost without an instance: of its own, or one to lead to it."""
    related = newly_related(parent)
    return bool(changes_of(instance)) or any(each is instance for each in related)
