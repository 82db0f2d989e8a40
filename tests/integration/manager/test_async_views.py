"""Flask's async views run in a helper thread, and are the request nevertheless."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading

import pytest
from asgiref.sync import sync_to_async
from sqlalchemy import select
from sqlalchemy.orm import Session

from flask_reqsession import ScopeOwnershipError
from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import (
    Note,
    Shop,
    texts,
)


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
