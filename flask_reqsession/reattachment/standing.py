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

    KEEP = "leave it as it is"
    ATTACH = "attach the same object"
    SUBSTITUTE = "use the session's own instance of the row instead"
    CARRY_OVER = "use the session's own instance, with the changes carried over to it"
    COPY = "use a new instance in the session, with the values that this one has loaded"
    REFUSE = "raise, and touch nothing"


# By a name of their own: reading a member off its Enum takes longer than a whole decision.
KEEP: Final = Step.KEEP
ATTACH: Final = Step.ATTACH
SUBSTITUTE: Final = Step.SUBSTITUTE
CARRY_OVER: Final = Step.CARRY_OVER
COPY: Final = Step.COPY
REFUSE: Final = Step.REFUSE


class Standing(Enum):
    """What a model instance is to one session, and the step that follows.

    The step is the same for an argument and for what an argument has loaded. It depends on whether
    the instance has changes that wait for a flush. ``docs/reattachment.md`` shows the table.

    >>> Standing.TAKEN.unchanged.name, Standing.TAKEN.changed.name
    ('SUBSTITUTE', 'CARRY_OVER')
    """

    # What it is; the step if unchanged; if changed.
    OURS = "in this session, or about to be", KEEP, KEEP
    TRANSIENT = "never saved, and in no session", KEEP, KEEP
    FREE = "detached, and this session has no instance of its row", ATTACH, ATTACH
    TAKEN = "detached, and this session has another instance of its row", SUBSTITUTE, CARRY_OVER
    FOREIGN = "in another live session, and this one has no instance of its row", COPY, REFUSE
    FOREIGN_TAKEN = "in another live session, and this one has an instance, too", SUBSTITUTE, REFUSE
    FOREIGN_NEW = "never saved, and in another live session", REFUSE, REFUSE
    OF_OTHER_BIND = "in a live session of another bind, which is another database", REFUSE, REFUSE
    GONE = "its row was deleted", REFUSE, REFUSE

    def __init__(self, meaning: str, unchanged: Step, changed: Step) -> None:
        self.meaning = meaning
        self.unchanged = unchanged
        self.changed = changed


OURS: Final = Standing.OURS
TRANSIENT: Final = Standing.TRANSIENT
FREE: Final = Standing.FREE
TAKEN: Final = Standing.TAKEN
FOREIGN: Final = Standing.FOREIGN
FOREIGN_TAKEN: Final = Standing.FOREIGN_TAKEN
FOREIGN_NEW: Final = Standing.FOREIGN_NEW
OF_OTHER_BIND: Final = Standing.OF_OTHER_BIND
GONE: Final = Standing.GONE

FOREIGNERS: Final = frozenset({FOREIGN, FOREIGN_TAKEN, FOREIGN_NEW})


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
    owner = None if state.session_id is None else state.session
    if owner is session:
        return OURS, None
    key = state.key
    if key is None:
        return (TRANSIENT if owner is None else FOREIGN_NEW), None
    holder = claims.get(key)
    if holder is None:
        holder = session.identity_map.get(key)
    if holder is instance:
        return OURS, holder
    if holder is None:
        is_gone = deleted is not None and deleted.holds(session, key)
    else:
        is_gone = holder in session.deleted
    if is_gone:
        return GONE, holder
    free, taken = (FREE, TAKEN) if owner is None else (FOREIGN, FOREIGN_TAKEN)
    return (free if holder is None else taken), holder
