"""One session on two databases: never one COMMIT without the other, unless that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from flask_reqsession import (
    ConfigurationError,
    MultipleBindsError,
    Propagation,
    RequestScopedSessionManager,
)
from tests.integration.transactions.pairs import MODELS, WRITES, Entry, Order, Pair, write_core


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Pair]:
    """Give two SQLite files."""
    pair = Pair([f"sqlite:///{tmp_path}/{name}.sqlite" for name in ("orders", "entries")])
    yield pair
    pair.dispose()


@pytest.mark.rule("T13")
@pytest.mark.parametrize("write", WRITES)
def test_a_session_that_wrote_to_two_databases_is_not_committed(
    files: Pair, write: Callable[[Session], None]
) -> None:
    """Neither has a row; the message names both; the request goes on."""
    manager = files.manager()
    with manager.unit_of_work():
        with pytest.raises(MultipleBindsError, match=r"orders\.sqlite.*twophase=True") as refused:
            with manager.session_scope():
                write(manager.session)
        assert refused.value.code == "multiple-binds"
        assert "entries.sqlite" in str(refused.value)
        assert files.kept() == [[], []]
        with manager.session_scope(propagation=Propagation.REQUIRES_NEW) as session:
            session.add(Order(text="next"))
    assert files.kept() == [["next"], []]


@pytest.mark.rule("T13", "T50")
def test_an_asynchronous_session_is_held_to_the_same(tmp_path: Path) -> None:
    """By the session inside it."""
    files = Pair([f"sqlite:///{tmp_path}/{name}.sqlite" for name in ("orders", "entries")])
    engines = [
        create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:")) for url in files.urls
    ]
    binds = dict(zip(MODELS, engines, strict=True))
    manager = RequestScopedSessionManager(async_sessionmaker(binds=binds))

    async def main() -> None:
        with pytest.raises(MultipleBindsError):
            async with manager.async_session_scope() as session:
                session.add_all([Order(text="one"), Entry(text="one")])
        async with manager.async_session_scope() as session:
            session.add(Entry(text="next"))
        for engine in engines:
            await engine.dispose()

    asyncio.run(main())
    assert files.kept() == [[], ["next"]]
    files.dispose()


@pytest.mark.rule("T13")
@pytest.mark.parametrize("order", [1, -1])
def test_reading_from_the_other_database_is_no_write(files: Pair, order: int) -> None:
    """Whichever came first."""
    manager = files.manager()
    steps: list[Callable[[Session], object]] = [
        lambda session: session.execute(insert(Order).values(text="one")),
        lambda session: session.query(Entry).all(),
        lambda session: session.execute(insert(Order).values(text="two")),
    ]
    with manager.session_scope() as session:
        for step in steps[::order]:
            step(session)
    assert sorted(map(str, files.kept()[0])) == ["one", "two"]


@pytest.mark.rule("T13")
def test_two_scopes_one_after_the_other_may_write_to_one_database_each(files: Pair) -> None:
    """What was written before is committed and counts no more; a failed scope's neither."""
    manager = files.manager()
    with manager.unit_of_work():
        with manager.session_scope() as session:
            session.add(Order(text="one"))
        with pytest.raises(ZeroDivisionError), manager.session_scope() as session:
            session.add(Order(text="lost"))
            session.flush()
            raise ZeroDivisionError
        with manager.session_scope() as session:
            session.add(Entry(text="one"))
    assert files.kept() == [["one"], ["one"]]


@pytest.mark.rule("T13", "T3")
def test_a_joined_call_that_writes_to_the_second_database_counts(files: Pair) -> None:
    """It is one session and one scope."""
    manager = files.manager()

    @manager.transactional
    def book() -> None:
        manager.session.add(Entry(text="one"))

    with pytest.raises(MultipleBindsError, match="the sale"):
        with manager.session_scope(name="the sale") as session:
            session.add(Order(text="one"))
            book()
    assert files.kept() == [[], []]


@pytest.mark.rule("T13", "T17")
def test_a_commit_by_hand_in_a_scope_that_allows_it_is_refused_as_well(files: Pair) -> None:
    """It would be the same half."""
    manager = files.manager()
    with pytest.raises(MultipleBindsError):
        with manager.session_scope(manual_commit="allow") as session:
            write_core(session)
            session.commit()
    assert files.kept() == [[], []]


@pytest.mark.rule("T13")
def test_outside_of_scopes_the_users_commit_is_the_users(files: Pair) -> None:
    """SQLAlchemy commits on one after the other."""
    manager = files.manager()
    with manager.unit_of_work():
        write_core(manager.session)
        manager.session.commit()
    assert files.kept() == [["one"], ["one"]]


@pytest.mark.rule("T13")
def test_the_user_can_accept_that_one_commits_alone(files: Pair) -> None:
    """multiple_binds="allow"."""
    manager = files.manager(multiple_binds="allow")
    with manager.session_scope() as session:
        write_core(session)
    assert files.kept() == [["one"], ["one"]]


@pytest.mark.rule("T13", "M16")
def test_scopes_of_two_binds_are_independent(files: Pair) -> None:
    """One commits inside the other, which then fails; and one fails inside the other."""
    manager = RequestScopedSessionManager(
        {"default": files.urls[0], "journal": files.urls[1]},
    )

    @manager.transactional(bind="journal")
    def book(text: str, *, fails: bool = False) -> None:
        manager.get_request_session("journal").add(Entry(text=text))
        if fails:
            raise LookupError

    with pytest.raises(ZeroDivisionError), manager.session_scope() as session:
        session.add(Order(text="lost"))
        book("kept")
        assert files.kept() == [[], ["kept"]]
        raise ZeroDivisionError
    with manager.session_scope() as session:
        session.add(Order(text="kept"))
        with pytest.raises(LookupError):
            book("lost", fails=True)
    manager.databases.dispose()
    assert files.kept() == [["kept"], ["kept"]]


@pytest.mark.rule("T13")
@pytest.mark.parametrize("options", [{"twophase": "yes"}, {"multiple_binds": "warn"}])
def test_other_values_are_refused(options: Any) -> None:
    """When the manager is made."""
    with pytest.raises(ConfigurationError, match="must be"):
        RequestScopedSessionManager("sqlite://", **options)
