"""Scopes and calls, in a unit of work or each with one of its own."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from flask_reqsession import (
    reattach_args,
    transactional,
    with_request_session,
)
from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import Note, Shop, connections_held


@pytest.mark.rule("M10", "M3")
def test_the_outermost_call_opens_a_unit_and_closes_it(shop: Shop) -> None:
    """Calls inside it share its session; afterwards there is none."""
    sessions: list[Session] = []

    @shop.manager.with_request_session
    def inner(session: Session) -> None:
        sessions.append(session)

    @shop.manager.transactional
    def outer() -> None:
        inner()
        with shop.manager.session_scope() as session:
            sessions.append(session)
            session.add(Note(text="kept"))
        sessions.append(shop.session)

    outer()
    assert sessions[0] is sessions[1] is sessions[2]
    assert shop.kept() == ["kept"]
    assert not shop.manager.is_session_active()
    assert shop.events == ["created", "commit", "closed"]


@pytest.mark.rule("M10")
def test_injection_alone_opens_a_unit_that_commits_nothing(shop: Shop) -> None:
    """The session is there for the call; what it wrote is rolled back."""

    @shop.manager.with_request_session
    def write(session: Session) -> None:
        assert shop.session is session
        session.add(Note(text="lost"))

    write()
    assert shop.kept() == []
    assert connections_held(shop.engine) == 0


@pytest.mark.rule("M3")
def test_nested_scopes_join_and_only_the_outermost_commits(shop: Shop) -> None:
    """A second connection sees nothing before the outermost one has ended."""
    with shop.manager.session_scope() as outer:
        with shop.manager.session_scope() as inner:
            assert inner is outer
            inner.add(Note(text="one"))
        assert shop.kept() == []
    assert shop.kept() == ["one"]

    with pytest.raises(FaultError), shop.manager.session_scope():
        with shop.manager.session_scope() as inner:
            inner.add(Note(text="two"))
        raise FaultError("body")
    assert shop.kept() == ["one"]
    assert shop.events == ["created", "commit", "closed", "created", "rollback", "closed"]


@pytest.mark.rule("M3")
def test_a_scope_takes_the_options_of_transactional(shop: Shop) -> None:
    """Among them ``propagation`` and ``no_rollback_for``."""
    with pytest.raises(FaultError), shop.manager.session_scope(no_rollback_for=FaultError):
        shop.write("kept")
        with pytest.raises(FaultError), shop.manager.session_scope(propagation="NESTED"):
            shop.write("lost")
            raise FaultError("inner")
        raise FaultError("outer")
    assert shop.kept() == ["kept"]


@pytest.mark.rule("M4")
def test_attachment_of_none_needs_nothing(shop: Shop) -> None:
    """An optional user stays None, in a request or not."""
    assert shop.manager.ensure_session_attachment(None) is None
    assert shop.events == []


@pytest.mark.rule("M4", "R3", "R4")
def test_an_instance_of_another_unit_is_attached_as_it_is(shop: Shop) -> None:
    """The same object, and its changes are written."""
    shop.keep("before")
    with shop.manager.unit_of_work():
        note = shop.session.scalars(select(Note)).one()
    note.text = "after"
    with shop.manager.session_scope() as session:
        assert shop.manager.ensure_session_attachment(note) is note
        assert shop.manager.ensure_session_attachment(note) is note
        assert note in session
    assert shop.kept() == ["after"]


@pytest.mark.rule("M21")
def test_the_bound_decorators_need_no_app_context(shop: Shop) -> None:
    """The unbound ones look for the manager of the current app, and there is none here."""
    shop.keep("loaded")
    note = shop.manager.transactional(lambda: shop.session.get(Note, 1))()

    @shop.manager.transactional
    @shop.manager.with_request_session
    @shop.manager.reattach_args
    def bound(session: Session, note: Note) -> bool:
        return note in session and session is shop.session

    assert note is not None
    assert bound(note) is True
    for unbound in (transactional, with_request_session, reattach_args):
        with pytest.raises(RuntimeError, match=r"@manager\.transactional"):
            unbound(lambda session=None: session)()


@pytest.mark.rule("M21")
def test_bound_and_unbound_decorators_share_the_scope_of_a_request(shop: Shop) -> None:
    """Both find the session of the running request; only the outermost commits."""

    @transactional
    def unbound() -> None:
        shop.write("unbound")

    @shop.manager.transactional
    def bound() -> str:
        unbound()
        return shop.write("bound").text

    assert shop.serve(bound).text == "bound"
    assert shop.kept() == ["unbound", "bound"]
    assert shop.events == ["created", "commit", "closed"]
