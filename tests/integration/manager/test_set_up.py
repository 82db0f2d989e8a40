"""Managers and apps find each other, and what does not fit is refused with the way out."""

from __future__ import annotations

import contextvars
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from flask_reqsession import (
    ConfigurationError,
    DatabaseManager,
    NoActiveScopeError,
    ReqSessionError,
    RequestScopedSessionManager,
    current_manager,
    reattach_args,
    set_rollback_only,
    transactional,
    with_request_session,
)
from tests.integration.manager.shop import Note, Recording, Shop, connections_held, texts
from tests.integration.manager.threads import in_thread


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Give the URL of another SQLite file."""
    return f"sqlite:///{tmp_path}/another.sqlite"


@pytest.mark.rule("M1")
def test_the_manager_is_registered_with_the_app(url: str) -> None:
    """By the constructor or by ``init_app``, which may be repeated."""
    app = Flask("one")
    manager = RequestScopedSessionManager(DatabaseManager(url))
    manager.init_app(app)
    manager.init_app(app)
    assert app.extensions["reqsession"] is manager
    assert RequestScopedSessionManager(url, other := Flask("two")) is other.extensions["reqsession"]
    with app.app_context():
        assert current_manager() is manager
        assert current_manager("default") is manager


@pytest.mark.rule("M2")
def test_init_app_twice_closes_once(url: str) -> None:
    """The events are told once."""
    app = Flask("one")
    manager = Recording(url, app)
    manager.init_app(app)
    app.add_url_rule("/", "index", lambda: str(manager.session.get_bind().dialect.name))
    assert app.test_client().get("/").text == "sqlite"
    assert manager.events == ["created", "closed"]


@pytest.mark.rule("M1")
def test_one_manager_serves_several_apps(shop: Shop) -> None:
    """Each request has a session of its own, also one inside the other."""
    other = Flask("other")
    shop.manager.init_app(other)
    sessions: list[Session] = []

    def index() -> str:
        sessions.append(shop.session)
        return current_manager().name

    other.add_url_rule("/", "index", index)
    shop.app.add_url_rule("/", "index", lambda: (index(), other.test_client().get("/").text)[1])

    assert shop.get("/").text == "default"
    assert sessions[0] is not sessions[1]
    assert shop.events == ["created", "created", "closed", "closed"]


@pytest.mark.rule("M1")
def test_two_managers_of_one_app_need_distinct_names(shop: Shop, url: str) -> None:
    """The one without a name stays the default; the other one is found by its name."""
    with pytest.raises(ConfigurationError, match=r"named 'default'.*name=") as refused:
        RequestScopedSessionManager(url, shop.app)
    assert refused.value.code == "configuration"
    analytics = RequestScopedSessionManager(url, shop.app, name="analytics")
    with pytest.raises(ConfigurationError, match="named 'analytics'"):
        RequestScopedSessionManager(url, shop.app, name="analytics")

    @with_request_session(manager="analytics")
    def injected(session: Session) -> Session:
        return session

    def view() -> str:
        assert current_manager() is shop.manager
        assert current_manager("analytics") is analytics
        assert injected() is analytics.session
        assert shop.session is not analytics.session
        return "ok"

    assert shop.serve(view).text == "ok"
    analytics.databases.dispose()


@pytest.mark.rule("M1", "D1")
def test_a_refused_set_up_leaves_the_app_as_it_was(shop: Shop) -> None:
    """No database is configured: nothing is registered, so the next attempt can be right."""
    app = Flask("bare")
    with pytest.raises(ConfigurationError, match="SQLALCHEMY_DATABASE_URI"):
        RequestScopedSessionManager(app=app)
    assert "reqsession" not in app.extensions
    assert "preprocess_request" not in vars(app)
    app.config["SQLALCHEMY_DATABASE_URI"] = shop.url
    manager = RequestScopedSessionManager(app=app)
    assert app.extensions["reqsession"] is manager
    manager.databases.dispose()


@pytest.mark.rule("D1")
@pytest.mark.parametrize("source", [42, object(), [], {"default": 42}, {1: "sqlite://"}])
def test_a_source_that_is_none_is_refused(source: object) -> None:
    """The class, the code, and what would be accepted."""
    with pytest.raises(ConfigurationError, match="DatabaseManager|Accepted are") as refused:
        RequestScopedSessionManager(source)
    assert refused.value.code == "configuration"


def calls() -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each function that looks for a manager."""
    yield "current_manager", current_manager
    yield "set_rollback_only", set_rollback_only
    yield "transactional", transactional(lambda: None)
    yield "with_request_session", with_request_session(lambda session=None: session)
    yield "reattach_args", reattach_args(lambda note=None: note)


each_call = pytest.mark.parametrize(
    "call", [call for _, call in calls()], ids=[name for name, _ in calls()]
)


