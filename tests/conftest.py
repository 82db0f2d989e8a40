"""Fixtures that every test may ask for: an empty database of its own, on a real server."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings

from tests.servers.connections import Rows, async_url_of, rows_of
from tests.servers.mariadb import mariadb
from tests.servers.postgresql import postgresql
from tests.servers.processes import Server
from tests.servers.programs import MissingProgramError

T = TypeVar("T")

# A commit is judged by the same examples each time, on the oldest versions by a quarter of them;
# the night looks for new ones, and says how to replay what it found. What is slow here is the
# database, so no example has a deadline.
settings.register_profile("commit", derandomize=True, database=None, deadline=None)
settings.register_profile("floor", settings.get_profile("commit"), max_examples=25)
settings.register_profile("nightly", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile("commit")


@contextmanager
def or_skip(program: AbstractContextManager[T]) -> Generator[T]:
    """Run ``program``. Where it is missing, skip the test with the reason; under CI, fail it."""
    with ExitStack() as stack:
        try:
            started = stack.enter_context(program)
        except MissingProgramError as missing:
            if os.environ.get("CI"):
                pytest.fail(str(missing), pytrace=False)
            pytest.skip(str(missing))
        yield started


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """Run a PostgreSQL until the end of the test session."""
    with or_skip(postgresql()) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    """Run a MariaDB until the end of the test session."""
    with or_skip(mariadb()) as server:
        yield server


@pytest.fixture
def sqlite_file_url(tmp_path: Path) -> str:
    """Give the URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'test.sqlite'}"


@pytest.fixture
def sqlite_memory_url() -> str:
    """Give the URL of a SQLite database in memory; no second connection can look into it."""
    return "sqlite://"


@pytest.fixture
def postgresql_url(postgresql_server: Server) -> Iterator[str]:
    """Give the URL of an empty PostgreSQL database, dropped after the test."""
    with postgresql_server.database() as url:
        yield url


@pytest.fixture
def mariadb_url(mariadb_server: Server) -> Iterator[str]:
    """Give the URL of an empty MariaDB database, dropped after the test."""
    with mariadb_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite_file", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty database: the test runs once for each backend."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def async_database_url(database_url: str) -> str:
    """Give the URL of the same database as ``database_url`` for its asynchronous driver."""
    return async_url_of(database_url)


@pytest.fixture
def rows() -> Rows:
    """Give the function ``rows(url, sql, **parameters)``: what a second connection sees."""
    return rows_of
