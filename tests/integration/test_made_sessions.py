"""Sessions from our factories and from the user's, and where their events are heard."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import (
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from flask_reqsession import DatabaseManager
from tests.integration.conftest import Manage
from tests.integration.items import (
    Item,
    OwnSession,
    write_and_close,
)
from tests.servers.connections import async_url_of


@pytest.mark.rule("D4")
@pytest.mark.parametrize("kind", ["url", "engine"])
def test_sessions_of_ours_stay_loaded_after_commit(
    manage: Manage, own_engine: Engine, sqlite_file_url: str, kind: str
) -> None:
    """Reading a result after COMMIT costs no SELECT, and begins no transaction."""
    databases = manage(own_engine if kind == "engine" else sqlite_file_url)
    source = databases.source()
    session = source.open()
    item = Item()
    session.add(item)
    session.commit()

    assert item.id == 1
    assert not session.in_transaction()
    source.close(session)


@pytest.mark.rule("M14")
@pytest.mark.parametrize("kind", ["url", "engine"])
def test_a_closed_session_of_ours_is_dead(
    manage: Manage, own_engine: Engine, sqlite_file_url: str, kind: str
) -> None:
    """It raises instead of opening a connection that nobody would close."""
    session = write_and_close(manage(own_engine if kind == "engine" else sqlite_file_url))

    with pytest.raises(InvalidRequestError, match=r"permanently closed"):
        session.scalar(text("SELECT 1"))


@pytest.mark.rule("D4", "M14", "T50")
def test_asynchronous_sessions_of_ours_are_the_same(
    manage: Manage, own_engine: Engine, sqlite_file_url: str
) -> None:
    """Loaded after COMMIT, dead after their end."""
    databases = manage(own_engine, async_source=async_url_of(sqlite_file_url))

    async def write() -> int:
        source = databases.async_source()
        session = source.open()
        item = Item()
        session.add(item)
        await session.commit()
        assert not session.in_transaction()
        await source.close(session)
        with pytest.raises(InvalidRequestError, match=r"permanently closed"):
            await session.scalar(text("SELECT 1"))
        return item.id

    assert asyncio.run(write()) == 1


@pytest.mark.rule("D4")
def test_a_factory_of_the_users_is_untouched(own_engine: Engine) -> None:
    """Class, options and a later ``configure`` are the user's."""
    factory = sessionmaker(class_=OwnSession, autoflush=False, info={"mine": True})
    databases = DatabaseManager(factory)
    before = dict(factory.kw)
    source = databases.source()
    assert source.engines() == ()
    factory.configure(bind=own_engine)

    session = source.open()
    source.close(session)

    assert isinstance(session, OwnSession)
    assert session.expire_on_commit is True
    assert session.autoflush is False
    assert session.info == {"mine": True}
    assert {**before, "bind": own_engine} == factory.kw
    assert source.event_target is factory
    assert source.engines() == (own_engine,)


@pytest.mark.rule("D1")
@pytest.mark.parametrize("kind", ["url", "engine", "factory", "scoped"])
def test_events_have_one_target_for_all_sessions(
    manage: Manage, own_engine: Engine, sqlite_file_url: str, kind: str
) -> None:
    """Registered there once, they hear of every session; on a session each it would cost."""
    given: dict[str, object] = {
        "url": sqlite_file_url,
        "engine": own_engine,
        "factory": sessionmaker(own_engine),
        "scoped": scoped_session(sessionmaker(own_engine)),
    }
    source = manage(given[kind]).source()
    begun: list[Session] = []
    event.listen(source.event_target, "after_begin", lambda session, *_: begun.append(session))

    sessions = [source.open(), source.open()]
    for session in sessions:
        session.connection()
        source.close(session)

    assert begun == sessions


@pytest.mark.rule("T50")
@pytest.mark.parametrize("kind", ["url", "engine", "factory", "scoped", "plain"])
def test_asynchronous_sessions_have_a_target_for_events_where_they_can(
    manage: Manage, sqlite_file_url: str, kind: str
) -> None:
    """It is what their inner, synchronous sessions are made with."""
    engine = create_async_engine(async_url_of(sqlite_file_url), poolclass=NullPool)
    factory = async_sessionmaker(engine, sync_session_class=sessionmaker(class_=OwnSession))
    given: dict[str, object] = {
        "url": async_url_of(sqlite_file_url),
        "engine": engine,
        "factory": factory,
        "scoped": async_scoped_session(factory, lambda: 1),
        "plain": async_sessionmaker(engine),
    }
    source = manage(given[kind]).async_source()
    begun: list[Session] = []

    async def begin() -> Session:
        session = source.open()
        target = source.event_target
        assert (target is None) is (kind == "plain")
        event.listen(target or session.sync_session, "after_begin", lambda s, *_: begun.append(s))
        _ = await session.connection()
        await source.close(session)
        return session.sync_session

    assert asyncio.run(begin()) in begun
