"""Flask runs each async view in a new event loop; no connection outlives its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import AsyncAdaptedQueuePool

from flask_reqsession import (
    DatabaseManager,
    RequestScopedSessionManager,
    UncommittedChangesWarning,
)
from flask_reqsession.engines import make_engine
from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import Base, Note, as_view
from tests.servers.connections import async_url_of, rows_of

ENGINES: dict[str, Callable[[str], Any]] = {
    "made": lambda url: url,
    "pooled": create_async_engine,
    "queued": lambda url: create_async_engine(url, poolclass=AsyncAdaptedQueuePool),
    "factory": lambda url: async_sessionmaker(create_async_engine(url), expire_on_commit=False),
    "unknown factory": lambda url: async_sessionmaker(class_=bound_to(create_async_engine(url))),
}


def bound_to(engine: AsyncEngine) -> type[AsyncSession]:
    """Return a class of sessions that knows its engine, and tells nobody."""

    class Bound(AsyncSession):
        def __init__(self, **options: Any) -> None:
            super().__init__(**(options | {"bind": engine}))

    return Bound


class Notebook:
    """An app of async views on one kind of engine."""

    def __init__(self, url: str, kind: str) -> None:
        self.url = url
        self.engine: AsyncEngine | None = None
        engine = make_engine(url)
        Base.metadata.create_all(engine)
        engine.dispose()
        source = ENGINES[kind](async_url_of(url))
        self.app = Flask("notebook")
        self.app.testing = True
        self.manager = RequestScopedSessionManager(
            DatabaseManager(url, async_source=source), self.app
        )

    async def write(self, text: str) -> None:
        """Insert a note, and remember the engine."""
        session = self.manager.get_async_request_session()
        session.add(Note(text=text))
        await session.flush()
        connection = await session.connection()
        self.engine = connection.engine

    def get(self, path: str) -> int:
        """Send a request of its own client; return the status."""
        return self.app.test_client().get(path).status_code

    def held(self) -> int:
        """Count the connections that are out of the pool; without a pool there are none."""
        pool = None if self.engine is None else self.engine.pool
        return pool.checkedout() if isinstance(pool, AsyncAdaptedQueuePool) else 0

    def connected(self) -> bool:
        """Whether the server has connections beside that of who asks; it may be slow to say no."""
        [(count,)] = rows_of(
            self.url,
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            if "postgresql" in self.url
            else "SELECT count(*) FROM information_schema.processlist"
            " WHERE db = database() AND id <> connection_id() AND command <> 'Killed'",
        )
        return bool(count)

    def close(self) -> None:
        """Close what may be left in a pool."""
        self.manager.databases.dispose()
        assert self.engine is not None
        asyncio.run(self.engine.dispose())

    def kept(self) -> list[str]:
        """Return the texts that a second connection sees."""
        return sorted(str(kept) for (kept,) in rows_of(self.url, "SELECT text FROM note"))


@pytest.fixture(params=["sqlite_file", "postgresql", "mariadb"])
def notebook_url(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty database on each backend."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=ENGINES)
def notebook(request: pytest.FixtureRequest, notebook_url: str) -> Iterator[Notebook]:
    """Give an app for each kind of engine; at its end nothing is checked out or left connected."""
    notebook = Notebook(notebook_url, request.param)
    yield notebook
    assert notebook.held() == 0
    notebook.manager.databases.engine().dispose()
    while "sqlite" not in notebook_url and notebook.connected():
        ...  # a connection that is never closed ends in the test's timeout
    notebook.close()


@pytest.mark.rule("T50", "M17")
def test_async_views_one_after_the_other_and_side_by_side(notebook: Notebook) -> None:
    """Each in its own loop, on whatever engine: no loop error, every answer right, nothing held."""

    async def view(number: int) -> tuple[str, int]:
        await notebook.write(f"note {number}")
        await asyncio.sleep(0)
        if number % 4 == 3:
            raise FaultError
        return "no" if number % 4 == 2 else "yes", 409 if number % 4 == 2 else 200

    notebook.app.register_error_handler(FaultError, lambda _error: ("broken", 500))
    scoped: Any = notebook.manager.transactional(view)
    notebook.app.add_url_rule("/<int:number>", "view", scoped)
    alone = [notebook.get(f"/{number}") for number in range(8)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(notebook.get, [f"/{number}" for number in range(8, 24)]))
    assert alone + together == [200, 200, 409, 500] * 6
    assert notebook.kept() == sorted(f"note {n}" for n in range(24) if n % 4 < 2)
    assert notebook.held() == 0


@pytest.mark.rule("T50", "M1")
def test_hook_view_and_error_handler_have_a_loop_and_a_session_each(notebook: Notebook) -> None:
    """An async session ends with the coroutine that Flask waits for: none crosses to another."""
    sessions: list[AsyncSession] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def look() -> None:
        await notebook.write(f"note {len(loops)}")
        sessions.append(notebook.manager.get_async_request_session())
        loops.append(asyncio.get_running_loop())

    async def view() -> str:
        await look()
        raise FaultError

    async def handle(_error: FaultError) -> tuple[str, int]:
        await look()
        return "handled", 418

    notebook.app.before_request(look)
    notebook.app.register_error_handler(FaultError, handle)
    notebook.app.add_url_rule("/", "view", as_view(view))
    with pytest.warns(UncommittedChangesWarning):
        assert notebook.get("/") == 418
    assert notebook.kept() == []
    assert len(set(map(id, sessions))) == len(set(map(id, loops))) == 3


@pytest.mark.rule("T50", "T2")
def test_the_sync_and_the_async_session_of_a_request_are_two_transactions(
    postgresql_url: str,
) -> None:
    """Neither sees the other's work before its COMMIT, nor goes with its ROLLBACK."""
    notebook = Notebook(postgresql_url, "pooled")
    manager = notebook.manager
    seen: list[int] = []

    async def view() -> str:
        with manager.session_scope() as session:
            session.add(Note(text="sync"))
            session.flush()
            with pytest.raises(FaultError):
                async with manager.async_session_scope() as async_session:
                    seen.append(len((await async_session.scalars(select(Note))).all()))
                    await notebook.write("async, rolled back")
                    raise FaultError
            async with manager.async_session_scope():
                await notebook.write("async")
            seen.append(len(rows_of(postgresql_url, "SELECT text FROM note")))
        return "ok"

    notebook.app.add_url_rule("/", "view", as_view(view))
    assert notebook.get("/") == 200
    assert seen == [0, 1]
    assert notebook.kept() == ["async", "sync"]
    notebook.close()


