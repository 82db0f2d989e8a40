"""The options of a program's scopes, as decorators are given them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from werkzeug.exceptions import Conflict, HTTPException

from flask_reqsession.options import Retry
from flask_reqsession.testing.steps import TROUBLES, ErrorName, FlakyError, Options

if TYPE_CHECKING:
    from flask_reqsession.options import ScopeOptions

_CLASSES: Final = MappingProxyType[str, type[BaseException]](
    {
        **TROUBLES,
        "Conflict": Conflict,
        "HTTPException": HTTPException,
        "Exception": Exception,
    }
)


def given(options: Options) -> ScopeOptions:
    """Return ``options`` as keyword arguments, but for those that are not given."""
    arguments: ScopeOptions = {
        "propagation": options.propagation,
        "durable": options.durable,
        "rollback_for": _classes(options.rollback_for),
        "no_rollback_for": _classes(options.no_rollback_for),
    }
    if options.rollback_on_status != "errors":
        arguments["rollback_on_status"] = options.rollback_on_status
    if options.retry:
        arguments["retry"] = Retry(options.retry, on=FlakyError, initial=0)
    return arguments


def _classes(names: tuple[ErrorName, ...]) -> tuple[type[BaseException], ...]:
    return tuple(_CLASSES[name] for name in names)
