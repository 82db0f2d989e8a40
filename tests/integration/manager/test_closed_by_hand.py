"""``session.close()`` in a view ends the session, and not the request's access to the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, close_all_sessions

from tests.integration.manager.async_shop import AsyncShop
from tests.integration.manager.shop import Note, Shop, connections_held, texts

WAYS: dict[str, Callable[[Session], Any]] = {
    "close()": lambda session: session.close(),
    "invalidate()": lambda session: session.invalidate(),
    "with": lambda session: session.__exit__(None, None, None),
    "close_all_sessions()": lambda _session: close_all_sessions(),
}


@pytest.mark.rule("M18", "M1", "M14")
@pytest.mark.parametrize("close", WAYS.values(), ids=WAYS.keys())
def test_the_request_goes_on_with_another_session(
    shop: Shop, close: Callable[[Session], Any]
) -> None:
    """The closed one is dead; by whichever door it is asked for, the next one is the request's."""
    shop.keep("one")

    @shop.manager.with_request_session
    def injected(session: Session) -> list[str]:
        assert session is shop.session
        return texts(session)

    def view() -> list[str]:
        session = shop.session
        assert injected() == ["one"]
        close(session)
        assert not shop.manager.is_session_active()
        assert connections_held(shop.engine) == 0
        with pytest.raises(InvalidRequestError, match="permanently closed"):
            session.connection()
        assert injected() == ["one"]
        assert shop.session is not session
        with shop.manager.session_scope() as after:
            after.add(Note(text="two"))
        assert shop.session is after
        return injected()

    assert shop.serve(view).json == ["one", "two"]
    assert shop.events == ["created", "closed", "created", "commit", "closed"]
    assert shop.kept() == ["one", "two"]


@pytest.mark.rule("M18", "M7")
@pytest.mark.parametrize("times", [1, 2])
def test_what_was_uncommitted_is_recorded_as_rolled_back_once(shop: Shop, times: int) -> None:
    """As where the end of the request closes it."""

    def view() -> str:
        session = shop.session
        shop.write("lost")
        for _ in range(times):
            session.close()
        return "closed"

    assert shop.serve(view).text == "closed"
    assert shop.events == ["created", "rollback", "closed"]
    assert shop.kept() == []


@pytest.mark.rule("M18", "T50")
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_async_view_goes_on_with_another_session(tmp_path: Any, colour: str) -> None:
    """Of either colour."""
    shop = AsyncShop(f"sqlite:///{tmp_path}/async.sqlite")

    async def view() -> str:
        if colour == "sync":
            shop.manager.session.close()
            shop.manager.session.connection()
            return "open"
        session = shop.session
        await shop.write("lost")
        await session.close()
        assert shop.session is not session
        await shop.write("kept")
        await shop.session.commit()
        return "open"

    assert shop.serve(view).text == "open"
    assert shop.kept() == (["kept"] if colour == "async" else [])
    shop.manager.databases.dispose()


@pytest.mark.rule("M18")
def test_a_scope_in_which_nothing_had_begun_goes_on_as_well(shop: Shop) -> None:
    """Nothing was lost, so nothing is refused; what comes after it is committed."""

    def view() -> str:
        with shop.manager.session_scope() as session:
            session.close()
            shop.write("kept")
        return "done"

    assert shop.serve(view).text == "done"
    assert shop.kept() == ["kept"]
