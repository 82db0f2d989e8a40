"""The objects that give sessions, each kind behind the same few questions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.util import ScopedRegistry

from flask_reqsession.adoption import AdoptedRegistry, Applies, Current, S
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.replicas import Replica, RoutedSession
from flask_reqsession.sessions import RequestSession

E = TypeVar("E", bound=Engine | AsyncEngine)


class Door(Generic[S, E]):
    """One object that gives sessions of one colour, and what can be known of it."""

    open: Callable[[], S]
    """Returns a session; every kind sets it."""

    single_session: bool = False
    """Whether it has one session only, so that no second one can be had beside it."""

    repeats: bool = False
    """Whether it may hand out a session again that it handed out before."""

    owns_engines: bool = False
    """Whether its engines were made here, and end with the ``DatabaseManager``."""

    makes_factory: bool = False
    """Whether the factory of its sessions is ours, so that options of theirs can be set here."""

    needs_guard: bool = True
    """Whether it may use engines whose transactions are not known to be real ones (rule D5)."""

    is_removed_with_app: bool = False
    """Whether extensions call its ``remove()`` at the end of every app context."""

    needs_app: bool = False
    """Whether its answers differ from app to app: ask in the app's context."""

    @property
    def event_target(self) -> sessionmaker[Session] | None:
        """The factory on which the events of every session can be registered, if there is one."""
        return None

    def engines(self) -> tuple[E, ...]:
        """Return the engines that can be told without a session, the default one first."""
        return ()

    def adopt(self, current: Current[S], applies: Applies | None = None) -> None:
        """Hand out ``current()`` to the user's code, where ``applies()`` and it is not None."""

    def close(self, session: S) -> Any:  # noqa: ANN401 - an awaitable of an asynchronous session
        """Close a session that came out of it."""
        return session.close()

    def holds_nothing(self, session: Session) -> bool:  # noqa: ARG002 - some kinds can tell
        """Whether ``session`` may be let go as it is, since closing it would do nothing."""
        return False


class Factory(Protocol[S]):
    """What ``sessionmaker`` and ``async_sessionmaker`` have in common."""

    class_: type[S]
    kw: dict[str, Any]

    def __call__(self) -> S:
        """Return a new session."""
        ...


class FactoryDoor(Door[S, E]):
    """A factory of the user, used untouched."""

    def __init__(self, factory: Factory[S]) -> None:
        self.open: Callable[[], S] = factory
        self._factory = factory
        self._event_target = event_target_of(factory)
        self._closes_as_sqlalchemy = getattr(factory.class_, "close", None) is Session.close

    @property
    def event_target(self) -> sessionmaker[Session] | None:
        """The factory itself, or what an asynchronous one makes its inner sessions with."""
        return self._event_target

    def holds_nothing(self, session: Session) -> bool:
        """Whether ``session`` holds no connection and no object, and would be reset by closing.

        ``add()``, a change and any statement begin a transaction.
        """
        if not self._closes_as_sqlalchemy or "close_resets_only" in self._factory.kw:
            return False
        return not session.in_transaction() and not session.identity_map

    def engines(self) -> tuple[E, ...]:
        """Return the engines that the factory is bound to."""
        return engines_of(self._factory)


class EngineDoor(FactoryDoor[S, E]):
    """An engine of the user, with a factory of ours."""

    makes_factory = True

    def __init__(self, factory: Factory[S]) -> None:
        super().__init__(factory)
        session_class: Any = factory.class_
        # What a call of the factory comes to, without its loops over the arguments.
        self.open: Callable[[], S] = partial(session_class, **factory.kw)


class MadeEngineDoor(EngineDoor[S, E]):
    """An engine of ours; ``needs_guard`` where the user's options replaced SQLite's driver."""

    owns_engines = True

    def __init__(self, factory: Factory[S], *, needs_guard: bool = False) -> None:
        super().__init__(factory)
        self.needs_guard = needs_guard


def session_factory(engine: Engine, replica: Replica | None = None) -> sessionmaker[Session]:
    """Return a factory of sessions that stay loaded after COMMIT and end when closed (rule D4).

    Their read-only scopes go to ``replica``, if there is one.
    """
    options: dict[str, Any] = {"expire_on_commit": False, "close_resets_only": False}
    return sessionmaker(engine, **_session_class(replica), **options)


