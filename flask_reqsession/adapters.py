"""Recognise what the user gave as the source of sessions (rule D1).

A new kind of source is one function here that returns the sources for what it recognises, None for
everything else, and one line in :data:`KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, TypeGuard

from sqlalchemy import URL, Engine
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flask_reqsession.doors import (
    Door,
    EngineDoor,
    FactoryDoor,
    GetterDoor,
    MadeEngineDoor,
    ScopedDoor,
    async_session_factory,
    session_factory,
)
from flask_reqsession.engines import begins_by_itself, make_async_engine, make_engine
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.flask_sqlalchemy_sources import (
    FlaskSQLAlchemyDoor,
    LiteDoor,
    is_flask_sqlalchemy,
    is_flask_sqlalchemy_lite,
)
from flask_reqsession.replicas import PRIMARY_BIND, REPLICA_BIND, Replica, Replicas
from flask_reqsession.savepoints import SavepointGuard
from flask_reqsession.sources import AsyncSessionSource, SessionSource
from flask_reqsession.urls import parse_url


class Sources(NamedTuple):
    """What one bind has: a source of one colour, or of both."""

    sync: SessionSource | None = None
    asynchronous: AsyncSessionSource | None = None


@dataclass(frozen=True)
class Offer:
    """One object that the user gave for one bind.

    ``guard`` looks after engines that were not made here. ``wants_async``: it is ``async_source``.
    ``replicas`` is where its read-only scopes go (rule D7).
    """

    given: Any
    bind: str
    guard: SavepointGuard
    wants_async: bool = False
    replicas: Replicas | None = None

    def is_a(self, kind: type[Any]) -> bool:
        """Tell by ``isinstance``, but leave a generic class's arguments to be any."""
        return isinstance(self.given, kind)

    @property
    def replica(self) -> Replica | None:
        """Where the sessions of a synchronous engine may read."""
        return None if self.replicas is None else self.replicas.sync

    @property
    def async_replica(self) -> Replica | None:
        """Where the sessions of an asynchronous engine may read."""
        return None if self.replicas is None else self.replicas.asynchronous

    def sync(self, door: Door[Session, Engine]) -> Sources:
        """Return the source of the sessions that come out of ``door``."""
        return Sources(SessionSource(self.bind, door, self.guard))

    def asynchronous(self, door: Door[AsyncSession, AsyncEngine]) -> Sources:
        """Return the source of the asynchronous sessions that come out of ``door``."""
        return Sources(asynchronous=AsyncSessionSource(self.bind, door, self.guard))


@dataclass
class Binds:
    """The sources of every bind by its name."""

    sync: dict[str, SessionSource] = field(default_factory=dict[str, SessionSource])
    asynchronous: dict[str, AsyncSessionSource] = field(
        default_factory=dict[str, AsyncSessionSource]
    )

    def names(self) -> tuple[str, ...]:
        """Return the names of the binds, in the order in which they were given."""
        return tuple(dict.fromkeys([*self.sync, *self.asynchronous]))

    @property
    def are_removed_with_app(self) -> bool:
        """Whether extensions call the ``remove()`` of one at the end of every app context."""
        return any(each.is_removed_with_app for each in self.sync.values()) or any(
            each.is_removed_with_app for each in self.asynchronous.values()
        )

    def add(self, bind: str, sources: Sources) -> None:
        """Take up what was recognised for ``bind``."""
        if sources.sync is not None:
            self.sync[bind] = sources.sync
        if sources.asynchronous is not None:
            self.asynchronous[bind] = sources.asynchronous

    def locate(self, replicas: Mapping[str, Replicas]) -> None:
        """Tell the replica's engine to the sessions that were made before it."""
        source, async_source = self.sync.get(REPLICA_BIND), self.asynchronous.get(REPLICA_BIND)
        for place in replicas.values():
            for engine in () if source is None else source.engines()[:1]:
                place.sync.engine = engine
            for async_engine in () if async_source is None else async_source.engines()[:1]:
                place.asynchronous.engine = async_engine.sync_engine


def binds_of(source: object, async_source: object, guard: SavepointGuard) -> Binds:
    """Recognise both arguments of :class:`~flask_reqsession.DatabaseManager`.

    :raises ConfigurationError: one of them is of no known kind, or they contradict each other.
    """
    binds = Binds()
    named, async_named = _by_name(source), _by_name(async_source)
    replicas = replicas_among([*named, *async_named])
    for bind, given in named.items():
        offer = Offer(given, bind, guard, replicas=replicas.get(bind))
        binds.add(bind, recognise(offer))
    for bind, given in async_named.items():
        offer = Offer(given, bind, guard, wants_async=True, replicas=replicas.get(bind))
        sources = recognise(offer)
        if sources.asynchronous is None:
            raise ConfigurationError(
                f"async_source of bind {bind!r} is an instance of {type(given).__name__}, which "
                "gives synchronous sessions. Give an async URL, an AsyncEngine or an "
                "async_sessionmaker, or pass it as the first argument."
            )
        if bind in binds.asynchronous and bind not in binds.sync:
            raise ConfigurationError(
                f"Bind {bind!r} has two asynchronous sources. Remove async_source, or make the "
                "first argument its synchronous twin."
            )
        binds.asynchronous[bind] = sources.asynchronous
    binds.locate(replicas)
    return binds


