"""A two-phase session on two databases: both are committed or neither, with each driver."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from flask_reqsession import (
    ConfigurationError,
    ReadOnlyViolationError,
    RequestScopedSessionManager,
)
from tests.integration.transactions.pairs import MODELS, WRITES, Entry, Order, Pair, write_both
from tests.never import never
from tests.servers.connections import async_url_of

LIMITED: dict[str, Any] = {"timeout": 30, "read_only": False}
MODES: list[dict[str, Any]] = [{}, LIMITED, {**LIMITED, "isolation": "SERIALIZABLE"}]


@pytest.mark.rule("T13")
@pytest.mark.parametrize("write", WRITES)
def test_in_two_phases_both_are_committed(
    postgresql_pair: Pair, write: Callable[[Session], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing stays prepared, and the log says which prepared transactions belong together."""
    caplog.set_level(logging.INFO, "flask_reqsession")
    manager = postgresql_pair.manager(twophase=True)
    with manager.unit_of_work():
        with manager.session_scope() as session:
            write(session)
        assert postgresql_pair.kept() == [["one"], ["one"]]
        assert postgresql_pair.prepared() == [[], []]
    assert manager.metrics.snapshot()["commits"] == 1
    [message] = caplog.messages
    assert "Two-phase COMMIT" in message
    assert message.count("'_sa_") == 2


@pytest.mark.rule("T13", "T1")
@pytest.mark.parametrize("sends", [False, True])
def test_in_two_phases_a_failure_leaves_nothing(postgresql_pair: Pair, sends: bool) -> None:
    """Of the body, before or after it was sent."""
    manager = postgresql_pair.manager(twophase=True)
    with pytest.raises(ZeroDivisionError), manager.session_scope() as session:
        write_both(session)
        if sends:
            session.flush()
        raise ZeroDivisionError
    assert postgresql_pair.kept() == [[], []]
    assert postgresql_pair.prepared() == [[], []]


@pytest.mark.rule("T13", "T16", "M7")
@pytest.mark.parametrize("refuser", [0, 1])
def test_what_one_database_refuses_to_prepare_is_in_neither(
    postgresql_pair: Pair, refuser: int
) -> None:
    """A deferred constraint is checked at PREPARE: the database's own error, and one rollback."""
    model = MODELS[refuser]
    with postgresql_pair.engines[refuser].begin() as connection:
        connection.exec_driver_sql(
            f"ALTER TABLE {model.__tablename__} ADD parent INTEGER DEFAULT 4711 REFERENCES "
            f"{model.__tablename__} (id) DEFERRABLE INITIALLY DEFERRED"
        )
    manager = postgresql_pair.manager(twophase=True)
    with manager.unit_of_work():
        with pytest.raises(IntegrityError) as refused, manager.session_scope() as session:
            write_both(session)
        assert not hasattr(refused.value, "__notes__")
        assert postgresql_pair.kept() == [[], []]
        assert postgresql_pair.prepared() == [[], []]
        with manager.session_scope() as session:
            session.add(MODELS[1 - refuser](text="next"))
    assert manager.metrics.snapshot()["rollbacks"] == 1
    assert postgresql_pair.kept()[1 - refuser] == ["next"]


@pytest.mark.rule("T13", "T19")
@pytest.mark.parametrize("mode", MODES, ids=["plain", "limited", "isolated"])
def test_both_are_committed_or_neither(pair: Pair, mode: dict[str, Any]) -> None:
    """The one that is refused takes the other along; a mode is kept, or refused by MariaDB."""
    manager = pair.manager(twophase=True)
    if not pair.is_postgresql and "isolation" in mode:
        with pytest.raises(ConfigurationError, match="isolation_level"):
            with manager.session_scope(**mode) as session:
                session.execute(select(Order))
        return
    with manager.session_scope(**mode) as session:
        session.add_all([Order(text="one"), Entry(text="one")])
    with pytest.raises(IntegrityError), manager.session_scope(**mode) as session:
        session.add_all([Order(text="two"), Entry(text="two")])
        session.flush()
        session.add(Entry(text="one"))
    assert pair.kept() == [["one"], ["one"]]


