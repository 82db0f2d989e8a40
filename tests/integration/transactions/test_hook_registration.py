"""How a hook is registered: which arguments are whose, what is refused, what runs at once."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncGenerator, Generator
from enum import Enum
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import sessionmaker

import flask_reqsession
from flask_reqsession import (
    ConfigurationError,
    DatabaseManager,
    NoActiveScopeError,
    PropagationError,
    RequestScopedSessionManager,
    TransactionOutcome,
    on_commit,
    on_rollback,
)
from tests.integration.transactions.worlds import AsyncWorld, Note, SyncWorld, World
from tests.never import never
from tests.servers.connections import async_url_of

KINDS = ("before_commit", "on_commit", "on_rollback", "on_completion")

every_kind = pytest.mark.parametrize("kind", KINDS)


# -- arguments and options ------------------------------------------------------------------------


@pytest.mark.rule("T30", "T33", "T34")
@every_kind
async def test_a_hook_gets_its_arguments(sync_world: SyncWorld, kind: str) -> None:
    """Positional and by keyword; a hook of any end gets the outcome before them."""
    got: list[object] = []

    def hook(*args: object, function: object = None, **kwargs: object) -> None:
        got.append((*args, function, kwargs))

    async with sync_world.scope():
        getattr(sync_world.manager, kind)(hook, 1, function=2, self=3)
        if kind == "on_rollback":
            flask_reqsession.set_rollback_only()
    told = (TransactionOutcome.COMMITTED,) if kind == "on_completion" else ()
    assert got == [(*told, 1, 2, {"self": 3})]


@pytest.mark.rule("T30", "T33", "T34")
@every_kind
async def test_the_functions_work_on_the_current_manager(sync_world: SyncWorld, kind: str) -> None:
    """They are what the manager's methods are."""
    ran: list[object] = []
    async with sync_world.scope():
        getattr(flask_reqsession, kind)(lambda *_outcome: ran.append(kind))
        if kind == "on_rollback":
            flask_reqsession.set_rollback_only()
    assert ran == [kind]


@pytest.mark.rule("T30", "M16")
async def test_a_hook_waits_for_the_transaction_of_its_bind(
    sync_world: SyncWorld, tmp_path: Any
) -> None:
    """By default that of the default bind; scopes of two binds are independent."""
    urls = {"default": sync_world.url, "other": f"sqlite:///{tmp_path / 'other.sqlite'}"}
    manager = RequestScopedSessionManager(DatabaseManager(urls))
    ran: list[str] = []
    with manager.session_scope():
        with manager.session_scope(bind="other"):
            manager.on_commit(ran.append, "default")
            manager.on_commit(ran.append, "other", bind="other")
            assert manager.get_session_info("other")["pending_hooks"] == 1
        assert ran == ["other"]
        with pytest.raises(NoActiveScopeError, match="'other'"):
            manager.on_rollback(print, bind="other")
        with pytest.raises(ConfigurationError, match="'default', 'other'"):
            manager.on_commit(print, bind="missing")
    assert ran == ["other", "default"]
    manager.databases.dispose()


@pytest.mark.rule("T30", "M21")
async def test_a_hook_may_name_its_manager(sync_world: SyncWorld) -> None:
    """By the object or by name, as the decorators do."""
    app = Flask("shop")
    other = RequestScopedSessionManager("sqlite://", app, name="other")
    sync_world.manager.init_app(app)
    ran: list[str] = []
    with app.test_request_context(), other.session_scope():
        on_commit(ran.append, "by name", manager="other")
        on_commit(ran.append, "by object", manager=other)
        with sync_world.manager.session_scope():
            on_commit(ran.append, "current")
        assert ran == ["current"]
    assert ran == ["current", "by name", "by object"]
    with app.app_context(), pytest.raises(ConfigurationError, match="manager"):
        on_commit(print, manager=ran)  # type: ignore[arg-type]  # the wrong argument is the test


@pytest.mark.rule("T30")
@pytest.mark.parametrize("option", [{"bind": "x"}, {"manager": "x"}, {"robust": False}])
async def test_an_option_that_is_a_parameter_too_is_refused(
    sync_world: SyncWorld, option: dict[str, Any]
) -> None:
    """Nobody can tell whose it is; a partial says it."""
    got: list[object] = []

    def hook(*, bind: object = None, manager: object = None, robust: object = None) -> None:
        got.append((bind, manager, robust))

    async with sync_world.scope():
        for kind in ("on_commit", "on_rollback", "on_completion"):
            with pytest.raises(ConfigurationError, match="partial"):
                getattr(sync_world.manager, kind)(hook, **option)
        if "robust" not in option:
            with pytest.raises(ConfigurationError, match="partial"):
                sync_world.manager.before_commit(hook, **option)
        sync_world.manager.on_commit(functools.partial(hook, **option))
    assert got == [tuple(option.get(name) for name in ("bind", "manager", "robust"))]


