"""Calls in other threads, and what they are told."""

from __future__ import annotations

import threading
from collections.abc import Callable

from greenlet import greenlet

from flask_reqsession import ScopeOwnershipError


def main_greenlet() -> greenlet:
    """Return the greenlet that runs the test."""
    parent = greenlet.getcurrent().parent
    assert parent is not None
    return parent


def in_thread(call: Callable[[], object], name: str = "worker") -> object:
    """Call in a thread of that name; return what it returned or raised."""
    result: list[object] = []

    def run() -> None:
        try:
            result.append(call())
        except Exception as error:  # noqa: BLE001 - returned to the test
            result.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join()
    return result[0]


def assert_refused(answer: object, *owners: str) -> None:
    """Assert that ``answer`` is the refusal, and that it names both owners and the way out."""
    assert isinstance(answer, ScopeOwnershipError)
    assert answer.code == "ownership"
    for owner in (*owners, "unit_of_work()"):
        assert owner in str(answer)
