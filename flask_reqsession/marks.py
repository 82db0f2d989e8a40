"""What the package writes onto functions; ``functools.wraps`` copies it to others."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

STAND_IN: Final = "__reqsession__"
"""Of a function that was made here: its :class:`Mark`."""

EXEMPT: Final = "__reqsession_exempt__"
"""Of a view, or a class of views, that atomic requests leave alone: True."""


class Mark(NamedTuple):
    """Says that ``function`` was made here, from ``plan``. A copy on another function is none."""

    function: object
    plan: Any


def is_stand_in(layer: object) -> bool:
    """Whether ``layer`` was made here: it passes on what the callable inside returns."""
    mark = getattr(layer, STAND_IN, None)
    return mark is True or (isinstance(mark, Mark) and mark.function is layer)
