"""What is said when an instance cannot be attached.

Messages name class, identity and attributes, never the value of an attribute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy.orm.attributes import instance_state

from flask_reqsession.errors import (
    ForeignInstanceError,
    MissingRowError,
    ReattachConflictError,
    ReattachError,
)
from flask_reqsession.reattachment.graph import changed_attributes
from flask_reqsession.reattachment.standing import FOREIGN, GONE, Standing

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, RelationshipProperty

Place: TypeAlias = tuple[str, str]
"""Function and argument that an instance was passed as; both are empty outside a call."""

_WITHOUT_CHANGES: Final = (
    "Make the changes on this session's own instances, or pass an argument without changes."
)


def refusal(
    instance: object,
    standing: Standing,
    place: Place,
    loaded_by: RelationshipProperty[object] | None = None,
) -> ReattachError:
    """Return the error for an instance that cannot be attached.

    ``loaded_by`` is the relationship that leads to it; None for an argument itself.
    """
    state = instance_state(instance)
    row = _row(state)
    refused = f"{row}{_via(loaded_by)} cannot be attached{_words(place)}"
    if standing is GONE:
        return MissingRowError(
            f"{refused}: its row was deleted. Do not pass it on after the delete; "
            f"to have such a row again, add a new {state.class_.__name__}."
        )
    if standing is FOREIGN:
        return ForeignInstanceError(
            f"{refused}: it belongs to another session that is still open. Close that session, or "
            "expunge the instance from it, or pass this session's own instance of the row."
        )
    if loaded_by is None:
        return ReattachConflictError(
            f"{refused}: {_changes(instance)}, and this session holds another instance of the row. "
            f"{_WITHOUT_CHANGES}"
        )
    return ReattachConflictError(
        f"{refused}: this session holds another instance of {row}, and a row has one instance in "
        f"a session. Get the argument itself from this session, or load it without {loaded_by}."
    )


def left_behind(
    instance: object, place: Place, loaded_by: RelationshipProperty[object]
) -> ReattachConflictError:
    """Return the error for a changed instance that only a replaced argument leads to."""
    row = _row(instance_state(instance))
    return ReattachConflictError(
        f"{row}{_via(loaded_by)} cannot be attached{_words(place)}: {_changes(instance)}, and the "
        "argument that leads to it is replaced by this session's own instance of its row. "
        f"{_WITHOUT_CHANGES}"
    )


def _changes(instance: object) -> str:
    return f"it carries changes of {', '.join(changed_attributes(instance))}"


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
