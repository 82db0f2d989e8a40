"""A ``scoped_session`` of the user's own joins the unit of work."""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import (
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from flask_reqsession import ConfigurationError, DatabaseManager, RequestScopedSessionManager
from tests.integration.items import (
    Item,
)
from tests.servers.connections import async_url_of


class Manager:
    """Plays the manager's part: it has a session while a unit of work runs."""

    def __init__(self, session: Session | None = None) -> None:
        self.session = session
        self.asked: list[str] = []

    def current(self, bind: str = "default") -> Session | None:
        """Return the session of the running unit of work."""
        self.asked.append(bind)
        return self.session


@pytest.fixture
def scoped(own_engine: Engine) -> Iterator[scoped_session[Session]]:
    """Give a ``scoped_session`` as a module would have it."""
    scoped = scoped_session(sessionmaker(own_engine))
    yield scoped
    scoped.remove()


@pytest.mark.rule("D2")
def test_a_scoped_session_joins_the_unit_of_work(scoped: scoped_session[Session]) -> None:
    """Inside one it is that session, outside it is its own again."""
    databases = DatabaseManager({"main": scoped})
    manager = Manager(databases.source("main").open())
    own = scoped()

    databases.adopt(manager.current)

    assert scoped() is manager.session
    assert manager.asked == ["main"]
    assert manager.session is not None
    databases.source("main").close(manager.session)
    manager.session = None
    assert scoped() is own


@pytest.mark.rule("D2")
def test_remove_discards_what_the_unit_of_work_has(scoped: scoped_session[Session]) -> None:
    """The session is still its session, and empty; what the door had before is left alone."""
    databases = DatabaseManager(scoped)
    source = databases.source()
    manager = Manager(source.open())
    own = scoped()
    own.add(Item(id=1))
    databases.adopt(manager.current)
    session = scoped()
    session.add(Item(id=2))

    scoped.remove()

    assert scoped() is session
    assert len(session.new) == 0
    source.close(session)
    manager.session = None
    assert scoped() is own
    assert len(own.new) == 1
    scoped.remove()
    assert len(own.new) == 0
    assert scoped() is not own


@pytest.mark.rule("D2")
def test_remove_at_the_end_of_an_app_context_makes_no_session(
    scoped: scoped_session[Session],
) -> None:
    """An extension that tidies up at the end of a context does not make what nobody asked for."""
    databases = DatabaseManager(scoped)
    manager = Manager()
    databases.adopt(manager.current)
    app = Flask("tidy")
    databases.init_app(app)
    app.teardown_appcontext(lambda _error: scoped.remove())

    with app.app_context():
        pass

    assert manager.asked == []


@pytest.mark.rule("D2")
def test_arguments_are_refused_inside_a_unit_of_work(scoped: scoped_session[Session]) -> None:
    """Like SQLAlchemy refuses them where the session exists; outside they make it."""
    databases = DatabaseManager(scoped)
    source = databases.source()
    manager = Manager(source.open())
    databases.adopt(manager.current)

    with pytest.raises(InvalidRequestError, match="already present"):
        scoped(autoflush=False)
    assert manager.session is not None
    source.close(manager.session)
    manager.session = None
    assert scoped(autoflush=False).autoflush is False


@pytest.mark.rule("D2")
def test_another_session_is_refused_inside_a_unit_of_work(scoped: scoped_session[Session]) -> None:
    """Put into the registry by hand, it would take the place of the one that is committed."""
    manager = RequestScopedSessionManager(scoped)
    other = scoped.session_factory()

    with manager.unit_of_work():
        with pytest.raises(ConfigurationError, match="session_factory"):
            scoped.registry.set(other)
        assert scoped() is manager.session
    scoped.registry.set(other)
    assert scoped() is other


@pytest.mark.rule("D2")
def test_the_newest_manager_is_asked_first(scoped: scoped_session[Session]) -> None:
    """Two managers may share a door; one that has no session now lets the other answer."""
    databases = DatabaseManager(scoped)
    source = databases.source()
    older, newer = Manager(source.open()), Manager(source.open())
    databases.adopt(older.current)
    databases.adopt(newer.current)

    assert scoped() is newer.session
    for manager in (newer, older):
        assert manager.session is not None
        source.close(manager.session)
    newer.session = None
    assert scoped() is older.session


@pytest.mark.rule("D2")
def test_a_door_asks_a_manager_once_and_does_not_keep_it_alive(
    scoped: scoped_session[Session],
) -> None:
    """A module's global outlives the managers that tests and application factories make."""
    databases = DatabaseManager(scoped)
    manager, other = Manager(), Manager()
    databases.adopt(manager.current)
    databases.adopt(other.current)
    databases.adopt(manager.current)

    scoped()

    assert manager.asked == other.asked == ["default"]
    forgotten = weakref.ref(manager)
    del manager
    gc.collect()
    assert forgotten() is None
    scoped()
    databases.adopt(other.current)
    assert other.asked == ["default"] * 2


@pytest.mark.rule("D2")
def test_a_function_may_answer_as_well(scoped: scoped_session[Session]) -> None:
    """It is kept, since nothing else may keep it."""
    source = DatabaseManager(scoped).source()
    session = source.open()
    source.adopt(lambda: session)
    source.adopt(functools.partial(next, iter(()), None))

    assert scoped() is session
    source.close(session)


@pytest.mark.rule("D2", "T50")
def test_an_async_scoped_session_joins_as_well(sqlite_file_url: str) -> None:
    """The asynchronous twin has the same registry."""
    engine = create_async_engine(async_url_of(sqlite_file_url), poolclass=NullPool)
    scoped = async_scoped_session(async_sessionmaker(engine), lambda: 1)
    databases = DatabaseManager(scoped)
    session = databases.async_source().open()
    manager = Manager()
    databases.adopt(manager.current)
    databases.adopt(manager.current, lambda _bind: session)

    async def remove() -> None:
        assert scoped() is session
        await scoped.remove()
        assert scoped() is session
        await session.close()

    asyncio.run(remove())
    assert manager.asked == []


@pytest.mark.rule("M11", "D2", "T50")
def test_a_nested_app_context_leaves_the_async_session_of_the_request(sqlite_file_url: str) -> None:
    """What an extension removes at the end of app contexts is its own, in this colour as well."""
    engine, app, found = create_async_engine(async_url_of(sqlite_file_url)), Flask("shop"), []
    scoped = async_scoped_session(async_sessionmaker(engine), lambda: 1)
    manager = RequestScopedSessionManager(scoped, app)
    app.teardown_appcontext(lambda _error: found.append(scoped.registry.has()))
    with app.test_request_context():
        session = manager.get_async_request_session()
        with app.app_context():
            assert scoped.registry.has()
        assert found == [False]
        assert manager.get_async_request_session() is session
