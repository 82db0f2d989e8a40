"""Call a method for good, without keeping its object alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def call_weakly(method: Callable[[], T], *, otherwise: T) -> Callable[[], T]:
    """Return what calls the bound ``method`` while its object lives, and is ``otherwise`` then.

    Fork hooks and event listeners stay for good; managers, which an application factory makes, do
    not have to.
    """
    reference = weakref.WeakMethod(method)

    def call() -> T:
        alive = reference()
        return otherwise if alive is None else alive()

    return call
