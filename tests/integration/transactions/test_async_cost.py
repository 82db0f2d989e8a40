"""What a scope around a coroutine costs, counted in calls as that of a function is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.call_counts import calls_in
from tests.integration.transactions.worlds import AsyncWorld

READ = text("SELECT count(*) FROM note")
WRITE = text("INSERT INTO note (text) VALUES (hex(randomblob(8)))")


async def untouched(_session: AsyncSession) -> None:
    """Do nothing."""


async def read(session: AsyncSession) -> None:
    """Read once."""
    await session.execute(READ)


async def write(session: AsyncSession) -> None:
    """Write once."""
    await session.execute(WRITE)


# Of SQLAlchemy 2.0, which takes some steps more than 2.1.
@pytest.mark.rule("T50")
@pytest.mark.parametrize(("work", "ours"), [(untouched, 137), (read, 234), (write, 232)])
def test_a_coroutine_costs_this_many_calls(
    async_world: AsyncWorld, work: Callable[[AsyncSession], Any], ours: int
) -> None:
    """With a unit of work and a session of its own: each step of a coroutine counts as a call.

    A task of its own, which costs most, is made for what must not be cut in two: for COMMIT, and
    not for closing a session that has given its connection back.
    """
    manager = async_world.manager

    @manager.transactional
    @manager.with_request_session
    async def call(session: AsyncSession) -> None:
        await work(session)

    with asyncio.Runner() as runner:

        def run() -> None:
            runner.run(call())

        run()
        run()
        counted = calls_in(run)
        runner.run(async_world.async_engine.dispose())
    assert counted.ours <= ours
