"""Flask's own views: functions, blueprints, class-based views, in every stacking order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, abort, redirect
from flask.typing import ResponseReturnValue
from flask.views import MethodView, View
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from flask_reqsession import transactional, with_request_session
from tests.integration.decorators.notebook import Notebook, read, write

Serve = Callable[[Flask], None]


def answer(session: Session, text: str) -> ResponseReturnValue:
    """Write a note, then answer as its text says."""
    write(session, text)
    match text:
        case "abort":
            abort(409)
        case "status":
            return "no", 422
        case "moved":
            return redirect("/elsewhere")
        case "error":
            raise RuntimeError(text)
    return text, 201


def login_required(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as Flask-Login does."""

    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return wrapper


def functions(app: Flask) -> None:
    """Serve a function, with the scope above."""

    @app.post("/<text>")
    @transactional
    @with_request_session
    def note(session: Session, text: str) -> ResponseReturnValue:
        return answer(session, text)


def functions_below(app: Flask) -> None:
    """Serve a function, with the scope below and a decorator of others between."""

    @app.post("/<text>")
    @with_request_session
    @login_required
    @transactional
    def note(text: str, session: Session) -> ResponseReturnValue:
        return answer(session, text)


def functions_under_others(app: Flask) -> None:
    """Serve a function, with decorators of others around ours."""

    @app.post("/<text>")
    @login_required
    @transactional
    @with_request_session
    @login_required
    def note(text: str, *, session: Session) -> ResponseReturnValue:
        return answer(session, text)


def blueprints(app: Flask) -> None:
    """Serve a function of a blueprint inside a blueprint."""
    outer, inner = Blueprint("outer", __name__), Blueprint("inner", __name__)

    @inner.post("/<text>")
    @with_request_session
    @transactional
    def note(session: Session, text: str) -> ResponseReturnValue:
        return answer(session, text)

    outer.register_blueprint(inner)
    app.register_blueprint(outer)


def method_views(app: Flask) -> None:
    """Serve a ``MethodView`` with decorated methods."""

    class Notes(MethodView):
        @transactional
        @with_request_session
        def post(self, session: Session, text: str) -> ResponseReturnValue:
            return answer(session, text)

    app.add_url_rule("/<text>", view_func=Notes.as_view("notes"))


def method_views_with_decorators(app: Flask) -> None:
    """Serve a ``MethodView`` by its own ``decorators``."""

    class Notes(MethodView):
        decorators = [login_required, transactional]  # noqa: RUF012 - Flask's

        @with_request_session
        def post(self, session: Session, text: str) -> ResponseReturnValue:
            return answer(session, text)

    app.add_url_rule("/<text>", view_func=Notes.as_view("notes"))


def method_views_with_decorators_of_others(app: Flask) -> None:
    """Serve a ``MethodView`` with decorated methods, and others as its own ``decorators``."""

    class Notes(MethodView):
        decorators = [login_required]  # noqa: RUF012 - Flask's

        @login_required
        @with_request_session
        @transactional
        def post(self, session: Session, text: str) -> ResponseReturnValue:
            return answer(session, text)

    app.add_url_rule("/<text>", view_func=Notes.as_view("notes"))


def decorated_method_views(app: Flask) -> None:
    """Serve a ``MethodView`` that is decorated as a class."""

    @transactional
    class Notes(MethodView):
        init_every_request = False

        @with_request_session
        def post(self, session: Session, text: str) -> ResponseReturnValue:
            return answer(session, text)

    app.add_url_rule("/<text>", view_func=Notes.as_view("notes"))


def views(app: Flask) -> None:
    """Serve a ``View``."""

    class Note(View):
        methods = ("POST",)

        @transactional
        @with_request_session
        def dispatch_request(self, session: Session, **values: str) -> ResponseReturnValue:
            return answer(session, values["text"])

    app.add_url_rule("/<text>", view_func=Note.as_view("note"))


def decorated_views(app: Flask) -> None:
    """Serve what ``as_view`` gives, decorated."""

    class Note(View):
        @with_request_session
        def dispatch_request(self, session: Session, **values: str) -> ResponseReturnValue:
            return answer(session, values["text"])

    view = transactional(Note.as_view("note"))
    app.add_url_rule("/<text>", view_func=view, methods=["POST"])


def callable_objects(app: Flask) -> None:
    """Serve an object that can be called."""

    class Note:
        def __call__(self, session: Session, text: str) -> ResponseReturnValue:
            return answer(session, text)

    view = transactional(with_request_session(Note()))
    app.add_url_rule("/<text>", "note", view, methods=["POST"])


def bound_methods(app: Flask) -> None:
    """Serve a method of an object."""

    class Notes:
        @transactional
        @with_request_session
        def post(self, session: Session, text: str) -> ResponseReturnValue:
            return answer(session, text)

    app.add_url_rule("/<text>", "note", Notes().post, methods=["POST"])


def coroutines(app: Flask) -> None:
    """Serve a coroutine function."""

    @app.post("/<text>")
    @transactional
    @with_request_session
    async def note(session: Session, text: str) -> ResponseReturnValue:
        return answer(session, text)


KINDS = [
    functions,
    functions_below,
    functions_under_others,
    blueprints,
    method_views,
    method_views_with_decorators,
    method_views_with_decorators_of_others,
    decorated_method_views,
    views,
    decorated_views,
    callable_objects,
    bound_methods,
    coroutines,
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def notes(request: pytest.FixtureRequest, sqlite_file_url: str) -> Iterator[Notebook]:
    """Give a notebook whose app writes a note for each ``POST /<text>``."""
    notebook = Notebook(sqlite_file_url, app=Flask(__name__))
    request.param(notebook.app)
    yield notebook
    notebook.close()


@pytest.mark.rule("W3", "T12", "T15")
@pytest.mark.parametrize(
    ("text", "status", "kept"),
    [
        ("created", 201, ["created"]),
        ("moved", 302, ["moved"]),
        ("abort", 409, []),
        ("status", 422, []),
        ("error", 500, []),
    ],
)
def test_the_status_decides(notes: Notebook, text: str, status: int, kept: list[str]) -> None:
    """Below 400 it is committed, and rolled back from there on, whatever the view is made of."""
    response = notes.app.test_client().post(f"/{text}")

    assert response.status_code == status
    assert notes.kept() == kept


@pytest.mark.rule("W3", "M1")
def test_functions_of_the_application_share_the_views_session(notebook: Notebook) -> None:
    """Hooks, error handlers and template filters that are decorated see the same session."""
    seen: list[Session] = []

    @with_request_session
    def remember(session: Session) -> None:
        seen.append(session)

    @with_request_session
    def handle(session: Session, error: Exception) -> ResponseReturnValue:
        seen.append(session)
        return f"{error} {read(session)}", 400

    @notebook.app.get("/")
    @transactional
    @with_request_session
    def view(session: Session) -> ResponseReturnValue:
        seen.append(session)
        write(session, "lost")
        raise RuntimeError("failed:")

    @with_request_session
    def leave(session: Session, response: Response) -> Response:
        seen.append(session)
        return response

    notebook.app.before_request(remember)
    notebook.app.after_request(leave)
    notebook.app.register_error_handler(RuntimeError, handle)
    response = notebook.app.test_client().get("/")

    assert (response.status_code, response.text) == (400, "failed: []")
    assert len(seen) == 4
    assert len(set(seen)) == 1
