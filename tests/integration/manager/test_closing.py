"""No connection stays out, whatever the user's own code does at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.orm import Session

from flask_reqsession import RequestScopedSessionManager
from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import Note, Shop, connections_held, texts


class OwnWay:
    """An object of the user's whose ``close_session()`` does as it likes."""

    def __init__(self, engine: Engine, close: Callable[[Session], object]) -> None:
        self.engine = engine
        self.close_session = close
        self.given: list[Session] = []

    def get_session(self) -> Session:
        """Return a new session."""
        self.given.append(Session(self.engine))
        return self.given[-1]


@pytest.mark.rule("M2", "M17", "D1")
@pytest.mark.parametrize(
    "close",
    [lambda _session: None, lambda session: session.commit(), lambda session: session.close()],
    ids=["does nothing", "commits", "closes"],
)
def test_what_is_uncommitted_is_rolled_back_whatever_close_session_does(
    shop: Shop, close: Callable[[Session], object]
) -> None:
    """A forgotten commit is not committed by the way, and no connection stays out."""
    own = OwnWay(shop.engine, close)
    manager = RequestScopedSessionManager(own)
    for work in (lambda: manager.session.add(Note(text="lost")), lambda: texts(manager.session)):
        with manager.unit_of_work():
            work()
        assert connections_held(shop.engine) == 0
    assert len(own.given) == 2
    assert shop.kept() == []
    with manager.session_scope() as session:
        session.add(Note(text="kept"))
    assert shop.kept() == ["kept"]
    assert connections_held(shop.engine) == 0


def refuse_rollback(_connection: object) -> None:
    """Be a listener of somebody else's that fails."""
    raise FaultError("listener")


@pytest.mark.rule("M17", "M19")
def test_listeners_that_fail_at_rollback_keep_no_connection_out(shop: Shop, tmp_path: Path) -> None:
    """On each of two connections of one session: SQLAlchemy stops before it has closed them all."""
    other = create_engine(f"sqlite:///{tmp_path}/other.sqlite")
    for engine in (shop.engine, other):
        event.listen(engine, "rollback", refuse_rollback)
    with pytest.raises(FaultError, match="body") as caught, shop.manager.session_scope() as session:
        for engine in (shop.engine, other):
            session.execute(text("SELECT 1"), bind_arguments={"bind": engine})
        raise FaultError("body")
    assert caught.value.__notes__ == ["ROLLBACK also failed: FaultError: listener"]
    assert [connections_held(engine) for engine in (shop.engine, other)] == [0, 0]
    other.dispose()


@pytest.mark.rule("M17", "M19")
def test_a_listener_that_fails_at_the_end_of_a_request_keeps_no_connection_out(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """The view only read, so the session is closed without a ROLLBACK of ours."""
    event.listen(shop.engine, "rollback", refuse_rollback)
    connections: list[Connection] = []

    def view() -> str:
        connections.append(shop.session.connection())
        return str(texts(shop.session))

    assert shop.serve(view).text == "[]"
    assert connections[0].closed
    assert connections_held(shop.engine) == 0
    assert [record.getMessage() for record in caplog.records] == [
        "Closing a session failed: FaultError"
    ]
