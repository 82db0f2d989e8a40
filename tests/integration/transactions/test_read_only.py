"""``read_only=True``: the database refuses writes, and forgets that it does afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession import (
    ConfigurationError,
    ManualCommitError,
    PoolDemandError,
    Propagation,
    PropagationError,
    ReadOnlyViolationError,
    RequestScopedSessionManager,
    UnexpectedRollbackError,
)
from tests.integration.transactions.worlds import Base, Note, SyncWorld, World

WRITES = [
    "INSERT INTO note (text) VALUES ('raw')",
    "UPDATE note SET text = 'changed'",
    "DELETE FROM note",
    "/* a comment */ INSERT INTO note (text) VALUES ('raw')",
]


async def keep(world: World, text: str) -> None:
    """Commit a note in a scope of its own."""
    async with world.scope():
        await world.write(text)


def change(session: Session) -> None:
    """Change the first note, and send nothing."""
    session.scalars(select(Note)).one().text = "changed"


def delete(session: Session) -> None:
    """Mark the first note, and send nothing."""
    session.delete(session.scalars(select(Note)).one())


@pytest.mark.rule("T18")
@pytest.mark.parametrize("sql", WRITES)
async def test_the_database_refuses_a_statement_that_writes(pooled: World, sql: str) -> None:
    """Plain SQL too; the error is SQLAlchemy's own."""
    await keep(pooled, "kept")

    @pooled.transactional(read_only=True)
    async def report() -> None:
        assert await pooled.read() == ["kept"]
        await pooled.execute(sql)

    async with pooled.unit():
        with pytest.raises(DBAPIError):
            await report()
    assert pooled.kept() == ["kept"]


@pytest.mark.rule("T18")
@pytest.mark.parametrize("sql", ["DROP TABLE note", "CREATE TABLE other (id INTEGER)"])
async def test_a_statement_that_changes_tables_is_refused(pooled: World, sql: str) -> None:
    """By MariaDB, which would commit before it, it is not even seen."""
    await keep(pooled, "kept")
    is_ours = pooled.engine.dialect.name == "mariadb"

    @pooled.transactional(read_only=True)
    async def report() -> None:
        await pooled.read()
        await pooled.execute(sql)

    with pytest.raises(ReadOnlyViolationError if is_ours else DBAPIError, match="(?i)read-?.?only"):
        await report()
    assert pooled.kept() == ["kept"]


@pytest.mark.rule("T18")
@pytest.mark.parametrize("sql", ["BEGIN", "SET autocommit = 1", "SET PASSWORD = ''"])
def test_what_would_commit_on_mariadb_dooms_the_scope(mariadb_url: str, sql: str) -> None:
    """Swallowed, it is told at the end."""
    world = SyncWorld(mariadb_url)
    with pytest.raises(UnexpectedRollbackError) as caught:
        with world.manager.session_scope(read_only=True) as session:
            with pytest.raises(ReadOnlyViolationError, match="commits implicitly"):
                session.execute(text(sql))
    assert isinstance(caught.value.__cause__, ReadOnlyViolationError)
    world.manager.databases.dispose()


@pytest.mark.rule("T17", "T18")
async def test_a_commit_as_a_statement_is_a_commit_by_hand_here_as_well(pooled: World) -> None:
    """On every database the error names the commit."""
    with pytest.raises(ManualCommitError, match="^COMMIT"):
        async with pooled.scope(read_only=True):
            await pooled.read()
            await pooled.execute("COMMIT")


@pytest.mark.rule("T18")
@pytest.mark.parametrize("ending", ["commit", "violation", "exception", "refused"])
async def test_the_connection_can_write_again(pooled: World, ending: str) -> None:
    """The same one, whatever happened in the scope: the pool has no other."""

    @pooled.transactional(read_only=True)
    async def report() -> None:
        await pooled.read()
        if ending == "violation":
            await pooled.write("violating")
        elif ending == "refused":
            await pooled.execute(WRITES[0])
        elif ending == "exception":
            raise ValueError

    async with pooled.unit():
        try:
            await report()
        except (ValueError, ReadOnlyViolationError, DBAPIError):
            assert ending != "commit"
        await keep(pooled, "within the unit")
    await keep(pooled, "outside")
    assert pooled.kept() == ["within the unit", "outside"]


