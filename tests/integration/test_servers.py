"""The databases that the other tests stand on are what they say."""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.servers.connections import Rows, rows_of
from tests.servers.processes import Server, ServerFailedError, run, running, server_directory
from tests.servers.proxy import cutting_proxy


def _make_table(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE seen (id INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO seen VALUES (1)"))
    engine.dispose()


@pytest.mark.parametrize("_again", [1, 2])
def test_every_test_gets_an_empty_database(database_url: str, rows: Rows, _again: int) -> None:
    """The same table can be made in each test: no test sees another one's."""
    _make_table(database_url)

    assert rows(database_url, "SELECT id FROM seen WHERE id = :id", id=1) == [(1,)]


def test_rows_sees_only_what_was_committed(database_url: str, rows: Rows) -> None:
    """``rows`` looks through a connection of its own."""
    _make_table(database_url)
    engine = create_engine(database_url)
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO seen VALUES (2)"))

        assert rows(database_url, "SELECT id FROM seen") == [(1,)]
        connection.commit()
        assert rows(database_url, "SELECT id FROM seen ORDER BY id") == [(1,), (2,)]
    engine.dispose()


def test_the_proxy_survives_a_client_that_resets_and_closes_one_that_stays(
    postgresql_url: str, rows: Rows
) -> None:
    """Others go on, and at its end nobody waits for it."""
    with cutting_proxy(postgresql_url) as proxy:
        through = make_url(proxy.url(postgresql_url))
        address = (str(through.host), int(through.port or 0))
        resetting, staying = (socket.create_connection(address) for _ in range(2))
        resetting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        resetting.close()
        engine = create_engine(through)
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        engine.dispose()
    with staying:
        assert staying.recv(1) == b""


def test_rows_refuses_a_memory_database(sqlite_memory_url: str, rows: Rows) -> None:
    """A second connection to ``sqlite://`` would see another, empty database."""
    with pytest.raises(ValueError, match="sqlite_file_url"):
        rows(sqlite_memory_url, "SELECT 1")


def test_the_async_url_reaches_the_same_database(
    database_url: str, async_database_url: str, rows: Rows
) -> None:
    """What the asynchronous driver commits is seen through the synchronous one."""
    _make_table(database_url)

    async def insert() -> None:
        engine = create_async_engine(async_database_url)
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO seen VALUES (2)"))
        await engine.dispose()

    asyncio.run(insert())

    assert rows(async_database_url, "SELECT id FROM seen ORDER BY id") == [(1,), (2,)]


def test_postgresql_can_prepare_transactions(postgresql_url: str, rows: Rows) -> None:
    """Two-phase sessions need it; PostgreSQL's own default is 0."""
    assert rows(postgresql_url, "SHOW max_prepared_transactions") == [("20",)]


@pytest.mark.parametrize("server", ["postgresql_server", "mariadb_server"])
def test_a_server_listens_on_its_own_socket_only(
    server: str, request: pytest.FixtureRequest
) -> None:
    """No port is taken, and the servers on the standard ports are never used."""
    url: URL = request.getfixturevalue(server).url

    assert url.port is None
    assert "reqsession-" in "".join(str(value) for value in url.query.values())


@pytest.mark.parametrize("server", ["postgresql_server", "mariadb_server"])
def test_a_database_is_dropped_with_whoever_is_connected(
    server: str, request: pytest.FixtureRequest
) -> None:
    """A test that leaves a connection open does not stop the others."""
    running_server: Server = request.getfixturevalue(server)
    with running_server.database() as url:
        _make_table(url)
        name = make_url(url).database
        engine = create_engine(url)
        connection = engine.connect()
        connection.execute(text("SELECT id FROM seen"))

    databases = "SELECT 1 FROM information_schema.schemata WHERE schema_name = :name"
    if server == "postgresql_server":
        databases = "SELECT 1 FROM pg_database WHERE datname = :name"
    admin = running_server.url.render_as_string(hide_password=False)
    assert rows_of(admin, databases, name=name) == []
    connection.invalidate()
    connection.close()
    engine.dispose()


def test_a_server_that_cannot_start_shows_its_log() -> None:
    """A broken server fails the tests with what it said, at once."""
    command = ["sh", "-c", "echo 'no room left'; exit 1"]
    with server_directory() as directory:
        url = URL.create("postgresql+psycopg", host=str(directory))
        socket = directory / "socket"
        with pytest.raises(ServerFailedError, match="no room left"):
            run(command, directory)
        with (
            pytest.raises(ServerFailedError, match="no room left"),
            running(command, directory, url, listens_on=socket, stop=signal.SIGTERM),
        ):
            ...


def test_a_server_is_ready_when_it_answers(postgresql_server: Server) -> None:
    """Accepting a connection is not enough: PostgreSQL does so while it still starts up."""
    url = postgresql_server.url.set(database="not_there")
    socket = Path(str(url.query["host"])) / ".s.PGSQL.5432"
    with (
        server_directory() as directory,
        pytest.raises(ServerFailedError),
        running(["false"], directory, url, listens_on=socket, stop=signal.SIGTERM),
    ):
        ...


def test_a_server_does_not_run_as_root() -> None:
    """PostgreSQL refuses root, and a container's tests often are root."""
    with server_directory() as directory:
        run(["sh", "-c", "id -u > who"], directory)

        assert int((directory / "who").read_text(encoding="utf-8")) != 0
