"""What an instance is to a session, and what follows from it: the policy of reattachment."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlalchemy.orm import InstanceState, Session

    from flask_reqsession.reattachment.deletions import DeletedRows


class Step(Enum):
    """What is done about one instance."""

    KEEP = "pass it as it is"
    ATTACH = "attach the same object"
    SUBSTITUTE = "pass the session's own instance of the row instead"
    REFUSE = "raise, and touch nothing"


# By a name of their own: reading a member off its Enum takes longer than a whole decision.
KEEP: Final = Step.KEEP
ATTACH: Final = Step.ATTACH
SUBSTITUTE: Final = Step.SUBSTITUTE
REFUSE: Final = Step.REFUSE


class Standing(Enum):
    """What a model instance is to one session, and the step that follows.

    The step depends on whether the instance is an argument of the call, without or with changes
    that wait for a flush, or is only related to one, as something that it has loaded.

    >>> Standing.TAKEN.unchanged.name, Standing.TAKEN.changed.name, Standing.TAKEN.related.name
    ('SUBSTITUTE', 'REFUSE', 'REFUSE')
    """

    # What it is; the step if unchanged, if changed, if only related.
    OURS = "in this session, or about to be", KEEP, KEEP, KEEP
    TRANSIENT = "never saved, and in no session", KEEP, KEEP, KEEP
    FREE = "detached, and this session has no instance of its row", ATTACH, ATTACH, ATTACH
    TAKEN = "detached, and this session has another instance of its row", SUBSTITUTE, REFUSE, REFUSE
    FOREIGN = "in another session that is still open", REFUSE, REFUSE, REFUSE
    GONE = "its row was deleted", REFUSE, REFUSE, REFUSE

    def __init__(self, meaning: str, unchanged: Step, changed: Step, related: Step) -> None:
        self.meaning = meaning
        self.unchanged = unchanged
        self.changed = changed
        self.related = related


OURS: Final = Standing.OURS
TRANSIENT: Final = Standing.TRANSIENT
FREE: Final = Standing.FREE
TAKEN: Final = Standing.TAKEN
FOREIGN: Final = Standing.FOREIGN
GONE: Final = Standing.GONE


def standing_of(
    instance: object,
    state: InstanceState[object],
    session: Session,
    claims: Mapping[object, object],
    deleted: DeletedRows | None,
) -> tuple[Standing, object]:
    """Return what the instance is to the session, and whatever holds its row there.

    ``claims`` are the instances that are about to be attached, by their identity keys; ``deleted``
    is None where nothing was deleted. Reads memory only. Whoever goes on with the holder needs
    this very reference to it: the identity map is weak.
    """
    if state.was_deleted:
        return GONE, None
    # The id outlives its session.
    if state.session_id is not None and (owner := state.session) is not None:
        return (OURS if owner is session else FOREIGN), None
    key = state.key
    if key is None:
        return TRANSIENT, None
    holder = claims.get(key)
    if holder is None:
        holder = session.identity_map.get(key)
    if holder is None:
        return (GONE if deleted is not None and deleted.holds(session, key) else FREE), None
    if holder is instance:
        return OURS, holder
    return (GONE if holder in session.deleted else TAKEN), holder
