"""One manager on one database for thousands of programs, and a connection that looks on."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hypothesis.strategies import SearchStrategy
from sqlalchemy import Connection, Engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from flask_reqsession import DatabaseManager, RequestScopedSessionManager
from flask_reqsession.engines import make_async_engine, make_engine
from flask_reqsession.sqlite import is_memory
from flask_reqsession.testing import (
    Outcome,
    Program,
    arun_program,
    run_program,
    scope_programs,
)
from flask_reqsession.testing.programs import Root
from tests.servers.connections import async_url_of


class Arena(ABC):
    """Runs programs on the database at ``url``; ``witness`` is a connection that nothing shares."""

    manager: RequestScopedSessionManager
    roots: Sequence[Root] = ("unit", "request", "bare")

    def __init__(self, url: str, witness: Connection | None) -> None:
        self._witness = witness
        self.has_one_connection = is_memory(make_url(url))
        self.has_one_writer = url.startswith("sqlite")

    @property
    def programs(self) -> SearchStrategy[Program]:
        """The programs that the database can run."""
        return scope_programs(
            roots=self.roots,
            second_session=not self.has_one_connection,
            second_writer=not self.has_one_writer,
        )

    @abstractmethod
    def run(self, program: Program) -> Outcome:
        """Run ``program`` in this colour."""

    def kept(self, outcome: Outcome) -> frozenset[int]:
        """Return the rows that the witness sees; of a memory database those of ``outcome``."""
        if self._witness is None:
            return outcome.rows
        numbers = self._witness.scalars(text("SELECT number FROM reqsession_program_row"))
        return frozenset(numbers) - {0}


class SyncArena(Arena):
    """The arena of ``Session``."""

    def __init__(self, url: str, engine: Engine, witness: Connection | None) -> None:
        super().__init__(url, witness)
        self.manager = RequestScopedSessionManager(DatabaseManager(engine))

    def run(self, program: Program) -> Outcome:
        """Run ``program`` with ``Session``."""
        return run_program(program, self.manager)


class AsyncArena(Arena):
    """The arena of ``AsyncSession``: one event loop, as its pool is bound to one.

    Requests are rare, since each has a loop of its own, which connects anew.
    """

    roots = ("unit", "bare", "unit", "bare", "request")

    def __init__(
        self, url: str, engine: AsyncEngine, runner: asyncio.Runner, witness: Connection | None
    ) -> None:
        super().__init__(url, witness)
        self._runner = runner
        self.manager = RequestScopedSessionManager(DatabaseManager(async_source=engine))

    def run(self, program: Program) -> Outcome:
        """Run ``program`` with ``AsyncSession``."""
        return self._runner.run(arun_program(program, self.manager))


@contextmanager
def sync_arena(url: str) -> Iterator[Arena]:
    """Open the arena of ``Session`` on ``url``."""
    engine = _hurried(make_engine(url))
    with _witness(url) as witness:
        yield SyncArena(url, engine, witness)
    engine.dispose()


@contextmanager
def async_arena(url: str) -> Iterator[Arena]:
    """Open the arena of ``AsyncSession`` on ``url``."""
    options = {} if is_memory(make_url(url)) else {"poolclass": AsyncAdaptedQueuePool}
    engine = make_async_engine(async_url_of(url), options)
    _hurried(engine.sync_engine)
    with _witness(url) as witness, asyncio.Runner() as runner:
        yield AsyncArena(url, engine, runner, witness)
        runner.run(engine.dispose())


@contextmanager
def _witness(url: str) -> Iterator[Connection | None]:
    """Connect once more, in autocommit: each look sees what is committed at that moment."""
    if is_memory(make_url(url)):
        yield None
        return
    engine = make_engine(url, {"isolation_level": "AUTOCOMMIT"})
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def _hurried(engine: Engine) -> Engine:
    """Let SQLite not wait for the disk: nothing here has to survive a crash of the machine."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _do_not_wait)
    return engine


def _do_not_wait(connection: DBAPIConnection, _record: object) -> None:
    level, connection.isolation_level = connection.isolation_level, None
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = OFF")
    cursor.close()
    connection.isolation_level = level
