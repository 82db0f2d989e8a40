"""The states of a scope and the moves between them."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType


class ScopeState(Enum):
    """Where a scope stands. It moves only forward, and only after the effect succeeded."""

    NEW = "has not begun"
    ACTIVE = "is running"
    COMMITTED = "has been committed"
    ROLLED_BACK = "has been rolled back"
    UNKNOWN = "was sent to COMMIT and got no answer"

    def may_become(self, target: ScopeState) -> bool:
        """Whether the move to ``target`` is legal.

        >>> ScopeState.ACTIVE.may_become(ScopeState.COMMITTED)
        True
        >>> ScopeState.COMMITTED.may_become(ScopeState.ROLLED_BACK)
        False
        """
        return target in _MOVES[self]


_ENDS = frozenset({ScopeState.COMMITTED, ScopeState.ROLLED_BACK, ScopeState.UNKNOWN})
_MOVES = MappingProxyType(
    {
        ScopeState.NEW: frozenset({ScopeState.ACTIVE}),
        ScopeState.ACTIVE: _ENDS,
        **dict.fromkeys(_ENDS, frozenset[ScopeState]()),
    }
)
