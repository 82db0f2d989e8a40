"""A decorator of somebody else's hides a coroutine function: its work is kept, or it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest
from flask import Flask, current_app
from flask.views import MethodView
from werkzeug.local import LocalProxy

from flask_reqsession import (
    ConfigurationError,
    DatabaseManager,
    RequestScopedSessionManager,
    UncommittedChangesWarning,
    UnexpectedRollbackError,
)
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.foreign_decorators import hiding
from tests.integration.transactions.worlds import (
    AwaitedWorld,
    BothWorld,
    Note,
    SyncWorld,
    World,
)
from tests.servers.connections import async_url_of


class Later(Awaitable[Any]):
    """Work that begins when it is awaited."""

    def __init__(self, begin: Callable[[], Awaitable[Any]]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._begin().__await__()


def postponing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as a library does that has an awaitable class of its own."""
    return lambda *args: Later(lambda: function(*args))


def running(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as Flask's extensions do, but without functools.wraps."""

    def wrapper(*args: Any) -> Any:
        return current_app.ensure_sync(function)(*args)

    return wrapper


@pytest.fixture(params=["awaited", "async", "both"])
def any_world(request: pytest.FixtureRequest, sqlite_file_url: str) -> Iterator[World]:
    """Give a world of coroutines whose manager has sources of one colour, or of both."""
    world = make_world(request.param, sqlite_file_url)
    yield world
    world.manager.databases.dispose()
    assert world.conversation.held == 0


def answer(world: World, view: Callable[..., Any]) -> Any:
    """Ask for the only page of an app."""
    return world.app_of(view).test_client().get("/")


def call_function(world: World, decorate: Callable[[Any], Any]) -> object:
    """Decorate a function, and call it in an event loop."""

    async def put() -> None: ...

    async def main() -> object:
        return await world.manager.transactional(decorate(put))()

    return asyncio.run(main())


def call_method(world: World, decorate: Callable[[Any], Any]) -> object:
    """Decorate a method, and call it in an event loop."""

    async def put(self: object) -> None: ...

    class Service:
        pay = world.manager.transactional(decorate(put))

    async def main() -> object:
        return await Service().pay()

    return asyncio.run(main())


def call_view(world: World, decorate: Callable[[Any], Any]) -> object:
    """Decorate a view, and ask for its page."""

    async def put() -> str: ...  # type: ignore[empty-body]

    return answer(world, world.manager.transactional(decorate(put)))


def call_class(world: World, decorate: Callable[[Any], Any]) -> object:
    """Put the scope around a class of views with such a method, and ask for its page."""

    async def put(self: object) -> str: ...  # type: ignore[empty-body]

    class Notes(MethodView):
        decorators = [world.manager.transactional]  # noqa: RUF012 - as users write it
        get = decorate(put)

    return answer(world, Notes.as_view("notes"))


@pytest.mark.rule("T11", "T50")
@pytest.mark.parametrize("call", [call_function, call_method, call_view, call_class])
@pytest.mark.parametrize("decorate", [hiding, postponing])
def test_what_returns_before_its_work_has_begun_is_refused(
    any_world: World,
    call: Callable[[World, Callable[[Any], Any]], object],
    decorate: Callable[[Any], Any],
) -> None:
    """Whatever the sources are: nothing is begun, and the message says what to decorate."""
    with pytest.raises(
        ConfigurationError, match=r"Decorate the function|on the coroutine function itself"
    ):
        call(any_world, decorate)
    assert any_world.conversation.checkouts == 0


@pytest.mark.rule("T11", "T2")
@pytest.mark.parametrize("decorate", [hiding, postponing])
def test_what_is_awaited_in_the_scope_it_joined_is_a_part_of_that(
    sqlite_file_url: str, decorate: Callable[[Any], Any]
) -> None:
    """The outer scope decides about it, as it does about any other work."""
    world = AwaitedWorld(sqlite_file_url)
    join = world.manager.transactional(decorate(world.write))

    async def main() -> None:
        async with world.scope():
            await join("kept")
        with pytest.raises(LookupError):
            async with world.scope():
                await join("lost")
                raise LookupError

    world.run(main)
    assert world.kept() == ["kept"]


@pytest.mark.rule("T50", "T3")
def test_a_coroutine_that_is_run_in_a_scope_of_other_sessions_is_no_success(served: World) -> None:
    """What it leaves uncommitted dooms the scope; on the sessions of the scope it is a part."""

    async def put() -> str:
        await served.write("x")
        return "x"

    def view() -> Any:
        if isinstance(served, BothWorld):
            served.manager.session.add(Note(text="beside"))
        return running(put)()

    view = served.manager.transactional(view)
    if isinstance(served, SyncWorld):
        assert answer(served, view).status_code == 200
        assert served.kept() == ["x"]
    else:
        with pytest.raises(UnexpectedRollbackError, match=r"on the coroutine function itself") as e:
            answer(served, view)
        assert isinstance(e.value.__cause__, ConfigurationError)
        assert served.kept() == []


async def commit_by_hand(world: World) -> None:
    """Write on the sessions of coroutines, and commit there."""
    await world.write("x")
    await world.manager.get_async_request_session().commit()


async def write_in_a_scope(world: World) -> None:
    """Write in a scope of the coroutine's own."""
    async with world.scope():
        await world.write("x")


async def write_and_fail(world: World) -> None:
    """Write, and fail with what its caller swallows."""
    await world.write("lost")
    raise LookupError


async def read(world: World) -> None:
    """Change nothing."""
    assert await world.read() == []


@pytest.mark.rule("T50", "T3")
@pytest.mark.parametrize(
    ("work", "kept"),
    [
        (commit_by_hand, ["x"]),
        (write_in_a_scope, ["x"]),
        (write_and_fail, []),
        (read, []),
    ],
)
def test_a_coroutine_that_leaves_nothing_to_commit_is_no_concern_of_the_scope(
    sqlite_file_url: str, work: Callable[[World], Awaitable[None]], kept: list[str]
) -> None:
    """The async session is a transaction beside; an exception told the caller about its end."""
    world = BothWorld(sqlite_file_url)

    @world.manager.transactional
    def view() -> str:
        try:
            running(work)(world)
        except LookupError:
            ...
        world.manager.session.add(Note(text="beside"))
        return "ok"

    assert answer(world, view).status_code == 200
    assert world.kept() == [*kept, "beside"]
    world.manager.databases.dispose()


@pytest.mark.rule("T46")
def test_a_loss_in_another_bind_is_a_warning_and_the_scope_is_not_doomed(
    sync_world: SyncWorld,
) -> None:
    """Only the session of the same bind is the one that the scope could be taken to be of."""
    sources = {"default": sync_world.url, "log": sync_world.url}
    manager = RequestScopedSessionManager(
        DatabaseManager(sources, async_source={"log": async_url_of(sync_world.url)})
    )

    async def put() -> None:
        manager.get_async_request_session("log").add(Note(text="lost"))

    @manager.transactional
    def view() -> str:
        with pytest.warns(UncommittedChangesWarning):
            running(put)()
        manager.session.add(Note(text="x"))
        return "ok"

    app = Flask("shop")
    app.testing = True
    manager.init_app(app)
    app.add_url_rule("/", "view", view)
    assert app.test_client().get("/").status_code == 200
    assert sync_world.kept() == ["x"]
    manager.databases.dispose()


@pytest.mark.rule("T11")
def test_a_future_and_a_proxy_are_values_like_others(sync_world: SyncWorld) -> None:
    """A future runs by itself, and a proxy can be awaited only if what it stands for can."""

    @sync_world.manager.transactional
    def put(value: object) -> object:
        sync_world.put("x" if isinstance(value, asyncio.Future) else "y")
        return value

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        assert put(future) is future

    asyncio.run(main())
    assert put(LocalProxy(lambda: sync_world)) is not None
    assert sync_world.kept() == ["x", "y"]
