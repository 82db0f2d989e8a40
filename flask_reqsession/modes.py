"""What a scope asks of its transaction, besides that there is one; and the time that it has."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from flask_reqsession.errors import TransactionTimeoutError

IsolationLevel: TypeAlias = Literal[
    "READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"
]
ISOLATION_LEVELS: Final[tuple[str, ...]] = get_args(IsolationLevel)


@dataclass(frozen=True, slots=True)
class TransactionMode:
    """How a transaction is begun: decided at decoration, shared by all calls.

    ``isolation``: None is the engine's own level. ``timeout``: seconds, None is no limit.
    """

    isolation: str | None = None
    read_only: bool = False
    timeout: float | None = None


class Deadline:
    """The end of the time that the transaction of the scope ``name`` has; it runs from now on.

    >>> Deadline("pay()", 3600).is_over
    False
    """

    __slots__ = ("_ends_at", "name", "seconds")

    def __init__(self, name: str, seconds: float) -> None:
        self.name: str = name
        self.seconds: float = seconds
        self._ends_at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; negative afterwards."""
        return self._ends_at - time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return time.monotonic() >= self._ends_at

    def error(self) -> TransactionTimeoutError:
        """Return what the caller of the scope gets."""
        return TransactionTimeoutError(
            f"{self.name} has timeout={self.seconds:g} seconds for its transaction and needed "
            "longer, so nothing of it was kept. Do less in one transaction, or slow work outside "
            "of it, or raise the timeout."
        )
