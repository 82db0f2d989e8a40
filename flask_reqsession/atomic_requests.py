"""Run every view of an app in a scope, as if each had been decorated."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from flask_reqsession.colour import Colour, colour_of
from flask_reqsession.contexts import EXTENSION_KEY
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.marks import EXEMPT, is_stand_in
from flask_reqsession.options import DEFAULT_BIND, TransactionOptions
from flask_reqsession.plans import Binding, CallPlan
from flask_reqsession.selection import registered
from flask_reqsession.specs import spec_of
from flask_reqsession.views import layers_of
from flask_reqsession.wrapper import plan_of, wrap

if TYPE_CHECKING:
    from flask import Flask, Request

    from flask_reqsession.manager import RequestScopedSessionManager

ATOMIC_REQUESTS: Final = "REQSESSION_ATOMIC_REQUESTS"
"""The key of ``app.config``; where it is set, it wins over the manager's argument."""

Function: TypeAlias = Callable[..., Any]
V = TypeVar("V", bound="Callable[..., Any] | classmethod[Any, ..., Any] | staticmethod[..., Any]")


def non_transactional(view: V) -> V:
    """Exempt a view from atomic requests: it runs without a scope of its own.

    The same object is returned, with a mark on it; other decorators may come before or after. On a
    class of views, on one of its methods, or in its ``decorators``, it means these. Elsewhere it
    means nothing: a ``@transactional`` on the view itself and on what it calls stays in force.

    :raises ConfigurationError: ``view`` takes no mark.

    >>> from flask import Flask
    >>> from flask_reqsession import RequestScopedSessionManager, non_transactional
    >>> app = Flask("shop")
    >>> manager = RequestScopedSessionManager("sqlite://", app, atomic_requests=True)
    >>> @app.get("/health")
    ... @non_transactional
    ... def health() -> str:
    ...     return "well"
    """
    target: Any = getattr(view, "__func__", view)
    try:
        setattr(target, EXEMPT, True)
    except (AttributeError, TypeError):
        raise ConfigurationError(
            f"@non_transactional was put on {view!r}, which takes no mark. Put it on the function "
            "of the view, or on its class."
        ) from None
    return view


def is_atomic(app: Flask, *, otherwise: bool) -> bool:
    """Whether the views of ``app`` run in scopes; ``otherwise`` where its configuration is silent.

    :raises ConfigurationError: the configuration says neither True nor False.
    """
    config = cast("dict[str, object]", app.config)
    configured = config.get(ATOMIC_REQUESTS, otherwise)
    if isinstance(configured, bool):
        return configured
    raise ConfigurationError(
        f"{ATOMIC_REQUESTS} of the app {app.name!r} is {configured!r}, but must be True or False. "
        "Correct it in the configuration."
    )


class _Wrapped:
    """What runs in a scope of one view and HTTP method: ``targets``, and their stand-ins so far."""

    __slots__ = ("stand_ins", "targets", "view")

    def __init__(self, view: object, targets: list[object]) -> None:
        self.view = view
        self.targets = targets
        self.stand_ins: list[tuple[object, Function]] = []


class AtomicRequests:
    """Puts scopes of one manager around the views of one app, when Flask is about to call them.

    What is to be done is worked out at the first request of a view, and for classes of each of
    their methods. A view that is decorated itself, or exempt, is left alone.
    """

    def __init__(self, app: Flask, manager: RequestScopedSessionManager) -> None:
        self._app = app
        self._manager = manager
        self._binding = Binding(manager.keeper)
        self._wrapped: dict[tuple[str, str], _Wrapped] = {}

    def __call__(self, function: Function, request: Request) -> Function:
        """Return what Flask is to call for ``function``: itself, unless it is the request's view.

        :raises ConfigurationError: the view can't run in a scope.
        """
        key = (request.endpoint or "", request.method)
        view = self._app.view_functions.get(key[0])
        if view is None:
            return function
        wrapped = self._wrapped.get(key)
        if wrapped is None or wrapped.view is not view:
            wrapped = _Wrapped(view, self._targets(view, request.method))
            if _is_declared(request):
                self._wrapped[key] = wrapped
        layer = getattr(function, "__func__", function)
        for target in wrapped.targets:
            if _leads_to(target, layer):
                stand_in = self._stand_in(wrapped, layer, target)
                if isinstance(function, MethodType):
                    return MethodType(stand_in, function.__self__)
                return stand_in
        return function

    def _targets(self, view: object, http_method: str) -> list[object]:
        """Return the functions that run in scopes: the view, and what it awaits.

        A view may be a plain function around a coroutine function: a class, or a decorator that
        knows both. An ``AsyncSession`` is that of the coroutine.
        """
        layers = layers_of(view, http_method)
        parts = [*layers, getattr(view, "view_class", None)]
        if _is_flasks_own(view) or any(map(self._is_left_alone, parts)):
            return []
        databases = self._manager.databases
        awaited = [layer for layer in layers if _is_awaited(layer)][:1]
        if awaited == layers[:1]:
            return awaited
        targets = layers[:1] if databases.has_sync(DEFAULT_BIND) else []
        return targets + awaited if databases.has_async(DEFAULT_BIND) else targets

    def _is_left_alone(self, part: object) -> bool:
        if getattr(part, EXEMPT, None) is True:
            return True
        plan = plan_of(part)
        return plan is not None and plan.spec.options is not None and self._is_ours(plan.binding)

    def _is_ours(self, binding: Binding) -> bool:
        """Whether a decorator that is bound so works with our manager in a request of our app."""
        if binding.keeper is not None:
            return binding.keeper is self._manager.keeper
        name, known = binding.manager_name, self._app.extensions
        found = known.get(EXTENSION_KEY) if name is None else registered(self._app).get(name)
        return found is self._manager

    def _stand_in(self, wrapped: _Wrapped, layer: Any, target: Any) -> Function:  # noqa: ANN401
        """Return what runs ``layer`` in a scope: ``target``, or what another manager made of it."""
        for known, made in wrapped.stand_ins:
            if known is layer:
                return made
        view_class: type | None = getattr(wrapped.view, "view_class", None)
        named = None if view_class is None else f"{view_class.__qualname__}()"
        try:
            spec = spec_of(TransactionOptions(name=named), target)
        except ConfigurationError as refusal:
            refusal.add_note("Atomic requests are on; @non_transactional exempts a view.")
            raise
        plan = CallPlan(layer, colour_of(layer), spec, binding=self._binding)
        stand_in: Function = wrap(plan)
        wrapped.stand_ins.append((layer, stand_in))
        return stand_in


def _leads_to(target: object, layer: Any) -> bool:  # noqa: ANN401 - of any type
    while layer is not target and is_stand_in(layer):  # of another manager
        layer = layer.__wrapped__
    return layer is target


def _is_declared(request: Request) -> bool:
    """Whether the rule names the method: by methods of any name a client could fill the memory."""
    rule = request.url_rule
    return rule is not None and rule.methods is not None and request.method in rule.methods


def _is_flasks_own(view: object) -> bool:
    """Whether it is what sends static files: it has nothing to commit."""
    module: str = getattr(view, "__module__", None) or ""
    return module.partition(".")[0] == "flask"


def _is_awaited(layer: Any) -> bool:  # noqa: ANN401 - of any type
    return colour_of(layer) is Colour.ASYNC
