"""A connection that the server has ended harms nobody but its own transaction."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import sessionmaker
from werkzeug.exceptions import InternalServerError

from flask_reqsession import RequestScopedSessionManager, set_rollback_only
from tests.integration.manager.backends import end_backend, end_backend_of
from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import Base, Note, Shop, connections_held, texts


@pytest.mark.rule("M17", "M18", "M19")
@pytest.mark.parametrize("then", ["flush", "body", "commit", "close"])
def test_a_connection_that_the_server_ended_harms_nobody_else(
    postgresql_shop: Shop, then: str
) -> None:
    """Whatever meets the dead connection first: it is gone, and the next request has a live one."""
    shop = postgresql_shop
    error_page: list[list[str]] = []

    @shop.app.errorhandler(500)
    def failed(error: InternalServerError) -> tuple[str, int]:
        error_page.append(texts(shop.session))
        return type(error.original_exception).__name__, 500

    def view() -> str:
        shop.write("half")
        end_backend(shop)
        if then == "flush":
            shop.write("more")
        if then == "body":
            raise FaultError("body")
        return "ok"

    scoped = view if then == "close" else shop.manager.transactional(view)
    shop.app.add_url_rule("/", "view", scoped)
    shop.app.add_url_rule("/next", "next", lambda: str(texts(shop.session)))

    told = {
        "flush": "OperationalError",
        "body": "FaultError",
        "commit": "CommitOutcomeUnknownError",
        "close": "ok",
    }
    assert shop.get("/").text == told[then]
    assert error_page == ([] if then == "close" else [[]])
    assert connections_held(shop.engine) == 0
    assert shop.get("/next").text == "[]"
    assert shop.kept() == []


@pytest.mark.rule("M19", "T15", "T6")
@pytest.mark.parametrize("says", ["409", "set_rollback_only"])
def test_an_error_status_is_answered_though_the_connection_died(
    postgresql_shop: Shop, says: str
) -> None:
    """Its work was to be rolled back, and it is: the client hears of nothing else."""
    shop = postgresql_shop

    @shop.manager.transactional
    def view() -> tuple[str, int]:
        shop.write("half")
        end_backend(shop)
        if says == "409":
            return "conflict", 409
        set_rollback_only()
        return "accepted", 202

    shop.app.add_url_rule("/", "view", view)
    answer = shop.get("/")
    expected = (409, "conflict") if says == "409" else (202, "accepted")
    assert (answer.status_code, answer.text) == expected
    assert connections_held(shop.engine) == 0
    assert shop.kept() == []


@pytest.mark.rule("M17", "M19")
def test_a_session_on_two_dead_connections_gives_both_back(postgresql_url: str) -> None:
    """SQLAlchemy stops at the first ROLLBACK that fails; each connection has to be seen to."""
    engines = [create_engine(postgresql_url) for _ in range(2)]
    Base.metadata.create_all(engines[0])
    manager = RequestScopedSessionManager(sessionmaker(engines[0]))
    with pytest.raises(FaultError) as caught, manager.session_scope() as session:
        connections = [session.connection(bind_arguments={"bind": engine}) for engine in engines]
        for connection in connections:
            end_backend_of(postgresql_url, connection.scalar(text("SELECT pg_backend_pid()")))
        raise FaultError("body")

    assert [connections_held(engine) for engine in engines] == [0, 0]
    assert all("ROLLBACK" in note for note in getattr(caught.value, "__notes__", []))
    for engine in engines:
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        engine.dispose()


@pytest.mark.rule("M17", "M18", "M19")
def test_a_dead_connection_in_a_savepoint_of_the_users_own(postgresql_shop: Shop) -> None:
    """ROLLBACK TO fails first, and SQLAlchemy gives up; the session is usable nevertheless."""
    shop = postgresql_shop
    shop.keep("loaded")
    with shop.manager.unit_of_work():
        note = shop.session.scalars(select(Note)).one()
        shop.session.rollback()
        with pytest.raises(FaultError) as caught, shop.manager.session_scope() as session:
            session.begin_nested()
            shop.write("half")
            end_backend(shop)
            raise FaultError("body")
        assert [note.partition(":")[0] for note in caught.value.__notes__] == [
            "ROLLBACK also failed"
        ]
        assert connections_held(shop.engine) == 0
        assert texts(shop.session) == ["loaded"]
        assert shop.manager.ensure_session_attachment(note).text == "loaded"
    assert shop.kept() == ["loaded"]
