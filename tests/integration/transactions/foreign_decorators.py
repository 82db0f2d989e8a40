"""Decorators that are nobody's of this package."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flask import current_app


def passing(view: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a view as it is done properly."""

    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return wrapper


def hiding(view: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a view without functools.wraps."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return wrapper


def either(view: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate views of both colours, as Flask's extensions do."""

    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return current_app.ensure_sync(view)(*args, **kwargs)

    return wrapper
