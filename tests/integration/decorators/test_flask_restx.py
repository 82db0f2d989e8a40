"""Flask-RESTX: resources, marshalling, Swagger documents, decorators of a whole resource."""

# The library is not typed.
# mypy: disable-error-code="untyped-decorator,misc"

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask_restx import Api, Resource, fields
from sqlalchemy.orm import Session

from flask_reqsession import transactional, with_request_session
from tests.integration.decorators.notebook import Note, Notebook, read, write


def scoped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Inject the session, in a scope."""
    return transactional(with_request_session(function))


def resources_below(api: Api) -> None:
    """Register resources whose methods are decorated below what RESTX adds."""
    model = api.model("Note", {"text": fields.String(required=True)})

    @api.route("/notes")
    class Notes(Resource):
        @api.expect(model, validate=True)
        @api.marshal_with(model, code=201)
        @scoped
        def post(self, session: Session) -> tuple[dict[str, str], int]:
            text = write(session, api.payload["text"])
            if text == "conflict":
                api.abort(409)
            return {"text": text}, 418 if text == "teapot" else 201

        @api.marshal_list_with(model)
        @scoped
        def get(self, session: Session) -> list[dict[str, str]]:
            return [{"text": text} for text in read(session)]

    @api.route("/notes/<text>")
    class OneNote(Resource):
        @api.doc(params={"text": "which one"})
        @scoped
        def delete(self, text: str, session: Session) -> None:
            session.delete(session.get_one(Note, text))


def resources_above(api: Api) -> None:
    """Register resources whose methods are decorated above what RESTX adds."""
    model = api.model("Note", {"text": fields.String(required=True)})

    @api.route("/notes")
    class Notes(Resource):
        @scoped
        @api.expect(model, validate=True)
        @api.marshal_with(model, code=201)
        def post(self, session: Session) -> tuple[dict[str, str], int]:
            text = write(session, api.payload["text"])
            if text == "conflict":
                api.abort(409)
            return {"text": text}, 418 if text == "teapot" else 201

        @scoped
        @api.marshal_list_with(model)
        def get(self, *, session: Session) -> list[dict[str, str]]:
            return [{"text": text} for text in read(session)]

    @api.route("/notes/<text>")
    class OneNote(Resource):
        @scoped
        @api.doc(params={"text": "which one"})
        def delete(self, session: Session, text: str) -> None:
            session.delete(session.get_one(Note, text))


def whole_resources(api: Api) -> None:
    """Register resources that are in a scope as a whole, by RESTX's own means."""
    model = api.model("Note", {"text": fields.String(required=True)})

    class Scoped(Resource):
        method_decorators = (transactional,)

    @api.route("/notes")
    class Notes(Scoped):
        @api.expect(model, validate=True)
        @with_request_session
        @api.marshal_with(model, code=201)
        def post(self, session: Session) -> tuple[dict[str, str], int]:
            text = write(session, api.payload["text"])
            if text == "conflict":
                api.abort(409)
            return {"text": text}, 418 if text == "teapot" else 201

        @with_request_session
        @api.marshal_list_with(model)
        def get(self, session: Session) -> list[dict[str, str]]:
            return [{"text": text} for text in read(session)]

    @api.route("/notes/<text>")
    class OneNote(Scoped):
        @api.doc(params={"text": "which one"})
        @with_request_session
        def delete(self, session: Session, text: str) -> None:
            session.delete(session.get_one(Note, text))


@pytest.fixture(
    params=[resources_below, resources_above, whole_resources], ids=lambda f: f.__name__
)
def notes(request: pytest.FixtureRequest, sqlite_file_url: str) -> Iterator[Notebook]:
    """Give a notebook whose app serves notes at ``/notes``."""
    notebook = Notebook(sqlite_file_url, app=Flask(__name__))
    request.param(Api(notebook.app))
    yield notebook
    notebook.close()


@pytest.mark.rule("W3", "W4", "T15")
def test_notes_are_added_shown_and_dropped(notes: Notebook) -> None:
    """Each request commits; an error status rolls back; the null made of None commits, too."""
    client = notes.app.test_client()

    created = client.post("/notes", json={"text": "first"})
    assert (created.status_code, created.json) == (201, {"text": "first"})
    assert notes.kept() == ["first"]
    assert client.post("/notes", json={"text": "conflict"}).status_code == 409
    assert client.post("/notes", json={"text": "teapot"}).status_code == 418
    assert notes.kept() == ["first"]
    assert client.post("/notes", json={"text": "second"}).status_code == 201
    assert client.get("/notes").json == [{"text": "first"}, {"text": "second"}]
    assert client.post("/notes", json={"words": "wrong"}).status_code == 400
    dropped = client.delete("/notes/first")
    assert (dropped.status_code, dropped.json) == (200, None)
    assert notes.kept() == ["second"]


@pytest.mark.rule("W4")
def test_the_swagger_document_does_not_know_the_session(notes: Notebook) -> None:
    """It has the parameters of the URL and the payload, and nothing else."""
    document = notes.app.test_client().get("/swagger.json").json
    assert document is not None

    assert "session" not in str(document)
    assert document["paths"]["/notes/{text}"]["delete"]["responses"]
