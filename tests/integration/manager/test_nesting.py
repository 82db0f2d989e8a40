"""The session belongs to the request, whatever contexts are around or inside it."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.integration.manager.shop import Note, Shop, connections_held, texts


@pytest.mark.rule("M11")
def test_a_nested_app_context_neither_closes_nor_replaces_the_session(shop: Shop) -> None:
    """An eager task pushes a context of its own; the request goes on with what it has loaded."""
    shop.keep("before")

    def view() -> str:
        note = shop.session.scalars(select(Note)).one()
        with shop.app.app_context():
            assert shop.session is outer
            shop.write("inside")
        assert shop.session is outer
        assert note in outer
        return note.text

    with shop.app.test_request_context():
        outer = shop.session
        assert view() == "before"
        assert texts(outer) == ["before", "inside"]


@pytest.mark.rule("M11")
def test_a_cli_command_run_by_a_request_works_with_its_session(shop: Shop) -> None:
    """Flask gives the command an app context of its own."""
    seen = []

    @shop.app.cli.command("note")
    def note() -> None:
        seen.append(shop.session)

    def view() -> str:
        seen.append(shop.session)
        assert shop.app.test_cli_runner().invoke(args=["note"]).exit_code == 0
        seen.append(shop.session)
        return "ok"

    shop.serve(view)
    assert len(seen) == 3
    assert seen[0] is seen[1] is seen[2]


@pytest.mark.rule("M11")
def test_two_requests_inside_one_app_context_share_nothing(shop: Shop) -> None:
    """Pytest fixtures push an app context; Flask then reuses it for each request."""
    sessions = []

    @shop.app.get("/")
    def index() -> str:
        sessions.append(shop.session)
        shop.write()
        return "ok"

    with shop.app.app_context():
        assert [shop.get("/").status_code, shop.get("/").status_code] == [200, 200]
        assert shop.manager.is_session_active() is False
        assert connections_held(shop.engine) == 0

    assert sessions[0] is not sessions[1]
    assert shop.kept() == []


@pytest.mark.rule("M11")
def test_a_request_inside_a_request_has_its_own_session(shop: Shop) -> None:
    """A test client used by a view does not touch the session of the outer request."""
    sessions = []
    shop.app.add_url_rule("/inner", "inner", lambda: (sessions.append(shop.session), "ok")[1])

    def outer() -> str:
        before = shop.session
        shop.get("/inner")
        sessions.append(shop.session)
        assert shop.session is before
        return "ok"

    shop.serve(outer)
    assert sessions[0] is not sessions[1]
