"""Flask's async views run in a helper thread, and are the request nevertheless."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from flask import Flask
from sqlalchemy import Engine, event, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from flask_reqsession import DatabaseManager, ScopeOwnershipError
from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import (
    Base,
    Note,
    Recording,
    Shop,
    as_view,
    texts,
)
from tests.servers.connections import async_url_of, rows_of


@pytest.mark.rule("M13", "M1")
def test_an_async_view_shares_the_sync_session_of_its_request(shop: Shop) -> None:
    """Async before_request, async view, sync after_request, async teardown: one session."""
    seen: list[tuple[Session, threading.Thread]] = []

    def look() -> None:
        seen.append((shop.session, threading.current_thread()))

    async def before() -> None:
        look()

    async def view() -> str:
        look()
        await asyncio.sleep(0)
        look()
        await sync_to_async(look)()
        return str(texts(shop.session))

    async def teardown(_error: BaseException | None) -> None:
        look()

    shop.app.before_request(before)
    shop.app.after_request(lambda response: (look(), response)[1])
    shop.app.teardown_request(teardown)

    assert shop.serve(view).text == "[]"
    assert len(seen) == 6
    assert len({session for session, _ in seen}) == 1
    assert len({thread for _, thread in seen}) > 1
    assert shop.events == ["created", "closed"]


@pytest.mark.rule("M13", "T1")
def test_a_scope_in_an_async_view_commits_and_rolls_back(shop: Shop) -> None:
    """With a sync session, as the manager has no other."""

    @shop.manager.transactional
    def write(text: str) -> None:
        shop.write(text)

    async def view() -> str:
        write("kept")
        with pytest.raises(FaultError), shop.manager.session_scope():
            write("lost")
            raise FaultError("body")
        return str(texts(shop.session))

    assert shop.serve(view).text == "['kept']"
    assert shop.kept() == ["kept"]


@pytest.mark.rule("M13")
def test_what_a_sync_hook_loaded_is_used_by_an_async_view(shop: Shop) -> None:
    """A login query in ``before_request``, and its user in the view."""
    shop.keep("user")
    loaded: list[Note] = []

    @shop.app.before_request
    def login() -> None:
        loaded.append(shop.session.scalars(select(Note)).one())

    async def view() -> str:
        return str(loaded[0] in shop.session)

    assert shop.serve(view).text == "True"


@pytest.mark.rule("M13")
def test_a_task_or_thread_made_by_an_async_view_is_not_the_view(shop: Shop) -> None:
    """What was lent to the view is not lent on."""

    async def view() -> str:
        async def ask() -> object:
            return shop.session

        session = shop.session
        answers = await asyncio.gather(
            asyncio.create_task(ask(), name="other"),
            asyncio.to_thread(lambda: shop.session),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [ScopeOwnershipError] * 2
        assert "task 'other'" in str(answers[0])
        assert "thread 'MainThread'" in str(answers[0])
        assert await ask() is session
        return "ok"

    assert shop.serve(view).text == "ok"
    assert shop.events == ["created", "closed"]


@pytest.mark.rule("M13")
def test_an_unserved_request_belongs_to_who_waits_for_the_view(shop: Shop) -> None:
    """Nothing was claimed before the first use in the helper thread; the owner is told rightly."""

    async def first_use() -> Session:
        return shop.session

    with shop.app.test_request_context():
        session = shop.app.ensure_sync(first_use)()
        assert shop.session is session
        context = contextvars.copy_context()
        with pytest.raises(ScopeOwnershipError, match="belongs to thread 'MainThread'"):
            asyncio.run(asyncio.to_thread(lambda: context.run(lambda: shop.session)))


@pytest.mark.rule("M13")
def test_an_async_view_called_by_an_async_view_lends_what_it_borrowed(shop: Shop) -> None:
    """Through ``ensure_sync`` in a thread of its own, while the outer one waits."""

    async def inner() -> Session:
        return shop.session

    async def view() -> str:
        session = shop.session
        call = shop.app.ensure_sync(inner)
        refused = functools.partial(pytest.raises, ScopeOwnershipError, call)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, contextvars.copy_context().run, refused)
        assert shop.session is session
        return "ok"

    assert shop.serve(view).text == "ok"


class AsyncShop:
    """An app whose manager has a sync and an async engine on one database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app = Flask("async")
        self.app.testing = True
        databases = DatabaseManager(url, async_source=async_url_of(url))
        self.manager = Recording(databases, self.app)
        self.engine: Engine = databases.engine()
        self.async_engine = databases.async_engine()
        self.held = 0
        sync_engine: Any = self.async_engine.sync_engine
        event.listen(sync_engine, "checkout", lambda *_: self._count(1))
        event.listen(sync_engine, "checkin", lambda *_: self._count(-1))
        Base.metadata.create_all(self.engine)

    def _count(self, change: int) -> None:
        self.held += change

    @property
    def session(self) -> AsyncSession:
        """The current async session."""
        return self.manager.get_async_request_session()

    async def write(self, text: str) -> None:
        """Insert a note."""
        self.session.add(Note(text=text))
        await self.session.flush()

    def serve(self, view: Callable[[], object]) -> TestResponse:
        """Answer one request with ``view``."""
        self.app.add_url_rule("/", "view", view_func=as_view(view))
        return self.app.test_client().get("/")

    def kept(self) -> list[object]:
        """Return the texts that a second connection sees."""
        return [text for (text,) in rows_of(self.url, "SELECT text FROM note ORDER BY id")]


