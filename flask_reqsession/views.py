"""Which function is the view of the running request, and whether Flask gets what it returns.

Between Flask and a function there may be decorators of anybody. They are found by what
:func:`functools.wraps` leaves, and where it was not used by a look into the closure.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import weakref
from collections.abc import Callable
from enum import Enum, auto
from types import CodeType
from typing import Any, Final, NamedTuple

from flask import Flask
from flask.views import MethodView, View

from flask_reqsession.contexts import request_context
from flask_reqsession.marks import is_stand_in

# APIFlask hands the arguments over in another way, and the value on as it is.
_PASSING_DISPATCHERS: Final = frozenset({"flask", "apiflask"})


class Standing(Enum):
    """How a function stands to the request that is being served."""

    ELSEWHERE = auto()
    """It is no part of the view, or there is no request."""
    INSIDE = auto()
    """It is a part of the view, and something outside may turn what it returns."""
    OUTERMOST = auto()
    """Flask gets what it returns."""


class _Seen(NamedTuple):
    app: Callable[[], object]
    view: Callable[[], object]
    method: str
    standing: Standing


class Role:
    """The role of one function, remembered for the view in which it was asked for last."""

    __slots__ = ("_function", "_seen")

    def __init__(self, function: object) -> None:
        self._function = function
        self._seen: _Seen | None = None

    def standing(self) -> Standing:
        """Tell how the function stands to the running request."""
        context = request_context(None)
        if context is None:
            return Standing.ELSEWHERE
        app, request, seen = context.app, context.request, self._seen
        view: Any = app.view_functions.get(request.endpoint or "")
        if (
            seen is not None
            and seen.view() is view
            and seen.app() is app
            and seen.method == request.method
        ):
            return seen.standing
        standing = _standing_in(layers_of(view, request.method), self._function, app)
        with contextlib.suppress(TypeError):  # no view, or one without weak references
            self._seen = _Seen(weakref.ref(app), weakref.ref(view), request.method, standing)
        return standing


def respond(value: Any) -> object:
    """Return the response that Flask makes of ``value``, a view's.

    :raises Exception: what Flask refuses to make a response of, it refuses so.
    """
    context: Any = request_context(None)  # or the value would be no view's
    return context.app.make_response(value)


def layers_of(view: Any, http_method: str) -> list[object]:
    """Return what Flask calls for ``view``, and each function inside; of a class its method's."""
    layers = _functions_in(view)
    view_class: type[View] | None = getattr(view, "view_class", None)
    if view_class is not None:
        dispatch: object = view_class.dispatch_request
        if dispatch is not MethodView.dispatch_request:
            layers += _functions_in(dispatch)
        layers += _functions_in(method_of(view_class, http_method))
    return layers


def _standing_in(layers: list[object], function: object, app: Flask) -> Standing:
    position = next((n for n, layer in enumerate(layers) if layer is function), None)
    if position is None:
        return Standing.ELSEWHERE
    passing = _dispatches_plainly(app) and all(map(_passes_on, layers[:position]))
    return Standing.OUTERMOST if passing else Standing.INSIDE


def _passes_on(layer: Any) -> bool:
    """Whether ``layer`` returns what it is returned.

    Ours do, what ``as_view()`` makes, partials, and objects that are callable by their class.
    """
    if is_stand_in(layer) or isinstance(layer, functools.partial):
        return True
    return is_of_class(layer) if inspect.isroutine(layer) else not hasattr(layer, "__wrapped__")


def is_of_class(layer: object) -> bool:
    """Whether ``View.as_view()`` made it."""
    namespace: dict[str, object] = getattr(layer, "__globals__", {})
    return namespace.get("__name__") == View.__module__


def _dispatches_plainly(app: Flask) -> bool:
    module: str = getattr(app.dispatch_request, "__module__", "")
    return module.partition(".")[0] in _PASSING_DISPATCHERS


def _functions_in(view: Any) -> list[object]:
    layers: list[object] = []
    while view is not None and not any(view is layer for layer in layers):
        view = getattr(view, "__func__", view)
        layers.append(view)
        view = _wrapped_by(view)
    return layers


def _wrapped_by(layer: Any) -> object:
    wrapped: object = getattr(layer, "__wrapped__", None)
    if wrapped is not None:
        return wrapped
    if isinstance(layer, functools.partial):
        return layer.func
    return _hidden_by(layer) if inspect.isroutine(layer) else type(layer).__call__


def _hidden_by(layer: Any) -> object:
    """Return what a decorator without :func:`functools.wraps` calls.

    It takes any arguments, and holds the function under the name of a parameter of its own. A view
    that calls a service function takes the arguments of its URL, and knows it by its name.
    """
    closure: dict[str, Any] = {}
    if _takes_any(layer):
        closure.update(inspect.getclosurevars(layer).nonlocals)
    for name, held in closure.items():
        if callable(held) and getattr(held, "__name__", name) != name:
            return held
    return None


def _takes_any(layer: Any) -> bool:
    code: CodeType | None = getattr(layer, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_VARKEYWORDS)


def method_of(view_class: type[View], http_method: str) -> object:
    """Return the method that a class-based view dispatches to, as it stands in the class."""
    name = http_method.lower()
    if name == "head" and not hasattr(view_class, name):
        name = "get"
    return getattr(view_class, name, None)
