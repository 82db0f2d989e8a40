"""The options of a program's scopes, as decorators are given them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_reqsession.testing.steps import TROUBLES, ErrorName, Options

if TYPE_CHECKING:
    from flask_reqsession.options import ScopeOptions


def given(options: Options) -> ScopeOptions:
    """Return ``options`` as keyword arguments."""
    return {
        "propagation": options.propagation,
        "durable": options.durable,
        "rollback_for": _classes(options.rollback_for),
        "no_rollback_for": _classes(options.no_rollback_for),
    }


def _classes(names: tuple[ErrorName, ...]) -> tuple[type[BaseException], ...]:
    return tuple(TROUBLES.get(name, Exception) for name in names)
