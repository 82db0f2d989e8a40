"""Where a unit of work lives in Flask: the only file that touches Flask's contexts.

Flask 3.1 has a request context and an app context; Flask 3.2 merges them. What the rest of the
package needs of either is here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flask import current_app
from flask.globals import app_ctx, request_ctx
from flask.views import View

from flask_reqsession.owners import Owner, borrowing_from, who_owns

if TYPE_CHECKING:
    from flask import Flask
    from flask.ctx import AppContext, RequestContext

EXTENSION_KEY: Final = "reqsession"

Context: TypeAlias = "RequestContext"
"""The context in which a request is served."""


def _context_getter() -> Callable[[None], Context | None]:
    """Return the cheapest way to ask for the request context.

    The context variable costs 8 ns, the public proxy 50 and an exception where there is none, and
    every call of every decorated function asks. ``tests/unit/test_contexts.py`` fails when Flask
    renames it; the public proxy then takes over.
    """
    try:
        from flask.globals import (  # noqa: PLC0415 - the fallback is the point
            _cv_request,  # pyright: ignore[reportPrivateUsage]
        )
    except ImportError:
        return _context_from_proxy
    return _cv_request.get


def _context_from_proxy(_default: None) -> Context | None:
    context: Context | None = _behind(request_ctx)
    return context


def _app_context_getter() -> Callable[[None], AppContext | None]:
    """Do what :func:`_context_getter` does for the app context; unbound decorators ask."""
    try:
        from flask.globals import (  # noqa: PLC0415 - the fallback is the point
            _cv_app,  # pyright: ignore[reportPrivateUsage]
        )
    except ImportError:
        return _app_context_from_proxy
    return _cv_app.get


def _app_context_from_proxy(_default: None) -> AppContext | None:
    context: AppContext | None = _behind(app_ctx)
    return context


def _behind(proxy: Any) -> Any:
    """Return the object behind a ``LocalProxy``, None where it is unbound."""
    return proxy._get_current_object() if proxy else None  # noqa: SLF001 - Werkzeug documents it


request_context: Final = _context_getter()
"""Return the context of the request that is being served, or the default that it is given."""

app_context: Final = _app_context_getter()
"""Return the app context, or the default that it is given."""


def in_request() -> bool:
    """Whether a request is being served in this context."""
    return request_context(None) is not None


def current_flask_app() -> Flask | None:
    """Return the app of the innermost context, or None outside every one."""
    app: Flask | None = _behind(current_app)
    return app


def mark_app_teardown(app: Flask, tearing_down: ContextVar[bool]) -> None:
    """Let ``tearing_down`` be true while ``app`` runs what an app context calls at its end."""
    teardown = app.do_teardown_appcontext

    @functools.wraps(teardown)
    def do_teardown_appcontext(*args: Any, **kwargs: Any) -> None:
        before = tearing_down.get()
        tearing_down.set(True)
        try:
            teardown(*args, **kwargs)
        finally:
            tearing_down.set(before)

    patched: Any = app  # the app's own hook
    patched.do_teardown_appcontext = do_teardown_appcontext


def after_every_request(app: Flask, end: Callable[[BaseException | None], None]) -> None:
    """Call ``end`` when a request is torn down, after the user's functions, also when they raise.

    ``teardown_request`` cannot promise it: one function that raises skips those after it. And the
    app context's teardown is not run for a request inside an outer app context. ``end`` gets the
    exception that the request ended with.
    """
    teardown = app.do_teardown_request

    @functools.wraps(teardown)
    def do_teardown_request(*args: Any, **kwargs: Any) -> None:
        try:
            teardown(*args, **kwargs)
        finally:
            given = (*args, *kwargs.values())  # of which Flask 3.2 gives one more
            end(next((each for each in given if isinstance(each, BaseException)), None))

    patched: Any = app  # the app's own hook
    patched.do_teardown_request = do_teardown_request


def before_every_request(app: Flask, begin: Callable[[], None]) -> None:
    """Call ``begin`` when a request is dispatched.

    A URL value preprocessor is the first of Flask's hooks, and is called as it is; a
    ``before_request`` function is inspected for its colour on every request.
    """

    def preprocess(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
        begin()

    app.url_value_preprocessor(preprocess)


def around_every_coroutine(
    app: Flask, finish: Callable[[BaseException | None], Awaitable[None]]
) -> None:
    """Lend the request's sessions to the coroutines that Flask waits for; ``finish`` in their loop.

    Flask runs an async view, hook or error handler in a helper thread with an event loop of its
    own, and waits. What is opened in that loop has to be closed in it. ``finish`` gets the
    exception that the coroutine ended with.
    """
    to_sync = app.async_to_sync

    def async_to_sync(function: Callable[..., Any]) -> Callable[..., Any]:
        async def lent(lender: Owner, *args: Any, **kwargs: Any) -> Any:
            with borrowing_from(lender):
                try:
                    value = await function(*args, **kwargs)
                except BaseException as error:
                    await finish(error)
                    raise
                await finish(None)
                return value

        @functools.wraps(function)
        def wait(*args: Any, **kwargs: Any) -> Any:
            return to_sync(lent)(who_owns(), *args, **kwargs)

        return wait

    patched: Any = app  # the app's own hook
    patched.async_to_sync = async_to_sync


def serving_layers() -> list[object]:
    """Return what Flask calls for the current request: the view, then each function it wraps."""
    context = request_context(None)
    if context is None:
        return []
    request = context.request
    view: Any = context.app.view_functions.get(request.endpoint or "")
    view_class: type[View] | None = getattr(view, "view_class", None)
    layers = _layers_of(view)
    if view_class is not None:
        layers += _layers_of(_method_of(view_class, request.method))
    return layers


def _layers_of(view: Any) -> list[object]:
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


def _method_of(view_class: type[View], http_method: str) -> object:
    """Return the method that a class-based view dispatches to, as it stands in the class."""
    name = http_method.lower()
    if name == "head" and not hasattr(view_class, name):
        name = "get"
    return getattr(view_class, name, None) or view_class.dispatch_request
