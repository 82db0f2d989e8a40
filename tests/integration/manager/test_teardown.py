"""The session is closed last, whatever the user's teardown functions do, and however they end."""

from __future__ import annotations

import contextvars
import gc
import logging
import threading
from collections.abc import Callable

import pytest
from flask import Blueprint, Flask
from flask.ctx import RequestContext
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from flask_reqsession import RequestScopedSessionManager
from tests.integration.manager.shop import Base, Shop, connections_held, texts


class TeardownError(Exception):
    """Raised by a teardown function."""


@pytest.mark.rule("M2")
@pytest.mark.parametrize("when", ["before init_app", "after init_app", "in a blueprint"])
def test_teardown_functions_of_the_user_still_have_the_session(
    sqlite_file_url: str, when: str
) -> None:
    """Wherever they were registered, they run before the session is closed."""
    seen: list[object] = []
    app = Flask("shop")
    blueprint = Blueprint("notes", __name__)
    target = blueprint if when == "in a blueprint" else app

    def teardown(_error: BaseException | None) -> None:
        seen.append((manager.session is seen[0], texts(manager.session)))

    if when != "after init_app":
        target.teardown_request(teardown)
    manager = RequestScopedSessionManager(sqlite_file_url, app)
    if when == "after init_app":
        app.teardown_request(teardown)
    engine = manager.databases.engine()
    Base.metadata.create_all(engine)
    blueprint.add_url_rule("/", "index", lambda: (seen.append(manager.session), "ok")[1])
    app.register_blueprint(blueprint)

    assert app.test_client().get("/").text == "ok"
    assert seen[1:] == [(True, [])]
    assert connections_held(engine) == 0
    engine.dispose()


@pytest.mark.rule("M2", "M17")
@pytest.mark.parametrize("raised", [TeardownError(), KeyboardInterrupt(), SystemExit(1)])
def test_a_teardown_function_that_raises_does_not_keep_the_session_open(
    shop: Shop, raised: BaseException
) -> None:
    """Flask skips the functions after it; the session is closed nevertheless."""

    @shop.app.teardown_request
    def fail(_error: BaseException | None) -> None:
        raise raised

    with pytest.raises(type(raised)):
        shop.serve(lambda: shop.write().text)
    assert connections_held(shop.engine) == 0
    assert shop.events == ["created", "rollback", "closed"]


@pytest.mark.rule("M2")
def test_a_teardown_function_may_commit_by_itself(shop: Shop) -> None:
    """Existing code that commits in ``teardown_request`` goes on to work."""
    shop.app.teardown_request(lambda _error: shop.session.commit())

    shop.serve(lambda: shop.write("kept by teardown").text)
    assert shop.kept() == ["kept by teardown"]


@pytest.mark.rule("M2", "M17")
def test_two_managers_of_one_app_are_both_closed(shop: Shop, tmp_path: object) -> None:
    """A failing teardown function in between changes nothing."""
    analytics = RequestScopedSessionManager(
        f"sqlite:///{tmp_path}/analytics.sqlite", shop.app, name="analytics"
    )

    @shop.app.teardown_request
    def fail(_error: BaseException | None) -> None:
        raise TeardownError

    def view() -> str:
        shop.session.connection()
        analytics.session.connection()
        return "ok"

    with pytest.raises(TeardownError):
        shop.serve(view)
    assert connections_held(shop.engine) == 0
    assert connections_held(analytics.databases.engine()) == 0
    analytics.databases.dispose()


def lose_a_request(shop: Shop, work: Callable[[], object]) -> None:
    """Serve a request whose teardown never comes: its context is dropped with its thread."""

    def begin_only() -> None:
        shop.app.test_request_context().push()
        shop.app.preprocess_request()
        work()

    thread = threading.Thread(target=begin_only, name="lost")
    thread.start()
    thread.join()
    gc.collect()


