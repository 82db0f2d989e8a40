"""What fails when two databases are about to commit: both or neither, or it is told."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from flask_reqsession import (
    CommitOutcomeUnknownError,
    RequestScopedSessionManager,
    TransactionOutcome,
)
from tests.integration.transactions.pairs import MODELS, Entry, Order, Pair, pair_on, write_both
from tests.servers.processes import Server


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
    postgresql_pair: Pair, victim: int, decision: str
) -> None:
    """The other database is committed, never rolled back; the error names what is left prepared."""
    event.listen(postgresql_pair.engines[victim], "commit_twophase", kill_backend)
    manager = postgresql_pair.manager(twophase=True)
    with manager.unit_of_work():
        with pytest.raises(CommitOutcomeUnknownError) as caught, manager.session_scope() as session:
            write_both(session)
        left = postgresql_pair.prepared()
        [gid] = left[victim]
        assert left[1 - victim] == []
        assert postgresql_pair.kept()[1 - victim] == ["one"]
        assert postgresql_pair.kept()[victim] == []
        assert f"COMMIT PREPARED '{gid}'" in str(caught.value)
        assert "pg_prepared_xacts" in str(caught.value)
        assert repr(postgresql_pair.engines[victim].url.database) in str(caught.value)
        assert isinstance(caught.value.__cause__, OperationalError)
        postgresql_pair.recover(decision)
        event.remove(postgresql_pair.engines[victim], "commit_twophase", kill_backend)
        with manager.session_scope() as session:
            session.add_all([Order(text="next"), Entry(text="next")])
    counted = manager.metrics.snapshot()
    assert (counted["commits"], counted.get("rollbacks")) == (1, None)
    kept = postgresql_pair.kept()
    assert kept[1 - victim] == ["one", "next"]
    assert kept[victim] == (["one", "next"] if decision == "COMMIT" else ["next"])


@pytest.mark.rule("T13", "T24")
def test_both_connections_lost_in_the_second_phase_are_told(postgresql_pair: Pair) -> None:
    """The first failure does not keep the other part from being tried, and told if it fails too."""
    for engine in postgresql_pair.engines:
        event.listen(engine, "commit_twophase", kill_backend)
    manager = postgresql_pair.manager(twophase=True)
    with pytest.raises(CommitOutcomeUnknownError) as caught, manager.session_scope() as session:
        write_both(session)
    left = [gid for gids in postgresql_pair.prepared() for gid in gids]
    assert len(left) == 2
    assert all(f"COMMIT PREPARED '{gid}'" in str(caught.value) for gid in left)
    postgresql_pair.recover("COMMIT")
    assert postgresql_pair.kept() == [["one"], ["one"]]


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
def test_a_listener_that_keeps_the_second_phase_from_being_sent_is_told(
    postgresql_pair: Pair,
) -> None:
    """What it left prepared is not committed, whatever was committed on the other database."""
    listener = FailsOnce()
    listener.listen_to(postgresql_pair)
    manager = postgresql_pair.manager(twophase=True)
    with pytest.raises(CommitOutcomeUnknownError) as caught, manager.session_scope() as session:
        write_both(session)
    assert isinstance(caught.value.__cause__, LookupError)
    assert listener.heard == 2
    [gid] = [gid for gids in postgresql_pair.prepared() for gid in gids]
    assert f"COMMIT PREPARED '{gid}'" in str(caught.value)
    assert sorted(postgresql_pair.kept()) == [[], ["one"]]
    postgresql_pair.recover("COMMIT")
    assert postgresql_pair.kept() == [["one"], ["one"]]


@pytest.mark.rule("T1", "T13", "T37")
def test_an_exit_in_the_second_phase_goes_on_with_the_remedy(postgresql_pair: Pair) -> None:
    """Ctrl-C stays Ctrl-C; the outcome of the transaction is unknown all the same."""
    listener, told = FailsOnce(KeyboardInterrupt()), list[TransactionOutcome]()
    listener.listen_to(postgresql_pair)
    manager = postgresql_pair.manager(twophase=True)
    with pytest.raises(KeyboardInterrupt) as caught, manager.session_scope() as session:
        manager.on_completion(told.append)
        write_both(session)
    assert caught.value is listener.error
    assert told == [TransactionOutcome.UNKNOWN]
    [gid] = [gid for gids in postgresql_pair.prepared() for gid in gids]
    assert f"COMMIT PREPARED '{gid}'" in "".join(caught.value.__notes__)
    postgresql_pair.recover("COMMIT")
    assert postgresql_pair.kept() == [["one"], ["one"]]


@pytest.mark.rule("T13", "T24")
def test_the_remedy_is_in_the_words_of_the_database(mariadb_server: Server) -> None:
    """What the error says ends what MariaDB has prepared."""
    with pair_on(mariadb_server) as pair:
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


@pytest.mark.rule("T13", "T21")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_connection_lost_while_it_prepares_leaves_nothing(
    postgresql_pair: Pair, victim: int
) -> None:
    """All is rolled back. A PREPARE without an answer may have happened, so it has a note."""
    event.listen(postgresql_pair.engines[victim], "prepare_twophase", kill_backend)
    manager = postgresql_pair.manager(twophase=True)
    with pytest.raises(OperationalError) as caught, manager.session_scope() as session:
        write_both(session)
    assert "ROLLBACK PREPARED '_sa_" in "".join(caught.value.__notes__)
    assert postgresql_pair.kept() == [[], []]
    assert postgresql_pair.prepared() == [[], []]


def kill_at(engines: Iterable[Engine], moment: str, number: int) -> None:  # pragma: no cover
    """Let this process be killed right before the ``number``-th time that ``moment`` is sent."""
    left = [*range(number)]

    def listen(*_event: object) -> None:
        left.pop()
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    for engine in engines:
        event.listen(engine, moment, listen)


@pytest.mark.rule("T13")
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("moment", ["prepare_twophase", "commit_twophase"])
def test_a_process_that_is_killed_leaves_both_or_neither(
    pair: Pair, capfd: pytest.CaptureFixture[str], moment: str, number: int
) -> None:
    """What the log has is to be committed, all else to be rolled back: by the words of the page."""
    for engine in pair.engines:
        engine.dispose()
    child = os.fork()
    if child == 0:  # pragma: no cover - killed before it can write down what it ran
        logging.getLogger("flask_reqsession").addHandler(logging.StreamHandler())
        logging.getLogger("flask_reqsession").setLevel(logging.INFO)
        kill_at(pair.engines, moment, number)
        manager = pair.manager(twophase=True)
        manager.transactional(lambda: write_both(manager.session))()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    pair.await_end_of_clients()
    are_all_prepared = moment == "commit_twophase"
    left = 3 - number if are_all_prepared else number - 1
    both = ["one"] if are_all_prepared else []
    assert sum(map(len, pair.prepared())) == left
    assert sum(map(len, pair.kept())) == (number - 1 if are_all_prepared else 0)
    pair.recover("ROLLBACK", but="COMMIT", logged=capfd.readouterr().err)
    assert pair.kept() == [both, both]
    assert pair.prepared() == [[], []]


@pytest.mark.rule("T13", "T16")
def test_a_listener_that_fails_after_both_have_committed_is_no_unknown_outcome(
    postgresql_pair: Pair,
) -> None:
    """The exception says that the transaction was committed."""
    manager = postgresql_pair.manager(twophase=True)

    def fail(_session: Session) -> None:
        raise LookupError("listener")

    with pytest.raises(LookupError) as caught, manager.session_scope() as session:
        write_both(session)
        event.listen(session, "after_commit", fail)
    assert "had been committed" in "".join(caught.value.__notes__)
    assert postgresql_pair.kept() == [["one"], ["one"]]
    assert postgresql_pair.prepared() == [[], []]


@pytest.mark.rule("T13", "T50")
def test_two_phases_of_an_asynchronous_session(postgresql_pair: Pair) -> None:
    """Through psycopg's asynchronous connections."""
    engines = [
        create_async_engine(url.replace("postgresql+psycopg:", "postgresql+psycopg_async:"))
        for url in postgresql_pair.urls
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
    postgresql_pair.recover("COMMIT")
    assert postgresql_pair.kept() == [["one", "two"], ["one", "two"]]