@pytest.mark.rule("T18")
async def test_a_flush_names_what_it_would_have_written(everywhere: World) -> None:
    """By class and identity; no value of a row is told, and nothing is sent."""
    async with everywhere.scope():
        written = await everywhere.write("secret")
    named = {"new Note": Note(text="secret, too"), f"Note({written.id})": None}
    for name, added in named.items():
        with pytest.raises(ReadOnlyViolationError) as caught:
            async with everywhere.scope(read_only=True):
                if added is None:
                    await everywhere.do(change)
                else:
                    everywhere.session.add(added)
        assert name in str(caught.value)
        assert "session_scope() is read_only=True" in str(caught.value)
        assert "secret" not in str(caught.value)
    with pytest.raises(ReadOnlyViolationError, match=r"Note\(1\)"):
        async with everywhere.scope(read_only=True):
            await everywhere.do(delete)
            await everywhere.read()  # flushes before it
    assert everywhere.kept() == ["secret"]


@pytest.mark.rule("T18")
async def test_a_change_without_effect_is_none(world: World) -> None:
    """An attribute set to what it was is not flushed; what was taken back neither."""
    await keep(world, "kept")

    def touch(session: Session) -> None:
        note = session.scalars(select(Note)).one()
        note.text = "kept"
        session.add(added := Note(text="mistaken"))
        session.expunge(added)

    async with world.scope(read_only=True):
        await world.do(touch)
    async with world.unit():
        async with world.scope(read_only=True):
            await world.read()
        async with world.scope():  # the session's flushes are looked at from now on
            await world.write("written")
    assert world.kept() == ["kept", "written"]


@pytest.mark.rule("T18")
@pytest.mark.parametrize("propagation", ["REQUIRED", "NESTED", "SUPPORTS", "MANDATORY"])
async def test_a_scope_inside_inherits(world: World, propagation: str) -> None:
    """What says nothing about it is read-only as well."""

    @world.transactional(propagation=propagation)
    async def inner() -> None:
        assert world.manager.get_session_info()["read_only"] is (world.given_session is not None)
        await world.write("refused")

    with pytest.raises(ReadOnlyViolationError):
        async with world.scope(read_only=True):
            await inner()
    assert world.kept() == []


@pytest.mark.rule("T18")
@pytest.mark.parametrize("propagation", ["REQUIRED", "NESTED", "MANDATORY", "SUPPORTS"])
async def test_a_scope_that_has_to_write_is_refused_inside(world: World, propagation: str) -> None:
    """At entry, before its body; the scope around goes on."""
    ran = []

    @world.transactional(propagation=propagation, read_only=False)
    async def inner() -> None:
        ran.append(True)

    async with world.scope(read_only=True):
        with pytest.raises(
            PropagationError, match="read_only=False.*session_scope.*read_only=True"
        ):
            await inner()
        assert await world.read() == []
    assert ran == []
    async with world.scope():
        await inner()
    assert ran == [True]


@pytest.mark.rule("T18")
@pytest.mark.parametrize("propagation", ["REQUIRED", "NESTED", "MANDATORY"])
async def test_a_reader_joins_a_writable_scope(everywhere: World, propagation: str) -> None:
    """Nothing more is enforced there: the transaction is the writer's."""

    @everywhere.transactional(propagation=propagation, read_only=True)
    async def inner() -> None:
        assert everywhere.manager.get_session_info()["read_only"] is False
        await everywhere.write("inner")

    async with everywhere.scope(read_only=False):
        await everywhere.write("outer")
        await inner()
    assert everywhere.kept() == ["outer", "inner"]


