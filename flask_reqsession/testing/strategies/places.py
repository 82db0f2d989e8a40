"""Where in a program a body stands, and what can be there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flask_reqsession.testing.programs import Root
from flask_reqsession.testing.steps import PropagationName


@dataclass(frozen=True, slots=True)
class Limits:
    """What the database can do, and how long a program may be."""

    roots: tuple[Root, ...]
    second_session: bool
    second_writer: bool
    steps: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a program a body stands.

    ``has_session``: not so outside of every call of a bare program. ``in_scope``: whether a scope
    runs on the session, if the body runs at all. ``may_write``: whether the sessions that are
    suspended leave that to this one. ``is_paused``: whether a generator waits in the session's
    transaction, where no other can be started. ``is_tried``: whether somebody around may catch
    what is raised, so that the program goes on. ``in_savepoint``: in a block of SQLAlchemy's own,
    which forbids all SQL after somebody has ended its transaction; so there is none without a
    scope, whose end would do that, and no end by hand in one. ``is_repeated``: whether a call
    around may be run again. ``depth`` counts the bodies around.
    """

    has_session: bool
    in_scope: bool = False
    may_write: bool = True
    is_paused: bool = False
    is_tried: bool = False
    in_savepoint: bool = False
    is_repeated: bool = False
    depth: int = 0


@dataclass(slots=True)
class Traffic:
    """Whether a session may have sent something in its open transaction: now, or on the way.

    Where an exception is caught, nobody knows how far the body came.
    """

    by_now: bool = False
    ever: bool = False

    def begin(self) -> None:
        """Note that something may have been sent."""
        self.by_now = self.ever = True


def has_own_session(propagation: PropagationName, place: Place) -> bool:
    """Whether a call runs on a session that is made for it."""
    is_busy = place.in_scope or place.is_paused
    return propagation == "NOT_SUPPORTED" or (propagation == "REQUIRES_NEW" and is_busy)


SCOPES: Final = {
    "REQUIRED": True,
    "REQUIRES_NEW": True,
    "NESTED": True,
    "MANDATORY": True,
    "NOT_SUPPORTED": False,
    "NEVER": False,
}
"""Whether a scope runs inside; SUPPORTS leaves it as it was."""

STARTING: Final = frozenset({"REQUIRED", "REQUIRES_NEW", "NESTED"})
"""What starts a transaction where no scope is running."""
