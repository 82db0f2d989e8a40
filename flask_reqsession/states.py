"""The states of a scope and the moves between them."""

from __future__ import annotations

from enum import Enum


class ScopeState(Enum):
    """Where a scope stands. It moves only forward, and only after the effect succeeded."""

    NEW = "has not begun"
    ACTIVE = "is running"
    COMMITTED = "has been committed"
    ROLLED_BACK = "has been rolled back"
    UNKNOWN = "was sent to COMMIT and got no answer"

    def may_become(self, target: ScopeState) -> bool:
        """Whether the move to ``target`` is legal: from new to active, from active to an end.

        >>> ScopeState.ACTIVE.may_become(ScopeState.COMMITTED)
        True
        >>> ScopeState.COMMITTED.may_become(ScopeState.ROLLED_BACK)
        False
        """
        if self is ScopeState.NEW:
            return target is ScopeState.ACTIVE
        return self is ScopeState.ACTIVE and target not in (ScopeState.NEW, ScopeState.ACTIVE)
