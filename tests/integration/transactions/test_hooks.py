"""What waits for the end of a transaction runs once, in its place, with what it needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from flask_reqsession import (
    CommitOutcomeUnknownError,
    NoActiveScopeError,
    Propagation,
    PropagationError,
    Retry,
    TransactionOutcome,
    set_rollback_only,
)
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.failing_commits import killing
from tests.integration.transactions.worlds import Note, SyncWorld, World

KINDS = ("before_commit", "on_commit", "on_rollback", "on_completion")
COMMITTED = "on_completion COMMITTED"
ROLLED_BACK = "on_completion ROLLED_BACK"
AT_ONCE: Any = {"on": ConnectionError, "initial": 0.0, "maximum": 0.0}


class Log:
    """Registers one hook of each kind, and remembers which of them ran."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.ran: list[str] = []

    def register(self, suffix: str = "") -> None:
        """Register one hook of each kind."""
        for kind in KINDS:
            getattr(self._world.manager, kind)(self._world.hook(self._hook(kind, suffix)))

    def _hook(self, kind: str, suffix: str) -> Callable[..., Any]:
        async def hook(*outcome: TransactionOutcome) -> None:
            self.ran.append(" ".join([kind, *(each.name for each in outcome), *suffix.split()]))

        return hook


@pytest.fixture
def log(world: World) -> Log:
    """Give a log of the hooks that ran."""
    return Log(world)


# -- which hook runs when -------------------------------------------------------------------------


@pytest.mark.rule("T30", "T33", "T34", "T37")
async def test_a_commit_runs_the_hooks_before_and_after_it(everywhere: World) -> None:
    """The last thing before COMMIT is in it; what waited for it finds the rows committed."""
    world, seen = everywhere, list[tuple[str, list[object]]]()
    manager = world.manager

    async def write_total() -> None:
        await world.write("total")
        seen.append(("before", world.kept()))

    async def look(what: str) -> None:
        seen.append((what, world.kept()))

    async with world.scope():
        manager.on_completion(lambda outcome: seen.append((outcome.name, world.kept())))
        manager.on_commit(world.hook(look), "after")
        manager.on_rollback(world.hook(look), what="never")
        manager.before_commit(world.hook(write_total))
        await world.write("rent")
        seen.append(("body", world.kept()))
    kept = ["rent", "total"]
    assert seen == [("body", []), ("before", []), ("after", kept), ("COMMITTED", kept)]
    assert world.sent == ["INSERT", "INSERT", "COMMIT"]


@pytest.mark.rule("T30", "T33", "T34", "T37")
@pytest.mark.parametrize("end", ["exception", "rollback only", "before_commit"])
async def test_a_rollback_runs_the_hooks_that_wait_for_it(everywhere: World, end: str) -> None:
    """After the ROLLBACK, whatever the reason; those of a commit are dropped."""
    world, seen, log = everywhere, list[str](), Log(everywhere)

    def refuse() -> None:
        raise ValueError(end)

    async def main() -> None:
        async with world.scope():
            world.manager.on_rollback(lambda: seen.extend(world.sent))
            log.register()
            await world.write("rent")
            if end == "exception":
                refuse()
            elif end == "before_commit":
                world.manager.before_commit(refuse)
            else:
                set_rollback_only()

    if end == "rollback only":
        await main()
    else:
        with pytest.raises(ValueError, match=end):
            await main()
    before = ["before_commit"] if end == "before_commit" else []
    assert log.ran == [*before, "on_rollback", ROLLED_BACK]
    assert seen == ["INSERT", "ROLLBACK"]
    assert world.kept() == []


@pytest.mark.rule("T30", "T35", "T37")
@pytest.mark.parametrize("fails", [False, True])
async def test_a_savepoint_that_is_rolled_back_ends_its_own_hooks(
    everywhere: World, fails: bool
) -> None:
    """Dropped, run right after it, or told at the transaction's end; a RELEASE runs none."""
    world, log = everywhere, Log(everywhere)

    @world.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        log.register("inner")
        await world.write("attempt")
        if fails:
            raise ValueError("failed")

    async with world.scope():
        log.register("outer")
        await world.write("rent")
        if fails:
            with pytest.raises(ValueError, match="failed"):
                await attempt()
        else:
            await attempt()
        assert log.ran == (["on_rollback inner"] if fails else [])
        log.register("later")
    committed = ["outer", "later"] if fails else ["outer", "inner", "later"]
    assert log.ran[fails:] == [
        *[f"before_commit {each}" for each in committed],
        *[f"on_commit {each}" for each in committed],
        f"{COMMITTED} outer",
        f"{ROLLED_BACK if fails else COMMITTED} inner",
        f"{COMMITTED} later",
    ]
    assert world.kept() == (["rent"] if fails else ["rent", "attempt"])