@pytest.mark.rule("M12", "M17")
def test_the_session_of_a_lost_request_is_closed_when_the_next_one_begins(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """It is rolled back, closed and logged; the next request does not get it."""
    sessions: list[Session] = []

    @shop.app.get("/")
    def index() -> list[str]:
        assert connections_held(shop.engine) == 0
        sessions.append(shop.session)
        return texts(shop.session)

    lose_a_request(shop, lambda: (shop.write("lost"), sessions.append(shop.session)))
    assert connections_held(shop.engine) == 1

    assert shop.get("/").json == []
    assert sessions[0] is not sessions[1]
    assert shop.kept() == []
    assert shop.events == ["created", "rollback", "closed", "created", "closed"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "thread 'lost'" in record.getMessage()
    assert "lost" not in record.getMessage().replace("thread 'lost'", "")


@pytest.mark.rule("M12")
def test_a_lost_request_without_a_session_is_not_worth_a_word(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """There is nothing to close."""
    lose_a_request(shop, lambda: None)

    assert shop.serve(lambda: "ok").text == "ok"
    assert caplog.records == []
    assert shop.events == []


@pytest.mark.rule("M12", "M17")
def test_a_manager_without_init_app_ends_lost_requests_too(
    sqlite_file_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of ours is called when a request begins, so the next first use does it."""
    manager = RequestScopedSessionManager(sqlite_file_url)
    engine = manager.databases.engine()
    app = Flask("other")

    def begin_only() -> None:
        app.test_request_context().push()
        manager.session.connection()

    contextvars.copy_context().run(begin_only)
    gc.collect()
    with app.test_request_context():
        assert manager.session.get_bind() is engine
        assert connections_held(engine) == 0
        manager.close_request_session()
    assert len(caplog.records) == 1
    engine.dispose()


@pytest.mark.rule("M12")
def test_a_skipped_teardown_does_not_keep_its_request_alive(shop: Shop) -> None:
    """Another extension swallowed the call; the same thread serves the next request."""
    teardown = shop.app.do_teardown_request
    skipped = iter([True])

    def do_teardown_request(exc: BaseException | None = None) -> None:
        if not next(skipped, False):
            teardown(exc)

    shop.app.do_teardown_request = do_teardown_request  # type: ignore[method-assign]  # as extensions do
    shop.app.add_url_rule("/", "index", lambda: str(texts(shop.session)))
    shop.get("/")
    assert connections_held(shop.engine) == 1

    gc.collect()
    shop.get("/")
    assert connections_held(shop.engine) == 0
    assert shop.events == ["created", "closed", "created", "closed"]


@pytest.mark.rule("M12")
def test_no_request_inherits_the_session_of_another_at_the_same_address(shop: Shop) -> None:
    """Contexts are freed and made again at one address all the time; sessions are not shared."""
    seen: set[Session] = set()

    def push_and_see(context: RequestContext) -> None:
        context.push()
        seen.add(shop.session)

    for _ in range(50):
        context = shop.app.test_request_context()
        contextvars.copy_context().run(push_and_see, context)
        del context

    assert len(seen) == 50
    gc.collect()
    shop.serve(lambda: "ok")


@pytest.mark.rule("M12", "M17")
@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupted_teardown_closes_everything_and_is_not_swallowed(
    shop: Shop, tmp_path: object, raised: BaseException
) -> None:
    """Ctrl-C while the first of two sessions is closed: the other is closed, then it goes on."""
    analytics = RequestScopedSessionManager(
        {"default": shop.url, "other": f"sqlite:///{tmp_path}/other.sqlite"}, shop.app, name="two"
    )
    engines = [analytics.databases.engine(bind) for bind in ("default", "other")]

    @event.listens_for(engines[1], "rollback", once=True)
    def interrupt(_connection: object) -> None:
        raise raised

    def view() -> str:
        for bind in ("default", "other"):
            analytics.get_request_session(bind).execute(text("CREATE TABLE t (id INTEGER)"))
        return "ok"

    with pytest.raises(type(raised)) as caught:
        shop.serve(view)
    assert caught.value is raised
    assert [connections_held(engine) for engine in engines] == [0, 0]
    analytics.databases.dispose()
