"""An async session is closed in the event loop that it belongs to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from flask_reqsession import UncommittedChangesWarning
from tests.integration.manager.async_shop import AsyncShop
from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import (
    Note,
    as_view,
)


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
        with pytest.warns(UncommittedChangesWarning, match="new Note 1"):
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

    with pytest.warns(UncommittedChangesWarning, match="new Note 1"):
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
