"""APIFlask: a Flask of its own, with input, output and OpenAPI by decorators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apiflask import APIFlask, Schema, abort
from apiflask.fields import Integer, String
from flask.views import MethodView
from sqlalchemy.orm import Session

from flask_reqsession import transactional, with_request_session
from tests.integration.decorators.notebook import Note, Notebook, read, write


class NoteSchema(Schema):
    """What a note looks like in JSON."""

    text = String(required=True)


class PageSchema(Schema):
    """What a list of notes is asked for with."""

    limit = Integer(load_default=10)


def scoped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Inject the session, in a scope."""
    return transactional(with_request_session(function))


def views_below(app: APIFlask) -> None:
    """Register views that are decorated below what APIFlask adds."""

    @app.post("/notes")
    @app.input(NoteSchema)
    @app.output(NoteSchema, status_code=201)
    @scoped
    def add(session: Session, json_data: dict[str, str]) -> dict[str, str]:
        write(session, json_data["text"])
        if json_data["text"] == "conflict":
            abort(409)
        return json_data

    @app.get("/notes")
    @app.input(PageSchema, location="query")
    @app.output(NoteSchema(many=True))
    @scoped
    def show(query_data: dict[str, int], session: Session) -> list[dict[str, str]]:
        return [{"text": text} for text in read(session)][: query_data["limit"]]

    @app.delete("/notes/<text>")
    @app.output({}, status_code=204)
    @scoped
    def drop(session: Session, text: str) -> str:
        session.delete(session.get_one(Note, text))
        return ""


def views_above(app: APIFlask) -> None:
    """Register views that are decorated above what APIFlask adds."""

    @app.post("/notes")
    @scoped
    @app.input(NoteSchema)
    @app.output(NoteSchema, status_code=201)
    def add(session: Session, json_data: dict[str, str]) -> dict[str, str]:
        write(session, json_data["text"])
        if json_data["text"] == "conflict":
            abort(409)
        return json_data

    @app.get("/notes")
    @scoped
    @app.input(PageSchema, location="query")
    @app.output(NoteSchema(many=True))
    def show(query_data: dict[str, int], session: Session) -> list[dict[str, str]]:
        return [{"text": text} for text in read(session)][: query_data["limit"]]

    @app.delete("/notes/<text>")
    @scoped
    @app.output({}, status_code=204)
    def drop(session: Session, text: str) -> str:
        session.delete(session.get_one(Note, text))
        return ""


def class_based_views(app: APIFlask) -> None:
    """Register methods of ``MethodView`` classes, in both orders."""

    class Notes(MethodView):
        @app.input(NoteSchema)
        @app.output(NoteSchema, status_code=201)
        @scoped
        def post(self, session: Session, json_data: dict[str, str]) -> dict[str, str]:
            write(session, json_data["text"])
            if json_data["text"] == "conflict":
                abort(409)
            return json_data

        @scoped
        @app.input(PageSchema, location="query")
        @app.output(NoteSchema(many=True))
        def get(self, query_data: dict[str, int], *, session: Session) -> list[dict[str, str]]:
            return [{"text": text} for text in read(session)][: query_data["limit"]]

    class OneNote(MethodView):
        @app.output({}, status_code=204)
        @scoped
        def delete(self, session: Session, text: str) -> str:
            session.delete(session.get_one(Note, text))
            return ""

    app.add_url_rule("/notes", view_func=Notes.as_view("notes"))
    app.add_url_rule("/notes/<text>", view_func=OneNote.as_view("note"))


@pytest.fixture(params=[views_below, views_above, class_based_views], ids=lambda f: f.__name__)
def notes(request: pytest.FixtureRequest, sqlite_file_url: str) -> Iterator[Notebook]:
    """Give a notebook whose app serves notes at ``/notes``."""
    app = APIFlask(__name__)
    notebook = Notebook(sqlite_file_url, app=app)
    request.param(app)
    yield notebook
    notebook.close()


@pytest.mark.rule("W3", "W4", "T15")
def test_notes_are_added_shown_and_dropped(notes: Notebook) -> None:
    """Each request commits; an error status, also of APIFlask's own ``abort``, rolls back."""
    client = notes.app.test_client()

    created = client.post("/notes", json={"text": "first"})
    assert (created.status_code, created.json) == (201, {"text": "first"})
    assert notes.kept() == ["first"]
    assert client.post("/notes", json={"text": "conflict"}).status_code == 409
    assert notes.kept() == ["first"]
    assert client.post("/notes", json={"text": "second"}).status_code == 201
    assert client.get("/notes?limit=1").json == [{"text": "first"}]
    assert client.post("/notes", json={"words": "wrong"}).status_code == 422
    assert client.delete("/notes/first").status_code == 204
    assert notes.kept() == ["second"]


@pytest.mark.rule("W4")
def test_the_openapi_document_does_not_know_the_session(notes: Notebook) -> None:
    """It has the parameters of the URL and of the schemas, and nothing else."""
    document = notes.app.test_client().get("/openapi.json").json
    assert document is not None
    names = [
        parameter["name"]
        for path in document["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", [])
    ]

    assert sorted(names) == ["limit", "text"]
    assert "session" not in str(document)
