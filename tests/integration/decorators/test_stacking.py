"""The decorators of this package above and below each other, in any order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session, object_session

from flask_reqsession import (
    Propagation,
    RequestScopedSessionManager,
    UnexpectedRollbackError,
    reattach_args,
    transactional,
    with_request_session,
)
from tests.integration.decorators.notebook import Note, Notebook, read, write

Decorator = Callable[[Any], Any]


class FailError(Exception):
    """What a body raises to be rolled back."""


def orders() -> list[tuple[str, ...]]:
    """Return every order of the three decorators, with each way to be a method among them."""
    three = ("transactional", "with_request_session", "reattach_args")
    return [
        order
        for kind in ("function", "classmethod", "staticmethod")
        for order in itertools.permutations((*three, kind))
        if kind != "function" or order[0] == kind
    ]


@pytest.fixture(params=["bound", "unbound", "mixed"])
def decorators(request: pytest.FixtureRequest, notebook: Notebook) -> dict[str, Decorator]:
    """Give the decorators by name: bound to the manager, unbound, and some of each."""
    manager = notebook.manager
    bound: dict[str, Decorator] = {
        "transactional": manager.transactional,
        "with_request_session": manager.with_request_session,
        "reattach_args": manager.reattach_args,
    }
    unbound: dict[str, Decorator] = {
        "transactional": transactional,
        "with_request_session": with_request_session,
        "reattach_args": reattach_args("note"),
    }
    mixed = bound | {"with_request_session": with_request_session}
    kinds: dict[str, Decorator] = {
        "function": lambda function: function,
        "classmethod": classmethod,
        "staticmethod": staticmethod,
    }
    return {"bound": bound, "unbound": unbound, "mixed": mixed}[request.param] | kinds


@pytest.mark.rule("W3", "R1", "R12", "M21")
@pytest.mark.parametrize("order", orders(), ids=">".join)
def test_any_order_does_the_same(
    notebook: Notebook, decorators: dict[str, Decorator], order: tuple[str, ...]
) -> None:
    """A scope, the session, and the detached argument attached to it, whatever stands above."""
    takes_class = "classmethod" in order

    def change(*args: Any) -> None:
        session, note, text = args[1:] if takes_class else args
        assert object_session(note) is session
        note.text = text
        if text == "fail":
            raise FailError

    if takes_class:

        def method(cls: type, session: Session, note: Note, text: str) -> None:
            change(cls, session, note, text)

    else:

        def method(session: Session, note: Note, text: str) -> None:  # type: ignore[misc]
            change(session, note, text)

    decorated: Any = method
    for name in reversed(order):
        decorated = decorators[name](decorated)
    service: Any = type("Service", (), {"change": decorated})
    run = decorated if "function" in order else service().change
    with notebook.app.app_context():
        run(saved(notebook, "first"), "changed")
        assert notebook.kept() == ["changed"]
        with pytest.raises(FailError):
            run(saved(notebook, "second"), "fail")
    assert notebook.kept() == ["changed", "second"]


def saved(notebook: Notebook, text: str) -> Note:
    """Return a detached note that was written before."""
    note = Note(text=text)
    with notebook.manager.session_scope() as session:
        session.add(note)
    return note
