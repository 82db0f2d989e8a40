"""One session on two databases: never one COMMIT without the other, unless that was asked for."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, String, create_engine, event, insert
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from flask_reqsession import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    MultipleBindsError,
    Propagation,
    RequestScopedSessionManager,
    TransactionOutcome,
)
from flask_reqsession.engines import make_engine
from tests.never import never
from tests.servers.connections import rows_of
from tests.servers.processes import Server


class Base(DeclarativeBase):
    """The tables of these tests, each in a database of its own."""


class Order(Base):
    """What is in the one database."""

    __tablename__ = "shop_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(40), unique=True)


class Entry(Base):
    """What is in the other one."""

    __tablename__ = "entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(40), unique=True)


MODELS: tuple[Any, Any] = (Order, Entry)


@dataclass
class Pair:
    """Two databases, and managers whose sessions use both."""

    urls: list[str]
    engines: list[Engine] = field(default_factory=list[Engine])

    def __post_init__(self) -> None:
        for url, model in zip(self.urls, MODELS, strict=True):
            engine = make_engine(url)
            model.__table__.create(engine)
            self.engines.append(engine)

    def factory(self, **options: Any) -> sessionmaker[Session]:
        """Return a factory of sessions on both databases."""
        return sessionmaker(binds=dict(zip(MODELS, self.engines, strict=True)), **options)

    def manager(self, **options: Any) -> RequestScopedSessionManager:
        """Return a manager of such sessions, in two phases if it is to be so."""
        factory = self.factory(twophase=options.get("twophase", False))
        return RequestScopedSessionManager(factory, **options)

    def kept(self) -> list[list[object]]:
        """Return what a second connection sees in the one database and in the other."""
        return [
            [kept for (kept,) in rows_of(url, f"SELECT text FROM {model.__tablename__}")]  # noqa: S608
            for url, model in zip(self.urls, MODELS, strict=True)
        ]

    def prepared(self) -> list[list[object]]:
        """Return the names of the transactions that are prepared in each."""
        query = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
        return [[gid for (gid,) in rows_of(url, query)] for url in self.urls]

    def recover(self, verb: str) -> None:
        """End what is prepared as an operator would."""
        for engine, gids in zip(self.engines, self.prepared(), strict=True):
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                for gid in gids:
                    connection.exec_driver_sql(f"{verb} PREPARED '{gid}'")

    def dispose(self) -> None:
        """Close what is open; nothing may be checked out any more."""
        held = [engine.pool.checkedout() for engine in self.engines]  # type: ignore[attr-defined]
        for engine in self.engines:
            engine.dispose()
        assert held == [0, 0]


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Pair]:
    """Give two SQLite files."""
    pair = Pair([f"sqlite:///{tmp_path}/{name}.sqlite" for name in ("orders", "entries")])
    yield pair
    pair.dispose()


@pytest.fixture
def servers(postgresql_server: Server) -> Iterator[Pair]:
    """Give two databases of a PostgreSQL that can prepare transactions."""
    with ExitStack() as stack:
        pair = Pair([stack.enter_context(postgresql_server.database()) for _ in MODELS])
        yield pair
        pair.recover("ROLLBACK")
        pair.dispose()


def write_both(session: Session) -> None:
    """Write to both databases."""
    session.add_all([Order(text="one"), Entry(text="one")])


def write_core(session: Session) -> None:
    """Write to both without the ORM's unit of work."""
    session.execute(insert(Order).values(text="one"))
    session.execute(insert(Entry).values(text="one"))


def write_at_the_last_moment(session: Session) -> None:
    """Write to the second one when the scope has asked for its COMMIT already."""
    session.add(Order(text="one"))
    event.listen(
        session, "before_commit", lambda session: session.add(Entry(text="one")), once=True
    )


def write_nested(session: Session) -> None:
    """Write to the second one in a savepoint."""
    session.add(Order(text="one"))
    with session.begin_nested():
        session.add(Entry(text="one"))


WRITES = [write_both, write_core, write_at_the_last_moment, write_nested]


@pytest.mark.rule("T13")
@pytest.mark.parametrize("write", WRITES)
def test_a_session_that_wrote_to_two_databases_is_not_committed(
    files: Pair, write: Callable[[Session], None]
) -> None:
    """Neither has a row; the message names both; the request goes on."""
    manager = files.manager()
    with manager.unit_of_work():
        with pytest.raises(MultipleBindsError, match=r"orders\.sqlite.*twophase=True") as refused:
            with manager.session_scope():
                write(manager.session)
        assert refused.value.code == "multiple-binds"
        assert "entries.sqlite" in str(refused.value)
        assert files.kept() == [[], []]
        with manager.session_scope(propagation=Propagation.REQUIRES_NEW) as session:
            session.add(Order(text="next"))
    assert files.kept() == [["next"], []]


