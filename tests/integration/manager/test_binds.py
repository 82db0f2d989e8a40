"""Several databases in one manager: one session for each, asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, make_transient_to_detached

from flask_reqsession import (
    ConfigurationError,
    PropagationError,
    RequestScopedSessionManager,
    set_rollback_only,
)
from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import Base, Note, connections_held, texts


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[RequestScopedSessionManager]:
    """Give a manager of two databases, each with one note that names it."""
    manager = RequestScopedSessionManager(
        {bind: f"sqlite:///{tmp_path}/{bind}.sqlite" for bind in ("default", "analytics")}
    )
    for bind in manager.databases.binds:
        Base.metadata.create_all(manager.databases.engine(bind))
        with manager.session_scope(bind=bind) as session:
            session.add(Note(text=bind))
    yield manager
    held = [connections_held(manager.databases.engine(bind)) for bind in manager.databases.binds]
    manager.databases.dispose()
    assert held == [0, 0]


@pytest.mark.rule("M16", "M1")
def test_each_bind_has_one_session(manager: RequestScopedSessionManager) -> None:
    """The same for the whole unit, and not the other's."""
    with manager.unit_of_work():
        default, analytics = manager.session, manager.get_request_session("analytics")
        assert manager.get_request_session(bind="analytics") is analytics
        assert manager.get_request_session("default") is default
        assert (texts(default), texts(analytics)) == (["default"], ["analytics"])


@pytest.mark.rule("M16", "M5")
def test_a_session_of_one_bind_does_not_make_the_other_active(
    manager: RequestScopedSessionManager,
) -> None:
    """Each is made at its own first use."""
    with manager.unit_of_work():
        manager.get_request_session("analytics")
        assert manager.is_session_active("analytics")
        assert not manager.is_session_active()
        assert manager.get_session_info("analytics")["has_session"]
        assert not manager.get_session_info()["has_session"]


@pytest.mark.rule("M16", "W1")
def test_scopes_and_decorators_take_a_bind(manager: RequestScopedSessionManager) -> None:
    """A scope of one bind neither commits nor rolls back what the other one does."""

    @manager.with_request_session(bind="analytics")
    def injected(session: Session) -> list[str]:
        return texts(session)

    @manager.transactional(bind="analytics")
    def count(text: str) -> None:
        manager.get_request_session("analytics").add(Note(text=text))

    assert injected() == ["analytics"]
    with pytest.raises(FaultError), manager.session_scope() as session:
        count("kept")
        session.add(Note(text="lost"))
        raise FaultError("body")
    with manager.session_scope(bind="analytics"):
        count("lost")
        set_rollback_only(bind="analytics")
    with manager.unit_of_work():
        assert texts(manager.session) == ["default"]
        assert texts(manager.get_request_session("analytics")) == ["analytics", "kept"]


@pytest.mark.rule("M16", "M15")
def test_release_gives_back_the_connection_of_its_bind(
    manager: RequestScopedSessionManager,
) -> None:
    """A scope of the other bind is no hindrance."""
    engine = manager.databases.engine("analytics")
    with manager.session_scope():
        manager.get_request_session("analytics").connection()
        assert connections_held(engine) == 1
        manager.release("analytics")
        assert connections_held(engine) == 0
        with pytest.raises(PropagationError):
            manager.release()


@pytest.mark.rule("M16", "M4")
def test_attachment_goes_to_the_session_of_its_bind(manager: RequestScopedSessionManager) -> None:
    """By the method and by the decorator."""
    notes = [Note(id=1), Note(id=1)]
    for note in notes:
        make_transient_to_detached(note)
    with manager.unit_of_work():
        manager.ensure_session_attachment(notes[0], bind="analytics")
        assert notes[0] in manager.get_request_session("analytics")
        assert notes[0].text == "analytics"
    with manager.unit_of_work():
        assert (
            manager.reattach_args(bind="analytics")(lambda note: note.text)(notes[1]) == "analytics"
        )


@pytest.mark.rule("M16")
@pytest.mark.parametrize(
    "ask",
    [
        lambda manager: manager.get_request_session("reports"),
        lambda manager: manager.release("reports"),
        lambda manager: manager.session_scope(bind="reports").__enter__(),
        lambda manager: manager.ensure_session_attachment(Note(), bind="reports"),
        lambda manager: manager.transactional(bind="reports")(lambda: None)(),
        lambda manager: manager.with_request_session(bind="reports")(lambda session: session)(),
        lambda manager: manager.reattach_args(bind="reports")(lambda note: note)(Note()),
    ],
    ids=["getter", "release", "scope", "attach", "transactional", "inject", "reattach"],
)
def test_an_unknown_bind_is_refused_with_the_known_ones(
    manager: RequestScopedSessionManager, ask: Callable[[RequestScopedSessionManager], object]
) -> None:
    """In a unit of work and outside of every one; nothing is left open."""
    with pytest.raises(ConfigurationError, match="'default', 'analytics'") as refused:
        with manager.unit_of_work():
            ask(manager)
    assert refused.value.code == "configuration"
    assert "'reports'" in str(refused.value)
    with manager.unit_of_work():
        assert texts(manager.session) == ["default"]


@pytest.mark.rule("M16", "M5", "M6")
def test_a_question_about_an_unknown_bind_is_answered(manager: RequestScopedSessionManager) -> None:
    """These two never raise."""
    with manager.unit_of_work():
        assert manager.is_session_active("reports") is False
        assert manager.get_session_info("reports")["has_session"] is False
