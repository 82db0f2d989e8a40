"""Flask-Smorest: schemas in and out, OpenAPI, responses made of what the view returns."""

# The library is not typed.
# mypy: disable-error-code="import-untyped,untyped-decorator"

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, abort
from flask.views import MethodView
from flask_smorest import Api, Blueprint
from marshmallow import Schema, fields
from sqlalchemy.orm import Session

from flask_reqsession import transactional, with_request_session
from tests.integration.decorators.notebook import Note, Notebook, read, write


class NoteSchema(Schema):
    """What a note looks like in JSON."""

    text = fields.String(required=True)


class PageSchema(Schema):
    """What a list of notes is asked for with."""

    limit = fields.Integer(load_default=10)


def scoped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Inject the session, in a scope."""
    return transactional(with_request_session(function))


def configured_app() -> Flask:
    """Return an app that has what Flask-Smorest asks for."""
    app = Flask(__name__)
    app.config |= {"API_TITLE": "notes", "API_VERSION": "1", "OPENAPI_VERSION": "3.0.3"}
    return app


def views_below(blueprint: Blueprint) -> None:
    """Register views that are decorated below what the blueprint adds."""

    @blueprint.post("/")
    @blueprint.arguments(NoteSchema)
    @blueprint.response(201, NoteSchema)
    @scoped
    def add(note: dict[str, str], session: Session) -> dict[str, str]:
        write(session, note["text"])
        if note["text"] == "conflict":
            abort(409)
        return note

    @blueprint.get("/")
    @blueprint.arguments(PageSchema, location="query")
    @blueprint.response(200, NoteSchema(many=True))
    @scoped
    def show(session: Session, page: dict[str, int]) -> list[dict[str, str]]:
        return [{"text": text} for text in read(session)][: page["limit"]]

    @blueprint.delete("/<text>")
    @blueprint.response(204)
    @scoped
    def drop(session: Session, text: str) -> None:
        session.delete(session.get_one(Note, text))


def views_above(blueprint: Blueprint) -> None:
    """Register views that are decorated above what the blueprint adds."""

    @blueprint.post("/")
    @scoped
    @blueprint.arguments(NoteSchema)
    @blueprint.response(201, NoteSchema)
    def add(note: dict[str, str], session: Session) -> dict[str, str]:
        write(session, note["text"])
        if note["text"] == "conflict":
            abort(409)
        return note

    @blueprint.get("/")
    @scoped
    @blueprint.arguments(PageSchema, location="query")
    @blueprint.response(200, NoteSchema(many=True))
    def show(page: dict[str, int], session: Session) -> list[dict[str, str]]:
        return [{"text": text} for text in read(session)][: page["limit"]]

    @blueprint.delete("/<text>")
    @scoped
    @blueprint.response(204)
    def drop(session: Session, text: str) -> None:
        session.delete(session.get_one(Note, text))


def class_based_views(blueprint: Blueprint) -> None:
    """Register methods of ``MethodView`` classes, in both orders."""

    @blueprint.route("/")
    class Notes(MethodView):
        @blueprint.arguments(NoteSchema)
        @blueprint.response(201, NoteSchema)
        @scoped
        def post(self, note: dict[str, str], session: Session) -> dict[str, str]:
            write(session, note["text"])
            if note["text"] == "conflict":
                abort(409)
            return note

        @scoped
        @blueprint.arguments(PageSchema, location="query")
        @blueprint.response(200, NoteSchema(many=True))
        def get(self, page: dict[str, int], *, session: Session) -> list[dict[str, str]]:
            return [{"text": text} for text in read(session)][: page["limit"]]

    @blueprint.route("/<text>")
    class OneNote(MethodView):
        @blueprint.response(204)
        @scoped
        def delete(self, session: Session, text: str) -> None:
            session.delete(session.get_one(Note, text))


@pytest.fixture(params=[views_below, views_above, class_based_views], ids=lambda f: f.__name__)
def notes(request: pytest.FixtureRequest, sqlite_file_url: str) -> Iterator[Notebook]:
    """Give a notebook whose app serves notes at ``/notes/``."""
    notebook = Notebook(sqlite_file_url, app=configured_app())
    blueprint = Blueprint("notes", __name__, url_prefix="/notes")
    request.param(blueprint)
    Api(notebook.app).register_blueprint(blueprint)
    yield notebook
    notebook.close()


@pytest.mark.rule("W3", "W4", "T15")
def test_notes_are_added_shown_and_dropped(notes: Notebook) -> None:
    """Each request commits; an error status rolls back; a 204 made of None commits, too."""
    client = notes.app.test_client()

    created = client.post("/notes/", json={"text": "first"})
    assert (created.status_code, created.json) == (201, {"text": "first"})
    assert notes.kept() == ["first"]
    assert client.post("/notes/", json={"text": "conflict"}).status_code == 409
    assert notes.kept() == ["first"]
    assert client.post("/notes/", json={"text": "second"}).status_code == 201
    assert client.get("/notes/?limit=1").json == [{"text": "first"}]
    assert client.post("/notes/", json={"words": "wrong"}).status_code == 422
    assert client.delete("/notes/first").status_code == 204
    assert notes.kept() == ["second"]


@pytest.mark.rule("W4")
def test_the_openapi_document_does_not_know_the_session(notes: Notebook) -> None:
    """It has the parameters of the URL and of the schemas, and nothing else."""
    with notes.app.app_context():
        document = notes.app.extensions["flask-smorest"]["apis"][""]["ext_obj"].spec.to_dict()
    names = [
        parameter["name"]
        for path in document["paths"].values()
        for operation in [path, *path.values()]
        if isinstance(operation, dict)
        for parameter in operation.get("parameters", [])
    ]

    assert set(names) == {"limit", "text"}
    assert "session" not in str(document)