@pytest.mark.rule("T18", "T5")
async def test_a_scope_of_its_own_follows_its_own_option(everywhere: World) -> None:
    """Writable inside a read-only one, and read-only inside a writable one."""

    @everywhere.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit() -> None:
        await everywhere.write("audit")

    @everywhere.transactional(propagation=Propagation.REQUIRES_NEW, read_only=True)
    async def look() -> None:
        await everywhere.execute(WRITES[0])

    async with everywhere.scope(read_only=True):
        assert await everywhere.read() == []
        await audit()
    async with everywhere.scope():
        with pytest.raises(DBAPIError):
            await look()
        await everywhere.write("after")
    assert everywhere.kept() == ["audit", "after"]


@pytest.mark.rule("T18", "T10")
async def test_an_untouched_scope_costs_no_connection(everywhere: World) -> None:
    """The mode is told with the first statement."""
    async with everywhere.scope(read_only=True, timeout=60):
        ...
    assert everywhere.conversation.checkouts == 0
    assert everywhere.sent == []


@pytest.mark.rule("T18", "T8")
async def test_a_transaction_begun_by_reading_is_ended_first(everywhere: World) -> None:
    """What it loaded stays loaded; nothing is read a second time."""
    await keep(everywhere, "kept")
    async with everywhere.unit():
        note = await everywhere.do(lambda session: session.scalars(select(Note)).one())
        assert everywhere.session.in_transaction()
        everywhere.conversation.clear()
        with pytest.raises(DBAPIError):
            async with everywhere.scope(read_only=True):
                assert note.text == "kept"
                assert everywhere.sent == ["COMMIT"]
                await everywhere.execute(WRITES[0])
    assert everywhere.kept() == ["kept"]


@pytest.mark.rule("T18", "T8")
@pytest.mark.parametrize("options", [{"read_only": True}, {"timeout": 60}])
async def test_a_request_that_wrote_before_is_refused(
    everywhere: World, options: dict[str, Any]
) -> None:
    """Its uncommitted work would be a part of the transaction; it stays as it is."""
    async with everywhere.unit():
        await everywhere.write("before")
        with pytest.raises(PropagationError, match="uncommitted changes from before it"):
            async with everywhere.scope(**options):
                ...
        async with everywhere.scope():  # takes it over
            ...
    assert everywhere.kept() == ["before"]


@pytest.mark.rule("T18")
async def test_a_generator_stays_read_only_between_its_steps(sync_world: SyncWorld) -> None:
    """Also where the consumer is the first to use the connection."""

    @sync_world.manager.transactional(read_only=True)
    def texts() -> Any:
        yield from ("one", "two")

    with sync_world.manager.unit_of_work():
        stepping = texts()
        assert next(stepping) == "one"
        with pytest.raises(ReadOnlyViolationError, match=r"texts\(\)"):
            sync_world.put("refused")
        stepping.close()
    assert sync_world.kept() == []


@pytest.mark.rule("T18", "T20")
async def test_each_attempt_is_read_only(everywhere: World) -> None:
    """A retried call begins every time in its mode."""
    attempts: list[int] = []

    @everywhere.transactional(read_only=True, retry=2)
    async def report() -> None:
        attempts.append(len(attempts))
        await everywhere.read()
        if len(attempts) == 1:
            raise StaleDataError
        await everywhere.execute(WRITES[0])

    with pytest.raises(DBAPIError):
        await report()
    assert attempts == [0, 1]
    assert everywhere.kept() == []


@pytest.mark.rule("T18", "D5")
def test_a_driver_in_autocommit_is_refused(postgresql_url: str) -> None:
    """Each statement would be a transaction of its own, and none of them read-only."""
    engine = create_engine(postgresql_url, connect_args={"autocommit": True})
    Base.metadata.create_all(engine)
    manager = RequestScopedSessionManager(engine)
    for _ in range(2):
        with pytest.raises(Exception, match="AUTOCOMMIT") as caught:
            with manager.session_scope(read_only=True) as session:
                session.execute(text(WRITES[0]))
        assert type(caught.value).__name__ == "ConfigurationError"
    engine.dispose()


