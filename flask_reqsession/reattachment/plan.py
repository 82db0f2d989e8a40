"""The steps of one call: all decided first, then carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sqlalchemy.orm.attributes import instance_dict, instance_state
from werkzeug.exceptions import abort

from flask_reqsession.reattachment.changes import changes_of
from flask_reqsession.reattachment.choices import DEFAULTS
from flask_reqsession.reattachment.copies import blank_of, copy_columns, copy_references
from flask_reqsession.reattachment.graph import history_of
from flask_reqsession.reattachment.merging import Merge
from flask_reqsession.reattachment.refusals import conflicting, refusal, stale
from flask_reqsession.reattachment.standing import (
    ATTACH,
    CARRY_OVER,
    COPY,
    FOREIGNERS,
    FREE,
    GONE,
    KEEP,
    REFUSE,
    TRANSIENT,
    standing_of,
)
from flask_reqsession.reattachment.writing import relink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.orm import InstanceState, RelationshipProperty, Session

    from flask_reqsession.reattachment.choices import ReattachOptions
    from flask_reqsession.reattachment.memory import Memory
    from flask_reqsession.reattachment.merging import Write
    from flask_reqsession.reattachment.refusals import Place
    from flask_reqsession.reattachment.standing import Standing, Step


class Plan:
    """What one call does to its arguments and to all that they have loaded.

    :meth:`decide` looks at everything and touches nothing; what it refuses it raises. After it,
    :meth:`target` says what the call gets for an argument, and :meth:`carry_out` does all of it.
    """

    __slots__ = (
        "_attached",
        "_claims",
        "_copies",
        "_deleted",
        "_graph",
        "_merges",
        "_moved",
        "_options",
        "_places",
        "_roots",
        "_session",
        "_stack",
        "_targets",
        "_unsaved",
        "_writes",
    )

    def __init__(
        self, session: Session, memory: Memory, options: ReattachOptions = DEFAULTS
    ) -> None:
        self._session = session
        self._options = options
        self._graph = memory.graph
        deleted = memory.deleted
        self._deleted = deleted if session.hash_key in deleted.sessions else None
        # Every instance that will be attached, by its identity key.
        self._claims: dict[object, object] = {}
        # Those of them that were detached, and those of them that no cascade brings along.
        self._attached: list[object] = []
        self._roots: list[object] = []
        # What stands for an instance that is replaced.
        self._targets: dict[InstanceState[object], object] = {}
        self._copies: list[tuple[object, object]] = []
        self._merges: list[tuple[Merge, Place]] = []
        self._writes: list[Write] = []
        self._unsaved: set[InstanceState[object]] = set()
        # What the call gets for the arguments that are attached or replaced.
        self._moved: list[object] = []
        # Whose related instances are still to be looked at; whether session.add() goes there.
        self._stack: list[tuple[object, Place, bool]] = []

    # -- deciding -------------------------------------------------------------------------------

    def decide(self, arguments: Iterable[tuple[object, Place]]) -> None:
        """Decide about saved instances, each with its place in the call, and all they lead to.

        :raises ReattachError: something is refused. :raises StaleDataError: a changed instance
            was loaded with another version of its row than the session has.
        """
        session, claims, deleted = self._session, self._claims, self._deleted
        given = list(arguments)
        moved: set[InstanceState[object]] = set()
        # Detached arguments come first: whoever holds one goes on with the same object.
        for argument, place in given:
            state = instance_state(argument)
            standing, _ = standing_of(argument, state, session, claims, deleted)
            if standing is FREE:
                self._attach(argument, state, place)
                self._roots.append(argument)
                moved.add(state)
        for argument, place in given:
            if self._judge(argument, place, None) is not KEEP:
                moved.add(instance_state(argument))
        for argument, _ in given:
            if instance_state(argument) in moved:
                moved.discard(instance_state(argument))
                if (target := self.target(argument)) is not None:
                    self._moved.append(target)
        self._follow()
        self._compare()

    def _judge(
        self, instance: object, place: Place, loaded_by: RelationshipProperty[object] | None
    ) -> Step:
        """Decide about one instance, and note what is to be done."""
        state = instance_state(instance)
        if self._targets.get(state) is not None:
            return KEEP
        standing, holder = standing_of(instance, state, self._session, self._claims, self._deleted)
        step = self._step(instance, standing, holder, place)
        if step is ATTACH:
            self._attach(instance, state, place)
        elif step is COPY:
            self._copy(instance, state, place)
        elif standing is GONE and loaded_by is None and self._options.missing != "raise":
            self._leave_out(state)
        elif step is REFUSE:
            raise refusal(instance, standing, place, loaded_by)
        elif step is not KEEP:
            self._targets[state] = holder
            if standing not in FOREIGNERS:
                self._stack.append((instance, place, False))
        return step

    def _leave_out(self, state: InstanceState[object]) -> None:
        if self._options.missing == "404":
            abort(404)
        self._targets[state] = None

    def _step(self, instance: object, standing: Standing, holder: object, place: Place) -> Step:
        """Look up the step in the table of standings; note the changes to carry over."""
        state = instance_state(instance)
        if standing in FOREIGNERS:
            if self._options.foreign == "raise" or _is_changed_elsewhere(instance, state):
                return standing.changed
        elif standing.changed is CARRY_OVER and (changes := changes_of(instance)):
            self._merges.append((Merge(instance, holder, changes), place))
            return standing.changed
        return standing.unchanged

    def _attach(self, instance: object, state: InstanceState[object], place: Place) -> None:
        self._claims[state.key] = instance
        self._attached.append(instance)
        self._stack.append((instance, place, True))

    def _copy(self, instance: object, state: InstanceState[object], place: Place) -> None:
        copy = blank_of(state)
        self._claims[state.key] = self._targets[state] = copy
        self._copies.append((instance, copy))
        self._stack.append((instance, place, False))

    def _follow(self) -> None:
        """Decide about everything that the arguments have loaded."""
        session, claims, deleted = self._session, self._claims, self._deleted
        # An explicit stack: a graph may be deeper than Python's own.
        while self._stack:
            parent, place, is_added = self._stack.pop()
            for instance, relationship, cascades in self._graph.related(parent):
                state = instance_state(instance)
                standing, _ = standing_of(instance, state, session, claims, deleted)
                if standing is GONE and not is_added and not state.modified:
                    self._targets.setdefault(state, None)  # it stays behind with its parent
                elif standing.unchanged is not KEEP:
                    step = self._judge(instance, place, relationship)
                    if step is ATTACH and not (cascades and is_added):
                        self._roots.append(instance)
                elif standing is TRANSIENT and cascades and state not in self._unsaved:
                    # SQLAlchemy will save what the user hung onto a relationship, and attach what
                    # that leads to.
                    self._unsaved.add(state)
                    self._attached.append(instance)
                    self._stack.append((instance, place, is_added))

    def unread(self) -> list[tuple[object, str]]:
        """Return what the session's own instances must load before changes are compared."""
        return [(merge.holder, name) for merge, _ in self._merges for name in merge.unread()]

    def _compare(self) -> None:
        """Turn the changes of replaced instances into what is written to their replacements."""
        if self.unread():
            return
        for merge, place in self._merges:
            if merge.is_stale():
                raise stale(merge.argument, place)
            writes, conflicts = merge.writes(self.target, self._options.conflict)
            if conflicts:
                raise conflicting(merge.argument, conflicts, place)
            self._writes += writes

    def target(self, instance: object) -> object:
        """Return what stands for an instance in the session, often the instance itself."""
        return self._targets.get(instance_state(instance), instance)

    # -- carrying out ---------------------------------------------------------------------------

    def carry_out(self, reattached: Callable[[object], None] | None = None) -> None:
        """Do what was decided; then report what the call gets for arguments that moved."""
        session = self._session
        # A listener of the user's may query while only half of a graph is attached.
        autoflush, session.autoflush = session.autoflush, False
        try:
            if self._targets:
                self._copy_and_relink()
            for instance in self._roots:
                session.add(instance)
            for _, copy in self._copies:
                session.add(copy)
            if self._targets:
                self._drop_queues()
            for write, instance, name, value in self._writes:
                write(instance, name, value)
                self._save(instance, name)
        finally:
            session.autoflush = autoflush
        if reattached is not None:
            for instance in self._moved:
                reattached(instance)

    def _copy_and_relink(self) -> None:
        for original, copy in self._copies:
            copy_columns(original, copy)
            copy_references(original, copy, self.target)
        for instance in self._attached:
            loaded, committed = instance_dict(instance), instance_state(instance).committed_state
            for relationship in instance_state(instance).mapper.relationships:
                if relationship.key in loaded or relationship.key in committed:
                    relink(instance, relationship, self.target)

    def _save(self, instance: object, name: str) -> None:
        """Let SQLAlchemy insert what the user hung onto a replaced instance, where it cascades."""
        relationship = instance_state(instance).mapper.relationships.get(name)
        if relationship is not None and relationship.cascade.save_update:
            for member in history_of(instance, name).added:
                if member is not None and instance_state(member).transient:
                    self._session.add(member)

    def _drop_queues(self) -> None:
        """Forget the replaced instances that wait for collections which are not loaded.

        They would appear in them beside their replacements.
        """
        for instance in self._attached:
            state, loaded = instance_state(instance), instance_dict(instance)
            for relationship in state.mapper.relationships:
                name = relationship.key
                if state.key is None or name in loaded or not relationship.uselist:
                    continue
                queued = history_of(instance, name).sum()
                if any(instance_state(member) in self._targets for member in queued):
                    self._session.expire(instance, [name])


def _is_changed_elsewhere(instance: object, state: InstanceState[object]) -> bool:
    owner = cast("Session", state.session)
    return (state.modified and owner.is_modified(instance)) or instance in owner.deleted


def plan_of(
    session: Session,
    memory: Memory,
    options: ReattachOptions,
    arguments: list[tuple[object, Place]],
) -> Plan:
    """Return a plan about the arguments: decided, and with nothing left to be read.

    Only where changes are to be compared with what the session has not loaded, it is read.
    """
    read: list[object] = []  # the identity map is weak
    while True:
        plan = Plan(session, memory, options)
        plan.decide(arguments)
        unread = plan.unread()
        if not unread:
            return plan
        with session.no_autoflush:
            # What is read brings instances into the session, so that everything is decided anew.
            read += [getattr(holder, name) for holder, name in unread]
