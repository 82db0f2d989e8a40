"""What is said when an instance cannot be attached.

Messages name class, identity and attributes, never the value of an attribute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession.errors import (
    ForeignInstanceError,
    MissingRowError,
    ReattachConflictError,
    ReattachError,
)
from flask_reqsession.reattachment.standing import FOREIGN_NEW, GONE, OF_OTHER_BIND, Standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import InstanceState, RelationshipProperty

Place: TypeAlias = tuple[str, str]
"""Function and argument that an instance was passed as; both are empty outside a call."""

NOWHERE: Final[Place] = ("", "")


def refusal(
    instance: object,
    standing: Standing,
    place: Place,
    loaded_by: RelationshipProperty[object] | None = None,
    binds: tuple[str, ...] = (),
) -> ReattachError:
    """Return the error for an instance that cannot be attached.

    ``loaded_by`` is the relationship that leads to it; None for an argument itself. ``binds`` are
    those of its session and of this one, where they differ.
    """
    state = instance_state(instance)
    refused = f"{_row(state)}{_via(loaded_by)} cannot be attached{_words(place)}"
    if standing is GONE:
        return MissingRowError(
            f"{refused}: its row was deleted. Do not pass it on after the delete; "
            f"to have such a row again, add a new {state.class_.__name__}."
        )
    if standing is OF_OTHER_BIND:
        theirs, ours = binds
        return ForeignInstanceError(
            f"{refused}: it belongs to an open session of bind {theirs!r}, and this session is of "
            f"bind {ours!r}, which is another database. Pass bind={theirs!r} to what attaches it, "
            "or load the row with this session."
        )
    if standing is FOREIGN_NEW:
        return ForeignInstanceError(
            f"{refused}: another session that is still open is about to insert it. Commit there "
            "first, or expunge it from that session."
        )
    if state.modified or instance in getattr(state.session, "deleted", ()):
        return ForeignInstanceError(
            f"{refused}: it belongs to another session that is still open, and has changes there "
            "that were not flushed. Flush or commit them there first, or make the changes on this "
            "session's own instance of the row."
        )
    return ForeignInstanceError(
        f"{refused}: it belongs to another session that is still open. Close that session, or "
        "expunge the instance from it, or pass this session's own instance of the row."
    )


def conflicting(instance: object, names: Sequence[str], place: Place) -> ReattachConflictError:
    """Return the error for attributes that were changed differently on both sides."""
    return ReattachConflictError(
        f"{_row(instance_state(instance))} cannot be attached{_words(place)}: {', '.join(names)} "
        "was changed in it, and to something else in this session, which holds another instance "
        "of the row. Load it anew and repeat the change, or say whose value counts: "
        'conflict="argument" or conflict="session".'
    )


def stale(instance: object, place: Place) -> StaleDataError:
    """Return SQLAlchemy's error for a changed instance of an old version of its row."""
    return StaleDataError(
        f"{_row(instance_state(instance))} cannot be attached{_words(place)}: it was changed, and "
        "it was loaded with another version of its row than this session has. Load it anew and "
        "repeat the change."
    )


def _row(state: InstanceState[object]) -> str:
    """Return class and identity: ``User 1``, or ``Seat (3, 'A')``."""
    name, identity = state.class_.__name__, state.identity
    if identity is None:
        return f"{name} (not saved)"
    return f"{name} {identity[0] if len(identity) == 1 else identity!r}"


def _via(loaded_by: RelationshipProperty[object] | None) -> str:
    return "" if loaded_by is None else f" (loaded by {loaded_by})"


def _words(place: Place) -> str:
    function, argument = place
    return f" as argument {argument.rstrip('/')!r} of {function}()" if function else ""