@pytest.mark.rule("T24", "T37")
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_commit_without_an_answer_is_told_as_unknown(postgresql_url: str, colour: str) -> None:
    """Only to those who wait for any end; the others are dropped."""
    world = make_world(colour, postgresql_url)
    log = Log(world)

    async def main() -> None:
        with pytest.raises(CommitOutcomeUnknownError):
            async with world.scope():
                log.register()
                await world.write("rent")
                event.listen(world.session, "before_commit", killing(world))

    world.run(main)
    assert log.ran == ["before_commit", "on_completion UNKNOWN"]


@pytest.mark.rule("T37")
@pytest.mark.parametrize("kind", ["before_commit", "on_rollback", "on_completion"])
@pytest.mark.parametrize("outside", [False, True])
async def test_without_a_scope_there_is_nothing_to_wait_for(
    world: World, kind: str, outside: bool
) -> None:
    """In a unit of work and outside of everything: the error names the function and the hook."""
    register = getattr(world.manager, kind)

    def note(*_outcome: object) -> None: ...

    if outside:
        with pytest.raises(NoActiveScopeError, match=rf"{kind}\(.*note\(\)\)"):
            register(note)
        return
    async with world.unit():
        with pytest.raises(NoActiveScopeError, match="session_scope"):
            register(print)


# -- the transaction of a hook --------------------------------------------------------------------


@pytest.mark.rule("T31", "T32")
async def test_a_hook_writes_in_a_transaction_of_its_own(everywhere: World) -> None:
    """What one that fails has written is rolled back; the work and the other hooks are kept."""
    world = everywhere

    async def audit(text: str, *, fails: bool = False) -> None:
        await world.write(text)
        assert world.manager.get_session_info()["depth"] == 1
        if fails:
            raise ValueError(text)

    hook = world.hook(audit)
    async with world.unit():
        async with world.scope():
            session = world.session
            world.manager.on_commit(hook, "audit 1")
            world.manager.on_commit(hook, "audit 2", fails=True)
            world.manager.on_commit(hook, "audit 3")
            await world.write("rent")
        assert world.session is session
    assert world.kept() == ["rent", "audit 1", "audit 3"]
    done = ["INSERT", "COMMIT"]
    assert world.sent == [*done, *done, "INSERT", "ROLLBACK", *done]


@pytest.mark.rule("T31", "T37")
async def test_the_hook_of_a_rollback_writes_in_a_transaction_of_its_own(world: World) -> None:
    """What went wrong can be written down, in the session of the request."""
    async with world.unit():
        with pytest.raises(ValueError, match="first"):
            async with world.scope():
                world.manager.on_rollback(world.hook(world.write), "failed")
                await world.write("rent")
                raise ValueError("first")
        assert world.kept() == ["failed"]


@pytest.mark.rule("T31", "T37")
@pytest.mark.parametrize("fails", [False, True])
async def test_the_hook_of_a_savepoint_writes_in_a_savepoint(world: World, fails: bool) -> None:
    """The transaction goes on; a hook that fails neither dooms it nor leaves anything in it."""

    @world.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        world.manager.on_rollback(world.hook(note))
        await world.write("attempt")
        raise KeyError

    async def note() -> None:
        await world.write("failed")
        if fails:
            raise ValueError("note")

    async with world.scope():
        await world.write("rent")
        with pytest.raises(KeyError) as caught:
            await attempt()
        await world.write("lunch")
    assert world.kept() == (["rent", "lunch"] if fails else ["rent", "failed", "lunch"])
    notes = getattr(caught.value, "__notes__", [])
    assert len(notes) == fails
    assert not fails or "note() also failed: ValueError: note" in notes[0]