@pytest.mark.rule("T13", "T18")
def test_nothing_is_written_in_two_phases_of_a_reader(pair: Pair) -> None:
    """Each database refuses it, and what only read ends well; on MariaDB it is refused at once."""
    manager = pair.manager(twophase=True)
    if not pair.is_postgresql:
        with pytest.raises(ConfigurationError, match="without twophase=True"):
            with manager.session_scope(read_only=True) as session:
                session.execute(select(Order))
        return
    with manager.session_scope(read_only=True) as session:
        assert session.query(Order).count() == 0
        assert session.query(Entry).count() == 0
    with pytest.raises(DBAPIError), manager.session_scope(read_only=True) as session:
        statement = text("INSERT INTO entry (id, text) VALUES (1, 'one')")
        session.execute(statement, bind_arguments={"mapper": Entry})
    with pytest.raises(ReadOnlyViolationError), manager.session_scope(read_only=True) as session:
        session.add_all([Order(text="one"), Entry(text="one")])
    with manager.session_scope() as session:
        session.add_all([Order(text="two"), Entry(text="two")])
    assert pair.kept() == [["two"], ["two"]]


@pytest.mark.rule("T13", "T50")
def test_asynchronous_drivers_prepare_as_well(pair: Pair) -> None:
    """asyncpg, and MariaDB's."""
    engines = [create_async_engine(async_url_of(url)) for url in pair.urls]
    binds = dict(zip(MODELS, engines, strict=True))
    sessions = async_sessionmaker(binds=binds, twophase=True)
    manager = RequestScopedSessionManager(sessions, twophase=True)

    async def write(*texts: str) -> None:
        async with manager.async_session_scope() as session:
            for each in texts:
                session.add_all([Order(text=each), Entry(text=each)])
                await session.flush()

    async def main() -> None:
        await write("one")
        with pytest.raises(IntegrityError):
            await write("two", "one")
        for engine in engines:
            await engine.dispose()

    asyncio.run(main())
    assert pair.kept() == [["one"], ["one"]]


# -- what can't work ------------------------------------------------------------------------------


@pytest.mark.rule("T13", "D4")
def test_sessions_that_are_made_here_are_two_phase(postgresql_pair: Pair) -> None:
    """An engine is enough, and one manager's choice is not another one's."""
    phases: list[str] = []
    engine = postgresql_pair.engines[0]
    event.listen(engine, "prepare_twophase", lambda *_event: phases.append("prepare"))
    event.listen(engine, "commit_twophase", lambda *_event: phases.append("commit"))
    twophase = RequestScopedSessionManager(engine, twophase=True)
    plain = RequestScopedSessionManager(twophase.databases)
    for manager in (plain, twophase):
        with manager.session_scope() as session:
            session.query(Order).all()
    assert phases == ["prepare", "commit"]


@pytest.mark.rule("T13")
def test_the_users_sessions_have_to_be_two_phase_themselves(postgresql_pair: Pair) -> None:
    """The message says how."""
    manager = RequestScopedSessionManager(postgresql_pair.factory(), twophase=True)
    with pytest.raises(ConfigurationError, match=r"sessionmaker\(\.\.\., twophase=True\)"):
        with manager.session_scope():
            never()


@pytest.mark.rule("T13")
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_database_that_cannot_prepare_is_refused(tmp_path: Path, colour: str) -> None:
    """SQLite can't."""
    driver = "sqlite+aiosqlite" if colour == "async" else "sqlite"
    manager = RequestScopedSessionManager(f"{driver}:///{tmp_path}/a.sqlite", twophase=True)
    with pytest.raises(ConfigurationError, match="sqlite, which can't prepare"):
        with manager.unit_of_work():
            if colour == "async":
                manager.get_async_request_session()
            else:
                manager.get_request_session()
