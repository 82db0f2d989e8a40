"""Execute a program with the real decorators, and tell what was seen."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.exc import SAWarning
from sqlalchemy.pool import QueuePool, StaticPool

from flask_reqsession.testing.outcomes import Outcome
from flask_reqsession.testing.programs import Program
from flask_reqsession.testing.running.async_runner import AsyncRunner
from flask_reqsession.testing.running.sync_runner import SyncRunner
from flask_reqsession.testing.running.table import prepare, rows_in

if TYPE_CHECKING:
    from flask_reqsession.manager import RequestScopedSessionManager

__all__ = ["arun_program", "run_program"]


def run_program(program: Program, manager: RequestScopedSessionManager) -> Outcome:
    """Execute ``program`` on the default bind of ``manager`` and tell what was seen.

    Its rows go to the table ``reqsession_program_row``, which is made where it is missing and
    emptied before. The rows of the outcome are read through a connection of its own.

    >>> from flask_reqsession import RequestScopedSessionManager
    >>> from flask_reqsession.testing.programs import Program
    >>> from flask_reqsession.testing.steps import Add, Call, Options
    >>> manager = RequestScopedSessionManager("sqlite://")
    >>> sorted(run_program(Program("bare", (Call("call1", Options(), (Add(2),)),)), manager).rows)
    [2]
    """
    engine = manager.databases.engine()
    with engine.connect() as connection:
        prepare(connection)
    runner = SyncRunner(manager)
    with _known_warnings():
        error = runner.error_of(program)
    held = _held(engine)
    with engine.connect() as connection:
        rows = rows_in(connection)
    return runner.outcome(rows, error, held)


async def arun_program(program: Program, manager: RequestScopedSessionManager) -> Outcome:
    """Do what :func:`run_program` does with coroutine functions and the ``AsyncSession``.

    A program that starts in a request runs in an async view, which needs Flask's extra ``async``.

    >>> import asyncio
    >>> from flask_reqsession import DatabaseManager, RequestScopedSessionManager
    >>> from flask_reqsession.testing.programs import Program
    >>> from flask_reqsession.testing.steps import Add, Call, Options
    >>> databases = DatabaseManager(async_source="sqlite+aiosqlite:///program.db")
    >>> manager = RequestScopedSessionManager(databases)
    >>> program = Program("bare", (Call("call1", Options(), (Add(2),)),))
    >>> sorted(asyncio.run(arun_program(program, manager)).rows)
    [2]
    """
    engine = manager.databases.async_engine()
    async with engine.connect() as connection:
        await connection.run_sync(prepare)
    if program.root == "request" and not isinstance(engine.pool, StaticPool):
        await engine.dispose()  # what is pooled belongs to this event loop, not to the view's
    runner = AsyncRunner(manager)
    with _known_warnings():
        error = await runner.error_of(program)
    held = _held(engine.sync_engine)
    async with engine.connect() as connection:
        rows = await connection.run_sync(rows_in)
    return runner.outcome(rows, error, held)


@contextmanager
def _known_warnings() -> Generator[None]:
    """Let SQLAlchemy not warn of what a program does on purpose: it adds rows after a failure."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Session's state has been changed", SAWarning)
        yield


def _held(engine: Engine) -> int:
    pool = engine.pool
    return pool.checkedout() if isinstance(pool, QueuePool) else 0