@pytest.mark.rule("T31")
async def test_a_hook_may_register_hooks(world: World, log: Log) -> None:
    """They wait for the end of the hook's own transaction."""

    async def register(suffix: str) -> None:
        log.register(suffix)
        await world.write(suffix)
        if suffix == "failing":
            raise ValueError

    async with world.scope():
        world.manager.on_commit(world.hook(register), "first")
        world.manager.on_commit(world.hook(register), "failing")
        log.register("outer")
    assert log.ran == [
        "before_commit outer",
        "before_commit first",
        "on_commit first",
        f"{COMMITTED} first",
        "on_rollback failing",
        f"{ROLLED_BACK} failing",
        "on_commit outer",
        f"{COMMITTED} outer",
    ]


@pytest.mark.rule("T31", "T7", "T20")
@pytest.mark.parametrize(
    "options",
    [{"durable": True}, {"retry": 2}, {"propagation": "NEVER"}, {"propagation": "NESTED"}],
)
async def test_a_transactional_function_is_outermost_as_a_hook(
    world: World, options: dict[str, Any]
) -> None:
    """The transaction that it waited for has ended; no scope is put around it."""
    seen: list[tuple[object, object]] = []

    async def look() -> None:
        info = world.manager.get_session_info()
        seen.append((info["depth"], info["propagation"]))

    decorated = world.manager.transactional(**options)(world.hook(look))
    async with world.scope():
        world.manager.on_commit(decorated)
    entered = options.get("propagation", "REQUIRED")
    assert seen == [(0, None) if entered == "NEVER" else (1, entered)]


@pytest.mark.rule("T31", "T2")
@pytest.mark.parametrize("propagation", ["MANDATORY", "SUPPORTS"])
async def test_a_function_that_needs_a_scope_finds_one_as_a_hook(
    world: World, propagation: str
) -> None:
    """What it writes is committed."""
    write = world.manager.transactional(propagation=propagation)(world.hook(world.write))
    async with world.scope():
        world.manager.on_commit(write, "audit")
    assert world.kept() == ["audit"]


@pytest.mark.rule("T31", "T3", "T37")
async def test_a_transactional_function_that_fails_as_hook_of_a_savepoint_dooms_nothing(
    world: World,
) -> None:
    """It runs in a savepoint like any other function."""

    @world.manager.transactional
    def fail() -> None:
        raise ValueError

    @world.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        world.manager.on_rollback(fail)
        set_rollback_only()

    async with world.scope():
        await attempt()
        await world.write("rent")
    assert world.kept() == ["rent"]


@pytest.mark.rule("T5", "T30", "T37")
@pytest.mark.parametrize("fails", [False, True])
async def test_the_hooks_of_a_new_transaction_wait_for_its_own_end(
    everywhere: World, fails: bool
) -> None:
    """They run in its session right after it, whatever becomes of the transaction outside."""
    world, log = everywhere, Log(everywhere)

    @world.transactional(propagation=Propagation.REQUIRES_NEW)
    async def audit() -> None:
        session = world.session
        world.manager.on_completion(lambda _outcome: sessions.append(world.session is session))
        log.register("inner")
        await world.read()
        if fails:
            raise KeyError

    sessions: list[bool] = []
    with pytest.raises(ValueError, match="outer"):
        async with world.scope():
            log.register("outer")
            if fails:
                with pytest.raises(KeyError):
                    await audit()
            else:
                await audit()
            ran = list(log.ran)
            raise ValueError("outer")
    if fails:
        assert ran == ["on_rollback inner", f"{ROLLED_BACK} inner"]
    else:
        assert ran == ["before_commit inner", "on_commit inner", f"{COMMITTED} inner"]
    assert log.ran[len(ran) :] == ["on_rollback outer", f"{ROLLED_BACK} outer"]
    assert sessions == [True] or world.manager.databases.has_async()


# -- many of them ---------------------------------------------------------------------------------