@pytest.mark.rule("T18")
def test_a_mode_that_could_not_be_told_dooms_the_scope(sqlite_file_url: str) -> None:
    """What comes after the swallowed refusal would run in no mode."""
    world = SyncWorld(sqlite_file_url)
    manager = world.manager
    with pytest.raises(UnexpectedRollbackError, match="does not exist on sqlite"):
        with manager.session_scope(isolation="REPEATABLE READ") as session:
            with pytest.raises(Exception, match="does not exist on sqlite"):
                session.execute(text("SELECT 1"))
            session.execute(text(WRITES[0]))
    assert world.kept() == []
    manager.databases.dispose()


@pytest.mark.rule("T18")
@pytest.mark.parametrize("backend", ["sqlite_file", "postgresql"])
def test_a_session_on_the_users_connection_is_read_only_in_its_scope(
    request: pytest.FixtureRequest, backend: str
) -> None:
    """In his transaction; his connection can write again, though no pool gets it back."""
    world = SyncWorld(request.getfixturevalue(f"{backend}_url"))
    with world.engine.connect() as connection, connection.begin():
        factory = sessionmaker(connection, join_transaction_mode="create_savepoint")
        manager = RequestScopedSessionManager(factory)
        with pytest.raises(DBAPIError):
            with manager.session_scope(read_only=True) as session:
                session.execute(text(WRITES[0]))
        with manager.session_scope() as session:
            session.execute(text(WRITES[0]))
    assert world.kept() == ["raw"]
    world.engine.dispose()


@pytest.mark.rule("T18", "T19")
@pytest.mark.parametrize("options", [{"isolation": "SERIALIZABLE"}, {"read_only": True}])
def test_a_transaction_of_the_user_keeps_what_cannot_be_changed(
    mariadb_url: str, options: Any
) -> None:
    """MariaDB refuses both in the middle of a transaction, and so does the scope."""
    world = SyncWorld(mariadb_url)
    with world.engine.connect() as connection, connection.begin():
        manager = RequestScopedSessionManager(sessionmaker(connection))
        with pytest.raises(PropagationError, match="Bind the session to an engine"):
            with manager.session_scope(**options) as session:
                session.execute(text("SELECT 1"))
    world.engine.dispose()


class Unknown(SQLiteDialect_pysqlite):
    """A database that nobody has heard of."""

    name = "unknown"
    supports_statement_cache = True


@pytest.mark.rule("T18")
def test_a_database_that_is_not_known_is_refused(tmp_path: Path) -> None:
    """To guess its words could leave it writable."""
    registry.register("unknown", __name__, "Unknown")
    engine = create_engine(f"unknown:///{tmp_path / 'file'}")
    with pytest.raises(ConfigurationError, match="unknown: only postgresql, mariadb"):
        with RequestScopedSessionManager(engine).session_scope(read_only=True) as session:
            session.execute(text("SELECT 1"))
    engine.dispose()


@pytest.mark.rule("T18")
def test_whoever_is_refused_the_connection_does_not_end_the_mode() -> None:
    """A memory database has one: it is asked for, refused and given back in the middle."""
    manager = RequestScopedSessionManager("sqlite://")
    engine = manager.databases.engine()
    Base.metadata.create_all(engine)
    with pytest.raises(DBAPIError), manager.session_scope(read_only=True) as session:
        session.execute(text("SELECT 1"))
        with engine.connect() as other, pytest.raises(PoolDemandError):
            other.execute(text("SELECT 1"))
        session.execute(text(WRITES[0]))
    with manager.session_scope() as session:
        session.execute(text(WRITES[0]))
        assert session.scalars(text("SELECT text FROM note")).all() == ["raw"]
    manager.databases.dispose()