@pytest.mark.rule("T30")
@every_kind
async def test_arguments_that_do_not_fit_are_refused_at_once(
    sync_world: SyncWorld, kind: str
) -> None:
    """After the COMMIT nobody would be left to be told; the message shows the signature."""

    def send(*outcome: TransactionOutcome, to: str) -> None:
        never(outcome, to)

    def look(outcome: TransactionOutcome) -> None:
        never(outcome)

    register = getattr(sync_world.manager, kind)
    async with sync_world.scope():
        with pytest.raises(TypeError, match=r"send\(\).*missing .*'to'"):
            register(send)
        with pytest.raises(TypeError, match=r"send\(\).*unexpected .*'form'"):
            register(send, to="ada", form="bob")
        with pytest.raises(TypeError, match="look"):
            register(look, *(["ada"] if kind == "on_completion" else []))
        assert sync_world.manager.get_session_info()["pending_hooks"] == 0


@pytest.mark.rule("T30")
async def test_a_signature_that_nobody_knows_is_trusted(sync_world: SyncWorld) -> None:
    """So is that of a wrapper which brings arguments of its own."""
    got: list[object] = []

    def inject(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: object) -> object:
            return function("injected", *args)

        return wrapper

    @inject
    def hook(first: str, second: str) -> None:
        got.append((first, second))

    async with sync_world.scope():
        sync_world.manager.on_commit(hook, "given")
        sync_world.manager.on_commit({}.update, key="value")
        sync_world.manager.on_commit(got.append, "builtin")
    assert got == [("injected", "given"), "builtin"]


def generator() -> Generator[None]:
    """Be nothing that a call would run."""
    yield


async def async_generator() -> AsyncGenerator[None]:
    """Be nothing that a call would run."""
    yield never()


async def coroutine(*_outcome: object) -> None:
    """Be nothing that a synchronous call would run."""


@pytest.mark.rule("T30")
@every_kind
async def test_what_a_call_would_not_run_is_refused(sync_world: SyncWorld, kind: str) -> None:
    """A generator function, the result of a call that came too early, a coroutine."""
    register = getattr(sync_world.manager, kind)
    list(generator())
    async with sync_world.scope():
        for function in (generator, async_generator):
            with pytest.raises(ConfigurationError, match="generator function: a call"):
                register(function)
        with pytest.raises(ConfigurationError, match="NoneType"):
            register(None)
        with pytest.raises(ConfigurationError, match="coroutine"):
            register(coroutine())
        with pytest.raises(ConfigurationError, match="which is synchronous"):
            register(coroutine)


