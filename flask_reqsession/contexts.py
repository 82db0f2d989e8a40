"""Where a unit of work lives in Flask: the only file that touches Flask's contexts.

Flask 3.1 has a request context and an app context; Flask 3.2 merges them. What the rest of the
package needs of either is here.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from flask import current_app
from flask.globals import app_ctx, request_ctx

from flask_reqsession.loops import in_a_loop_that_ends
from flask_reqsession.owners import Owner, borrowing_from, who_owns

if TYPE_CHECKING:
    from flask import Flask, Request
    from flask.ctx import AppContext, RequestContext

EXTENSION_KEY: Final = "reqsession"

Function: TypeAlias = Callable[..., Any]

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
            error = None
            for each in (*args, *kwargs.values()):  # of which Flask 3.2 gives one more
                if isinstance(each, BaseException):
                    error = each
            end(error)

    patched: Any = app  # the app's own hook
    patched.do_teardown_request = do_teardown_request


def before_every_request(
    app: Flask, begin: Callable[[Context | None], None], prepare: Callable[[], None]
) -> None:
    """Call ``begin`` when a request is dispatched, and ``prepare`` once before the first of all.

    By then the app has its configuration and its extensions: what ``prepare`` hooks into is outside
    of what they hook into. The method is replaced, as Flask allows: for a hook that is registered
    Flask asks its proxies for arguments, or inspects its colour, on every request.
    """
    lock = threading.Lock()
    waiting = [prepare]
    preprocess = app.preprocess_request

    @functools.wraps(preprocess)
    def preprocess_request(*args: Any, **kwargs: Any) -> Any:
        if waiting:
            prepare_once()
        begin(request_context(None))
        return preprocess(*args, **kwargs)

    def prepare_once() -> None:
        with lock:  # another thread may have been faster
            for each in waiting:
                each()
            waiting.clear()

    patched: Any = app  # the app's own hook
    patched.preprocess_request = preprocess_request


def around_every_view(app: Flask, around: Callable[[Function, Request], Function]) -> None:
    """Let Flask call ``around(function, request)`` in the place of ``function``.

    Flask hands over the view of the request, the methods of one that is a class, and the hooks;
    decorators hand over what they have wrapped and is asynchronous.
    """
    ensure_sync = app.ensure_sync

    @functools.wraps(ensure_sync)
    def ensure_sync_around(func: Function) -> Function:
        context = request_context(None)
        if context is not None and context.app is app:
            func = around(func, context.request)
        return ensure_sync(func)

    patched: Any = app  # the app's own hook
    patched.ensure_sync = ensure_sync_around


def on_every_exception(app: Flask, see: Callable[[], None]) -> None:
    """Call ``see`` when an exception has ended the work on a request, before it is handled."""
    handle = app.handle_user_exception

    @functools.wraps(handle)
    def handle_user_exception(*args: Any, **kwargs: Any) -> Any:
        see()
        return handle(*args, **kwargs)

    patched: Any = app  # the app's own hook
    patched.handle_user_exception = handle_user_exception


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
            with borrowing_from(lender), in_a_loop_that_ends():
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
