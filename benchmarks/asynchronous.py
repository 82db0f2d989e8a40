"""Compare coroutines on aiosqlite: with an ``AsyncSession`` by hand, and with the package.

    python -m benchmarks.asynchronous

Both run in one event loop, without a web server around them.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from benchmarks.scenarios import Base, Entry, Item
from flask_reqsession import RequestScopedSessionManager

ROUNDS, CALLS = 40, 60

Work = Callable[[AsyncSession], Awaitable[object]]


@dataclass(frozen=True)
class AsyncPair:
    """One scenario: the same work, by hand and with the package."""

    name: str
    by_hand: Callable[[], Awaitable[object]]
    package: Callable[[], Awaitable[object]]


async def empty(_session: AsyncSession) -> str:
    """Leave the session alone."""
    return "ok"


async def read(session: AsyncSession) -> str:
    """Read one row by its primary key."""
    return (await session.get_one(Item, 1)).name


async def insert(session: AsyncSession) -> str:
    """Add one row."""
    session.add(Entry(label="x"))
    return "ok"


def pair_of(
    manager: RequestScopedSessionManager, make: async_sessionmaker[AsyncSession], work: Work
) -> AsyncPair:
    """Run ``work`` in a transaction by hand, and in one of the package."""

    async def by_hand() -> object:
        async with make.begin() as session:
            return await work(session)

    async def injected(session: AsyncSession) -> object:
        return await work(session)

    package = manager.transactional(manager.with_request_session(injected))
    return AsyncPair(getattr(work, "__name__", "work"), by_hand, package)


async def sample(call: Callable[[], Awaitable[object]]) -> float:
    """Return the seconds that one sample of calls takes."""
    started = perf_counter()
    for _ in range(CALLS):
        await call()
    return perf_counter() - started


async def ratios_of(pair: AsyncPair) -> list[float]:
    """Return the ratio of each round, the two side by side in it."""
    await sample(pair.by_hand)
    await sample(pair.package)
    ratios: list[float] = []
    for number in range(ROUNDS):
        if number % 2:
            package, hand = await sample(pair.package), await sample(pair.by_hand)
        else:
            hand, package = await sample(pair.by_hand), await sample(pair.package)
        ratios.append(package / hand)
    return ratios


def pairs_of(
    manager: RequestScopedSessionManager, make: async_sessionmaker[AsyncSession]
) -> Iterator[AsyncPair]:
    """Give the pairs, one after the other."""
    for work in (empty, read, insert):
        yield pair_of(manager, make, work)


async def main() -> None:
    """Make the tables in memory, and print the ratio of each pair with its quartiles."""
    manager = RequestScopedSessionManager(URL.create("sqlite+aiosqlite"))
    engine = manager.databases.async_engine()
    make = async_sessionmaker(engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with make.begin() as session:
        session.add(Item(id=1, name="item"))
    print(f"{'scenario':<10} {'ratio':>7}   quartiles")
    for pair in pairs_of(manager, make):
        gc.collect()
        gc.freeze()
        low, middle, high = statistics.quantiles(await ratios_of(pair), n=4)
        print(f"{pair.name:<10} {middle:7.2f}   {low:.2f}..{high:.2f}")
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
