"""Whatever is callable: the commit comes after its body has run, or it is refused."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest
from flask import Flask

from flask_reqsession import (
    ConfigurationError,
    DatabaseManager,
    PropagationError,
    RequestScopedSessionManager,
)
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.foreign_decorators import passing
from tests.integration.transactions.worlds import Note, SyncWorld
from tests.servers.connections import async_url_of


@pytest.fixture
def manager(sync_world: SyncWorld) -> RequestScopedSessionManager:
    """Give the manager alone."""
    return sync_world.manager


def bodies(world: SyncWorld) -> dict[str, Callable[..., Any]]:  # noqa: C901 - a list
    """Return one of each kind of callable, that writes what it is given."""

    def function(text: str) -> str:
        world.put(text)
        return text

    async def coroutine(text: str) -> str:
        await asyncio.sleep(0)
        return function(text)

    def generator(text: str) -> Generator[str, None, None]:
        yield function(text)

    async def async_generator(text: str) -> AsyncGenerator[str, None]:
        await asyncio.sleep(0)
        yield function(text)

    class Object:
        def __call__(self, text: str) -> str:
            return function(text)

        def method(self, text: str) -> str:
            return function(text)

        @classmethod
        def class_method(cls, text: str) -> str:
            return function(text)

        @staticmethod
        def static_method(text: str) -> str:
            return function(text)

        async def async_method(self, text: str) -> str:
            return await coroutine(text)

    class AsyncObject:
        async def __call__(self, text: str) -> str:
            return await coroutine(text)

    class GeneratorObject:
        def __call__(self, text: str) -> Generator[str, None, None]:
            yield function(text)

    return {
        "function": function,
        "lambda": lambda text: function(text),  # noqa: PLW0108 - the lambda is the claim
        "partial": functools.partial(function),
        "method": Object().method,
        "class method": Object.class_method,
        "static method": Object.static_method,
        "object": Object(),
        "builtin": functools.partial(map, function),
        "coroutine": coroutine,
        "partial of a coroutine": functools.partial(coroutine),
        "partial of a partial": functools.partial(functools.partial(coroutine)),
        "async method": Object().async_method,
        "async object": AsyncObject(),
        "generator": generator,
        "partial of a generator": functools.partial(generator),
        "generator object": GeneratorObject(),
        "async generator": async_generator,
        "partial of an async generator": functools.partial(async_generator),
    }


KINDS = [
    *("function", "lambda", "partial", "method", "class method", "static method", "object"),
    *("coroutine", "partial of a coroutine", "partial of a partial", "async method"),
    *("async object", "generator", "partial of a generator", "generator object"),
    *("async generator", "partial of an async generator"),
]


async def exhausted(result: Any) -> Any:
    """Wait for what a call returned, or take its first element and the rest."""
    if inspect.isasyncgen(result):
        return [each async for each in result][0]  # noqa: RUF015 - to the end
    if inspect.isgenerator(result):
        return next(iter(list(result)))
    return await result if inspect.isawaitable(result) else result


@pytest.mark.rule("T11", "T1")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_callable_commits_after_its_body(sync_world: SyncWorld, kind: str) -> None:
    """One INSERT, then one COMMIT, and the value of the body."""
    decorated = sync_world.manager.transactional(bodies(sync_world)[kind])

    async def main() -> object:
        return await exhausted(decorated("kept"))

    assert asyncio.run(main()) == "kept"
    assert sync_world.kept() == ["kept"]
    assert sync_world.sent == ["INSERT", "COMMIT"]


@pytest.mark.rule("T11", "T1")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_callable_rolls_back_when_it_fails(sync_world: SyncWorld, kind: str) -> None:
    """The second of two calls with the same text breaks a constraint."""
    decorated = sync_world.manager.transactional(bodies(sync_world)[kind])

    async def main() -> None:
        await exhausted(decorated("twice"))
        with pytest.raises(Exception, match="UNIQUE"):
            await exhausted(decorated("twice"))

    asyncio.run(main())
    assert sync_world.kept() == ["twice"]
    assert sync_world.sent == ["INSERT", "COMMIT", "INSERT", "ROLLBACK"]


@pytest.mark.rule("T11")
@pytest.mark.parametrize("kind", ["coroutine", "async generator", "generator", "async method"])
@pytest.mark.parametrize("wrap", [passing, lambda function: lambda text: function(text)])  # noqa: PLW0108 - the claim
def test_a_function_that_only_returns_the_work_is_refused(
    sync_world: SyncWorld, kind: str, wrap: Callable[..., Any]
) -> None:
    """A plain wrapper around a coroutine function returns before the body has begun."""

    def call() -> None:
        sync_world.manager.transactional(wrap(bodies(sync_world)[kind]))("lost")

    with pytest.raises(ConfigurationError, match=r"after the commit|before its body has run"):
        call()
    assert sync_world.kept() == []
    assert sync_world.conversation.checkouts == 0


@pytest.mark.rule("T11")
@pytest.mark.parametrize("kind", ["coroutine", "generator"])
def test_work_that_has_begun_or_is_only_an_expression_is_a_value_like_others(
    sync_world: SyncWorld, kind: str
) -> None:
    """It is not the body of the function."""

    @sync_world.manager.transactional
    def begin() -> Any:
        work = bodies(sync_world)[kind]("kept")
        if kind == "coroutine":
            work.send(None)
            return work
        assert next(work) == "kept"
        return work

    work = begin()
    work.close()
    assert list(sync_world.manager.transactional(lambda: (n for n in "ab"))()) == ["a", "b"]
    assert sync_world.kept() == ([] if kind == "coroutine" else ["kept"])


@pytest.mark.rule("T11", "T15")
def test_a_view_may_return_a_generator_to_be_streamed(sync_world: SyncWorld) -> None:
    """That is how Flask streams: the generator is the response, not the body of the view."""
    app = Flask("shop")
    sync_world.manager.init_app(app)

    @app.get("/")
    @sync_world.manager.transactional
    def view() -> Any:
        sync_world.put("kept")

        def stream() -> Generator[str, None, None]:
            yield "streamed"

        return stream()

    assert app.test_client().get("/").text == "streamed"
    assert sync_world.kept() == ["kept"]


@pytest.mark.rule("T11")
@pytest.mark.parametrize("target", [42, "text", None, object()])
def test_what_is_not_callable_is_refused_at_decoration(
    manager: RequestScopedSessionManager, target: Any
) -> None:
    """With what was given in the message."""
    if target is None:
        assert callable(manager.transactional(target))
        return
    with pytest.raises(ConfigurationError, match="@transactional"):
        manager.transactional(target)


# -- classes ------------------------------------------------------------------------------------


@pytest.fixture
def service(sync_world: SyncWorld) -> type[Any]:  # noqa: C901 - a list of methods
    """Give a decorated class."""
    manager = sync_world.manager

    class Inherited:
        def inherited(self) -> bool:
            return in_scope()

    @manager.transactional(propagation="MANDATORY")
    def joined() -> bool:
        return True

    def in_scope() -> bool:
        try:
            return joined()
        except PropagationError:
            return False

    @manager.transactional
    class Service(Inherited):
        limit = 5

        class Helper:
            """A class inside a class."""

        def public(self) -> bool:
            return in_scope()

        def _private(self) -> bool:
            return in_scope()

        def __call__(self) -> bool:
            return in_scope()

        @property
        def attribute(self) -> bool:
            return in_scope()

        @classmethod
        def of_class(cls) -> bool:
            return in_scope()

        @staticmethod
        def static() -> bool:
            return in_scope()

        def steps(self) -> Generator[bool, None, None]:
            yield in_scope()

        async def awaited(self) -> bool:
            return in_scope()

        @manager.transactional(propagation="MANDATORY")
        def own(self) -> bool:
            return in_scope()

        @staticmethod
        @manager.transactional(propagation="MANDATORY")
        def own_static() -> bool:
            return in_scope()

        @manager.reattach_args
        def reattaching(self) -> bool:
            return in_scope()

    return Service


@pytest.mark.rule("T12")
def test_every_public_method_of_a_class_is_transactional(service: type[Any]) -> None:
    """Methods, class methods, static methods, generators, coroutines."""
    instance = service()
    assert instance.public()
    assert instance.of_class()
    assert service.of_class()
    assert instance.static()
    assert service.static()
    assert list(instance.steps()) == [True]
    assert asyncio.run(instance.awaited())
    assert instance.reattaching()


@pytest.mark.rule("T12")
def test_what_is_not_public_or_not_the_classes_own_is_left_alone(service: type[Any]) -> None:
    """Private and special methods, properties, inherited methods, other attributes."""
    instance = service()
    assert not instance._private()
    assert not instance()
    assert not instance.attribute
    assert not instance.inherited()
    assert service.limit == 5
    assert inspect.isclass(service.Helper)


@pytest.mark.rule("T12")
def test_a_cached_property_of_a_class_is_left_alone(manager: RequestScopedSessionManager) -> None:
    """It is read, not called."""

    @manager.transactional
    class Shop:
        @functools.cached_property
        def in_scope(self) -> bool:
            return bool(manager.get_session_info()["depth"])

    assert Shop().in_scope is False


@pytest.mark.rule("T12")
@pytest.mark.parametrize("method", ["own", "own_static"])
def test_a_methods_own_decorator_wins(
    service: type[Any], manager: RequestScopedSessionManager, method: str
) -> None:
    """The class's options don't apply to it."""
    own = getattr(service(), method)
    with pytest.raises(PropagationError, match="MANDATORY"):
        own()
    with manager.session_scope():
        assert own()


@pytest.mark.rule("T12")
def test_the_options_of_a_class_are_those_of_its_methods(sync_world: SyncWorld) -> None:
    """@transactional(...) on a class."""

    @sync_world.manager.transactional(no_rollback_for=KeyError)
    class Service:
        def pay(self) -> None:
            sync_world.put("kept")
            raise KeyError

    with pytest.raises(KeyError):
        Service().pay()
    assert sync_world.kept() == ["kept"]


# -- coroutines with either kind of session -----------------------------------------------------


@pytest.mark.rule("T50", "T2")
def test_a_synchronous_and_an_asynchronous_session_are_two_transactions(
    sync_world: SyncWorld,
) -> None:
    """One database, two engines: a coroutine has the async session, a function the other."""
    url = sync_world.url
    manager = RequestScopedSessionManager(DatabaseManager(url, async_source=async_url_of(url)))

    @manager.transactional
    def read() -> bool:
        return manager.get_session_info()["has_session"] and manager.session.in_transaction()

    @manager.transactional
    async def pay() -> None:
        session = manager.get_async_request_session()
        session.add(Note(text="async"))
        await session.flush()
        assert not read()
        assert sync_world.kept() == []

    asyncio.run(pay())
    assert sync_world.kept() == ["async"]
    manager.databases.dispose()


@pytest.mark.rule("T50", "M13")
@pytest.mark.parametrize("kind", ["async", "awaited"])
def test_async_views_run_many_times_in_a_row(sqlite_file_url: str, kind: str) -> None:
    """Each in an event loop of its own: no loop error, no leak, every end as it should be."""
    world = make_world(kind, sqlite_file_url)
    app = Flask("shop")
    world.manager.init_app(app)

    @app.get("/<int:number>")
    @world.manager.transactional
    async def view(number: int) -> tuple[str, int]:
        await world.write(f"note {number}")
        return "x", 409 if number % 2 else 201

    client = app.test_client()
    assert [client.get(f"/{number}").status_code for number in range(6)] == [201, 409] * 3
    assert world.kept() == ["note 0", "note 2", "note 4"]
    assert world.conversation.held == 0
    world.manager.databases.dispose()
