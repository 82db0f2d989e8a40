"""What a package for transactions can get wrong, and that this one does not.

Where a claim has its tests elsewhere, ``PROVED_BY`` names them; the rest is proved here.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy_lite import SQLAlchemy as LiteSQLAlchemy
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flask_reqsession import (
    RequestScopedSessionManager,
    TransactionOutcome,
    UnexpectedRollbackError,
    on_commit,
    on_completion,
)
from tests.integration.transactions.failing_commits import write_what_commit_refuses
from tests.integration.transactions.one_connection import one_connection
from tests.integration.transactions.worlds import AsyncWorld, Note, SyncWorld, World, at_once
from tests.never import never
from tests.servers.connections import rows_of

PROVED_BY = {
    "a failure that was swallowed inside commits the other half": [
        "test_joins.test_a_swallowed_inner_failure_rolls_everything_back_and_says_so",
        "test_pitfalls.test_a_swallowed_failure_is_no_commit_wherever_sessions_come_from",
    ],
    "a generator, or a streamed body, is committed before it has written": [
        "test_generators.test_an_exhausted_generator_commits_once_at_its_end",
        "test_generators.test_a_streamed_response_commits_when_its_body_has_been_sent",
        "test_async_generators.test_an_exhausted_generator_commits_once_at_its_end",
        "test_callables.test_a_function_that_only_returns_the_work_is_refused",
    ],
    "no_rollback_for swallows the exception, or loses the work": [
        "test_pitfalls.test_an_exception_that_does_not_roll_back_is_raised_after_the_commit",
    ],
    "after an exception the context leads to a dead session": [
        "test_scopes.test_the_next_call_after_a_failure_starts_anew",
        "test_scopes.test_a_session_is_usable_after_a_failed_scope",
    ],
    "two threads get one session, since a default is shared": [
        "test_pitfalls.test_threads_that_start_at_the_same_time_share_nothing",
    ],
    "what is no Exception is not rolled back, and the next commit keeps it": [
        "test_base_exceptions.test_an_exit_rolls_back_and_is_the_same_object",
        "test_base_exceptions.test_an_exit_of_an_inner_call_that_is_swallowed",
    ],
    "a failed COMMIT is answered with success, or keeps its connection": [
        (
            "test_commit_failures"
            ".test_a_failed_commit_reaches_the_apps_error_handlers_and_is_never_a_success"
        ),
        "test_pitfalls.test_a_failed_commit_gives_the_only_connection_to_the_next_request",
    ],
    "what isolates tests commits for real": [
        ".test_verification.test_our_engines_keep_what_they_promise",
        ".test_verification.test_legacy_mode_is_found_out",
    ],
    "another isolation level is ignored where a call joins": [
        "test_isolation.test_another_level_cannot_join",
    ],
    "what a read-only scope writes vanishes without a word": [
        "test_read_only.test_the_database_refuses_a_statement_that_writes",
        "test_read_only.test_a_flush_names_what_it_would_have_written",
    ],
    "any error of the database is run again, inside the old snapshot, in each layer, at once": [
        "test_retries.test_what_the_database_does_not_ask_for_is_not_run_again",
        "test_retries.test_a_serialization_failure_is_run_again",
        "test_retries.test_half_a_transaction_is_not_retried",
        "test_retries.test_each_attempt_begins_with_a_clean_session",
        "test_retries.test_a_number_is_a_number_of_attempts",
        "test_waits.test_a_coroutine_leaves_its_event_loop_free_while_it_waits",
    ],
    "statements that are not the ORM's are rolled back by a commit": [
        "test_scopes.test_core_statements_are_committed_although_nothing_is_dirty",
    ],
    "hooks run for what was rolled back, and one that fails takes others along": [
        "test_hooks.test_a_savepoint_that_is_rolled_back_ends_its_own_hooks",
        "test_hooks.test_a_failing_hook_is_logged_without_its_message",
        "test_hooks.test_a_failing_hook_leaves_the_response_alone",
    ],
    "a transaction is marked committed before COMMIT, or is left though it was not entered": [
        "test_pitfalls.test_a_commit_that_fails_was_at_no_time_a_commit",
        "test_scopes.test_a_with_block_whose_session_cannot_be_made_is_not_entered",
        "test_scopes.test_a_savepoint_that_cannot_be_opened_is_not_entered",
    ],
    "the asynchronous twin was never run": [
        "test_pitfalls.test_an_exception_that_does_not_roll_back_is_raised_after_the_commit",
        "test_joins.test_a_swallowed_inner_failure_rolls_everything_back_and_says_so",
    ],
}


@pytest.mark.parametrize("pitfall", PROVED_BY)
def test_each_pitfall_has_its_tests(pitfall: str) -> None:
    """Those that are named are there to be run."""
    for named in PROVED_BY[pitfall]:
        module, _, test = named.rpartition(".")
        assert hasattr(importlib.import_module(f".{module}", __package__), test), named


class Handing:
    """An object of the user's own that hands out sessions."""

    def __init__(self, engine: Engine) -> None:
        self._sessions = sessionmaker(engine)

    def get_session(self) -> Session:
        """Return a session."""
        return self._sessions()


@pytest.fixture
def user_engine(sync_world: SyncWorld) -> Iterator[Engine]:
    """Give an engine of the user's own on the database of the world."""
    engine = create_engine(sync_world.url)
    yield engine
    engine.dispose()