@pytest.mark.rule("T30", "T35")
async def test_a_hundred_registrations_are_a_hundred_calls(world: World) -> None:
    """In their order, from joined calls and released savepoints, and never before the COMMIT."""
    called: list[int] = []

    @world.transactional(propagation=Propagation.NESTED)
    async def nested(number: int) -> None:
        world.manager.on_commit(called.append, number)

    @world.transactional()
    async def joined(number: int) -> None:
        world.manager.on_commit(called.append, number)

    async with world.scope():
        for number in range(0, 100, 2):
            await nested(number)
            await joined(number + 1)
        assert called == []
        assert world.manager.get_session_info()["pending_hooks"] == 100
    assert called == list(range(100))


@pytest.mark.rule("M6")
async def test_the_session_info_counts_what_waits(world: World) -> None:
    """Of the whole transaction; without one nothing waits."""
    seen: list[object] = []

    def pending() -> object:
        return world.manager.get_session_info()["pending_hooks"]

    @world.transactional(propagation=Propagation.NESTED)
    async def nested() -> None:
        world.manager.on_rollback(print)
        assert pending() == 2
        set_rollback_only()

    async with world.unit():
        assert pending() == 0
        async with world.scope():
            assert pending() == 0
            world.manager.on_commit(lambda: seen.append(pending()))
            await nested()
            assert pending() == 1
            world.manager.before_commit(lambda: seen.append(pending()))
        assert pending() == 0
    assert seen == [1, 0]


# -- hooks that fail ------------------------------------------------------------------------------


@pytest.mark.rule("T32", "O5")
async def test_a_failing_hook_is_logged_without_its_message(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """By its name and the class of the error, and counted; the call succeeds, the others run."""
    ran: list[str] = []

    async def send(secret: str) -> None:
        raise ValueError(secret)

    @world.transactional()
    async def pay() -> str:
        for kind in ("on_commit", "on_completion"):
            register = getattr(world.manager, kind)
            register(world.hook(send) if kind == "on_commit" else print_secret, "secret")
            register(lambda *_outcome: ran.append("others"))
        return "paid"

    def print_secret(_outcome: object, secret: str) -> None:
        raise KeyError(secret)

    with caplog.at_level(logging.ERROR, "flask_reqsession"):
        assert await pay() == "paid"
    assert ran == ["others", "others"]
    assert "secret" not in caplog.text.replace("print_secret", "")
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "ValueError",
        "KeyError",
    ]
    assert "send()" in caplog.records[0].getMessage()
    assert world.manager.metrics.snapshot()["hooks_failed"] == 2


@pytest.mark.rule("T32", "T20", "T37")
async def test_the_error_of_a_hook_that_is_not_robust_propagates_and_changes_nothing_else(
    world: World,
) -> None:
    """After all hooks have run; nothing is rolled back, and nothing is run again."""
    attempts: list[int] = []
    ran: list[str] = []

    def fail(name: str) -> None:
        ran.append(name)
        raise ConnectionError(name)

    @world.transactional(retry=Retry(attempts=3, **AT_ONCE))
    async def pay() -> None:
        attempts.append(1)
        world.manager.on_commit(fail, "first", robust=False)
        world.manager.on_commit(fail, "second")
        world.manager.on_commit(ran.append, "third")
        await world.write("rent")

    with pytest.raises(ConnectionError, match="first") as caught:
        await pay()
    assert attempts == [1]
    assert ran == ["first", "second", "third"]
    assert "second" in caught.value.__notes__[0]
    assert world.kept() == ["rent"]


@pytest.mark.rule("T32", "T1")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
async def test_an_exit_out_of_a_hook_goes_on_after_the_others_have_run(
    sync_world: SyncWorld, error: BaseException
) -> None:
    """Ctrl-C is not logged away."""
    ran: list[str] = []

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        async with sync_world.scope():
            sync_world.manager.on_commit(fail)
            sync_world.manager.on_commit(ran.append, "next")
            sync_world.put("rent")
    assert caught.value is error
    assert ran == ["next"]
    assert sync_world.kept() == ["rent"]