@pytest.mark.rule("T30", "T32")
@pytest.mark.parametrize("returned", [coroutine, generator])
async def test_a_hook_whose_work_is_left_undone_has_failed(
    sync_world: SyncWorld, returned: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A function that returns a coroutine or a generator looks like one that did its work."""
    async with sync_world.scope():
        sync_world.manager.on_commit(lambda: returned())  # noqa: PLW0108 - else it were refused
        sync_world.put("rent")
    assert "failed: ConfigurationError" in caplog.text
    with pytest.raises(ConfigurationError, match="nobody will run it"):
        async with sync_world.scope():
            sync_world.manager.before_commit(lambda: returned())  # noqa: PLW0108 - as above
    assert sync_world.kept() == ["rent"]


# -- deferred -------------------------------------------------------------------------------------


@pytest.mark.rule("T36")
async def test_to_call_a_deferred_function_is_to_schedule_it(world: World) -> None:
    """All arguments are the function's own, and None comes back; a rollback drops the call."""
    sent: list[tuple[object, ...]] = []

    async def notify(name: str, *, bind: str = "", robust: bool = True) -> str:
        """Tell ``name``."""
        sent.append((name, bind, robust))
        return "sent"

    deferred: Any = world.manager.on_commit.deferred(world.hook(notify))
    assert (deferred.__name__, deferred.__doc__) == ("notify", "Tell ``name``.")
    async with world.scope():
        assert deferred("ada", bind="x", robust=False) is None
        assert sent == []
    assert sent == [("ada", "x", False)]
    with pytest.raises(ValueError, match="lost"):
        async with world.scope():
            deferred("grace")
            raise ValueError("lost")
    assert len(sent) == 1


@pytest.mark.rule("T36")
def test_deferred_methods_and_options(sync_world: SyncWorld) -> None:
    """On a method, with options, free, and for a function of the package's own."""
    manager, sent = sync_world.manager, list[object]()

    class Mailer:
        @on_commit.deferred
        def send(self, text: str) -> None:
            sent.append((type(self), text))

        @manager.on_commit.deferred(robust=False)
        def fail(self) -> None:
            raise ConnectionError

    with pytest.raises(ConnectionError), manager.session_scope():
        Mailer().fail()
        Mailer().send("hello")
    assert sent == [(Mailer, "hello")]
    audit = manager.on_commit.deferred(manager.transactional(sync_world.put))
    with manager.session_scope():
        audit("audit")
        with pytest.raises(TypeError, match="send.*unexpected"):
            Mailer().send("hello", nobody=True)  # type: ignore[call-arg]  # as is this
    assert sync_world.kept() == ["audit"]
    with pytest.raises(ConfigurationError, match="generator"):
        on_commit.deferred(generator)
    with pytest.raises(ConfigurationError, match="bind"):
        on_commit.deferred(bind=3)  # type: ignore[call-overload]  # the wrong value is the test


# -- at once --------------------------------------------------------------------------------------


@pytest.mark.rule("T30", "T31", "T37")
async def test_without_a_scope_a_hook_runs_at_once(world: World) -> None:
    """In a unit of work and outside of everything, where only the manager can be named."""
    ran: list[object] = []
    world.manager.on_commit(ran.append, "outside")
    assert ran == ["outside"]
    async with world.unit():
        world.manager.on_commit(ran.append, "in a unit")
        assert ran == ["outside", "in a unit"]
    with pytest.raises(NoActiveScopeError):
        on_commit(print)


@pytest.mark.rule("T31", "T37")
def test_a_hook_that_runs_at_once_commits(sync_world: SyncWorld) -> None:
    """It has a transaction of its own there, too."""
    with sync_world.manager.unit_of_work():
        on_commit(sync_world.put, "audit")
        assert sync_world.kept() == ["audit"]
    assert sync_world.sent == ["INSERT", "COMMIT"]


@pytest.mark.rule("T32", "T37")
async def test_a_hook_that_fails_at_once_is_logged_or_raised(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a commit; an exit always goes on."""

    def fail(error: BaseException) -> None:
        raise error

    async with world.unit():
        with caplog.at_level(logging.ERROR, "flask_reqsession"):
            world.manager.on_commit(fail, ValueError("secret"))
        assert "fail()) failed: ValueError" in caplog.text
        assert "secret" not in caplog.text
        with pytest.raises(ValueError, match="raised"):
            world.manager.on_commit(fail, ValueError("raised"), robust=False)
        with pytest.raises(KeyboardInterrupt):
            world.manager.on_commit(fail, KeyboardInterrupt())


@pytest.mark.rule("T37", "T8")
@pytest.mark.parametrize("fails", [False, True])
def test_a_hook_among_uncommitted_work_is_a_part_of_it(sync_world: SyncWorld, fails: bool) -> None:
    """Somebody commits by hand there: nothing is committed, rolled back or swallowed for them."""

    def audit() -> None:
        sync_world.put("audit")
        if fails:
            raise ValueError("of the hook")

    with sync_world.manager.unit_of_work():
        session = sync_world.manager.session
        session.add(Note(text="by hand"))
        if fails:
            with pytest.raises(ValueError, match="of the hook"):
                sync_world.manager.on_commit(audit)
        else:
            sync_world.manager.on_commit(audit)
        assert sync_world.kept() == []
        session.commit()
    assert sync_world.kept() == ["by hand", "audit"]


@pytest.mark.rule("T30", "T37")
async def test_a_coroutine_function_can_not_run_at_once(awaiting_world: World) -> None:
    """Nobody would await it; the error says so."""
    async with awaiting_world.unit():
        for register in (awaiting_world.manager.on_commit, awaiting_world.manager.on_rollback):
            with pytest.raises(NoActiveScopeError, match="coroutine"):
                register(coroutine)


# -- coroutine functions --------------------------------------------------------------------------


@pytest.mark.rule("T37", "T50")
async def test_coroutine_functions_are_awaited_in_their_places(async_world: AsyncWorld) -> None:
    """Also what a plain function returns; tasks that somebody started are left alone."""
    ran: list[str] = []
    started: list[asyncio.Task[None]] = []

    async def hook(*what: object) -> None:
        await asyncio.sleep(0)
        ran.append(str(what[-1]))

    async with async_world.scope():
        for kind in KINDS:
            getattr(async_world.manager, kind)(hook, kind)
        async_world.manager.on_commit(lambda: hook("returned"))
        async_world.manager.before_commit(lambda: hook("returned before"))
        async_world.manager.on_commit(lambda: started.append(asyncio.create_task(coroutine())))
        await async_world.write("rent")
    assert ran == ["before_commit", "returned before", "on_commit", "returned", "on_completion"]
    assert len(started) == 1
    await started[0]


@pytest.mark.rule("T37", "T50")
def test_a_coroutine_function_waits_for_the_async_scope_where_there_are_two(
    sqlite_file_url: str,
) -> None:
    """A plain function waits for the synchronous one, which is inside."""
    world = SyncWorld(sqlite_file_url)
    databases = DatabaseManager(world.url, async_source=async_url_of(world.url))
    manager = RequestScopedSessionManager(databases)
    ran: list[str] = []

    async def hook() -> None:
        ran.append("coroutine")

    async def main() -> None:
        async with manager.async_session_scope():
            with manager.session_scope():
                manager.on_commit(hook)
                manager.on_commit(ran.append, "function")
            assert ran == ["function"]
        assert ran == ["function", "coroutine"]
        with manager.session_scope(), pytest.raises(ConfigurationError, match="synchronous"):
            manager.on_commit(hook)
        await databases.async_engine().dispose()

    asyncio.run(main())
    databases.dispose()
    world.manager.databases.dispose()


@pytest.mark.rule("T32", "T50")
async def test_a_cancellation_during_commit_arrives_after_the_hooks(
    async_world: AsyncWorld,
) -> None:
    """What waited for the COMMIT waits for something itself, and is not the one to be cancelled."""
    ran: list[str] = []

    async def hook(name: str) -> None:
        await asyncio.sleep(0)
        await async_world.write(name)
        ran.append(name)

    async def pay() -> None:
        task = asyncio.current_task()
        assert task is not None
        async with async_world.scope():
            await async_world.write("rent")
            event.listen(async_world.engine, "commit", lambda _c: task.cancel(), once=True)
            async_world.manager.on_commit(hook, "first")
            async_world.manager.on_commit(hook, "second")
        await asyncio.sleep(0)
        never()

    task = asyncio.ensure_future(pay())
    await asyncio.wait([task])
    assert task.cancelled()
    assert ran == ["first", "second"]
    assert async_world.kept() == ["rent", "first", "second"]


@pytest.mark.rule("T32", "T50")
async def test_a_hook_that_is_cancelled_lets_the_others_run(async_world: AsyncWorld) -> None:
    """Then the cancellation goes on; what the hook wrote is rolled back."""
    ran: list[str] = []
    waiting = asyncio.Event()

    async def wait() -> None:
        await async_world.write("lost")
        waiting.set()
        await asyncio.Event().wait()

    async def pay() -> None:
        async with async_world.scope():
            async_world.manager.on_commit(wait)
            async_world.manager.on_commit(ran.append, "next")
            await async_world.write("rent")

    task = asyncio.ensure_future(pay())
    await waiting.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert ran == ["next"]
    assert async_world.kept() == ["rent"]


@pytest.mark.rule("T32", "T50")
async def test_a_cancellation_during_a_hook_before_the_commit_rolls_back(
    async_world: AsyncWorld,
) -> None:
    """Nothing is committed yet."""
    waiting = asyncio.Event()

    async def wait() -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def pay() -> None:
        async with async_world.scope():
            async_world.manager.before_commit(wait)
            await async_world.write("rent")

    task = asyncio.ensure_future(pay())
    await waiting.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert async_world.kept() == []


# -- where it runs --------------------------------------------------------------------------------


@pytest.mark.rule("T30", "M2")
def test_hooks_survive_that_the_session_is_closed_by_hand(sync_world: SyncWorld) -> None:
    """Closed in the middle the scope is rolled back, and its hooks have another session."""
    manager, ran = sync_world.manager, list[str]()

    @manager.transactional
    def pay() -> None:
        on_rollback(sync_world.put, "rolled back")
        on_rollback(ran.append, "rolled back")
        sync_world.put("rent")
        manager.close_request_session()

    with manager.unit_of_work():
        with pytest.raises(flask_reqsession.UnexpectedRollbackError):
            pay()
        assert ran == ["rolled back"]
        assert sync_world.kept() == ["rolled back"]


@pytest.mark.rule("T30", "D1")
def test_hooks_work_on_a_users_own_sessionmaker(sync_world: SyncWorld) -> None:
    """The same session goes on after the COMMIT, which is why the hook finds its objects."""
    manager = RequestScopedSessionManager(sessionmaker(sync_world.engine))
    texts: list[str] = []
    with manager.session_scope() as session:
        note = Note(text="rent")
        session.add(note)
        manager.on_commit(lambda: texts.append(note.text))  # it has expired, and is read anew
    assert texts == ["rent"]


@pytest.mark.rule("T37", "T50")
@pytest.mark.parametrize("end", ["commit", "rollback", "retry"])
async def test_a_coroutine_with_a_synchronous_session_has_its_hooks_awaited(
    awaiting_world: World, end: str
) -> None:
    """They write in a transaction of their own, as those of an asynchronous session do."""
    world, ran = awaiting_world, list[str]()

    async def hook(*what: object) -> None:
        await asyncio.sleep(0)
        ran.append(" ".join(each.name if isinstance(each, Enum) else str(each) for each in what))
        if what[-1] != "before_commit":
            await world.write(ran[-1])

    @world.transactional(retry=2 if end == "retry" else None)
    async def pay() -> None:
        for kind in KINDS:
            getattr(world.manager, kind)(hook, kind)
        world.manager.on_completion(lambda outcome: ran.append(outcome.value))
        await world.write("rent")
        await nested()
        if end == "rollback":
            raise ValueError(end)

    @world.transactional(propagation="NESTED")
    async def nested() -> None:
        world.manager.on_rollback(hook, "savepoint")
        flask_reqsession.set_rollback_only()

    if end == "rollback":
        with pytest.raises(ValueError, match=end):
            await pay()
        expected = ["savepoint", "on_rollback", "ROLLED_BACK on_completion"]
        assert ran == [*expected, "rolled back"]
        assert world.kept() == expected[1:]
    else:
        await pay()
        expected = ["savepoint", "before_commit", "on_commit", "COMMITTED on_completion"]
        assert ran == [*expected, "committed"]
        assert world.kept() == ["rent", "savepoint", *expected[2:]]


@pytest.mark.rule("T33", "T50")
async def test_a_coroutine_function_before_the_commit_may_refuse_it(awaiting_world: World) -> None:
    """Its exception is the caller's, and a database error in it is recorded."""
    world = awaiting_world

    async def write_again() -> None:
        await world.write("rent")

    @world.transactional()
    async def pay() -> None:
        world.manager.before_commit(write_again)
        await world.write("rent")

    with pytest.raises(IntegrityError):
        await pay()
    assert world.kept() == []
    assert world.manager.metrics.snapshot()["errors_IntegrityError"] == 1


@pytest.mark.rule("T37", "T50")
async def test_where_nobody_awaits_a_coroutine_function_is_refused(sync_world: SyncWorld) -> None:
    """In a part of the transaction that is synchronous, or of one that a function began."""
    manager = sync_world.manager

    @manager.transactional(propagation="NESTED")
    def nested() -> None:
        with pytest.raises(ConfigurationError, match="synchronous"):
            manager.on_rollback(coroutine)

    @manager.transactional(propagation="NESTED")
    async def awaited() -> None:
        with pytest.raises(ConfigurationError, match="synchronous"):
            manager.on_commit(coroutine)
        await asyncio.sleep(0)

    @manager.transactional
    async def outer() -> None:
        nested()

    async def main() -> None:
        await outer()
        with manager.session_scope():
            await awaited()

    asyncio.run(main())


@pytest.mark.rule("T11", "T37")
def test_the_hooks_of_a_generator_that_was_left_to_its_fate(sync_world: SyncWorld) -> None:
    """Its session was closed in the middle, which rolled back: they run when it is given up."""
    manager, ran = sync_world.manager, list[str]()

    @manager.transactional
    def notes() -> Generator[None]:
        for kind in KINDS:
            getattr(manager, kind)(lambda *told, kind=kind: ran.append(f"{kind} {told}"))
        sync_world.put("lost")
        yield
        never()

    with manager.unit_of_work():
        generator = notes()
        next(generator)
    assert ran == []
    generator.close()
    assert [each.partition(" ")[0] for each in ran] == ["on_rollback", "on_completion"]
    assert "ROLLED_BACK" in ran[-1]
    assert sync_world.kept() == []


@pytest.mark.rule("T11")
def test_a_generator_without_hooks_that_was_left_to_its_fate(sync_world: SyncWorld) -> None:
    """It is refused to go on, and there is nothing else to do."""

    @sync_world.manager.transactional
    def notes() -> Generator[None]:
        sync_world.put("lost")
        yield
        never()

    with sync_world.manager.unit_of_work():
        generator = notes()
        next(generator)
    with pytest.raises(PropagationError, match="has ended"):
        next(generator)
    assert sync_world.kept() == []
