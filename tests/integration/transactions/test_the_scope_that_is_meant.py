"""Which scope a hook waits for, and what is doomed, where no bind is named."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import text

from flask_reqsession import (
    DatabaseManager,
    NoActiveScopeError,
    RequestScopedSessionManager,
    TransactionOutcome,
    before_commit,
    on_commit,
    on_completion,
    on_rollback,
    set_rollback_only,
)
from tests.servers.connections import async_url_of, rows_of

BINDS = ("default", "analytics", "billing")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[RequestScopedSessionManager]:
    """Give a manager of three databases in both colours, each with an empty table."""
    urls = {bind: _url_of(tmp_path, bind) for bind in BINDS}
    databases = DatabaseManager(
        urls, async_source={bind: async_url_of(url) for bind, url in urls.items()}
    )
    manager = RequestScopedSessionManager(databases)
    for bind in BINDS:
        with manager.session_scope(bind=bind) as session:
            session.execute(text("CREATE TABLE note (text VARCHAR)"))
    yield manager
    databases.dispose()


def _url_of(path: Path, bind: str) -> str:
    return f"sqlite:///{path / bind}.sqlite"


def kept(path: Path, bind: str) -> list[object]:
    """Return what a second connection finds in ``bind``."""
    return [note for (note,) in rows_of(_url_of(path, bind), "SELECT text FROM note")]


@pytest.mark.rule("T30", "T33", "T34", "T36", "T37", "M16")
def test_hooks_wait_for_the_one_scope_that_runs(
    manager: RequestScopedSessionManager, tmp_path: Path
) -> None:
    """In a view on another bind they are those of its transaction, whichever way it ends."""
    app = Flask("shop")
    manager.init_app(app)
    ran: list[object] = []
    notify = on_commit.deferred(ran.append)

    @app.get("/<int:status>")
    @manager.transactional(bind="analytics")
    def count(status: int) -> tuple[str, int]:
        manager.get_request_session("analytics").execute(text("INSERT INTO note VALUES ('view')"))
        before_commit(
            lambda: manager.get_request_session("analytics").execute(
                text("INSERT INTO note VALUES ('hook')")
            )
        )
        on_commit(ran.append, "function")
        manager.on_commit(ran.append, "method")
        notify("deferred")
        on_rollback(ran.append, "rolled back")
        on_completion(ran.append)
        ran.append("body")
        return "", status

    client = app.test_client()
    assert client.get("/400").status_code == 400
    assert ran == ["body", "rolled back", TransactionOutcome.ROLLED_BACK]
    assert kept(tmp_path, "analytics") == []
    ran.clear()
    assert client.get("/200").status_code == 200
    assert ran == ["body", "function", "method", "deferred", TransactionOutcome.COMMITTED]
    assert kept(tmp_path, "analytics") == ["view", "hook"]


@pytest.mark.rule("T30", "T50", "M16")
def test_hooks_wait_for_the_one_scope_of_an_async_session(
    manager: RequestScopedSessionManager,
) -> None:
    """A coroutine function is awaited after its commit, and dropped when it is doomed."""
    ran: list[str] = []

    async def notify(what: str) -> None:
        ran.append(what)

    async def main() -> None:
        async with manager.async_unit_of_work():
            async with manager.async_session_scope(bind="analytics"):
                manager.on_commit(notify, "dropped")
                with manager.session_scope(bind="analytics"):
                    manager.on_commit(ran.append, "of the same bind")
                assert ran == ["of the same bind"]
                set_rollback_only()
            async with manager.async_session_scope(bind="analytics"):
                manager.on_commit(notify, "committed")
        await manager.databases.async_engine("analytics").dispose()

    asyncio.run(main())
    assert ran == ["of the same bind", "committed"]


@pytest.mark.rule("T6", "M16")
def test_what_is_doomed_is_the_one_scope_that_runs(
    manager: RequestScopedSessionManager, tmp_path: Path
) -> None:
    """Of another bind, unless one of the default bind runs as well."""
    with manager.unit_of_work():
        with manager.session_scope(bind="analytics") as session:
            session.execute(text("INSERT INTO note VALUES ('undone')"))
            set_rollback_only()
        with manager.session_scope(bind="analytics") as session:
            session.execute(text("INSERT INTO note VALUES ('kept')"))
            with manager.session_scope() as other:
                other.execute(text("INSERT INTO note VALUES ('undone')"))
                set_rollback_only()
    assert (kept(tmp_path, "default"), kept(tmp_path, "analytics")) == ([], ["kept"])


@pytest.mark.rule("T30", "T33", "T34", "M16")
def test_one_of_several_scopes_has_to_be_named(manager: RequestScopedSessionManager) -> None:
    """Where none of them is of the default bind, nothing is guessed."""
    ran: list[str] = []
    meant = "may mean the scope of any of the binds 'analytics', 'billing'.*Pass bind="
    with (
        manager.unit_of_work(),
        manager.session_scope(bind="billing"),
        manager.session_scope(bind="analytics"),
    ):
        for register in (before_commit, on_commit, on_completion, on_rollback, manager.on_commit):
            with pytest.raises(NoActiveScopeError, match=meant):
                register(print)
        with pytest.raises(NoActiveScopeError, match=rf"^set_rollback_only\(\) {meant}"):
            set_rollback_only()
        on_commit(ran.append, "named", bind="billing")
        with manager.session_scope():
            on_commit(ran.append, "default")
        assert ran == ["default"]
    assert ran == ["default", "named"]
