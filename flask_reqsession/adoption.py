"""Let the session of a request come out of the door that the user's code already uses (rule D2)."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from types import MethodType
from typing import Any, Final, Generic, TypeAlias, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import ScopedRegistry

from flask_reqsession.errors import ConfigurationError

S = TypeVar("S", bound=Session | AsyncSession)

tearing_down: Final[ContextVar[bool]] = ContextVar("flask_reqsession.tearing_down", default=False)
"""Whether the functions run that an app context calls at its end."""

Current: TypeAlias = Callable[[], S | None]
Applies: TypeAlias = Callable[[], bool]


class Claims(Generic[S]):
    """The managers that answer for one door, the newest first.

    A bound method, or a ``functools.partial`` of one, does not keep its object alive: the door is
    often a module's global, and outlives the managers that an application factory makes.
    """

    def __init__(self) -> None:
        self._claims: list[_Claim[S]] = []

    def add(self, current: Current[S], applies: Applies | None = None) -> None:
        """Ask ``current`` before the others, where ``applies()``; forget whose manager is gone."""
        newest = _Claim(current, applies)
        self._claims = [newest, *(claim for claim in self._claims if claim.is_beside(newest))]

    def current(self) -> S | None:
        """Return the session of the running unit of work, None if no manager has one."""
        for claim in self._claims:
            session = claim.current()
            if session is not None:
                return session
        return None


class _Claim(Generic[S]):
    """One manager's answer."""

    def __init__(self, current: Current[S], applies: Applies | None) -> None:
        function: Any = current
        self._arguments: tuple[object, ...] = ()
        if isinstance(function, functools.partial):
            function, self._arguments = function.func, function.args
        self._function: Callable[[], Callable[..., S | None] | None] = _weakly(function)
        self._applies: Callable[[], Applies | None] = _weakly(applies or _always)

    def current(self) -> S | None:
        function, applies = self._function(), self._applies()
        if function is None or applies is None or not applies():
            return None
        return function(*self._arguments)

    def is_beside(self, other: _Claim[S]) -> bool:
        """Say whether both are to be asked."""
        function = self._function()
        mine, theirs = (function, self._arguments), (other._function(), other._arguments)
        return function is not None and mine != theirs


def _weakly(function: Any) -> Callable[[], Any]:  # noqa: ANN401 - of whatever signature
    return weakref.WeakMethod(function) if isinstance(function, MethodType) else lambda: function


def _always() -> bool:
    return True


class AdoptedRegistry(ScopedRegistry[S]):
    """The registry of a ``scoped_session`` that hands out the request's session where there is one.

    What the registry had of its own, it has still, outside requests and units of work.
    ``scoped_session.remove()`` inside one closes the request's session, which discards what is
    uncommitted; but not where Flask-SQLAlchemy calls it, at the end of every app context.
    """

    def __init__(self, own: ScopedRegistry[S]) -> None:
        super().__init__(own, lambda: None)
        self.own = own
        self.claims: Claims[S] = Claims()

    def __call__(self) -> S:
        """Return the session of the running code."""
        adopted = self.claims.current()
        return self.own() if adopted is None else adopted

    def has(self) -> bool:
        """Say whether ``remove()`` has something to close.

        The adopted session is the user's to discard, and inside a scope that dooms the scope, as
        ``close()`` does. But the extension's own ``remove()`` at the end of a nested app context is
        not meant for it (rule M11), and makes no session.
        """
        if tearing_down.get():
            return self.own.has() and self.claims.current() is None
        return self.claims.current() is not None or self.own.has()

    def set(self, obj: S) -> None:
        """Keep ``obj`` for the current scope of the registry's own.

        :raises ConfigurationError: a request or a unit of work has its session.
        """
        if self.claims.current() is not None:
            raise ConfigurationError(
                "A scoped_session can't be given another session, or arguments for one, inside a "
                "request or a unit of work: it hands out their session. Make an independent "
                "session with its session_factory, or configure it at start-up."
            )
        self.own.set(obj)

    def clear(self) -> None:
        """Forget the registry's own session; the adopted one stays the one of its request."""
        if self.own.has() and self.claims.current() is None:
            self.own.clear()


class AdoptedGetter(Generic[S]):
    """A ``get_session(name)`` that hands out the request's session as the default one."""

    def __init__(self, own: Callable[[str], S]) -> None:
        self._own = own
        self.claims: Claims[S] = Claims()

    def __call__(self, name: str = "default") -> S:
        """Return the session called ``name``."""
        adopted = self.claims.current() if name == "default" else None
        return self._own(name) if adopted is None else adopted


def in_front_of(getter: Any) -> AdoptedGetter[Any]:  # noqa: ANN401 - the user's, or one of these
    """Return ``getter`` if it is one of these already, else one in front of it."""
    return getter if issubclass(type(getter), AdoptedGetter) else AdoptedGetter(getter)
