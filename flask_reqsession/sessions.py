"""The session class of what ``DatabaseManager`` makes: it tells when somebody closes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sqlalchemy.orm import Session


class Closer(Protocol):
    """Whoever has to know that a session ends for good."""

    def close_by_hand(self, close: Callable[[], None]) -> None:
        """Call ``close``, and go on without the session."""
        ...


class RequestSession(Session):
    """A ``Session`` that is dead once it is closed, and tells its ``closer`` about it."""

    closer: Closer | None = None

    def close(self) -> None:
        """Close for good."""
        self._close(super().close)

    def invalidate(self) -> None:
        """Close for good, and let nobody have the connections."""
        self._close(super().invalidate)

    def _close(self, close: Callable[[], None]) -> None:
        if self.closer is None:
            close()
        else:
            self.closer.close_by_hand(close)