@pytest.mark.rule("T32", "T37")
async def test_the_first_cause_wins_over_what_hooks_fail_with(world: World) -> None:
    """Also over those that are not robust: the reason of the rollback is what the caller needs."""

    def fail(*args: object) -> None:
        raise KeyError(*args)

    with pytest.raises(ValueError, match="first cause") as caught:
        async with world.scope():
            world.manager.on_rollback(fail, "undo", robust=False)
            world.manager.on_completion(fail, "done")
            raise ValueError("first cause")
    kinds = [note.split()[1] for note in caught.value.__notes__]
    assert kinds == ["on_rollback", "on_completion"]
    assert caught.value.__notes__[0].endswith("fail() also failed: KeyError: 'undo'")


@pytest.mark.rule("T32", "M7")
async def test_a_database_error_in_a_hook_is_its_own(world: World) -> None:
    """Rolled back and recorded once; the request goes on with the same session."""
    async with world.unit():
        async with world.scope():
            await world.write("rent")
            world.manager.on_commit(world.hook(world.write), "rent")
        async with world.scope():
            await world.write("next")
    assert world.kept() == ["rent", "next"]
    counts = world.manager.metrics.snapshot()
    assert (counts["errors_IntegrityError"], counts["hooks_failed"]) == (1, 1)
    assert (counts["commits"], counts["rollbacks"]) == (2, 1)


@pytest.mark.rule("T32", "T16")
def test_a_failing_hook_leaves_the_response_alone(sync_world: SyncWorld) -> None:
    """The data is committed, so the client is told so; all hooks run before the response."""
    app = Flask("shop")
    sync_world.manager.init_app(app)
    ran: list[str] = []

    def fail() -> None:
        raise ValueError

    @app.post("/<path>")
    @sync_world.manager.transactional
    def pay(path: str) -> tuple[str, int]:
        sync_world.put(path)
        sync_world.manager.on_commit(fail, robust=path == "robust")
        sync_world.manager.on_commit(ran.append, path)
        return "paid", 201

    @app.after_request
    def last(response: Any) -> Any:
        ran.append("response")
        return response

    client = app.test_client()
    assert client.post("/robust").status_code == 201
    assert client.post("/fragile").status_code == 500
    assert ran == ["robust", "response", "fragile", "response"]
    assert sync_world.kept() == ["robust", "fragile"]


# -- retries, generators, doom --------------------------------------------------------------------


@pytest.mark.rule("T23", "T37")
@pytest.mark.parametrize("succeeds", [False, True])
async def test_the_hooks_of_an_attempt_that_is_run_again_are_dropped(
    world: World, log: Log, succeeds: bool
) -> None:
    """All of them: what counts is the end of the call, and the last attempt has registered anew."""
    attempts: list[int] = []

    @world.transactional(retry=Retry(attempts=3, **AT_ONCE))
    async def pay() -> None:
        attempts.append(1)
        log.register(f"of attempt {len(attempts)}")
        await world.read()
        if len(attempts) < 3 or not succeeds:
            raise ConnectionError

    if succeeds:
        await pay()
        kinds = ["before_commit", "on_commit", COMMITTED]
    else:
        with pytest.raises(ConnectionError):
            await pay()
        kinds = ["on_rollback", ROLLED_BACK]
    assert log.ran == [f"{kind} of attempt 3" for kind in kinds]


@pytest.mark.rule("T23", "T37")
async def test_a_callback_that_ends_the_attempts_ends_the_call(world: World, log: Log) -> None:
    """There is no other attempt, so the last one's rollback is the end."""

    def veto(attempt: int, _error: BaseException) -> None:
        assert log.ran == []
        raise RuntimeError(str(attempt))

    @world.transactional(retry=Retry(attempts=3, before_retry=veto, **AT_ONCE))
    async def pay() -> None:
        log.register()
        raise ConnectionError

    with pytest.raises(RuntimeError, match="1"):
        await pay()
    assert log.ran == ["on_rollback", ROLLED_BACK]


@pytest.mark.rule("T3", "T37")
async def test_the_hooks_of_a_doomed_transaction_are_those_of_a_rollback(
    world: World, log: Log
) -> None:
    """Also what was registered after the failure that the outer code swallowed."""

    @world.transactional()
    async def joined() -> None:
        log.register("joined")
        raise KeyError

    with pytest.raises(Exception, match="swallowed"):
        async with world.scope():
            with pytest.raises(KeyError):
                await joined()
            log.register("later")
    assert log.ran == [
        "on_rollback joined",
        "on_rollback later",
        f"{ROLLED_BACK} joined",
        f"{ROLLED_BACK} later",
    ]


