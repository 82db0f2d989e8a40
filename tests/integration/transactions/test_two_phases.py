"""Two-phase commit with other drivers than psycopg, and in a mode."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from flask_reqsession import (
    ConfigurationError,
    ReadOnlyViolationError,
    RequestScopedSessionManager,
)
from tests.integration.transactions.test_multiple_binds import MODELS, Entry, Order, Pair
from tests.servers.connections import async_url_of

LIMITED: dict[str, Any] = {"timeout": 30, "read_only": False}
MODES: list[dict[str, Any]] = [{}, LIMITED, {**LIMITED, "isolation": "SERIALIZABLE"}]


def is_mariadb(pair: Pair) -> bool:
    """Whether the mode would have to come before ``XA BEGIN``."""
    return pair.engines[0].dialect.name != "postgresql"


@pytest.fixture(params=["postgresql", "mariadb"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Give two databases of one server."""
    server = request.getfixturevalue(f"{request.param}_server")
    with ExitStack() as stack:
        pair = Pair([stack.enter_context(server.database()) for _ in MODELS])
        yield pair
        pair.dispose()


@pytest.mark.rule("T13", "T19")
@pytest.mark.parametrize("mode", MODES, ids=["plain", "limited", "isolated"])
def test_both_are_committed_or_neither(pair: Pair, mode: dict[str, Any]) -> None:
    """The one that is refused takes the other along; a mode is kept, or refused by MariaDB."""
    manager = pair.manager(twophase=True)
    if is_mariadb(pair) and "isolation" in mode:
        with pytest.raises(ConfigurationError, match="isolation_level"):
            with manager.session_scope(**mode) as session:
                session.execute(select(Order))
        return
    with manager.session_scope(**mode) as session:
        session.add_all([Order(text="one"), Entry(text="one")])
    with pytest.raises(IntegrityError), manager.session_scope(**mode) as session:
        session.add_all([Order(text="two"), Entry(text="two")])
        session.flush()
        session.add(Entry(text="one"))
    assert pair.kept() == [["one"], ["one"]]


@pytest.mark.rule("T13", "T18")
def test_nothing_is_written_in_two_phases_of_a_reader(pair: Pair) -> None:
    """Each database refuses it, and what only read ends well; on MariaDB it is refused at once."""
    manager = pair.manager(twophase=True)
    if is_mariadb(pair):
        with pytest.raises(ConfigurationError, match="without twophase=True"):
            with manager.session_scope(read_only=True) as session:
                session.execute(select(Order))
        return
    with manager.session_scope(read_only=True) as session:
        assert session.query(Order).count() == 0
        assert session.query(Entry).count() == 0
    with pytest.raises(DBAPIError), manager.session_scope(read_only=True) as session:
        statement = text("INSERT INTO entry (id, text) VALUES (1, 'one')")
        session.execute(statement, bind_arguments={"mapper": Entry})
    with pytest.raises(ReadOnlyViolationError), manager.session_scope(read_only=True) as session:
        session.add_all([Order(text="one"), Entry(text="one")])
    with manager.session_scope() as session:
        session.add_all([Order(text="two"), Entry(text="two")])
    assert pair.kept() == [["two"], ["two"]]


@pytest.mark.rule("T13", "T50")
def test_asynchronous_drivers_prepare_as_well(pair: Pair) -> None:
    """asyncpg, and MariaDB's."""
    engines = [create_async_engine(async_url_of(url)) for url in pair.urls]
    binds = dict(zip(MODELS, engines, strict=True))
    sessions = async_sessionmaker(binds=binds, twophase=True)
    manager = RequestScopedSessionManager(sessions, twophase=True)

    async def write(*texts: str) -> None:
        async with manager.async_session_scope() as session:
            for each in texts:
                session.add_all([Order(text=each), Entry(text=each)])
                await session.flush()

    async def main() -> None:
        await write("one")
        with pytest.raises(IntegrityError):
            await write("two", "one")
        for engine in engines:
            await engine.dispose()

    asyncio.run(main())
    assert pair.kept() == [["one"], ["one"]]
