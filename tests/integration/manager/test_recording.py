"""Who is told of an event, and what is not in it."""

from __future__ import annotations

import gc
import json
import logging

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, make_transient_to_detached
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession import RequestScopedSessionManager
from flask_reqsession.recording import Recordings
from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import Note, Shop, connections_held

SECRET = "battery-staple"  # noqa: S105 - it is looked for


class Failing(RequestScopedSessionManager):
    """A manager whose every override raises."""

    def _record_session_creation(self, duration: float) -> None:
        raise FaultError(SECRET)

    def _record_session_closure(self, duration: float) -> None:
        raise FaultError(SECRET)

    def _record_session_commit(self) -> None:
        raise FaultError(SECRET)

    def _record_session_rollback(self) -> None:
        raise FaultError(SECRET)

    def _record_session_reattachment(self, object_type: str, duration: float) -> None:
        raise FaultError(SECRET)

    def _record_session_error(self, error_type: str, error_message: str) -> None:
        raise FaultError(SECRET)


@pytest.mark.rule("M7", "M17")
def test_an_override_that_fails_disturbs_nothing(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, by its name and the class of the exception, and the request goes on."""
    manager = Failing(shop.url)
    engine = manager.databases.engine()
    note = Note(id=1)
    make_transient_to_detached(note)

    with manager.session_scope() as session:
        session.add(Note(text="kept"))
    with manager.unit_of_work():
        assert manager.ensure_session_attachment(note) is note
        with pytest.raises(DBAPIError), manager.session_scope() as session:
            session.add(Note(text="kept"))
    assert shop.kept() == ["kept"]
    assert connections_held(engine) == 0
    manager.databases.dispose()

    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        f"_record_session_{event}() of the manager failed: FaultError"
        for event in (
            *("creation", "commit", "closure"),
            *("creation", "reattachment", "error", "rollback", "closure"),
        )
    ]
    assert all(record.exc_info is None for record in caplog.records)


@pytest.mark.rule("M7", "O2")
def test_by_default_the_events_are_counted(shop: Shop) -> None:
    """``manager.metrics`` is safe to send anywhere."""
    manager = RequestScopedSessionManager(shop.url)
    with manager.session_scope() as session:
        session.add(Note(text="kept"))
    note = shop.manager.transactional(lambda: shop.session.scalars(select(Note)).one())()
    with manager.unit_of_work():
        manager.ensure_session_attachment(note)
        with pytest.raises(DBAPIError), manager.session_scope() as session:
            session.add(Note(text="kept"))
    manager.databases.dispose()

    snapshot = json.loads(json.dumps(manager.metrics.snapshot()))
    durations = snapshot.pop("durations")
    assert snapshot == {
        "sessions_created": 2,
        "sessions_closed": 2,
        "commits": 1,
        "rollbacks": 1,
        "reattached_Note": 1,
        "errors_IntegrityError": 1,
    }
    assert sorted(durations) == ["reattached_Note", "sessions_closed", "sessions_created"]


@pytest.mark.rule("M7", "O5")
def test_nothing_that_is_told_or_logged_holds_a_row_value_or_a_credential(
    postgresql_shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL puts the values of a row into its messages; a URL has a password."""
    shop = postgresql_shop
    caplog.set_level(logging.DEBUG, logger="flask_reqsession")
    secret_url = shop.engine.url.set(password=SECRET)
    manager = RequestScopedSessionManager(secret_url)

    for _ in range(2):
        try:
            with manager.session_scope() as session:
                session.add(Note(text=SECRET))
        except DBAPIError:
            assert manager.metrics.snapshot()["errors_IntegrityError"] == 1
    with shop.manager.unit_of_work():
        with pytest.raises(DBAPIError):
            shop.write(SECRET)
        info = json.dumps(shop.manager.get_session_info())
    manager.databases.dispose()

    told = shop.events + [record.getMessage() for record in caplog.records] + [info]
    assert "error IntegrityError: UniqueViolation (23505)" in told
    assert any("UniqueViolation (23505)" in each for each in told)
    assert not [each for each in told if SECRET in each]
    assert all(record.exc_info is None for record in caplog.records)


@pytest.mark.rule("M7", "O5")
def test_the_code_of_each_database_is_told(any_shop: Shop) -> None:
    """What an operator searches for, in the words of each driver."""
    shop = any_shop
    with shop.manager.unit_of_work(), pytest.raises(DBAPIError):
        shop.session.add_all([Note(text="same"), Note(text="same")])
        shop.session.flush()

    codes = {"sqlite": "SQLITE_CONSTRAINT_UNIQUE", "postgresql": "23505", "mariadb": "1062"}
    (error,) = [each for each in shop.events if each.startswith("error")]
    assert error.endswith(f"({codes[shop.engine.dialect.name]})")


@pytest.mark.rule("M7")
def test_an_event_after_the_end_of_its_manager_is_told_to_nobody(shop: Shop) -> None:
    """What listens to an engine lives as long as that, and does not keep the manager alive."""
    recordings = Recordings(RequestScopedSessionManager(shop.url))
    gc.collect()
    recordings.committed()
    recordings.failed(OperationalError("SELECT 1", {}, Exception()))


class Stopping(RequestScopedSessionManager):
    """A manager whose override asks the program to stop."""

    def _record_session_error(self, error_type: str, error_message: str) -> None:
        raise KeyboardInterrupt


@pytest.mark.rule("M7", "T1")
def test_an_exit_out_of_an_override_rolls_back_and_goes_on(shop: Shop) -> None:
    """It strikes when the body has failed, outside of it."""
    manager = Stopping(shop.url)

    @manager.transactional
    @manager.with_request_session
    def pay(session: Session) -> None:
        session.add(Note(text="lost"))
        session.flush()
        raise StaleDataError

    with manager.unit_of_work():
        with pytest.raises(KeyboardInterrupt):
            pay()
        with manager.session_scope() as session:
            session.add(Note(text="next"))
    assert shop.kept() == ["next"]
    assert connections_held(manager.databases.engine()) == 0
    manager.databases.dispose()