@pytest.mark.rule("T50")
@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_in_a_loop_that_goes_on_a_pool_is_a_pool(
    request: pytest.FixtureRequest, server: str
) -> None:
    """A job of many units keeps its connection; only Flask's views end with their loop."""
    notebook = Notebook(request.getfixturevalue(f"{server}_url"), "pooled")
    manager = notebook.manager
    own = "pg_backend_pid()" if server == "postgresql" else "connection_id()"
    numbers: set[object] = set()

    async def job() -> None:
        for number in range(3):
            async with manager.async_unit_of_work(), manager.async_session_scope() as session:
                await notebook.write(f"note {number}")
                numbers.add(await session.scalar(text(f"SELECT {own}")))
        assert notebook.held() == 0
        await manager.databases.async_engine().dispose()

    asyncio.run(job())
    assert len(numbers) == 1
    assert len(notebook.kept()) == 3
    notebook.close()


@pytest.mark.rule("T50")
def test_connections_that_belong_to_no_loop_are_pooled(sqlite_file_url: str) -> None:
    """aiosqlite's: one is enough for requests one after the other, each in its own loop."""
    notebook = Notebook(sqlite_file_url, "queued")
    opened: list[object] = []
    engine = notebook.manager.databases.async_engine()
    event.listen(engine.sync_engine, "connect", lambda *args: opened.append(args))

    async def view(number: int) -> str:
        await notebook.write(f"note {number}")
        return "ok"

    scoped: Any = notebook.manager.transactional(view)
    notebook.app.add_url_rule("/<int:number>", "view", scoped)
    assert [notebook.get(f"/{number}") for number in range(3)] == [200, 200, 200]
    assert notebook.kept() == ["note 0", "note 1", "note 2"]
    assert len(opened) == 1
    notebook.close()


@pytest.mark.rule("T50")
def test_a_connection_of_a_loop_that_is_gone_is_replaced(
    postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Left in the pool by a job that did not dispose of its engine: the next request works."""
    notebook = Notebook(postgresql_url, "pooled")
    manager = notebook.manager

    async def job() -> None:
        async with manager.async_unit_of_work(), manager.async_session_scope():
            await notebook.write("job")

    async def view() -> str:
        await notebook.write("view")
        return "ok"

    notebook.app.add_url_rule("/", "view", as_view(manager.transactional(view)))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(job())
    assert notebook.get("/") == 200
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert notebook.kept() == ["job", "view"]
    assert notebook.held() == 0
    notebook.close()
