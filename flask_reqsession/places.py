"""Where the running code is: the unit it found last, and those that were opened by hand."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flask_reqsession.keeper import UnitKeeper
    from flask_reqsession.ports import SessionPort
    from flask_reqsession.units import Unit


class Place:
    """A unit as it was last found from some context: valid for the same context and owner only.

    ``chosen_in`` is the app context in which a decorator without a manager came to this keeper; an
    ellipsis if none did.
    """

    __slots__ = (
        "chosen_in",
        "context",
        "keeper",
        "owner",
        "ports",
        "unit",
    )

    def __init__(
        self,
        unit: Unit,
        *,
        context: object,
        owner: object,
        keeper: UnitKeeper,
    ) -> None:
        self.unit: Unit = unit
        self.ports: dict[str, SessionPort] = unit.ports
        self.chosen_in: object = ...
        self.context: object = context
        self.owner: object = owner
        self.keeper: UnitKeeper = keeper


class OpenUnit:
    """A unit opened by hand, as its context sees it: linked to the one around it."""

    __slots__ = ("context", "keeper", "outer", "unit")

    def __init__(self, unit: Unit, keeper: UnitKeeper, context: object) -> None:
        self.unit: Unit = unit
        self.keeper: UnitKeeper = keeper
        self.context: object = context
        self.outer: OpenUnit | None = None

    def enter(self) -> None:
        """Make this the current unit of the running context."""
        self.outer = open_unit.get()
        open_unit.set(self)
        place.set(None)

    def leave(self) -> None:
        """Make the unit around this one current again.

        Set, not reset by a token: a generator's steps may run in different contexts, and it may be
        closed in one that never entered.
        """
        if open_unit.get() is self:
            open_unit.set(self.outer)
        place.set(None)


place: Final[ContextVar[Place | None]] = ContextVar("flask_reqsession.place", default=None)
"""A cache of the last look-up, validated at each use; every truth is elsewhere."""

open_unit: Final[ContextVar[OpenUnit | None]] = ContextVar(
    "flask_reqsession.open_unit", default=None
)
"""The innermost unit that was opened by hand in this context."""


def nearest(keeper: UnitKeeper) -> OpenUnit | None:
    """Return the innermost unit opened by hand for ``keeper`` that has not ended."""
    opened = open_unit.get()
    while opened is not None and (opened.keeper is not keeper or opened.unit.ended):
        opened = opened.outer
    return opened