@pytest.mark.rule("M21")
@each_call
def test_without_an_app_there_is_no_manager_to_be_found(call: Callable[[], object]) -> None:
    """The error points to the bound decorators and to the two contexts."""
    with pytest.raises(NoActiveScopeError, match=r"@manager\.transactional") as refused:
        call()
    assert refused.value.code == "no-scope"
    assert "unit_of_work()" in str(refused.value)


@each_call
def test_an_app_without_a_manager_is_told_so(call: Callable[[], object]) -> None:
    """``init_app`` was forgotten: the likely cause is in the message."""
    with (
        Flask("forgetful").app_context(),
        pytest.raises(ConfigurationError, match="'forgetful'.*init_app") as refused,
    ):
        call()
    assert refused.value.code == "configuration"


def test_a_manager_that_is_not_there_is_named_with_those_that_are(shop: Shop, url: str) -> None:
    """Of the app in whose context it was asked for."""
    RequestScopedSessionManager(url, shop.app, name="analytics")
    with shop.app.app_context(), pytest.raises(ConfigurationError) as refused:
        current_manager("reports")
    assert "'reports'" in str(refused.value)
    assert "default, analytics" in str(refused.value)


@pytest.mark.rule("T6")
def test_set_rollback_only_needs_a_scope(shop: Shop) -> None:
    """A request or a unit of work alone is none; a scope of another bind neither."""

    def ask() -> None:
        with pytest.raises(NoActiveScopeError, match=r"set_rollback_only\(\).*transactional"):
            set_rollback_only()

    with shop.manager.unit_of_work():
        ask()
        shop.session.connection()
        ask()
    assert shop.serve(lambda: (ask(), "ok")[1]).text == "ok"


@pytest.mark.rule("M17")
def test_every_refusal_is_ours_and_leaves_nothing_open(shop: Shop) -> None:
    """Whatever was asked wrongly, in the middle of a transaction: the scope goes on."""
    manager = shop.manager
    with manager.session_scope() as session:
        session.add(Note(text="kept"))
        session.flush()
        for ask in (
            lambda: manager.get_request_session("nowhere"),
            lambda: manager.session_scope(bind="nowhere").__enter__(),
            lambda: manager.session_scope(propagation="NEVER").__enter__(),
            manager.release,
            lambda: current_manager("nowhere"),
            lambda: set_rollback_only(bind="nowhere"),
        ):
            with pytest.raises(ReqSessionError):
                ask()
        assert connections_held(shop.engine) == 1
    assert shop.kept() == ["kept"]


@pytest.mark.rule("M7")
def test_a_manager_that_nobody_holds_is_forgotten(url: str) -> None:
    """An app factory that is called for each test, on an engine and a factory of the module."""
    engine = create_engine(url)
    factory = sessionmaker(engine)

    def make_and_use(source: object) -> tuple[weakref.ref[object], ...]:
        app = Flask("one")
        manager = RequestScopedSessionManager(source, app)
        app.add_url_rule("/", "index", lambda: str(manager.session.scalar(text("SELECT 1"))))
        assert app.test_client().get("/").text == "1"
        return weakref.ref(manager), weakref.ref(manager.databases), weakref.ref(app)

    references = [make_and_use(source) for source in (factory, engine, url)]
    gc.collect()
    assert [[each() for each in those] for those in references] == [[None] * 3] * 3
    with factory() as session:
        assert session.scalar(text("SELECT 1")) == 1
    engine.dispose()


@pytest.mark.rule("M7", "O5")
def test_an_engine_that_is_shared_tells_only_whom_it_concerns(shop: Shop) -> None:
    """Two managers on one factory: the events of a session go to its own manager."""
    factory = sessionmaker(shop.engine)
    first, second = Recording(factory), Recording(factory)
    with first.session_scope() as session:
        session.add(Note(text="first"))
    with second.unit_of_work():
        texts(second.session)
    assert first.events == ["created", "commit", "closed"]
    assert second.events == ["created", "closed"]


@pytest.mark.rule("M13")
def test_a_manager_may_be_made_in_any_thread(url: str) -> None:
    """Import time is not always the main thread's."""
    manager = in_thread(lambda: RequestScopedSessionManager(url))
    assert isinstance(manager, RequestScopedSessionManager)
    assert (
        contextvars.copy_context().run(
            manager.transactional(lambda: manager.session.scalar(text("SELECT 1")))
        )
        == 1
    )
    manager.databases.dispose()


def test_the_log_has_one_name(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """``flask_reqsession``, whatever module speaks."""
    shop.manager.close_request_session()
    assert {record.name for record in caplog.records} == {"flask_reqsession"}
    assert logging.getLogger("flask_reqsession").handlers == []
