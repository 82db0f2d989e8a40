"""The steps of one call: all decided first, then carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar, cast

from sqlalchemy.orm.attributes import instance_state

from flask_reqsession.reattachment.graph import changed_attributes, state_of, unwrapped
from flask_reqsession.reattachment.memory import Memory
from flask_reqsession.reattachment.refusals import left_behind, refusal
from flask_reqsession.reattachment.standing import (
    ATTACH,
    REFUSE,
    SUBSTITUTE,
    TRANSIENT,
    standing_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import InstanceState, Session

    from flask_reqsession.reattachment.refusals import Place

T = TypeVar("T")

_NOWHERE: Final = ("", "")


def attach(
    session: Session,
    instance: T,
    *,
    memory: Memory | None = None,
    reattached: Callable[[object], None] | None = None,
) -> T:
    """Return ``instance`` attached to ``session``, or the session's own instance of its row.

    A detached instance is attached as the same object: no SQL, nothing expires, its changes are
    kept, and what it has loaded comes along. If the session already holds its row, the session's
    instance is returned instead, provided that no change would be lost by that. What is no model
    instance, was never saved, or is in the session already is returned untouched.

    ``memory`` lets it refuse rows that the running transaction deleted, and saves time.
    ``reattached`` is called with what is returned, if that was attached or substituted.

    Raises ``MissingRowError`` if the row was deleted, ``ForeignInstanceError`` if the instance is
    in another live session, ``ReattachConflictError`` if the session holds other state of a row.
    Then nothing has been touched.

    >>> from sqlalchemy import Integer, create_engine
    >>> from sqlalchemy.orm import DeclarativeBase, Session, mapped_column
    >>> class Base(DeclarativeBase): ...
    >>> class User(Base):
    ...     __tablename__ = "user"
    ...     id = mapped_column(Integer, primary_key=True)
    >>> engine = create_engine("sqlite://")
    >>> Base.metadata.create_all(engine)
    >>> with Session(engine, expire_on_commit=False) as session, session.begin():
    ...     user = User(id=1)
    ...     session.add(user)
    >>> with Session(engine) as session:
    ...     attach(session, user) is user, user in session
    (True, True)
    """
    model: object = instance
    if hasattr(type(instance), "__mapper__"):
        try:
            state = instance_state(instance)
        except AttributeError:
            return instance
        if state.session_id == session.hash_key and not state.was_deleted:
            return instance
    elif (model := unwrapped(instance)) is instance:
        return instance
    plan = Plan(session, memory or Memory())
    result = plan.take(model)
    plan.settle()
    plan.carry_out(reattached)
    return cast("T", result)


class Plan:
    """What one call does to its arguments.

    Give it every argument by :meth:`take`, then :meth:`settle`, then :meth:`carry_out`. Only the
    last one touches anything, and nothing is refused there any more.
    """

    __slots__ = ("_claims", "_deleted", "_graph", "_moved", "_replaced", "_roots", "_session")

    def __init__(self, session: Session, memory: Memory) -> None:
        self._session = session
        self._graph = memory.graph
        deleted = memory.deleted
        self._deleted = deleted if session.hash_key in deleted.sessions else None
        # Every instance that will be attached, by its identity key.
        self._claims: dict[object, object] = {}
        # Those of them that no cascade brings along.
        self._roots: list[tuple[object, Place]] = []
        self._replaced: list[tuple[object, Place]] = []
        # What the call gets for the arguments that were attached or replaced.
        self._moved: list[object] = []

    def take(self, argument: object, place: Place = _NOWHERE) -> object:
        """Decide about one argument, and return what the call gets for it."""
        state = state_of(argument)
        if state is None:
            return argument
        standing, holder = standing_of(argument, state, self._session, self._claims, self._deleted)
        step = standing.unchanged
        if step is not standing.changed and changed_attributes(argument):
            step = standing.changed
        if step is ATTACH:
            self._claims[state.key] = argument
            self._roots.append((argument, place))
            self._moved.append(argument)
        elif step is SUBSTITUTE:
            self._replaced.append((argument, place))
            self._moved.append(holder)
            return holder
        elif step is REFUSE:
            raise refusal(argument, standing, place)
        return argument

    def settle(self) -> None:
        """Decide about everything that the arguments have loaded."""
        self._claim_related()
        for argument, place in self._replaced:
            self._check_left_behind(argument, place)

    def carry_out(self, reattached: Callable[[object], None] | None = None) -> None:
        """Attach what was claimed; then report what the call gets for arguments that moved."""
        session = self._session
        # A listener of the user's may query while only half of a graph is attached.
        autoflush, session.autoflush = session.autoflush, False
        try:
            for instance, _ in self._roots:
                session.add(instance)
        finally:
            session.autoflush = autoflush
        if reattached is not None:
            for instance in self._moved:
                reattached(instance)

    def _claim_related(self) -> None:
        session, claims, deleted = self._session, self._claims, self._deleted
        unsaved: set[InstanceState[object]] = set()
        # An explicit stack: a graph may be deeper than Python's own.
        stack = list(self._roots)
        while stack:
            parent, place = stack.pop()
            for instance, relationship, cascades in self._graph.related(parent):
                state = instance_state(instance)
                standing, _ = standing_of(instance, state, session, claims, deleted)
                step = standing.related
                if step is ATTACH:
                    claims[state.key] = instance
                    stack.append((instance, place))
                    if not cascades:
                        self._roots.append((instance, place))
                elif step is REFUSE:
                    raise refusal(instance, standing, place, relationship)
                elif standing is TRANSIENT and cascades and state not in unsaved:
                    # SQLAlchemy will save what the user hung onto a relationship, and attach what
                    # that leads to.
                    unsaved.add(state)
                    stack.append((instance, place))

    def _check_left_behind(self, argument: object, place: Place) -> None:
        """Raise if a replaced argument leads to changes that the call would not see."""
        seen = {instance_state(argument)}
        stack = [argument]
        while stack:
            for instance, relationship, _ in self._graph.related(stack.pop()):
                state = instance_state(instance)
                if state in seen or not state.detached or self._claims.get(state.key) is instance:
                    continue
                if changed_attributes(instance):
                    raise left_behind(instance, place, relationship)
                seen.add(state)
                stack.append(instance)
