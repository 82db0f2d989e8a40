"""A call that holds the last connection of a pool is told so, and never waits for itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import (
    AssertionPool,
    AsyncAdaptedQueuePool,
    NullPool,
    QueuePool,
    SingletonThreadPool,
    StaticPool,
)

from flask_reqsession import PoolDemandError, Propagation, RequestScopedSessionManager
from flask_reqsession.pools import limit_of
from tests.integration.transactions.worlds import Note, SyncWorld
from tests.never import never
from tests.servers.connections import async_url_of

OWN = [Propagation.REQUIRES_NEW, Propagation.NOT_SUPPORTED]
FOREVER: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": None}
"""A pool in which a wait would never end: only a refusal before it can pass the tests."""


@contextmanager
def managing(url: str, **options: Any) -> Iterator[tuple[RequestScopedSessionManager, Engine]]:
    """Give a manager on an engine of the user's own."""
    engine = create_engine(url, **options)
    yield RequestScopedSessionManager(engine), engine
    engine.dispose()


def read(session: Session) -> list[str]:
    """Take a connection."""
    return list(session.scalars(text("SELECT text FROM note ORDER BY id")))


@pytest.mark.rule("T5")
@pytest.mark.parametrize("propagation", OWN)
def test_all_connections_held_by_the_call_itself_is_refused_at_entry(
    sync_world: SyncWorld, propagation: Propagation
) -> None:
    """The body does not run, nothing hangs, and the outer scope goes on."""
    with managing(sync_world.url, **FOREVER) as (manager, _):

        @manager.transactional(propagation=propagation)
        def audit() -> None:
            never()

        with manager.session_scope() as session:
            session.add(Note(text="rent"))
            session.flush()
            with pytest.raises(PoolDemandError, match=r"audit\(\).*pool_size") as refused:
                audit()
        assert refused.value.code == "pool-demand"
    assert sync_world.kept() == ["rent"]


@pytest.mark.rule("T5")
@pytest.mark.parametrize(("size", "overflow"), [(1, 2), (3, 0), (2, 1)])
def test_the_depth_of_the_call_counts(sync_world: SyncWorld, size: int, overflow: int) -> None:
    """Three connections carry three scopes, and the fourth is refused; overflow counts."""
    pool = FOREVER | {"pool_size": size, "max_overflow": overflow}
    with managing(sync_world.url, **pool) as (manager, engine):
        assert limit_of(engine.pool) == 3

        @manager.transactional(propagation=Propagation.REQUIRES_NEW)
        def dive(depth: int) -> int:
            read(manager.session)
            try:
                return dive(depth + 1)
            except PoolDemandError:
                return depth

        for _ in range(2):
            with manager.unit_of_work(), manager.session_scope() as session:
                read(session)
                assert dive(2) == 3


@pytest.mark.rule("T5")
@pytest.mark.parametrize("first", ["outer", "inner"])
def test_the_last_connection_taken_after_the_entry_is_refused_at_first_use(
    sync_world: SyncWorld, first: str
) -> None:
    """Whichever of both sessions comes second, a lazy load say, is refused instead of waiting."""
    with managing(sync_world.url, **FOREVER) as (manager, _):

        @manager.transactional(propagation=Propagation.REQUIRES_NEW)
        def audit(outer: Session) -> None:
            sessions = [outer, manager.session]
            if first == "inner":
                sessions.reverse()
            assert read(sessions[0]) == []
            for _ in range(2):
                with pytest.raises(PoolDemandError, match=r"audit\(\)"):
                    read(sessions[1])
            assert read(sessions[0]) == []

        with manager.session_scope() as session:
            audit(session)
            assert read(session) == []
            assert "get_bind" not in vars(session)


@pytest.mark.rule("T5")
def test_an_outer_scope_that_holds_nothing_is_no_hindrance(sync_world: SyncWorld) -> None:
    """The inner one gives the only connection back before the outer one needs it."""
    with managing(sync_world.url, **FOREVER) as (manager, _):

        @manager.transactional(propagation=Propagation.REQUIRES_NEW)
        def audit() -> None:
            manager.session.add(Note(text="audit"))

        with manager.session_scope() as session:
            audit()
            session.add(Note(text="rent"))
            session.flush()
    assert sync_world.kept() == ["audit", "rent"]


@pytest.mark.rule("T5")
def test_what_other_threads_hold_is_waited_for(sync_world: SyncWorld) -> None:
    """They give it back: only one's own depth is a deadlock."""
    pool = FOREVER | {"max_overflow": 1}
    with managing(sync_world.url, **pool) as (manager, engine):
        taken, asked = threading.Event(), threading.Event()

        def hold() -> None:
            with manager.unit_of_work():
                read(manager.session)
                taken.set()
                asked.wait()

        @manager.transactional(propagation=Propagation.REQUIRES_NEW)
        def audit() -> list[str]:
            asked.set()
            return read(manager.session)

        other = threading.Thread(target=hold)
        with manager.session_scope() as session:
            read(session)
            other.start()
            taken.wait()
            assert engine.pool.checkedout() == 2  # type: ignore[attr-defined]
            assert audit() == []
        other.join()


