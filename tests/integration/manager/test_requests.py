"""One session for one request, whatever happens around it."""

from __future__ import annotations

import logging

import pytest
from flask import Blueprint, Flask, abort, render_template_string, request_started
from sqlalchemy import select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

from flask_reqsession import (
    NoActiveScopeError,
    RequestScopedSessionManager,
    UnexpectedRollbackError,
)
from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import Note, Shop, connections_held, texts


@pytest.mark.rule("M1", "M8")
def test_a_request_has_one_session_from_its_first_hook_to_its_last(shop: Shop) -> None:
    """before_request, view, after_request and teardown see the same real ``Session``."""
    seen: list[Session] = []

    def look() -> None:
        seen.extend([shop.manager.get_request_session(), shop.manager.session])

    shop.app.before_request(look)
    shop.app.after_request(lambda response: (look(), response)[1])
    shop.app.teardown_request(lambda _error: look())

    @shop.app.get("/")
    def index() -> str:
        look()
        return "ok"

    assert shop.get("/").text == "ok"
    assert len(seen) == 8
    assert isinstance(seen[0], Session)
    assert all(each is seen[0] for each in seen)


@pytest.mark.rule("M1")
def test_two_requests_have_two_sessions(shop: Shop) -> None:
    """Nothing of the first request's identity map is seen by the second."""
    sessions: list[Session] = []
    shop.app.add_url_rule("/", "index", lambda: (sessions.append(shop.session), "ok")[1])

    assert [shop.get("/").text, shop.get("/").text] == ["ok", "ok"]
    assert sessions[0] is not sessions[1]


@pytest.mark.rule("M1")
def test_a_session_is_made_at_first_use(shop: Shop) -> None:
    """A view that asks for none costs none."""
    assert shop.serve(lambda: "ok").status_code == 200
    assert shop.events == []


@pytest.mark.rule("M1", "M5", "M8")
def test_outside_of_everything_there_is_no_session(shop: Shop) -> None:
    """The error says what to do; an app context alone is not a request."""
    with shop.app.app_context():
        for ask in (shop.manager.get_request_session, lambda: shop.manager.session):
            with pytest.raises(NoActiveScopeError, match=r"unit_of_work\(\)") as refused:
                ask()
            assert isinstance(refused.value, RuntimeError)
            assert refused.value.code == "no-scope"
    assert shop.manager.is_session_active() is False
    assert shop.events == []


@pytest.mark.rule("M2", "M17")
def test_the_end_of_a_request_rolls_back_and_closes(shop: Shop) -> None:
    """What nobody committed is not in the database, and the connection is in the pool again."""
    shop.serve(lambda: shop.write().text)

    assert shop.kept() == []
    assert connections_held(shop.engine) == 0
    assert shop.events == ["created", "rollback", "closed"]


@pytest.mark.rule("M2")
def test_closing_by_hand_forgets_the_session_and_may_be_repeated(shop: Shop) -> None:
    """What was written is rolled back; the next use makes a new session."""

    def view() -> str:
        first = shop.session
        shop.write()
        shop.manager.close_request_session()
        shop.manager.close_request_session()
        assert shop.manager.is_session_active() is False
        assert connections_held(shop.engine) == 0
        assert texts(shop.session) == []
        assert shop.session is not first
        return "ok"

    assert shop.serve(view).status_code == 200
    assert shop.events == ["created", "rollback", "closed", "created", "closed"]