def replicas_among(binds: Collection[str]) -> dict[str, Replicas]:
    """Return by the name of its bind whose read-only scopes have a replica."""
    return {PRIMARY_BIND: Replicas()} if REPLICA_BIND in binds else {}


def _by_name(given: object) -> dict[str, object]:
    if given is None:
        return {}
    if not _is_dict(given):
        return {"default": given}
    named = {name: source for name, source in given.items() if isinstance(name, str)}
    if not named or len(named) < len(given):
        raise ConfigurationError(
            "A dict of sources maps the name of each bind, a str, to its source: "
            "DatabaseManager({'default': ..., 'analytics': ...})."
        )
    return named


def _is_dict(given: object) -> TypeGuard[dict[object, object]]:
    return isinstance(given, dict)


def recognise(offer: Offer) -> Sources:
    """Return the sources for what was offered.

    :raises ConfigurationError: it is of no known kind; the message lists them.
    """
    for kind in KINDS:
        sources = kind.recognise(offer)
        if sources is not None:
            return sources
    accepted = "; ".join(kind.description for kind in KINDS)
    raise ConfigurationError(
        f"An instance of {type(offer.given).__name__} is no source of sessions for bind "
        f"{offer.bind!r}. Accepted are: {accepted}; and a dict of those by the names of binds."
    )


def _from_url(offer: Offer) -> Sources | None:
    if not isinstance(offer.given, str | URL):
        return None
    return made(replace(offer, given=parse_url(offer.given)), {})


def made(offer: Offer, options: Mapping[str, Any]) -> Sources:
    """Make the engine of the ``URL`` that was offered, and return its source.

    An asynchronous URL gives asynchronous sessions only.
    """
    url: URL = offer.given
    guarded = not begins_by_itself(url, options)
    if offer.wants_async or url.get_dialect().is_async:
        async_factory = async_session_factory(make_async_engine(url, options), offer.async_replica)
        return offer.asynchronous(MadeEngineDoor(async_factory, needs_guard=guarded))
    factory = session_factory(make_engine(url, options), offer.replica)
    return offer.sync(MadeEngineDoor(factory, needs_guard=guarded))


def _from_engine(offer: Offer) -> Sources | None:
    if isinstance(offer.given, Engine):
        return offer.sync(EngineDoor(session_factory(offer.given, offer.replica)))
    if isinstance(offer.given, AsyncEngine):
        return offer.asynchronous(
            EngineDoor(async_session_factory(offer.given, offer.async_replica))
        )
    return None


def _from_factory(offer: Offer) -> Sources | None:
    if offer.is_a(sessionmaker):
        return offer.sync(FactoryDoor(offer.given))
    if offer.is_a(async_sessionmaker):
        return offer.asynchronous(FactoryDoor(offer.given))
    return None


def _from_scoped_session(offer: Offer) -> Sources | None:
    if offer.is_a(scoped_session):
        return offer.sync(ScopedDoor(offer.given))
    if offer.is_a(async_scoped_session):
        return offer.asynchronous(ScopedDoor(offer.given))
    return None


def _from_flask_sqlalchemy(offer: Offer) -> Sources | None:
    if not is_flask_sqlalchemy(offer.given):
        return None
    return offer.sync(FlaskSQLAlchemyDoor(offer.given))


def _from_flask_sqlalchemy_lite(offer: Offer) -> Sources | None:
    if not is_flask_sqlalchemy_lite(offer.given):
        return None
    sync = offer.sync(LiteDoor(offer.given))
    return sync._replace(
        asynchronous=offer.asynchronous(LiteDoor(offer.given, "async_")).asynchronous
    )


def _from_getter(offer: Offer) -> Sources | None:
    if not callable(getattr(offer.given, "get_session", None)):
        return None
    return offer.sync(GetterDoor(offer.given))


class Kind(NamedTuple):
    """A kind of source: how a message names it, and the function that recognises it."""

    description: str
    recognise: Callable[[Offer], Sources | None]


KINDS: Final = (
    Kind("a database URL (str or sqlalchemy.URL)", _from_url),
    Kind("an Engine or AsyncEngine", _from_engine),
    Kind("a sessionmaker or async_sessionmaker", _from_factory),
    Kind("a scoped_session or async_scoped_session", _from_scoped_session),
    Kind("a Flask-SQLAlchemy SQLAlchemy", _from_flask_sqlalchemy),
    Kind("a Flask-SQLAlchemy-Lite SQLAlchemy", _from_flask_sqlalchemy_lite),
    Kind("an object with get_session() and optionally close_session(session)", _from_getter),
)
"""Lite comes before the getters: it has ``get_session`` itself."""
