"""Find the manager that serves the running code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask_reqsession.contexts import EXTENSION_KEY, current_flask_app, request_context
from flask_reqsession.errors import ConfigurationError, NoActiveScopeError
from flask_reqsession.places import open_unit

if TYPE_CHECKING:
    from flask import Flask

    from flask_reqsession.keeper import UnitKeeper
    from flask_reqsession.manager import RequestScopedSessionManager


def current_manager(name: str | None = None) -> RequestScopedSessionManager:
    """Return the manager of the running unit of work, else of the current app.

    Where an app has several managers, ``name`` finds the others; without it the default one.

    :raises NoActiveScopeError: outside a unit of work and outside every app context.
    :raises ConfigurationError: the app has no manager, or none of that name.

    >>> from flask import Flask
    >>> from flask_reqsession import RequestScopedSessionManager, current_manager
    >>> app = Flask("shop")
    >>> manager = RequestScopedSessionManager("sqlite://", app)
    >>> with app.app_context():
    ...     current_manager() is manager
    True
    """
    manager = _manager_of_unit(name)
    if manager is not None:
        return manager
    app = current_flask_app()
    if app is None:
        raise NoActiveScopeError(
            "There is no manager to be found: neither a unit of work nor an app context is "
            "active. Use the decorators that are bound to a manager (@manager.transactional), "
            "or open manager.unit_of_work() or app.app_context()."
        )
    return manager_of(app, name)


def _manager_of_unit(name: str | None) -> RequestScopedSessionManager | None:
    """Return the manager of the innermost unit opened by hand here; one around a request is not."""
    context = request_context(None)
    opened = open_unit.get()
    while opened is not None:
        manager = opened.keeper.manager
        if opened.context is context and not opened.unit.ended and name in {None, manager.name}:
            return manager
        opened = opened.outer
    return None


def manager_of(app: Flask, name: str | None = None) -> RequestScopedSessionManager:
    """Return the manager ``name`` of ``app``, the default one without a name.

    :raises ConfigurationError: there is none; the message lists those there are.
    """
    known: dict[str, Any] = registered(app)
    found = app.extensions.get(EXTENSION_KEY) if name is None else known.get(name)
    if found is None:
        wanted = "no RequestScopedSessionManager" if name is None else f"no manager {name!r}"
        raise ConfigurationError(
            f"The app {app.name!r} has {wanted}. It has: {', '.join(known) or 'none'}. "
            "Did you forget to call manager.init_app(app)?"
        )
    manager: RequestScopedSessionManager = found
    return manager


def registered(app: Flask) -> dict[str, Any]:
    """Return the managers of ``app`` by name."""
    return {
        manager.name: manager
        for key, manager in app.extensions.items()
        if key.partition(":")[0] == EXTENSION_KEY
    }


def current_keeper(name: str | None = None) -> UnitKeeper:
    """Return the keeper of :func:`current_manager`."""
    return current_manager(name).keeper
