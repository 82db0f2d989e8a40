"""What a call costs that joins a running scope: counted in calls, since clocks are not exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session

from flask_reqsession import RequestScopedSessionManager, transactional, with_request_session
from tests.call_counts import calls_in
from tests.integration.decorators.notebook import Note, Notebook


def last(name: str, session: Session | None = None) -> tuple[str, object]:
    """Take the session last."""
    return name, session


def first(session: Session, name: str, amount: int = 0) -> tuple[str, object]:
    """Take the session first."""
    return name, (session, amount)


def by_keyword(name: str, *, session: Session) -> tuple[str, object]:
    """Take the session by keyword only."""
    return name, session


def any_notes(*notes: object, more: bool = False) -> object:
    """Take any number of notes."""
    return notes, more


class Service:
    """A service with a method."""

    def method(self, session: Session, name: str) -> tuple[str, object]:
        """Take the session after ``self``."""
        return name, session


def bound(manager: RequestScopedSessionManager) -> Callable[[Any], Any]:
    """Return a decorator that injects in a scope, bound to the manager."""
    return lambda function: manager.transactional(manager.with_request_session(function))


def unbound(_manager: RequestScopedSessionManager) -> Callable[[Any], Any]:
    """Return the same, unbound."""
    return lambda function: transactional(with_request_session(function))


def injected(manager: RequestScopedSessionManager) -> Callable[[Any], Any]:
    """Return a decorator that only injects."""
    return manager.with_request_session


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (last, ("ada",), {}),
        (last, (), {"name": "ada"}),
        (first, ("ada",), {}),
        (first, (), {"name": "ada", "amount": 1}),
        (by_keyword, (), {"name": "ada"}),
        (Service.method, (Service(), "ada"), {}),
    ],
    ids=["last", "last by name", "first", "first by name", "by keyword", "method"],
)
@pytest.mark.parametrize(("decorator", "c"), [(bound, 6), (injected, 6), (unbound, 7)])
def test_a_joined_call_is_one_python_call(  # noqa: PLR0913 - the parts of a call
    notebook: Notebook,
    decorator: Callable[[RequestScopedSessionManager], Callable[[Any], Any]],
    function: Callable[..., object],
    args: tuple[object, ...],
    *,
    kwargs: dict[str, object],
    c: int,
) -> None:
    """Besides the body, and at most these calls in C; the session is there already.

    In C: two or three context variables, the running greenlet and event loop, ``len()`` and
    ``list.insert()``.
    """
    decorated = decorator(notebook.manager)(function)
    with notebook.app.test_request_context(), notebook.manager.session_scope():
        decorated(*args, **kwargs)
        counted = calls_in(lambda: decorated(*args, **kwargs))

    assert counted.python == 3, "the lambda above, the stand-in, and the body"
    assert counted.c <= c


@pytest.mark.parametrize(("args", "kwargs"), [(("ada",), {}), ((), {"name": "ada"})])
def test_a_scope_alone_costs_no_more(
    notebook: Notebook, args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    """Without a session to inject its arguments are not looked at, and none is made."""
    decorated: Any = notebook.manager.transactional(last)
    with notebook.app.test_request_context():
        counted = notebook.manager.transactional(
            lambda: calls_in(lambda: decorated(*args, **kwargs))
        )()
        assert not notebook.manager.is_session_active()

    assert counted.python == 3, "the lambda above, the stand-in, and the body"
    assert counted.c <= 5


def test_a_session_without_a_scope_costs_no_more(notebook: Notebook) -> None:
    """``@with_request_session`` alone, in a request that has its session already."""
    decorated = notebook.manager.with_request_session(by_keyword)
    with notebook.app.test_request_context():
        decorated("ada")
        counted = calls_in(lambda: decorated("ada"))

    assert counted.python == 3, "the lambda above, the stand-in, and the body"
    assert counted.c <= 6


@pytest.mark.rule("R3", "R13")
def test_attached_arguments_cost_two_calls_however_many(notebook: Notebook) -> None:
    """Inside a scope: the preparation, and one look at all of them."""
    decorated = notebook.manager.transactional(notebook.manager.reattach_args(any_notes))
    with notebook.app.test_request_context(), notebook.manager.session_scope() as session:
        notes = [Note(text=str(number)) for number in range(100)]
        session.add_all(notes)
        one = calls_in(lambda: decorated(notes[0]))
        all_of_them = calls_in(lambda: decorated(*notes))

    assert one.ours == all_of_them.ours == 3, "the stand-in, and two"


@pytest.mark.rule("R3", "R13")
def test_injection_adds_no_look_at_the_session(notebook: Notebook) -> None:
    """Beside an attached argument it only takes the session."""
    decorated: Any = bound(notebook.manager)(notebook.manager.reattach_args(last))
    with notebook.app.test_request_context(), notebook.manager.session_scope() as session:
        note = Note(text="x")
        session.add(note)
        counted = calls_in(lambda: decorated(note))

    assert counted.ours == 4, "the stand-in, two for the argument, and the session"