@pytest.fixture
def async_shop(sqlite_file_url: str) -> Iterator[AsyncShop]:
    """Give a shop with async sessions; at its end no connection may be checked out."""
    shop = AsyncShop(sqlite_file_url)
    yield shop
    shop.manager.databases.dispose()
    assert shop.held == 0


@pytest.mark.rule("M17", "T50", "M2")
@pytest.mark.parametrize("raises", [False, True])
def test_an_async_session_is_closed_in_its_event_loop_at_the_end_of_the_view(
    async_shop: AsyncShop, caplog: pytest.LogCaptureFixture, *, raises: bool
) -> None:
    """What nobody committed is rolled back there; no connection crosses the loop."""
    shop = async_shop

    async def view() -> str:
        await shop.write("lost")
        assert shop.held == 1
        if raises:
            raise FaultError("view")
        return "ok"

    if raises:
        with pytest.raises(FaultError) as caught:
            shop.serve(view)
        assert not hasattr(caught.value, "__notes__")
    else:
        assert shop.serve(view).text == "ok"
    assert shop.held == 0
    assert shop.kept() == []
    assert caplog.records == []
    assert shop.manager.events == ["created", "rollback", "closed"]


@pytest.mark.rule("M17", "T50", "T1")
def test_async_scopes_in_async_views_many_times_in_a_row(async_shop: AsyncShop) -> None:
    """Each request has an event loop of its own."""
    shop = async_shop
    numbers = iter(range(20))

    @shop.manager.transactional
    async def view() -> str:
        await shop.write(str(next(numbers)))
        return "ok"

    shop.app.add_url_rule("/", "view", view_func=as_view(view))
    assert {shop.app.test_client().get("/").text for _ in range(20)} == {"ok"}
    assert shop.kept() == [str(number) for number in range(20)]


@pytest.mark.rule("M19", "T50")
@pytest.mark.parametrize("kind", ["view", "unit of work"])
def test_a_close_that_fails_is_a_note_on_the_users_exception(
    async_shop: AsyncShop, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """And it is logged; the connection does not come back."""
    shop = async_shop
    source = shop.manager.databases.async_source()
    close = source.close

    async def fail(session: AsyncSession) -> None:
        del session
        raise FaultError("close")

    async def view() -> None:
        await shop.write("lost")
        source.close = fail  # type: ignore[method-assign]  # a fault of the user's own
        raise FaultError("view")

    async def job() -> None:
        async with shop.manager.async_unit_of_work():
            await view()

    with pytest.raises(FaultError, match="view") as caught:
        _ = shop.serve(view) if kind == "view" else asyncio.run(job())
    source.close = close  # type: ignore[method-assign]
    assert caught.value.__notes__ == ["CLOSE also failed: FaultError: close"]
    assert [record.getMessage() for record in caplog.records] == [
        "Closing a session failed: FaultError"
    ]
    assert shop.kept() == []


@pytest.mark.rule("M2", "M17")
def test_an_async_session_that_only_its_loop_could_close_is_given_up(
    postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Taken in a sync view and used in a loop of one's own: logged, and its connection is gone."""
    shop = AsyncShop(postgresql_url)
    loop = asyncio.new_event_loop()

    def view() -> str:
        session = shop.session

        async def use() -> None:
            session.add(Note(text="lost"))
            await session.flush()

        loop.run_until_complete(use())
        return "ok"

    assert shop.serve(view).text == "ok"
    assert shop.held == 0
    assert shop.kept() == []
    loop.run_until_complete(asyncio.sleep(0))  # the driver closes its socket
    loop.close()
    ours = [record.getMessage() for record in caplog.records if record.name == "flask_reqsession"]
    assert ours == ["Closing a session failed: ScopeOwnershipError"]
    shop.manager.databases.dispose()


@pytest.mark.rule("M2")
def test_an_async_session_that_was_never_used_is_no_problem(
    async_shop: AsyncShop, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds nothing."""
    assert async_shop.serve(lambda: type(async_shop.session).__name__).text == "AsyncSession"
    assert caplog.records == []
    assert async_shop.manager.events == ["created", "closed"]


@pytest.mark.rule("M2", "M17")
def test_an_async_session_that_could_not_be_made_needs_no_closing(
    async_shop: AsyncShop, caplog: pytest.LogCaptureFixture
) -> None:
    """The user's factory failed."""
    source = async_shop.manager.databases.async_source()

    def fail() -> AsyncSession:
        raise FaultError("open")

    source.open = fail

    def view() -> str:
        with pytest.raises(FaultError):
            _ = async_shop.session
        return "ok"

    assert async_shop.serve(view).text == "ok"
    assert caplog.records == []
    assert async_shop.manager.events == []


@pytest.mark.rule("M5", "M6")
def test_an_async_session_is_seen_from_outside(async_shop: AsyncShop) -> None:
    """``is_session_active()`` and ``get_session_info()`` tell of it, too."""
    manager = async_shop.manager

    async def job() -> dict[str, Any]:
        async with manager.async_unit_of_work():
            assert not manager.is_session_active()
            async_shop.session.add(Note(text="new"))
            assert manager.is_session_active()
            return manager.get_session_info()

    told = asyncio.run(job())
    assert (told["has_session"], told["session_new"], told["in_transaction"]) == (True, True, True)
    assert told["owner"].startswith("task ")