@pytest.mark.rule("T13", "T50")
def test_an_asynchronous_session_is_held_to_the_same(tmp_path: Path) -> None:
    """By the session inside it."""
    files = Pair([f"sqlite:///{tmp_path}/{name}.sqlite" for name in ("orders", "entries")])
    engines = [
        create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:")) for url in files.urls
    ]
    binds = dict(zip(MODELS, engines, strict=True))
    manager = RequestScopedSessionManager(async_sessionmaker(binds=binds))

    async def main() -> None:
        with pytest.raises(MultipleBindsError):
            async with manager.async_session_scope() as session:
                session.add_all([Order(text="one"), Entry(text="one")])
        async with manager.async_session_scope() as session:
            session.add(Entry(text="next"))
        for engine in engines:
            await engine.dispose()

    asyncio.run(main())
    assert files.kept() == [[], ["next"]]
    files.dispose()


@pytest.mark.rule("T13")
@pytest.mark.parametrize("order", [1, -1])
def test_reading_from_the_other_database_is_no_write(files: Pair, order: int) -> None:
    """Whichever came first."""
    manager = files.manager()
    steps: list[Callable[[Session], object]] = [
        lambda session: session.execute(insert(Order).values(text="one")),
        lambda session: session.query(Entry).all(),
        lambda session: session.execute(insert(Order).values(text="two")),
    ]
    with manager.session_scope() as session:
        for step in steps[::order]:
            step(session)
    assert sorted(map(str, files.kept()[0])) == ["one", "two"]


@pytest.mark.rule("T13")
def test_two_scopes_one_after_the_other_may_write_to_one_database_each(files: Pair) -> None:
    """What was written before is committed and counts no more; a failed scope's neither."""
    manager = files.manager()
    with manager.unit_of_work():
        with manager.session_scope() as session:
            session.add(Order(text="one"))
        with pytest.raises(ZeroDivisionError), manager.session_scope() as session:
            session.add(Order(text="lost"))
            session.flush()
            raise ZeroDivisionError
        with manager.session_scope() as session:
            session.add(Entry(text="one"))
    assert files.kept() == [["one"], ["one"]]


@pytest.mark.rule("T13", "T3")
def test_a_joined_call_that_writes_to_the_second_database_counts(files: Pair) -> None:
    """It is one session and one scope."""
    manager = files.manager()

    @manager.transactional
    def book() -> None:
        manager.session.add(Entry(text="one"))

    with pytest.raises(MultipleBindsError, match="the sale"):
        with manager.session_scope(name="the sale") as session:
            session.add(Order(text="one"))
            book()
    assert files.kept() == [[], []]


@pytest.mark.rule("T13", "T17")
def test_a_commit_by_hand_in_a_scope_that_allows_it_is_refused_as_well(files: Pair) -> None:
    """It would be the same half."""
    manager = files.manager()
    with pytest.raises(MultipleBindsError):
        with manager.session_scope(manual_commit="allow") as session:
            write_core(session)
            session.commit()
    assert files.kept() == [[], []]


@pytest.mark.rule("T13")
def test_outside_of_scopes_the_users_commit_is_the_users(files: Pair) -> None:
    """SQLAlchemy commits on one after the other."""
    manager = files.manager()
    with manager.unit_of_work():
        write_core(manager.session)
        manager.session.commit()
    assert files.kept() == [["one"], ["one"]]


@pytest.mark.rule("T13")
def test_the_user_can_accept_that_one_commits_alone(files: Pair) -> None:
    """multiple_binds="allow"."""
    manager = files.manager(multiple_binds="allow")
    with manager.session_scope() as session:
        write_core(session)
    assert files.kept() == [["one"], ["one"]]


@pytest.mark.rule("T13", "M16")
def test_scopes_of_two_binds_are_independent(files: Pair) -> None:
    """One commits inside the other, which then fails; and one fails inside the other."""
    manager = RequestScopedSessionManager(
        {"default": files.urls[0], "journal": files.urls[1]},
    )

    @manager.transactional(bind="journal")
    def book(text: str, *, fails: bool = False) -> None:
        manager.get_request_session("journal").add(Entry(text=text))
        if fails:
            raise LookupError

    with pytest.raises(ZeroDivisionError), manager.session_scope() as session:
        session.add(Order(text="lost"))
        book("kept")
        assert files.kept() == [[], ["kept"]]
        raise ZeroDivisionError
    with manager.session_scope() as session:
        session.add(Order(text="kept"))
        with pytest.raises(LookupError):
            book("lost", fails=True)
    manager.databases.dispose()
    assert files.kept() == [["kept"], ["kept"]]