def source_of(kind: str, engine: Engine, app: Flask) -> Any:
    """Return something that gives sessions on the database of ``engine``."""
    app.config["SQLALCHEMY_DATABASE_URI"] = engine.url
    app.config["SQLALCHEMY_ENGINES"] = {"default": engine.url}
    made: dict[str, Callable[[], Any]] = {
        "engine": lambda: engine,
        "sessionmaker": lambda: sessionmaker(engine),
        "scoped_session": lambda: scoped_session(sessionmaker(engine)),
        "get_session": lambda: Handing(engine),
        "Flask-SQLAlchemy": lambda: SQLAlchemy(app),
        "Flask-SQLAlchemy-Lite": lambda: LiteSQLAlchemy(app),
    }
    return made[kind]()


@pytest.mark.rule("T3", "D1")
@pytest.mark.parametrize(
    "kind",
    [
        *("engine", "sessionmaker", "scoped_session", "get_session"),
        *("Flask-SQLAlchemy", "Flask-SQLAlchemy-Lite"),
    ],
)
def test_a_swallowed_failure_is_no_commit_wherever_sessions_come_from(
    sync_world: SyncWorld, user_engine: Engine, kind: str
) -> None:
    """Whatever class the session has, and whoever made it: half of the work is not kept."""
    app = Flask("shop")
    manager = RequestScopedSessionManager(source_of(kind, user_engine, app), app)

    @manager.transactional
    def withdraw() -> None:
        manager.session.add(Note(text="withdrawn"))
        manager.session.flush()
        raise ValueError

    @manager.transactional
    def pay() -> None:
        with pytest.raises(ValueError, match="^$"):
            withdraw()
        manager.session.add(Note(text="paid"))

    with app.test_request_context():
        with pytest.raises(UnexpectedRollbackError, match="withdraw"):
            pay()
        assert manager.session.scalars(select(Note)).all() == []
    assert sync_world.kept() == []


@pytest.mark.rule("T14")
async def test_an_exception_that_does_not_roll_back_is_raised_after_the_commit(
    everywhere: World,
) -> None:
    """The caller gets the same object, the work is kept, and only once."""
    error = LookupError()

    @everywhere.transactional(no_rollback_for=LookupError)
    async def pay() -> None:
        await everywhere.write("fee")
        raise error

    with pytest.raises(LookupError) as caught:
        await pay()
    assert caught.value is error
    assert everywhere.kept() == ["fee"]
    assert everywhere.sent == ["INSERT", "COMMIT"]


@pytest.mark.rule("M10", "M13")
def test_threads_that_start_at_the_same_time_share_nothing(database_url: str) -> None:
    """Neither has used the package before: each has its session, and both rows are kept."""
    world = SyncWorld(database_url)
    meeting = threading.Barrier(2, timeout=30)
    sessions: list[Session] = []

    @world.manager.transactional
    def note(text: str) -> None:
        sessions.append(world.session)
        meeting.wait()
        world.put(text)

    threads = [threading.Thread(target=note, args=(text,)) for text in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sessions[0] is not sessions[1]
    assert sorted(map(str, world.kept())) == ["one", "two"]
    assert world.conversation.held == 0
    world.manager.databases.dispose()


@pytest.fixture(params=["sync", "async"])
def refusing(request: pytest.FixtureRequest, deferring_url: str) -> Iterator[World]:
    """Give a world with one connection to a database that checks a foreign key at COMMIT."""
    world = one_connection(request.param, deferring_url)
    yield world
    if isinstance(world, AsyncWorld):
        asyncio.run(world.async_engine.dispose())
    world.engine.dispose()
    assert world.conversation.held == 0


@pytest.mark.rule("T16", "M17")
def test_a_failed_commit_gives_the_only_connection_to_the_next_request(refusing: World) -> None:
    """The pool has one: the request after an error is served, again and again."""
    app = Flask("shop")
    refusing.manager.init_app(app)

    async def pay() -> str:
        await write_what_commit_refuses(refusing)
        return "paid"

    async def note(text: str) -> str:
        await refusing.write(text)
        return text

    is_sync = isinstance(refusing, SyncWorld)
    failing: Any = (lambda: at_once(pay())) if is_sync else pay
    working: Any = (lambda text: at_once(note(text))) if is_sync else note
    app.add_url_rule("/", "pay", refusing.manager.transactional(failing))
    app.add_url_rule("/<text>", "note", refusing.manager.transactional(working))

    client = app.test_client()
    answers = [client.get(path).status_code for path in ("/", "/one", "/", "/two")]
    assert answers == [500, 200, 500, 200]
    kept = [text for (text,) in rows_of(refusing.url, "SELECT text FROM note ORDER BY id")]
    assert kept == ["one", "two"]


@pytest.mark.rule("T16", "T37", "M7")
async def test_a_commit_that_fails_was_at_no_time_a_commit(refusing: World) -> None:
    """No hook, no outcome and no counter says so, and the scope is over."""
    outcomes: list[TransactionOutcome] = []

    @refusing.transactional()
    async def pay() -> None:
        on_commit(never)
        on_completion(outcomes.append)
        await write_what_commit_refuses(refusing)

    async with refusing.unit():
        with pytest.raises(IntegrityError):
            await pay()
        assert outcomes == [TransactionOutcome.ROLLED_BACK]
        assert refusing.manager.get_session_info()["depth"] == 0
    counted = refusing.manager.metrics.snapshot()
    assert "commits" not in counted
    assert counted["rollbacks"] == 1
    assert refusing.kept() == []
