"""Counters and duration summaries."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from flask_reqsession.metrics import Metrics


@pytest.mark.rule("M7")
def test_events_are_counted_and_their_durations_summed_up() -> None:
    """Seconds: how many, how long in all, the least and the most."""
    metrics = Metrics()
    for duration in (0.5, 0.25, 1.0):
        metrics.count("closed", duration)
    metrics.count("commits")
    assert json.loads(json.dumps(metrics.snapshot())) == {
        "closed": 3,
        "commits": 1,
        "durations": {"closed": {"count": 3, "total": 1.75, "least": 0.25, "most": 1.0}},
    }


@pytest.mark.rule("M7")
def test_a_snapshot_does_not_change_any_more() -> None:
    """It is a copy."""
    metrics = Metrics()
    before = metrics.snapshot()
    metrics.count("commits", 1.0)
    assert before == {"durations": {}}


@pytest.mark.rule("M7", "O2")
def test_no_event_is_lost_among_threads() -> None:
    """Many threads count at once."""
    metrics = Metrics()
    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(lambda _: [metrics.count("x", 0.5) for _ in range(1000)], range(8)):
            ...
    assert metrics.snapshot()["x"] == 8000
    assert metrics.snapshot()["durations"]["x"]["total"] == 4000.0


@pytest.mark.rule("M20")
def test_the_counts_go_on_after_a_fork() -> None:
    """With a lock of the child's own."""
    metrics = Metrics()
    metrics.count("commits")
    metrics.after_fork()
    metrics.count("commits")
    assert metrics.snapshot()["commits"] == 2