@pytest.mark.rule("T11", "T37")
@pytest.mark.parametrize("end", ["exhausted", "closed", "raises"])
def test_the_hooks_of_a_generator_wait_for_its_last_step(sync_world: SyncWorld, end: str) -> None:
    """Its consumer is in no scope between two steps: there a hook runs at once."""
    log = Log(sync_world)
    manager = sync_world.manager

    @manager.transactional
    def notes() -> Generator[int]:
        log.register("step 1")
        yield 1
        log.register("step 2")
        yield 2
        if end == "raises":
            raise ValueError

    with manager.unit_of_work():
        generator = notes()
        assert [next(generator), next(generator)] == [1, 2]
        manager.on_commit(log.ran.append, "consumer")
        with pytest.raises(NoActiveScopeError):
            manager.on_rollback(print)
        assert manager.get_session_info()["pending_hooks"] == 8
        if end == "closed":
            generator.close()
        else:
            with pytest.raises(ValueError if end == "raises" else StopIteration):
                next(generator)
    kinds = ["on_rollback", ROLLED_BACK]
    if end == "exhausted":
        kinds = ["before_commit", "on_commit", COMMITTED]
    assert log.ran == ["consumer", *(f"{kind} step {n}" for kind in kinds for n in (1, 2))]


@pytest.mark.rule("T11", "T37")
@pytest.mark.parametrize("fails", [False, True])
def test_the_hooks_of_a_nested_generator_keep_the_order_of_registration(
    sync_world: SyncWorld, fails: bool
) -> None:
    """Its consumer may register between the steps, in the scope that it has."""
    ran: list[str] = []
    manager = sync_world.manager

    @manager.transactional(propagation=Propagation.NESTED)
    def lines() -> Generator[None]:
        for step in (1, 2):
            manager.on_commit(ran.append, f"step {step}")
            yield
        if fails:
            raise ValueError

    with manager.session_scope():
        generator = lines()
        for number in (1, 2):
            next(generator)
            manager.on_commit(ran.append, f"consumer {number}")
        with pytest.raises(ValueError if fails else StopIteration):
            next(generator)
    of_consumer = ["consumer 1", "consumer 2"]
    assert ran == (of_consumer if fails else ["step 1", "consumer 1", "step 2", "consumer 2"])


# -- hooks from inside SQLAlchemy's events --------------------------------------------------------


@pytest.mark.rule("T30", "T33")
@pytest.mark.parametrize("moment", ["before_flush", "after_flush"])
async def test_a_listener_may_register_while_the_last_flush_is_sent(
    world: World, log: Log, moment: str
) -> None:
    """Nothing that is registered before COMMIT is lost."""
    async with world.unit():
        event.listen(world.session, moment, lambda *_event: log.register(), once=True)
        async with world.scope():
            world.session.add(Note(text="rent"))
    assert log.ran == ["before_commit", "on_commit", COMMITTED]


@pytest.mark.rule("T33")
async def test_a_listener_is_refused_what_comes_too_late(world: World) -> None:
    """Before a COMMIT that is on its way nothing can be put; it rolls back with the reason."""
    async with world.unit():
        with pytest.raises(PropagationError, match="on its way"):
            async with world.scope():
                await world.write("rent")
                event.listen(
                    world.session,
                    "before_commit",
                    lambda _session: world.manager.before_commit(print),
                    once=True,
                )
        assert world.kept() == []


@pytest.mark.rule("T33", "T1")
async def test_what_a_hook_before_the_commit_adds_is_flushed_in_time(world: World) -> None:
    """Its failure is a failed flush like any other, not a failed COMMIT."""
    await world_with(world, "rent")

    def add() -> None:
        world.session.add(Note(text="rent"))

    with pytest.raises(IntegrityError):
        async with world.scope():
            world.manager.before_commit(add)
            await world.write("lunch")
    assert "COMMIT" not in world.sent
    assert world.kept() == ["rent"]


async def world_with(world: World, text: str) -> None:
    """Commit a note."""
    async with world.scope():
        await world.write(text)
    assert world.sent == ["INSERT", "COMMIT"]
