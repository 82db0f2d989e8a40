"""A streamed body has a session of its own, from its first use to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version

import pytest
from flask import Response, copy_current_request_context, stream_with_context
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import Note, Shop, connections_held
from tests.integration.manager.threads import in_thread

# Before 3.1.2 Flask pushed the context in the view: the body is then a part of the request, and the
# request's teardown comes after it.
OWN_EXTENT = tuple(int(part) for part in version("flask").split(".")) >= (3, 1, 2)


def lines(shop: Shop, *, first: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Yield the notes that the current session sees, one by one."""
    first()
    for note in shop.session.scalars(select(Note).order_by(Note.id).execution_options(yield_per=1)):
        yield f"{note.text}\n"


def add_stream(shop: Shop, body: Callable[[], Iterator[str]]) -> list[Session]:
    """Add a view at ``/`` that streams ``body`` with its context; return the view's sessions."""
    sessions: list[Session] = []

    @shop.app.get("/")
    def index() -> Response:
        sessions.append(shop.session)
        shop.session.connection()
        return Response(stream_with_context(body()))

    return sessions


@pytest.mark.rule("M22", "M17")
def test_a_streamed_body_has_a_session_of_its_own(shop: Shop) -> None:
    """Opened at first use after the request's teardown, closed when the body ends."""
    shop.keep("one", "two")
    used: list[Session] = []
    sessions = add_stream(shop, lambda: lines(shop, first=lambda: used.append(shop.session)))

    assert shop.get("/").text == "one\ntwo\n"
    assert connections_held(shop.engine) == 0
    assert (used[0] is not sessions[0]) is OWN_EXTENT
    assert shop.events == ["created", "closed"] * (2 if OWN_EXTENT else 1)


@pytest.mark.rule("M22", "M17")
def test_a_body_that_is_closed_early_closes_its_session(shop: Shop) -> None:
    """The client went away after the first line."""
    shop.keep("one", "two", "three")
    add_stream(shop, lambda: lines(shop))

    response = shop.app.test_client().get("/")
    assert next(response.iter_encoded()) == b"one\n"
    assert connections_held(shop.engine) == 1
    response.close()
    assert connections_held(shop.engine) == 0


@pytest.mark.rule("M22", "M17")
def test_a_body_that_is_never_begun_opens_nothing(shop: Shop) -> None:
    """A HEAD request, or a client that left at once."""
    shop.keep("one")
    add_stream(shop, lambda: lines(shop))

    response = shop.app.test_client().get("/")
    response.close()
    del response
    assert connections_held(shop.engine) == 0


@pytest.mark.rule("M22", "M17")
def test_a_body_that_fails_closes_its_session(shop: Shop) -> None:
    """The exception reaches the server, and what the body wrote is gone."""

    def body() -> Iterator[str]:
        yield shop.write("half").text
        raise FaultError("body")

    add_stream(shop, body)
    with pytest.raises(FaultError):
        shop.get("/")
    assert connections_held(shop.engine) == 0
    assert shop.kept() == []


@pytest.mark.rule("M22", "T11")
@pytest.mark.parametrize("finished", [True, False])
def test_a_transactional_body_commits_when_it_is_exhausted(shop: Shop, *, finished: bool) -> None:
    """Closed early, it is rolled back."""

    @shop.manager.transactional
    def body() -> Iterator[str]:
        for text in ("one", "two"):
            yield shop.write(text).text

    add_stream(shop, body)
    response = shop.app.test_client().get("/")
    if finished:
        assert response.text == "onetwo"
    else:
        assert next(response.iter_encoded()) == b"one"
    response.close()
    assert connections_held(shop.engine) == 0
    assert shop.kept() == (["one", "two"] if finished else [])


@pytest.mark.rule("M22", "M10", "T11")
def test_a_plain_generator_runs_outside_of_the_request(shop: Shop) -> None:
    """Without ``stream_with_context`` it has no request: decorated, it opens a unit of its own."""
    shop.keep("one")

    @shop.manager.transactional
    @shop.manager.with_request_session
    def decorated(session: Session) -> Iterator[str]:
        session.add(Note(text="two"))
        yield from (note.text for note in session.scalars(select(Note)))

    def plain() -> Iterator[str]:
        yield shop.session.scalars(select(Note)).one().text

    shop.app.add_url_rule("/decorated", "decorated", lambda: Response(decorated()))
    shop.app.add_url_rule("/plain", "plain", lambda: Response(plain()))

    assert shop.get("/decorated").text == "onetwo"
    assert connections_held(shop.engine) == 0
    assert shop.kept() == ["one", "two"]
    with pytest.raises(RuntimeError, match="needs a request or a unit of work"):
        shop.get("/plain")


@pytest.mark.rule("M22", "R4")
def test_instances_that_the_view_loaded_are_brought_along(shop: Shop) -> None:
    """By ``ensure_session_attachment`` or ``@reattach_args``; else they are detached."""
    shop.keep("loaded")
    attached: list[bool] = []

    @shop.manager.reattach_args
    def text_of(note: Note) -> str:
        attached.append(note in shop.session)
        shop.session.refresh(note)
        return note.text

    def body(note: Note) -> Iterator[str]:
        yield note.text
        yield shop.manager.ensure_session_attachment(note).text
        attached.append(note in shop.session)
        yield text_of(note)

    @shop.app.get("/")
    def index() -> Response:
        note = shop.session.scalars(select(Note)).one()
        return Response(stream_with_context(body(note)))

    assert shop.get("/").text == "loaded" * 3
    assert attached == [True, True]


@pytest.mark.rule("M22")
@pytest.mark.skipif(not OWN_EXTENT, reason="the body is a part of the request before Flask 3.1.2")
def test_a_body_and_a_background_job_of_one_request_do_not_meet(shop: Shop) -> None:
    """Both begin after the request has ended, each in a context of its own."""
    shop.keep("one", "two")
    used: list[Session] = []

    def body(job: Callable[[], object]) -> Iterator[str]:
        used.append(shop.session)
        yield from lines(shop)
        in_thread(job)
        assert shop.session is used[0]

    @shop.app.get("/")
    def index() -> Response:
        job = copy_current_request_context(lambda: used.append(shop.session))
        return Response(stream_with_context(body(job)))

    assert shop.get("/").text == "one\ntwo\n"
    assert len(used) == 2
    assert used[0] is not used[1]
    assert connections_held(shop.engine) == 0
