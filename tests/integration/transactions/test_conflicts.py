"""Two real transactions get into each other's way, and the call that lost is run again."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import NullPool, String, create_engine, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession import RequestScopedSessionManager, Retry, UnexpectedRollbackError
from flask_reqsession.codes import spelled
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.worlds import Base, Note, World
from tests.servers.connections import rows_of

AT_ONCE: Any = {"initial": 0.0, "maximum": 0.0}

colours = pytest.mark.parametrize("colour", ["sync", "async"])


class Account(Base):
    """A row of which SQLAlchemy counts the versions."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(40))
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy wants it


class Errors:
    """What each failed attempt failed with, and how many connections were held then."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.codes: list[object] = []
        self.held: list[object] = []

    def __call__(self, _attempt: int, error: BaseException) -> None:
        """Be ``before_retry``."""
        original: Any = error.orig if isinstance(error, DBAPIError) else None
        self.codes.append(type(error) if original is None else spelled(original))
        self.held.append(self._world.conversation.held)


def retrying(errors: Errors) -> dict[str, Any]:
    """Return the options of a call that is run again at once."""
    return {"retry": Retry(before_retry=errors, **AT_ONCE)}


def pooled(colour: str, url: str) -> World:
    """Return a world whose engine keeps its connections in a pool."""
    world = make_world(colour, url)
    with world.second_connection() as connection:
        connection.exec_driver_sql("INSERT INTO note (text) VALUES ('one'), ('two')")
    return world


@pytest.mark.rule("T21")
@colours
def test_a_serialization_failure_at_commit_is_an_answer(postgresql_url: str, colour: str) -> None:
    """SQLSTATE 40001 from COMMIT itself: refused for certain, so it is no unknown outcome."""
    world = pooled(colour, postgresql_url)
    errors = Errors(world)
    seen: list[int] = []

    @world.transactional(**retrying(errors))
    async def count() -> None:
        await world.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        seen.append(len(await world.read()))
        await world.write(f"{seen[-1]} notes before")
        if len(seen) == 1:
            commit_a_write_skew(world)

    world.run(count)  # type: ignore[arg-type]  # a coroutine function, decorated
    assert errors.codes == ["40001"]
    assert seen == [2, 3]
    assert world.kept() == ["one", "two", "of the rival", "3 notes before"]


def commit_a_write_skew(world: World) -> None:
    """Let a second transaction read what the call reads, and write what it did not see."""
    with world.second_connection() as connection:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        connection.exec_driver_sql("SELECT count(*) FROM note")
        connection.exec_driver_sql("INSERT INTO note (text) VALUES ('of the rival')")


class Rival:
    """A second transaction that holds the note 2 and waits for the note 1."""

    def __init__(self, world: World) -> None:
        self._engine = create_engine(world.url, poolclass=NullPool)
        self._is_postgresql = self._engine.dialect.name == "postgresql"
        self._connection = self._engine.connect()
        own = "pg_backend_pid()" if self._is_postgresql else "connection_id()"
        self._id = self._connection.scalar(text(f"SELECT {own}"))
        if self._is_postgresql:  # who notices the deadlock is the one that gives up
            self._connection.exec_driver_sql("SET deadlock_timeout = '1h'")
        # InnoDB gives up the transaction that has changed less.
        rows = ", ".join(f"('rival {number}')" for number in range(50))
        self._connection.exec_driver_sql(f"INSERT INTO note (text) VALUES {rows}")  # noqa: S608
        self._connection.exec_driver_sql("UPDATE note SET text = 'rival' WHERE id = 2")
        self._worker = threading.Thread(target=self._want_the_first)

    def _want_the_first(self) -> None:
        self._connection.exec_driver_sql("UPDATE note SET text = 'rival too' WHERE id = 1")
        self._connection.rollback()

    def wait_for_the_first(self) -> None:
        """Come back when the server says that the transaction waits for a lock."""
        self._worker.start()
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = :id AND wait_event_type = 'Lock'"
            if self._is_postgresql
            else "SELECT count(*) FROM information_schema.innodb_trx"
            " WHERE trx_mysql_thread_id = :id AND trx_state = 'LOCK WAIT'"
        )
        # InnoDB looks again only if nobody has asked for a tenth of a second.
        pause = "SELECT pg_sleep(0.01)" if self._is_postgresql else "DO SLEEP(0.2)"
        is_waiting = False
        with self._engine.connect() as watcher:
            while not is_waiting:
                watcher.exec_driver_sql(pause)
                is_waiting = bool(watcher.scalar(waiting, {"id": self._id}))
                watcher.rollback()

    def close(self) -> None:
        """Wait until it has rolled back, so that the locks are free."""
        self._worker.join()
        self._connection.close()
        self._engine.dispose()


@pytest.mark.rule("T21", "T20")
@colours
@pytest.mark.parametrize(
    ("server", "code"), [("postgresql", "40P01"), ("mariadb", 1213)], ids=["postgresql", "mariadb"]
)
def test_a_deadlock_is_run_again(
    request: pytest.FixtureRequest, server: str, code: object, colour: str
) -> None:
    """As a whole: what the attempt wrote before it is gone, its connection given back."""
    world = pooled(colour, request.getfixturevalue(f"{server}_url"))
    errors = Errors(world)
    attempts: list[int] = []

    async def rename(number: int, to: str) -> None:
        change = update(Note).where(Note.id == number).values(text=to)
        await world.do(lambda session: session.execute(change))

    @world.transactional(**retrying(errors))
    async def swap() -> None:
        attempts.append(1)
        if server == "postgresql":
            await world.execute("SET LOCAL deadlock_timeout = '1ms'")
        await rename(1, f"first {len(attempts)}")
        if len(attempts) == 1:
            rival.wait_for_the_first()
        await rename(2, f"second {len(attempts)}")

    with closing(Rival(world)) as rival:
        world.run(swap)  # type: ignore[arg-type]  # a coroutine function, decorated
    assert errors.codes == [code]
    assert errors.held == [0]
    assert world.kept() == ["first 2", "second 2"]


@pytest.mark.rule("T21")
@colours
@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_a_connection_that_the_server_ended_before_commit_is_no_obstacle(
    request: pytest.FixtureRequest, server: str, colour: str
) -> None:
    """Another attempt has another connection; the work of the first was never to be committed."""
    world = pooled(colour, request.getfixturevalue(f"{server}_url"))
    own, end = {
        "postgresql": ("pg_backend_pid()", "SELECT pg_terminate_backend({}, 5000)"),
        "mariadb": ("connection_id()", "KILL {}"),
    }[server]
    errors = Errors(world)

    @world.transactional(**retrying(errors))
    async def pay() -> None:
        await world.write("rent")
        if not errors.codes:
            number = await world.do(lambda session: session.scalar(text(f"SELECT {own}")))
            with world.second_connection() as connection:
                connection.exec_driver_sql(end.format(number))
        await world.write("audit")

    world.run(pay)  # type: ignore[arg-type]  # a coroutine function, decorated
    assert len(errors.codes) == 1
    assert errors.held == [0]
    assert world.kept() == ["one", "two", "rent", "audit"]


@pytest.mark.rule("T21", "T20")
@colours
@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_a_row_that_somebody_else_changed_is_loaded_anew(
    request: pytest.FixtureRequest, server: str, colour: str
) -> None:
    """StaleDataError of a versioned row, that only the flush before COMMIT meets."""
    world = make_world(colour, request.getfixturevalue(f"{server}_url"))
    errors = Errors(world)
    with world.second_connection() as connection:
        connection.exec_driver_sql("INSERT INTO account VALUES (1, 'ada', 1)")
    seen: list[tuple[str, int]] = []

    def rename(session: Session) -> None:
        account = session.get_one(Account, 1)
        seen.append((account.owner, account.version))
        account.owner += " and grace"

    @world.transactional(retry=Retry(before_retry=errors, **AT_ONCE))
    async def work() -> None:
        await world.do(rename)
        if len(seen) == 1:
            with world.second_connection() as connection:
                connection.exec_driver_sql("UPDATE account SET owner = 'eve', version = 2")

    world.run(work)  # type: ignore[arg-type]  # a coroutine function, decorated
    assert errors.codes == [StaleDataError]
    assert seen == [("ada", 1), ("eve", 2)]
    assert rows_of(world.url, "SELECT owner, version FROM account") == [("eve and grace", 3)]


@pytest.mark.rule("T21", "T3")
@colours
@pytest.mark.parametrize("swallows", [False, True])
def test_a_row_that_changed_since_mariadb_read_it_is_a_serialization_failure(
    mariadb_url: str, colour: str, swallows: bool
) -> None:
    """Error 1020, the default since MariaDB 11.6: the transaction is gone, not the statement."""
    world = pooled(colour, mariadb_url)
    errors = Errors(world)

    @world.transactional(**retrying(errors))
    async def work() -> None:
        await world.execute("SET innodb_snapshot_isolation = ON")
        await world.write("rent")
        await world.read()
        if not errors.codes:
            with world.second_connection() as connection:
                connection.exec_driver_sql("UPDATE note SET text = 'of the rival' WHERE id = 1")
        try:
            await world.execute("UPDATE note SET text = 'changed' WHERE id = 1")
        except OperationalError:
            if not swallows:
                raise
            await world.write("half")

    if swallows:
        with pytest.raises(UnexpectedRollbackError):
            world.run(work)  # type: ignore[arg-type]  # a coroutine function, decorated
        assert world.kept() == ["of the rival", "two"]
    else:
        world.run(work)  # type: ignore[arg-type]
        assert errors.codes == [1020]
        assert world.kept() == ["changed", "two", "rent"]


@pytest.mark.rule("T21")
@pytest.mark.parametrize("colour", ["sync", "async", "awaited"])
def test_a_snapshot_of_sqlite_that_has_become_old_is_run_again(
    sqlite_file_url: str, colour: str
) -> None:
    """SQLITE_BUSY_SNAPSHOT, for which no timeout waits: somebody wrote since the first read."""
    world = make_world(colour, sqlite_file_url)
    seen: list[list[str]] = []
    heard: list[object] = []

    def before_retry(_attempt: int, error: Any) -> None:
        heard.append(error.orig.sqlite_errorcode)

    @world.transactional(retry=Retry(before_retry=before_retry, **AT_ONCE))
    async def count() -> None:
        seen.append(await world.read())
        if len(seen) == 1:
            with world.second_connection() as connection:
                connection.exec_driver_sql("INSERT INTO note (text) VALUES ('meanwhile')")
        await world.write(f"{len(seen[-1])} before")

    world.run(count)  # type: ignore[arg-type]  # a coroutine function, decorated
    assert heard == [sqlite3.SQLITE_BUSY_SNAPSHOT]
    assert seen == [[], ["meanwhile"]]
    assert world.kept() == ["meanwhile", "1 before"]


@contextmanager
def shared_memory() -> Iterator[tuple[str, sqlite3.Connection]]:
    """Give a memory database that two connections of one process share, and one of them."""
    name = f"file:{threading.get_ident()}?mode=memory&cache=shared"
    with closing(sqlite3.connect(name, uri=True)) as connection:
        connection.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, text VARCHAR(40))")
        yield f"sqlite:///{name}&uri=true", connection


@pytest.mark.rule("T21")
def test_a_table_of_sqlite_that_is_locked_inside_the_process_is_run_again() -> None:
    """SQLITE_LOCKED_SHAREDCACHE: the busy timeout does not apply to it."""
    with shared_memory() as (url, rival):
        manager = RequestScopedSessionManager(create_engine(url, poolclass=NullPool))
        rival.execute("INSERT INTO note (text) VALUES ('of the rival')")
        heard: list[object] = []

        def let_go(_attempt: int, error: Any) -> None:
            heard.append(error.orig.sqlite_errorcode)
            rival.rollback()

        @manager.transactional(retry=Retry(before_retry=let_go, **AT_ONCE))
        def count() -> int:
            manager.session.add(Note(text=f"note {len(heard)}"))
            return len(manager.session.scalars(select(Note)).all())

        assert count() == 1
        assert heard == [sqlite3.SQLITE_LOCKED_SHAREDCACHE]
        assert rival.execute("SELECT text FROM note").fetchall() == [("note 1",)]


@pytest.mark.rule("T21")
@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
@colours
def test_an_error_of_the_same_class_with_another_code_is_not_run_again(
    request: pytest.FixtureRequest, server: str, colour: str
) -> None:
    """OperationalError is not enough: a lock that was not waited for, a connection refused."""
    world = pooled(colour, request.getfixturevalue(f"{server}_url"))
    errors = Errors(world)
    lock = "SELECT * FROM note WHERE id = 1 FOR UPDATE"

    @world.transactional(**retrying(errors))
    async def look() -> None:
        if server == "postgresql":
            await world.execute(f"{lock} NOWAIT")  # 55P03, lock_not_available
        await world.execute("SELECT * FROM missing_table")

    with create_engine(world.url, poolclass=NullPool).connect() as holder:
        holder.exec_driver_sql(lock)
        with pytest.raises(DBAPIError):
            world.run(look)  # type: ignore[arg-type]  # a coroutine function, decorated
        holder.rollback()
    assert errors.codes == []


@pytest.mark.rule("T21")
def test_a_database_that_cannot_be_reached_is_not_asked_again(tmp_path: Any) -> None:
    """No connection was lost: there was none."""
    nowhere = f"postgresql+psycopg://postgres@/nowhere?host={tmp_path}"
    manager = RequestScopedSessionManager(nowhere)
    attempts: list[int] = []

    @manager.transactional(retry=Retry(**AT_ONCE))
    def look() -> None:
        attempts.append(1)
        manager.session.execute(text("SELECT 1"))

    with pytest.raises(OperationalError):
        look()
    assert attempts == [1]
    manager.databases.dispose()