@pytest.mark.rule("T5", "M9")
def test_a_request_inside_a_scope_counts_what_is_held_around_it(sync_world: SyncWorld) -> None:
    """Its unit is another one, its thread is the same."""
    with managing(sync_world.url, **FOREVER | {"max_overflow": 1}) as (manager, _):
        app = Flask("shop")
        app.testing = True
        manager.init_app(app)

        @app.get("/")
        @manager.transactional
        def view() -> list[str]:
            read(manager.session)
            with manager.session_scope(propagation=Propagation.REQUIRES_NEW):
                return []

        with manager.unit_of_work(), manager.session_scope() as session:
            read(session)
            with pytest.raises(PoolDemandError):
                app.test_client().get("/")
        assert app.test_client().get("/").json == []


POOLS: list[tuple[Any, dict[str, Any], int | None]] = [
    (QueuePool, {"pool_size": 2, "max_overflow": 3}, 5),
    (QueuePool, {"pool_size": 0}, None),
    (QueuePool, {"max_overflow": -1}, None),
    (NullPool, {}, None),
    (StaticPool, {}, 1),
    (SingletonThreadPool, {}, 1),
    (AssertionPool, {}, 1),
]


@pytest.mark.rule("T5")
@pytest.mark.parametrize(("kind", "options", "limit"), POOLS)
def test_each_kind_of_pool_has_its_limit(
    sync_world: SyncWorld, kind: Any, options: dict[str, Any], limit: int | None
) -> None:
    """Two scopes run where there is a second connection, else the second is refused."""
    with managing(sync_world.url, poolclass=kind, **options) as (manager, engine):
        assert limit_of(engine.pool) == limit

        @manager.transactional(propagation=Propagation.REQUIRES_NEW)
        def look() -> list[str]:
            return read(manager.session)

        with manager.session_scope() as session:
            read(session)
            if limit == 1:
                with pytest.raises(PoolDemandError):
                    look()
            else:
                assert look() == []


@pytest.mark.rule("T5", "T50")
@pytest.mark.parametrize("first", ["entry", "outer", "inner"])
def test_an_asynchronous_pool_is_the_same(sync_world: SyncWorld, first: str) -> None:
    """At entry and at first use."""
    engine = create_async_engine(
        async_url_of(sync_world.url), poolclass=AsyncAdaptedQueuePool, **FOREVER
    )
    manager = RequestScopedSessionManager(engine)
    query = text("SELECT text FROM note")

    @manager.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit(outer: AsyncSession) -> str:
        sessions = [outer, manager.get_async_request_session()]
        if first == "inner":
            sessions.reverse()
        await sessions[0].execute(query)
        with pytest.raises(PoolDemandError):
            await sessions[1].execute(query)
        return "body"

    async def main() -> None:
        async with manager.async_session_scope() as session:
            if first == "entry":
                await session.execute(query)
                with pytest.raises(PoolDemandError):
                    await audit(session)
            else:
                assert await audit(session) == "body"
        await engine.dispose()

    asyncio.run(main())


@pytest.mark.rule("T5", "D1")
def test_sessions_on_two_engines_are_refused_for_the_pool_that_is_taken_up(
    sync_world: SyncWorld,
) -> None:
    """At entry if the outer session holds it, else at first use; the other engine is free."""
    engines = [create_engine(sync_world.url, **FOREVER) for _ in range(2)]
    manager = RequestScopedSessionManager(sessionmaker(binds={Note: engines[0]}, bind=engines[1]))

    @manager.transactional(propagation=Propagation.REQUIRES_NEW)
    def look(outer: Session) -> None:
        outer.query(Note).all()
        read(manager.session)
        with pytest.raises(PoolDemandError):
            manager.session.query(Note).all()

    with manager.session_scope() as session:
        look(session)
        with pytest.raises(PoolDemandError):
            look(session)
    for engine in engines:
        engine.dispose()


@pytest.mark.rule("T5")
def test_a_connection_that_the_user_holds_elsewhere_is_sqlalchemys_own_timeout(
    sync_world: SyncWorld,
) -> None:
    """What no session of the manager holds is not known; the error is not replaced."""
    pool: dict[str, Any] = FOREVER | {"pool_timeout": 0}
    with managing(sync_world.url, **pool) as (manager, engine):
        with engine.connect(), pytest.raises(PoolTimeoutError):
            with manager.session_scope() as session:
                read(session)
