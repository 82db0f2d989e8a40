"""Count what happened to the sessions of one manager."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any


class Metrics:
    """Counters and duration summaries; safe to use from any thread.

    >>> metrics = Metrics()
    >>> metrics.count("sessions_created", 0.002)
    >>> metrics.snapshot()["sessions_created"]
    1
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._durations: dict[str, _Summary] = {}

    def count(self, event: str, duration: float | None = None) -> None:
        """Count one ``event``, which took ``duration`` seconds."""
        with self._lock:
            self._counts[event] += 1
            if duration is None:
                return
            summary = self._durations.get(event)
            if summary is None:
                summary = self._durations[event] = _Summary()
            summary.count += 1
            summary.total += duration
            # Comparisons: min() and max() would be calls, in every request.
            if duration < summary.least:  # noqa: PLR1730
                summary.least = duration
            if duration > summary.most:  # noqa: PLR1730
                summary.most = duration

    def snapshot(self) -> dict[str, Any]:
        """Return the counts, and under ``durations`` count, total, least and most in seconds.

        The result is JSON-serialisable and no longer changes.
        """
        with self._lock:
            durations = {event: each.as_dict() for event, each in self._durations.items()}
            return {**self._counts, "durations": durations}

    def after_fork(self) -> None:
        """Go on in a forked child, where nobody is left to release the lock."""
        self._lock = threading.Lock()


class _Summary:
    __slots__ = ("count", "least", "most", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.least = float("inf")
        self.most = 0.0

    def as_dict(self) -> dict[str, float]:
        return {
            "count": self.count,
            "total": self.total,
            "least": self.least,
            "most": self.most,
        }
