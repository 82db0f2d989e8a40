"""An instance does not go from one database to another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from flask_reqsession import DatabaseManager, ForeignInstanceError, RequestScopedSessionManager
from tests.never import never


class Model(DeclarativeBase):
    """The tables of these tests, which both databases have."""


class Visit(Model):
    """A row that has its namesake in the other database."""

    __tablename__ = "visit"
    id: Mapped[int] = mapped_column(primary_key=True)
    page: Mapped[str]


def url_of(path: Path, page: str) -> str:
    """Make a database in which visit 1 is one of ``page``, and return its URL."""
    url = f"sqlite:///{path / page}.db"
    engine = create_engine(url)
    Model.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Visit(id=1, page=page))
    engine.dispose()
    return url


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[RequestScopedSessionManager]:
    """Give a manager of two databases, of which one has a copy to read from."""
    urls = {"default": url_of(tmp_path, "home"), "analytics": url_of(tmp_path, "chart")}
    manager = RequestScopedSessionManager(DatabaseManager({**urls, "replica": urls["default"]}))
    yield manager
    manager.databases.dispose()


def rename(visit: Visit) -> None:
    """Be called with nothing of another database."""
    never(visit)


@pytest.mark.rule("R6", "M16")
def test_an_instance_of_another_bind_is_refused(manager: RequestScopedSessionManager) -> None:
    """Its namesake in this database is another row: nothing of it is touched."""
    changing = manager.transactional(manager.reattach_args(rename))
    with manager.session_scope(bind="analytics") as analytics:
        visit = analytics.get_one(Visit, 1)
        with pytest.raises(ForeignInstanceError) as refused:
            changing(visit)
        assert visit.page == "chart"
    assert str(refused.value) == (
        "Visit 1 cannot be attached as argument 'visit' of rename(): it belongs to an open session "
        "of bind 'analytics', and this session is of bind 'default', which is another database. "
        "Pass bind='analytics' to what attaches it, or load the row with this session."
    )
    with Session(manager.databases.engine()) as second:
        assert second.scalars(select(Visit.page)).all() == ["home"]


@pytest.mark.rule("R6", "R15", "M16")
def test_an_unsaved_instance_of_another_bind_is_refused(
    manager: RequestScopedSessionManager,
) -> None:
    """With what was passed beside it: the detached one stays detached."""
    with Session(manager.databases.engine()) as other:
        detached = other.get_one(Visit, 1)
    with manager.unit_of_work():
        pending = Visit(id=2, page="new")
        manager.get_request_session(bind="analytics").add(pending)
        with pytest.raises(ForeignInstanceError, match="of bind 'analytics'"):
            manager.ensure_session_attachment([detached, pending])
        assert detached not in manager.session
        assert manager.ensure_session_attachment(pending, bind="analytics") is pending


@pytest.mark.rule("R6", "D7")
def test_an_instance_of_the_replica_has_its_row_in_the_primary(
    manager: RequestScopedSessionManager,
) -> None:
    """The session of the replica is another one, but of the same rows."""
    with manager.unit_of_work():
        theirs = manager.get_request_session(bind="replica").get_one(Visit, 1)
        ours = manager.ensure_session_attachment(theirs)
        assert ours is not theirs
        assert ours in manager.session


@pytest.mark.rule("R6")
def test_an_instance_of_a_session_that_nobody_knows_is_taken_for_the_same_row(
    manager: RequestScopedSessionManager,
) -> None:
    """The user's own session may be on this database, by whatever engine."""
    with Session(manager.databases.engine()) as other, manager.session_scope() as session:
        theirs = other.get_one(Visit, 1)
        assert manager.ensure_session_attachment(theirs) in session