@pytest.mark.rule("M2")
def test_closing_outside_of_everything_warns_and_returns(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """There is nothing to close; inside a request without a session that is no news."""
    shop.manager.close_request_session()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    caplog.clear()

    shop.serve(lambda: (shop.manager.close_request_session(), "ok")[1])
    with shop.app.test_request_context():
        shop.manager.close_request_session()
    assert caplog.records == []


@pytest.mark.rule("M2", "M14")
def test_closing_inside_a_scope_does_not_pretend_that_it_was_committed(shop: Shop) -> None:
    """The scope was running on the session, so its call cannot return as if all was well."""
    with shop.manager.unit_of_work():
        with pytest.raises(UnexpectedRollbackError), shop.manager.session_scope():
            shop.write()
            shop.manager.close_request_session()
        assert texts(shop.session) == []
    assert shop.kept() == []
    assert shop.events == ["created", "rollback", "closed", "created", "closed"]


@pytest.mark.rule("M5")
def test_is_session_active_tells_and_makes_none(shop: Shop) -> None:
    """Before the first use False, after it True, after closing False."""
    told = []

    def view() -> str:
        told.append(shop.manager.is_session_active())
        shop.manager.get_request_session()
        told.append(shop.manager.is_session_active())
        told.append(shop.manager.is_session_active("no such bind"))
        shop.manager.close_request_session()
        told.append(shop.manager.is_session_active())
        return "ok"

    shop.serve(view)
    assert told == [False, True, False, False]


@pytest.mark.rule("M14")
def test_a_session_is_dead_after_its_request(shop: Shop) -> None:
    """Using it again raises, instead of opening a connection that nobody closes."""
    sessions: list[Session] = []
    shop.serve(lambda: (sessions.append(shop.session), "ok")[1])

    with pytest.raises(InvalidRequestError, match="permanently closed"):
        sessions[0].execute(select(Note))
    assert connections_held(shop.engine) == 0


@pytest.mark.rule("M18")
def test_an_error_handler_and_its_template_can_use_the_session(shop: Shop) -> None:
    """After a failed flush the page can still show what was loaded before, and query anew."""
    shop.keep("loaded", "other")

    @shop.app.errorhandler(500)
    def failed(_error: Exception) -> str:
        return render_template_string(
            "{{ note.text }} {{ texts(session) }}",
            note=loaded[0],
            texts=texts,
            session=shop.session,
        )

    loaded: list[Note] = []

    @shop.manager.transactional
    def view() -> None:
        loaded.append(shop.session.scalars(select(Note).where(Note.text == "loaded")).one())
        shop.write("loaded")  # twice the same text

    response = shop.serve(view)
    assert response.text == "loaded [&#39;loaded&#39;, &#39;other&#39;]"
    assert shop.kept() == ["loaded", "other"]


@pytest.mark.rule("M18")
def test_an_aborted_view_can_render_its_error_page(shop: Shop) -> None:
    """``abort()`` rolls back, and what the failed scope itself inserted stays readable."""
    written: list[Note] = []

    @shop.app.errorhandler(409)
    def conflict(_error: Exception) -> tuple[str, int]:
        return f"{written[0].text}: {texts(shop.session)}", 409

    @shop.manager.transactional
    def view() -> str:
        written.append(shop.write("taken"))
        return abort(409)

    assert shop.serve(view).text == "taken: []"
    assert shop.kept() == []


@pytest.mark.rule("M1")
def test_a_manager_works_without_init_app(sqlite_file_url: str) -> None:
    """Somebody else's app, and a caller who closes by hand."""
    manager = RequestScopedSessionManager(sqlite_file_url)
    engine = manager.databases.engine()
    with Flask("other").test_request_context():
        session = manager.get_request_session()
        assert manager.get_request_session() is session
        session.connection()
        assert connections_held(engine) == 1
        manager.close_request_session()
        assert connections_held(engine) == 0
    engine.dispose()


@pytest.mark.rule("M2")
def test_an_exception_before_the_request_is_dispatched_is_handled_with_a_session(
    shop: Shop,
) -> None:
    """Of a receiver of Flask's first signal: its error handler is the first to ask for one."""
    shop.keep("one")
    shop.app.testing = True  # in strict mode an exception is remembered, from the first request on
    shop.app.register_error_handler(FaultError, lambda _error: (texts(shop.session), 418))
    assert shop.get("/").status_code == 404

    def fail(_app: Flask) -> None:
        raise FaultError

    with request_started.connected_to(fail, shop.app):
        response = shop.get("/")

    assert (response.status_code, response.json) == (418, ["one"])
    assert connections_held(shop.engine) == 0


@pytest.mark.rule("M2")
def test_a_request_that_finds_no_view_is_ended_as_well(shop: Shop) -> None:
    """A 404 page may need the session: a menu, the current user."""

    @shop.app.errorhandler(404)
    def missing(_error: Exception) -> tuple[str, int]:
        return str(texts(shop.session)), 404

    assert shop.get("/nowhere").text == "[]"
    assert shop.events == ["created", "closed"]


@pytest.mark.rule("M1")
def test_hooks_that_come_before_ours_have_the_same_session(sqlite_file_url: str) -> None:
    """The signal that a request started, and the first of the hooks, added before ``init_app``."""
    app = Flask("early")
    sessions: list[Session] = []

    def see(*_sender: object, **_values: object) -> None:
        sessions.append(manager.session)

    app.url_value_preprocessor(lambda _endpoint, _values: sessions.append(manager.session))
    app.add_url_rule("/", "index", lambda: (sessions.append(manager.session), "ok")[1])
    manager = RequestScopedSessionManager(sqlite_file_url, app)

    with request_started.connected_to(see, app):
        assert app.test_client().get("/").text == "ok"
    assert len(sessions) == 3
    assert len(set(sessions)) == 1
    manager.databases.dispose()


@pytest.mark.rule("M1")
def test_blueprints_share_the_session_of_the_request(shop: Shop) -> None:
    """A blueprint's hooks and views see the session of the app's hooks."""
    seen = []
    shop.app.before_request(lambda: seen.append(shop.session))
    blueprint = Blueprint("notes", __name__)
    blueprint.before_request(lambda: seen.append(shop.session))
    blueprint.add_url_rule("/", "index", lambda: (seen.append(shop.session), "ok")[1])
    shop.app.register_blueprint(blueprint, url_prefix="/notes")

    shop.get("/notes/")
    assert seen[0] is seen[1] is seen[2]
