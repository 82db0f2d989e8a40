"""The one file that knows Flask's contexts, on the Flask that is there and on a later one."""

from __future__ import annotations

import subprocess
import sys

import flask
import flask.globals
import pytest

from flask_reqsession import contexts


@pytest.mark.rule("M11")
def test_the_cheap_ways_to_ask_for_a_context_are_still_there() -> None:
    """Flask has renamed them: ``contexts.py`` works without, but each call costs more."""
    assert contexts.request_context == flask.globals._cv_request.get
    assert contexts.app_context == flask.globals._cv_app.get


@pytest.mark.rule("M11")
def test_the_contexts_are_those_of_the_running_code() -> None:
    """Outside of each, None."""
    app = flask.Flask("app")
    seen = lambda: (  # noqa: E731 - asked three times
        contexts.request_context(None) is not None,
        contexts.app_context(None) is not None,
        contexts.in_request(),
        contexts.current_flask_app(),
    )
    assert seen() == (False, False, False, None)
    with app.app_context():
        assert seen() == (False, True, False, app)
    with app.test_request_context():
        assert seen() == (True, True, True, app)


LATER_FLASK = """
import flask.globals
del flask.globals._cv_request, flask.globals._cv_app
import sys
from flask import Flask, copy_current_request_context
from sqlalchemy import text
from flask_reqsession import RequestScopedSessionManager, current_manager, transactional
from flask_reqsession import contexts

assert contexts.request_context(None) is contexts.app_context(None) is None
app = Flask("later")
manager = RequestScopedSessionManager("sqlite://", app)

@transactional
def service():
    return manager.session.scalar(text("SELECT 42"))

@app.get("/")
@transactional
def index():
    assert current_manager() is manager
    session = manager.session
    with app.app_context():
        assert manager.session is session
    return str(service())

print(app.test_client().get("/").text, manager.is_session_active())
"""


@pytest.mark.rule("M11")
def test_a_flask_without_these_names_is_asked_by_its_proxies() -> None:
    """In a process of its own, with the names taken out of Flask."""
    done = subprocess.run(
        [sys.executable, "-c", LATER_FLASK], check=True, capture_output=True, text=True
    )
    assert done.stdout == "42 False\n"


@pytest.mark.rule("M2")
@pytest.mark.parametrize("arguments", [("error",), ("context", "error"), ("context",)])
def test_the_end_of_a_request_is_told_its_exception_in_whatever_place(
    arguments: tuple[str, ...],
) -> None:
    """Flask 3.2 gives the context as well; by position or by keyword, and with none at all."""
    app = flask.Flask("app")
    error = ValueError("view")
    told: list[object] = []
    given: dict[str, object] = {"context": object(), "error": error}
    app.do_teardown_request = lambda *_, **__: None  # type: ignore[method-assign]
    contexts.after_every_request(app, told.append)

    teardown: object = app.do_teardown_request
    assert callable(teardown)
    teardown(*(given[name] for name in arguments))
    teardown(**{name: given[name] for name in arguments})
    assert told == [error if "error" in arguments else None] * 2