def _session_class(replica: Replica | None) -> dict[str, Any]:
    if replica is None:
        return {"class_": RequestSession}
    return {"class_": RoutedSession, "replica": replica}


def async_session_factory(
    engine: AsyncEngine, replica: Replica | None = None
) -> async_sessionmaker[AsyncSession]:
    """Return the asynchronous twin of :func:`session_factory`; events have a target of its own."""
    return async_sessionmaker(
        engine,
        expire_on_commit=False,
        close_resets_only=False,
        sync_session_class=sessionmaker(**_session_class(replica)),
    )


class ScopedDoor(Door[S, E]):
    """A ``scoped_session`` or ``async_scoped_session``: its factory makes the further sessions.

    Where that is not to be had, the one session of the current scope has to do.
    """

    is_removed_with_app = True

    def __init__(self, scoped: scoped_session[Any] | async_scoped_session[Any]) -> None:
        factory: Any = scoped.session_factory
        self.single_session: bool = not callable(factory)
        self.repeats: bool = not isinstance(factory, sessionmaker | async_sessionmaker | type)
        self.open: Callable[[], S] = self._open_own if self.single_session else factory
        self._factory = factory
        self._scoped = scoped

    @property
    def event_target(self) -> sessionmaker[Session] | None:
        """The factory, where it is one of SQLAlchemy's."""
        return event_target_of(self._factory)

    def engines(self) -> tuple[E, ...]:
        """Return the engines that the factory is bound to."""
        return engines_of(self._factory)

    def adopt(self, current: Current[S], applies: Applies | None = None) -> None:
        """Put a registry in front of the ``scoped_session``'s own."""
        registry = self._scoped.registry
        if not isinstance(registry, AdoptedRegistry):
            registry = self._scoped.registry = AdoptedRegistry(registry)
        registry.claims.add(current, applies)

    def _open_own(self) -> S:
        registry: ScopedRegistry[S] = self._scoped.registry
        return registry.own() if isinstance(registry, AdoptedRegistry) else registry()


class GetterDoor(Door[Session, Engine]):
    """Any object with ``get_session()``."""

    repeats = True

    def __init__(self, owner: Any) -> None:  # noqa: ANN401 - known by its method only
        self.open: Callable[[], Session] = self._open
        self._owner = owner

    def close(self, session: Session) -> object:
        """Close ``session`` by ``close_session(session)``, if the object has it."""
        close: Callable[[Session], object] | None = getattr(self._owner, "close_session", None)
        return super().close(session) if close is None else close(session)

    def _open(self) -> Session:
        given = _unwrapped(self._owner.get_session())
        if not isinstance(given, Session):
            raise ConfigurationError(
                f"{type(self._owner).__name__}.get_session() returned an instance of "
                f"{type(given).__name__}. It has to return a SQLAlchemy Session: not a context "
                "manager, a generator or a coroutine that would give one."
            )
        return given


def _unwrapped(given: Any) -> object:  # noqa: ANN401 - what a user's method returned
    """Return the session itself where ``given`` stands for the current one."""
    if _is_a(given, scoped_session):
        return given.registry()
    current: Callable[[], object] | None = getattr(given, "_get_current_object", None)
    return given if current is None else current()  # the public door of Werkzeug's LocalProxy


def _is_a(given: Any, *kinds: type[Any]) -> bool:  # noqa: ANN401 - anything at all
    """Tell by ``isinstance``, but leave generic classes' arguments to be any."""
    return isinstance(given, kinds)


def event_target_of(factory: Any) -> sessionmaker[Session] | None:  # noqa: ANN401 - any callable
    """Return the ``sessionmaker`` through which every session of ``factory`` is made."""
    target = factory.kw.get("sync_session_class") if _is_a(factory, async_sessionmaker) else factory
    return target if _is_a(target, sessionmaker) else None


def engines_of(factory: Any) -> tuple[Any, ...]:  # noqa: ANN401 - any callable
    """Return the engines that ``factory`` is bound to, the default one first."""
    if not _is_a(factory, sessionmaker, async_sessionmaker):
        return ()
    binds: list[Any] = [factory.kw.get("bind"), *(factory.kw.get("binds") or {}).values()]
    engines = [
        bind if isinstance(bind, Engine | AsyncEngine) else bind.engine  # of a connection
        for bind in binds
        if bind is not None
    ]
    return tuple(dict.fromkeys(engines))