# -- two phases -----------------------------------------------------------------------------------


@pytest.mark.rule("T13")
@pytest.mark.parametrize("write", WRITES)
def test_in_two_phases_both_are_committed(
    servers: Pair, write: Callable[[Session], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing stays prepared, and the log says which prepared transactions belong together."""
    caplog.set_level(logging.INFO, "flask_reqsession")
    manager = servers.manager(twophase=True)
    with manager.unit_of_work():
        with manager.session_scope() as session:
            write(session)
        assert servers.kept() == [["one"], ["one"]]
        assert servers.prepared() == [[], []]
    assert manager.metrics.snapshot()["commits"] == 1
    [message] = caplog.messages
    assert "Two-phase COMMIT" in message
    assert message.count("'_sa_") == 2


@pytest.mark.rule("T13", "T1")
@pytest.mark.parametrize("sends", [False, True])
def test_in_two_phases_a_failure_leaves_nothing(servers: Pair, sends: bool) -> None:
    """Of the body, before or after it was sent."""
    manager = servers.manager(twophase=True)
    with pytest.raises(ZeroDivisionError), manager.session_scope() as session:
        write_both(session)
        if sends:
            session.flush()
        raise ZeroDivisionError
    assert servers.kept() == [[], []]
    assert servers.prepared() == [[], []]


@pytest.mark.rule("T13", "T16", "M7")
@pytest.mark.parametrize("refuser", [0, 1])
def test_what_one_database_refuses_to_prepare_is_in_neither(servers: Pair, refuser: int) -> None:
    """A deferred constraint is checked at PREPARE: the database's own error, and one rollback."""
    model = MODELS[refuser]
    with servers.engines[refuser].begin() as connection:
        connection.exec_driver_sql(
            f"ALTER TABLE {model.__tablename__} ADD parent INTEGER DEFAULT 4711 REFERENCES "
            f"{model.__tablename__} (id) DEFERRABLE INITIALLY DEFERRED"
        )
    manager = servers.manager(twophase=True)
    with manager.unit_of_work():
        with pytest.raises(IntegrityError) as refused, manager.session_scope() as session:
            write_both(session)
        assert not hasattr(refused.value, "__notes__")
        assert servers.kept() == [[], []]
        assert servers.prepared() == [[], []]
        with manager.session_scope() as session:
            session.add(MODELS[1 - refuser](text="next"))
    assert manager.metrics.snapshot()["rollbacks"] == 1
    assert servers.kept()[1 - refuser] == ["next"]


def kill_backend(connection: Connection, *_event: object) -> None:
    """Let a second connection end this one's process in the server."""
    own = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
    killer = create_engine(connection.engine.url)
    with killer.begin() as other:
        other.exec_driver_sql(f"SELECT pg_terminate_backend({own}, 5000)")
    killer.dispose()


@pytest.mark.rule("T13", "T24")
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("decision", ["COMMIT", "ROLLBACK"])
def test_a_connection_lost_in_the_second_phase_is_told_with_its_remedy(
    servers: Pair, victim: int, decision: str
) -> None:
    """The other database is committed, never rolled back; the error names what is left prepared."""
    event.listen(servers.engines[victim], "commit_twophase", kill_backend)
    manager = servers.manager(twophase=True)
    with manager.unit_of_work():
        with pytest.raises(CommitOutcomeUnknownError) as caught, manager.session_scope() as session:
            write_both(session)
        left = servers.prepared()
        [gid] = left[victim]
        assert left[1 - victim] == []
        assert servers.kept()[1 - victim] == ["one"]
        assert servers.kept()[victim] == []
        assert f"COMMIT PREPARED '{gid}'" in str(caught.value)
        assert "pg_prepared_xacts" in str(caught.value)
        assert repr(servers.engines[victim].url.database) in str(caught.value)
        assert isinstance(caught.value.__cause__, OperationalError)
        servers.recover(decision)
        event.remove(servers.engines[victim], "commit_twophase", kill_backend)
        with manager.session_scope() as session:
            session.add_all([Order(text="next"), Entry(text="next")])
    counted = manager.metrics.snapshot()
    assert (counted["commits"], counted.get("rollbacks")) == (1, None)
    kept = servers.kept()
    assert kept[1 - victim] == ["one", "next"]
    assert kept[victim] == (["one", "next"] if decision == "COMMIT" else ["next"])


@pytest.mark.rule("T13", "T24")
def test_both_connections_lost_in_the_second_phase_are_told(servers: Pair) -> None:
    """The first failure does not keep the other part from being tried, and told if it fails too."""
    for engine in servers.engines:
        event.listen(engine, "commit_twophase", kill_backend)
    manager = servers.manager(twophase=True)
    with pytest.raises(CommitOutcomeUnknownError) as caught, manager.session_scope() as session:
        write_both(session)
    left = [gid for gids in servers.prepared() for gid in gids]
    assert len(left) == 2
    assert all(f"COMMIT PREPARED '{gid}'" in str(caught.value) for gid in left)
    servers.recover("COMMIT")
    assert servers.kept() == [["one"], ["one"]]


@dataclass
class FailsOnce:
    """A listener that fails the first time: its COMMIT is not even sent."""

    error: BaseException = field(default_factory=lambda: LookupError("listener"))
    heard: int = 0

    def listen_to(self, pair: Pair) -> None:
        """Hear of the second phase of both databases, before it is sent."""
        for engine in pair.engines:
            event.listen(engine, "commit_twophase", self.hear)

    def hear(self, *_event: object) -> None:
        """Fail, if it is the first time."""
        self.heard += 1
        if self.heard == 1:
            raise self.error


@pytest.mark.rule("T13", "T24")
def test_a_listener_that_keeps_the_second_phase_from_being_sent_is_told(servers: Pair) -> None:
    """What it left prepared is not committed, whatever was committed on the other database."""
    listener = FailsOnce()
    listener.listen_to(servers)
    manager = servers.manager(twophase=True)
    with pytest.raises(CommitOutcomeUnknownError) as caught, manager.session_scope() as session:
        write_both(session)
    assert isinstance(caught.value.__cause__, LookupError)
    assert listener.heard == 2
    [gid] = [gid for gids in servers.prepared() for gid in gids]
    assert f"COMMIT PREPARED '{gid}'" in str(caught.value)
    assert sorted(servers.kept()) == [[], ["one"]]
    servers.recover("COMMIT")
    assert servers.kept() == [["one"], ["one"]]


@pytest.mark.rule("T1", "T13", "T37")
def test_an_exit_in_the_second_phase_goes_on_with_the_remedy(servers: Pair) -> None:
    """Ctrl-C stays Ctrl-C; the outcome of the transaction is unknown all the same."""
    listener, told = FailsOnce(KeyboardInterrupt()), list[TransactionOutcome]()
    listener.listen_to(servers)
    manager = servers.manager(twophase=True)
    with pytest.raises(KeyboardInterrupt) as caught, manager.session_scope() as session:
        manager.on_completion(told.append)
        write_both(session)
    assert caught.value is listener.error
    assert told == [TransactionOutcome.UNKNOWN]
    [gid] = [gid for gids in servers.prepared() for gid in gids]
    assert f"COMMIT PREPARED '{gid}'" in "".join(caught.value.__notes__)
    servers.recover("COMMIT")
    assert servers.kept() == [["one"], ["one"]]


@pytest.mark.rule("T13", "T24")
def test_the_remedy_is_in_the_words_of_the_database(mariadb_server: Server) -> None:
    """What the error says ends what MariaDB has prepared."""
    with ExitStack() as stack:
        pair = Pair([stack.enter_context(mariadb_server.database()) for _ in MODELS])
        listener = FailsOnce()
        listener.listen_to(pair)
        manager = pair.manager(twophase=True)
        with pytest.raises(CommitOutcomeUnknownError) as caught, manager.session_scope() as session:
            write_both(session)
        assert sorted(pair.kept()) == [[], ["one"]]
        [remedy] = re.findall(
            r": (XA COMMIT '\w+') \(while XA RECOVER lists it\)", str(caught.value)
        )
        operator = pair.engines[0].connect().execution_options(isolation_level="AUTOCOMMIT")
        with operator as connection:
            connection.exec_driver_sql(remedy)
        assert pair.kept() == [["one"], ["one"]]
        pair.dispose()


@pytest.mark.rule("T13", "T21")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_connection_lost_while_it_prepares_leaves_nothing(servers: Pair, victim: int) -> None:
    """All is rolled back. A PREPARE without an answer may have happened, so it has a note."""
    event.listen(servers.engines[victim], "prepare_twophase", kill_backend)
    manager = servers.manager(twophase=True)
    with pytest.raises(OperationalError) as caught, manager.session_scope() as session:
        write_both(session)
    assert "ROLLBACK PREPARED '_sa_" in "".join(caught.value.__notes__)
    assert servers.kept() == [[], []]
    assert servers.prepared() == [[], []]


@pytest.mark.rule("T13")
@pytest.mark.parametrize("decision", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("moment", ["prepare_twophase", "commit_twophase"])
def test_a_process_that_is_killed_leaves_both_or_neither(
    servers: Pair, decision: str, moment: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Killed before all were prepared, neither; killed after, the log tells what to commit."""
    for engine in servers.engines:
        engine.dispose()
    child = os.fork()
    if child == 0:  # pragma: no cover - killed before it can write down what it ran
        logging.getLogger("flask_reqsession").addHandler(logging.StreamHandler())
        logging.getLogger("flask_reqsession").setLevel(logging.INFO)
        for engine in servers.engines:
            event.listen(engine, moment, lambda *_event: os.kill(os.getpid(), signal.SIGKILL))
        manager = servers.manager(twophase=True)
        manager.transactional(lambda: write_both(manager.session))()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    left = [gid for gids in servers.prepared() for gid in gids]
    assert len(left) == (2 if moment == "commit_twophase" else 0)
    assert servers.kept() == [[], []]
    logged = capfd.readouterr().err
    assert all(str(gid) in logged for gid in left)
    servers.recover(decision)
    both = ["one"] if left and decision == "COMMIT" else []
    assert servers.kept() == [both, both]


@pytest.mark.rule("T13", "T16")
def test_a_listener_that_fails_after_both_have_committed_is_no_unknown_outcome(
    servers: Pair,
) -> None:
    """The exception says that the transaction was committed."""
    manager = servers.manager(twophase=True)

    def fail(_session: Session) -> None:
        raise LookupError("listener")

    with pytest.raises(LookupError) as caught, manager.session_scope() as session:
        write_both(session)
        event.listen(session, "after_commit", fail)
    assert "had been committed" in "".join(caught.value.__notes__)
    assert servers.kept() == [["one"], ["one"]]
    assert servers.prepared() == [[], []]


@pytest.mark.rule("T13", "T50")
def test_two_phases_of_an_asynchronous_session(servers: Pair) -> None:
    """Through psycopg's asynchronous connections."""
    engines = [
        create_async_engine(url.replace("postgresql+psycopg:", "postgresql+psycopg_async:"))
        for url in servers.urls
    ]
    binds = dict(zip(MODELS, engines, strict=True))
    manager = RequestScopedSessionManager(
        async_sessionmaker(binds=binds, twophase=True), twophase=True
    )

    async def main() -> None:
        async with manager.async_session_scope() as session:
            session.add_all([Order(text="one"), Entry(text="one")])
        event.listen(engines[0].sync_engine, "commit_twophase", kill_backend)
        with pytest.raises(CommitOutcomeUnknownError):
            async with manager.async_session_scope() as session:
                session.add_all([Order(text="two"), Entry(text="two")])
        for engine in engines:
            await engine.dispose()

    asyncio.run(main())
    servers.recover("COMMIT")
    assert servers.kept() == [["one", "two"], ["one", "two"]]


# -- what can't work ------------------------------------------------------------------------------


@pytest.mark.rule("T13", "D4")
def test_sessions_that_are_made_here_are_two_phase(servers: Pair) -> None:
    """An engine is enough, and one manager's choice is not another one's."""
    phases: list[str] = []
    engine = servers.engines[0]
    event.listen(engine, "prepare_twophase", lambda *_event: phases.append("prepare"))
    event.listen(engine, "commit_twophase", lambda *_event: phases.append("commit"))
    twophase = RequestScopedSessionManager(engine, twophase=True)
    plain = RequestScopedSessionManager(twophase.databases)
    for manager in (plain, twophase):
        with manager.session_scope() as session:
            session.query(Order).all()
    assert phases == ["prepare", "commit"]


@pytest.mark.rule("T13")
def test_the_users_sessions_have_to_be_two_phase_themselves(servers: Pair) -> None:
    """The message says how."""
    manager = RequestScopedSessionManager(servers.factory(), twophase=True)
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
            ask = (
                manager.get_async_request_session
                if colour == "async"
                else (manager.get_request_session)
            )
            ask()


@pytest.mark.rule("T13")
@pytest.mark.parametrize("options", [{"twophase": "yes"}, {"multiple_binds": "warn"}])
def test_other_values_are_refused(options: Any) -> None:
    """When the manager is made."""
    with pytest.raises(ConfigurationError, match="must be"):
        RequestScopedSessionManager("sqlite://", **options)
