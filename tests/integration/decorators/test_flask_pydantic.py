"""Flask-Pydantic: arguments found by their annotations, also those of the URL."""

# The library is not typed.
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, abort
from flask_pydantic import validate
from pydantic import BaseModel
from sqlalchemy.orm import Session

from flask_reqsession import transactional, with_request_session
from tests.integration.decorators.notebook import Notebook, read, write


class NoteModel(BaseModel):
    """What a note looks like in JSON."""

    text: str


class PageModel(BaseModel):
    """What a list of notes is asked for with."""

    limit: int = 10


class NotesModel(BaseModel):
    """A list of notes."""

    texts: list[str]


def scoped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Inject the session, in a scope."""
    return transactional(with_request_session(function))


# Flask-Pydantic asks the annotations for classes, so these must not be strings.
def add(session: Session, body: NoteModel) -> tuple[NoteModel, int]:
    """Add a note."""
    write(session, body.text)
    if body.text == "conflict":
        abort(409)
    return body, 201


def show(query: PageModel, session: Session) -> NotesModel:
    """Show notes."""
    return NotesModel(texts=read(session)[: query.limit])


def repeat(session: Session, number: int) -> tuple[NoteModel, int]:
    """Add a note made of a number in the URL."""
    return NoteModel(text=write(session, f"number {number + 1}")), 200


for view, classes in (
    (add, {"session": Session, "body": NoteModel}),
    (show, {"query": PageModel, "session": Session}),
    (repeat, {"session": Session, "number": int}),
):
    view.__annotations__ = classes


def below(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate below Flask-Pydantic."""
    decorated: Callable[..., Any] = validate()(scoped(function))
    return decorated


def above(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate above Flask-Pydantic."""
    return scoped(validate()(function))


@pytest.fixture(params=[below, above], ids=lambda f: f.__name__)
def notes(request: pytest.FixtureRequest, sqlite_file_url: str) -> Iterator[Notebook]:
    """Give a notebook whose app serves notes at ``/notes``."""
    notebook = Notebook(sqlite_file_url, app=Flask(__name__))
    app = notebook.app
    app.add_url_rule("/notes", "add", request.param(add), methods=["POST"])
    app.add_url_rule("/notes", "show", request.param(show))
    app.add_url_rule("/notes/<number>", "repeat", request.param(repeat), methods=["PUT"])
    yield notebook
    notebook.close()


@pytest.mark.rule("W3", "W4", "T15")
def test_notes_are_added_and_shown(notes: Notebook) -> None:
    """Each request commits; an error status rolls back; the session is nobody's JSON."""
    client = notes.app.test_client()

    created = client.post("/notes", json={"text": "first"})
    assert (created.status_code, created.json) == (201, {"text": "first"})
    assert notes.kept() == ["first"]
    assert client.post("/notes", json={"text": "conflict"}).status_code == 409
    assert notes.kept() == ["first"]
    assert client.post("/notes", json={"words": "wrong"}).status_code == 400
    assert client.put("/notes/1").json == {"text": "number 2"}
    assert client.put("/notes/one").status_code == 400
    assert client.get("/notes?limit=1").json == {"texts": ["first"]}
    assert client.get("/notes?limit=none").status_code == 400
    assert notes.kept() == ["first", "number 2"]
