"""Reattach values: find the instances in them, decide, carry out, rebuild what contains them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from sqlalchemy.orm.attributes import instance_state

from flask_reqsession.reattachment.carrying import carry_out
from flask_reqsession.reattachment.choices import DEFAULTS, ReattachOptions
from flask_reqsession.reattachment.containers import MISSING, Contents, not_attached
from flask_reqsession.reattachment.graph import state_of, unwrapped
from flask_reqsession.reattachment.memory import Memory
from flask_reqsession.reattachment.plainly import attach_plainly
from flask_reqsession.reattachment.plan import decide
from flask_reqsession.reattachment.recalling import Recall
from flask_reqsession.reattachment.refusals import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from flask_reqsession.reattachment.refusals import Place

T = TypeVar("T")


class Surroundings(NamedTuple):
    """What one call is made with: see :func:`attach`; ``recall`` remembers what was before."""

    memory: Memory | None = None
    options: ReattachOptions = DEFAULTS
    reattached: Callable[[object], None] | None = None
    recall: Recall | None = None


def attach(
    session: Session,
    instance: T,
    *,
    memory: Memory | None = None,
    options: ReattachOptions = DEFAULTS,
    reattached: Callable[[object], None] | None = None,
) -> T:
    """Return ``instance`` attached to ``session``, or the session's own instance of its row.

    A detached instance is attached as the same object: no SQL, nothing expires, its changes are
    kept, and what it has loaded comes along. If the session already holds its row, the session's
    instance is returned instead, with the changes carried over to it. A container is rebuilt if
    anything in it is replaced. What is no model instance, was never saved, or is in the session
    already is returned untouched.

    ``memory`` lets it refuse rows that the running transaction deleted, and saves time.
    ``reattached`` is called with what takes the place of each instance that was attached or
    replaced.

    Raises ``MissingRowError`` if the row was deleted, ``ForeignInstanceError`` if the instance is
    in another live session and has changes there, ``ReattachConflictError`` if the session has
    changed the same attribute. Then nothing has been touched.

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
    loose: list[object] | None
    if hasattr(type(instance), "__mapper__"):
        try:
            state = instance_state(instance)
        except AttributeError:
            return instance
        here = state.session_id == session.hash_key and not state.was_deleted
        loose = [] if here else [instance]
    else:
        loose = not_attached([instance], session.hash_key, doubtful=True)
    is_plain = loose is not None and not options.refresh
    if is_plain and (not loose or attach_plainly(session, loose, memory, reattached)):
        return instance
    values = [(instance, NOWHERE)]
    call = Surroundings(memory, options, reattached)
    return cast("T", attach_all(session, values, call)[0])


def attach_all(
    session: Session,
    values: Sequence[tuple[object, Place]],
    call: Surroundings,
) -> list[object]:
    """Do what :func:`attach` does with several values at once: all of them, or none."""
    contents = Contents()
    arguments = [model for value, place in values for model in contents.models(value, place)]
    if not arguments:
        return [value for value, _ in values]
    decisions = decide(session, call.memory or Memory(), call.options, arguments)

    if call.recall is not None:
        call.recall.keep(decisions.attached)
    if not decisions.targets and not contents.has_proxies:
        carry_out(decisions, session, call.reattached)
        return [value for value, _ in values]

    def replace(member: object) -> object:
        model = unwrapped(member)
        if state_of(model) is None:
            return model
        target = decisions.target(model)
        return MISSING if target is None else target

    new = contents.rebuilt(replace)
    carry_out(decisions, session, call.reattached)
    results = (new[id(value)] if id(value) in new else replace(value) for value, _ in values)
    return [None if result is MISSING else result for result in results]
