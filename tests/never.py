"""The place that a test must not reach, which therefore no coverage is asked of."""

from __future__ import annotations

from typing import NoReturn


def never(*_held: object) -> NoReturn:
    """Fail the test that comes here; ``_held`` is for what a closure has to mention."""
    raise AssertionError("This must not be reached.")
