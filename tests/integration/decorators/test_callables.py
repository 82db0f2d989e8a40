"""Every kind of callable can be decorated, and commits or rolls back when its body has run."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
import wrapt
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession import (
    ConfigurationError,
    DatabaseManager,
    RequestScopedSessionManager,
    UnexpectedRollbackError,
)
from tests.integration.decorators.notebook import Note, Notebook, read, write
from tests.servers.connections import async_url_of

Decorator = Callable[[Any], Any]
Run = Callable[[Any], Any]


class FailError(Exception):
    """What a body raises to be rolled back."""


def body(session: Session, text: str) -> str:
    """Write a note, and fail if its text says so."""
    write(session, text)
    if text.startswith("fail"):
        raise FailError(text)
    return text


def both(manager: RequestScopedSessionManager) -> Decorator:
    """Return a decorator that injects in a scope."""
    return lambda function: manager.transactional(manager.with_request_session(function))


def both_above(manager: RequestScopedSessionManager) -> Decorator:
    """Return the same, stacked the other way round."""
    return lambda function: manager.with_request_session(manager.transactional(function))


def functions(decorate: Decorator) -> Run:
    """Decorate a function."""

    @decorate
    def function(session: Session, text: str) -> str:
        return body(session, text)

    return function  # type: ignore[no-any-return]


def lambdas(decorate: Decorator) -> Run:
    """Decorate a lambda."""
    return decorate(lambda session, text: body(session, text))  # type: ignore[no-any-return]  # noqa: PLW0108 - the point


def methods(decorate: Decorator) -> Run:
    """Decorate a method."""

    class Service:
        @decorate
        def method(self, session: Session, text: str) -> str:
            assert isinstance(self, Service)
            return body(session, text)

    return Service().method  # type: ignore[no-any-return]


def methods_from_the_class(decorate: Decorator) -> Run:
    """Decorate a method, and call it with its object."""

    class Service:
        @decorate
        def method(self, session: Session, text: str) -> str:
            assert isinstance(self, Service)
            return body(session, text)

    return functools.partial(Service.method, Service())


def bound_methods(decorate: Decorator) -> Run:
    """Decorate what is bound already."""

    class Service:
        def method(self, session: Session, text: str) -> str:
            assert isinstance(self, Service)
            return body(session, text)

    return decorate(Service().method)  # type: ignore[no-any-return]


def classmethods_below(decorate: Decorator) -> Run:
    """Decorate the function of a classmethod."""

    class Service:
        @classmethod
        @decorate
        def method(cls, session: Session, text: str) -> str:
            assert cls is Service
            return body(session, text)

    return Service.method  # type: ignore[no-any-return]


def classmethods_above(decorate: Decorator) -> Run:
    """Decorate a classmethod."""

    class Service:
        @decorate
        @classmethod
        def method(cls, session: Session, text: str) -> str:
            assert cls is Service
            return body(session, text)

    return Service().method  # type: ignore[no-any-return]


def staticmethods_below(decorate: Decorator) -> Run:
    """Decorate the function of a staticmethod."""

    class Service:
        @staticmethod
        @decorate
        def method(session: Session, text: str) -> str:
            return body(session, text)

    return Service().method  # type: ignore[no-any-return]


def staticmethods_above(decorate: Decorator) -> Run:
    """Decorate a staticmethod."""

    class Service:
        @decorate
        @staticmethod
        def method(session: Session, text: str) -> str:
            return body(session, text)

    return Service.method  # type: ignore[no-any-return]


class Handler:
    """A callable object with a state of its own."""

    greeting = "hello"

    def __call__(self, session: Session, text: str) -> str:
        """Write a note."""
        assert isinstance(self, Handler)
        return body(session, text)


def callable_objects(decorate: Decorator) -> Run:
    """Decorate an object that can be called."""
    return decorate(Handler())  # type: ignore[no-any-return]


def dunder_calls(decorate: Decorator) -> Run:
    """Decorate ``__call__`` itself."""

    class Service:
        @decorate
        def __call__(self, session: Session, text: str) -> str:
            assert isinstance(self, Service)
            return body(session, text)

    return Service()


def partials(decorate: Decorator) -> Run:
    """Decorate a partial."""

    def function(prefix: str, session: Session, text: str) -> str:
        assert prefix == "prefix"
        return body(session, text)

    return decorate(functools.partial(function, "prefix"))  # type: ignore[no-any-return]


def partials_of_decorated(decorate: Decorator) -> Run:
    """Make a partial of what is decorated."""

    @decorate
    def function(prefix: str, session: Session, text: str) -> str:
        assert prefix == "prefix"
        return body(session, text)

    return functools.partial(function, "prefix")


def cached(decorate: Decorator) -> Run:
    """Decorate what :func:`functools.lru_cache` made: it is written in C, and a method, too."""

    class Service:
        @decorate
        @functools.lru_cache  # noqa: B019 - it lives as long as the test
        def method(self, session: Session, text: str) -> str:
            assert isinstance(self, Service)
            return body(session, text)

    return Service().method  # type: ignore[no-any-return]


@wrapt.decorator
def passing(
    wrapped: Callable[..., object],
    _instance: object,
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> object:
    """Decorate as users of wrapt do."""
    return wrapped(*args, **kwargs)


def foreign_functions(decorate: Decorator) -> Run:
    """Decorate what another library's proxy wraps."""

    @decorate
    @passing
    def function(session: Session, text: str) -> str:
        return body(session, text)

    return function  # type: ignore[no-any-return]


def foreign_methods(decorate: Decorator) -> Run:
    """Decorate a method that another library's proxy wraps."""

    class Service:
        @decorate
        @passing
        def method(self, session: Session, text: str) -> str:
            assert isinstance(self, Service)
            return body(session, text)

    return Service().method  # type: ignore[no-any-return]


def foreign_methods_from_the_class(decorate: Decorator) -> Run:
    """Decorate such a method, and call it with its object."""

    class Service:
        @decorate
        @passing
        def method(self, session: Session, text: str) -> str:
            assert isinstance(self, Service)
            return body(session, text)

    return functools.partial(Service.method, Service())


def foreign_classmethods(decorate: Decorator) -> Run:
    """Decorate a classmethod that another library's proxy wraps."""

    class Service:
        @decorate
        @passing
        @classmethod
        def method(cls, session: Session, text: str) -> str:
            assert cls is Service
            return body(session, text)

    return Service().method  # type: ignore[no-any-return]


def foreign_staticmethods(decorate: Decorator) -> Run:
    """Decorate a staticmethod that another library's proxy wraps."""

    class Service:
        @decorate
        @passing
        @staticmethod
        def method(session: Session, text: str) -> str:
            return body(session, text)

    return Service().method  # type: ignore[no-any-return]


def below_foreign(decorate: Decorator) -> Run:
    """Let another library's proxy wrap a decorated method."""

    class Service:
        @passing
        @decorate
        def method(self, session: Session, text: str) -> str:
            assert isinstance(self, Service)
            return body(session, text)

    return Service().method


def below_wraps(decorate: Decorator) -> Run:
    """Let a wrapper of the usual kind wrap a decorated function, between two decorations."""

    @decorate
    def function(session: Session, text: str) -> str:
        return body(session, text)

    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(*args, **kwargs)

    return wrapper


def coroutines(decorate: Decorator) -> Run:
    """Decorate a coroutine function, which writes after it has waited."""

    @decorate
    async def function(session: Session, text: str) -> str:
        await asyncio.sleep(0)
        return body(session, text)

    return lambda text: asyncio.run(function(text))


def coroutine_methods(decorate: Decorator) -> Run:
    """Decorate a method that is a coroutine function."""

    class Service:
        @decorate
        async def method(self, session: Session, text: str) -> str:
            assert isinstance(self, Service)
            await asyncio.sleep(0)
            return body(session, text)

    return lambda text: asyncio.run(Service().method(text))


def coroutine_objects(decorate: Decorator) -> Run:
    """Decorate an object whose ``__call__`` is a coroutine function."""

    class Service:
        async def __call__(self, session: Session, text: str) -> str:
            await asyncio.sleep(0)
            return body(session, text)

    decorated = decorate(Service())
    return lambda text: asyncio.run(decorated(text))


def generators(decorate: Decorator) -> Run:
    """Decorate a generator function, which writes in its last step."""

    @decorate
    def function(session: Session, text: str) -> Generator[int, None, str]:
        yield 1
        return body(session, text)

    def run(text: str) -> str:
        steps = function(text)
        assert next(steps) == 1
        with pytest.raises(StopIteration) as stopped:
            next(steps)
        return stopped.value.value  # type: ignore[no-any-return]

    return run


def generator_methods(decorate: Decorator) -> Run:
    """Decorate a method that is a generator function."""

    class Service:
        @decorate
        def method(self, session: Session, text: str) -> Iterator[str]:
            assert isinstance(self, Service)
            yield body(session, text)

    return lambda text: list(Service().method(text))[0]  # noqa: RUF015 - to the end


def async_generators(decorate: Decorator) -> Run:
    """Decorate an async generator function, which writes in its last step."""

    @decorate
    async def function(session: Session, text: str) -> AsyncIterator[str]:
        yield text
        await asyncio.sleep(0)
        body(session, text)

    async def run(text: str) -> str:
        return [given async for given in function(text)][0]  # type: ignore[no-any-return]  # noqa: RUF015 - to the end

    return lambda text: asyncio.run(run(text))


KINDS = [
    functions,
    lambdas,
    methods,
    methods_from_the_class,
    bound_methods,
    classmethods_below,
    classmethods_above,
    staticmethods_below,
    staticmethods_above,
    callable_objects,
    dunder_calls,
    partials,
    partials_of_decorated,
    cached,
    foreign_functions,
    foreign_methods,
    foreign_methods_from_the_class,
    foreign_classmethods,
    foreign_staticmethods,
    below_foreign,
    below_wraps,
    coroutines,
    coroutine_methods,
    coroutine_objects,
    generators,
    generator_methods,
    async_generators,
]

IN_A_LOOP = [coroutines, coroutine_methods, coroutine_objects, async_generators]

any_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
any_kind_that_joins = pytest.mark.parametrize(
    "kind",
    [kind for kind in KINDS if kind not in IN_A_LOOP],  # a task does not own the caller's session
    ids=lambda kind: kind.__name__,
)
either_order = pytest.mark.parametrize("stacked", [both, both_above], ids=["scope above", "below"])
Kind = Callable[[Decorator], Run]
Stacked = Callable[[RequestScopedSessionManager], Decorator]


@pytest.mark.rule("W3", "T1", "T11", "M21")
@any_kind
@either_order
def test_a_decorated_callable_commits_when_its_body_has_run(
    notebook: Notebook, kind: Kind, stacked: Stacked
) -> None:
    """A second connection sees the row after the call, and none after a call that raised."""
    run = kind(stacked(notebook.manager))

    assert run("kept") == "kept"
    assert notebook.kept() == ["kept"]
    with pytest.raises(FailError):
        run("fail")
    assert notebook.kept() == ["kept"]


@pytest.mark.rule("W3", "T3")
@any_kind_that_joins
@either_order
def test_a_decorated_callable_joins_the_running_scope(
    notebook: Notebook, kind: Kind, stacked: Stacked
) -> None:
    """Its row is there for the rest of the scope, and is committed or rolled back with it."""
    run = kind(stacked(notebook.manager))

    @notebook.manager.transactional
    def outer(*, fail: bool) -> None:
        assert read(notebook.manager.session) == []
        assert run("joined") == "joined"
        assert read(notebook.manager.session) == ["joined"]
        assert notebook.kept() == []
        if fail:
            raise FailError

    with pytest.raises(FailError):
        outer(fail=True)
    assert notebook.kept() == []
    outer(fail=False)
    assert notebook.kept() == ["joined"]


@pytest.mark.rule("W3", "T3")
@any_kind_that_joins
def test_a_failing_call_that_joined_dooms_the_scope(notebook: Notebook, kind: Kind) -> None:
    """Whoever swallows its exception is told so, and nothing is kept."""
    run = kind(both(notebook.manager))

    @notebook.manager.transactional
    def outer() -> None:
        write(notebook.manager.session, "outer")
        with contextlib.suppress(FailError):
            run("fail")

    with pytest.raises(UnexpectedRollbackError) as raised:
        outer()
    assert isinstance(raised.value.__cause__, FailError)
    assert notebook.kept() == []


class Counting(RequestScopedSessionManager):
    """A manager that remembers the errors that it recorded."""

    def __init__(self, url: str) -> None:
        self.errors: list[str] = []
        super().__init__(url)

    def _record_session_error(self, error_type: str, error_message: str) -> None:
        """Remember the error."""
        self.errors.append(error_type)


@pytest.mark.rule("M7")
def test_a_failing_flush_in_a_joined_call_is_one_event(notebook: Notebook) -> None:
    """Also where SQLAlchemy itself found the error, and the exception was swallowed."""
    manager = Counting(notebook.url)

    @manager.transactional
    @manager.with_request_session
    def change(session: Session, note: Note) -> None:
        note.text = "changed"
        session.flush()

    @manager.transactional
    @manager.with_request_session
    def outer(session: Session) -> None:
        write(manager.session, "text")  # the joined call finds where it is
        note = session.get_one(Note, "text")
        session.execute(delete(Note), execution_options={"synchronize_session": False})
        with pytest.raises(StaleDataError):
            change(note)

    with pytest.raises(UnexpectedRollbackError):
        outer()
    assert manager.errors == ["StaleDataError"]
    manager.databases.dispose()


@pytest.mark.rule("W3")
@any_kind
def test_injection_alone_commits_nothing(notebook: Notebook, kind: Kind) -> None:
    """``@with_request_session`` gives a session, and no scope."""
    run = kind(notebook.manager.with_request_session)

    assert run("lost") == "lost"
    assert notebook.kept() == []


@pytest.mark.rule("W3")
@any_kind_that_joins
def test_injection_alone_leaves_a_failure_to_its_caller(notebook: Notebook, kind: Kind) -> None:
    """Inside a scope a swallowed exception of such a function dooms nothing."""
    run = kind(notebook.manager.with_request_session)

    @notebook.manager.transactional
    def outer() -> None:
        write(notebook.manager.session, "outer")
        with contextlib.suppress(FailError):
            run("fail")

    outer()
    assert notebook.kept() == ["fail", "outer"]


@pytest.mark.rule("W3", "T50")
def test_asynchronous_callables_get_an_async_session(
    sqlite_file_url: str, notebook: Notebook
) -> None:
    """Where the manager has them; generators, methods and functions alike."""
    databases = DatabaseManager(sqlite_file_url, async_source=async_url_of(sqlite_file_url))
    manager = RequestScopedSessionManager(databases)

    class Service:
        @both(manager)
        async def function(self, session: AsyncSession, text: str) -> None:
            assert isinstance(session, AsyncSession)
            session.add(Note(text=text))

        @both_above(manager)
        async def generator(self, text: str, *, session: AsyncSession) -> AsyncGenerator[str, str]:
            assert isinstance(session, AsyncSession)
            session.add(Note(text=text))
            session.add(Note(text=(yield text)))

    async def run() -> None:
        await Service().function("function")
        steps = Service().generator("first")
        assert await anext(steps) == "first"
        with pytest.raises(StopAsyncIteration):
            await steps.asend("second")
        await databases.async_source().engines()[0].dispose()

    asyncio.run(run())
    databases.dispose()
    assert notebook.kept() == ["first", "function", "second"]


@pytest.mark.rule("W3", "T11")
def test_what_is_sent_and_thrown_into_an_async_generator_reaches_its_body(
    notebook: Notebook,
) -> None:
    """``asend``, ``athrow`` and ``aclose`` pass through; closed early it is rolled back."""
    received: list[object] = []

    @both(notebook.manager)
    async def listen(session: Session, text: str) -> AsyncGenerator[str, object]:
        write(session, text)
        while True:
            try:
                received.append((yield text))
            except FailError as error:
                received.append(error)
            except GeneratorExit:
                received.append("closed")
                raise

    async def run() -> None:
        steps: AsyncGenerator[str, object] = listen("text")
        error = FailError()
        assert await anext(steps) == "text"
        assert await steps.asend(1) == "text"
        assert await steps.athrow(error) == "text"
        assert received == [1, error]
        await steps.aclose()
        assert received[-1] == "closed"
        with pytest.raises(StopAsyncIteration):
            await anext(steps)

    asyncio.run(run())
    assert notebook.kept() == []


@pytest.mark.rule("W3")
def test_a_decorated_object_is_the_object_in_everything_but_the_call(notebook: Notebook) -> None:
    """Its type, its attributes and their changes; it does not bind, since it did not before."""
    handler = Handler()
    decorated = both(notebook.manager)(handler)
    decorated.greeting = "good morning"

    class Service:
        handle = decorated

    assert isinstance(decorated, Handler)
    assert handler.greeting == "good morning"
    assert Service().handle("kept") == "kept"
    assert notebook.kept() == ["kept"]


@pytest.mark.rule("W3")
def test_a_decorated_descriptor_learns_its_name(notebook: Notebook) -> None:
    """As it would in the class body without the decorator."""

    class Named(Handler):
        name = ""

        def __set_name__(self, _owner: type, name: str) -> None:
            self.name = name

    class Service:
        handle = both(notebook.manager)(Named())

    assert Service.handle.name == "handle"


DECORATORS = ["transactional", "with_request_session", "reattach_args"]


@pytest.mark.rule("W3")
@pytest.mark.parametrize(
    ("decorator", "target"),
    [
        *itertools.product(DECORATORS, [1, property(lambda _self: None), object()]),
        *itertools.product(DECORATORS[1:], [Handler]),  # of a class, @transactional has methods
    ],
)
def test_what_cannot_be_decorated_is_refused(
    notebook: Notebook, decorator: str, target: object
) -> None:
    """At decoration, with the decorator's name and what to do."""
    decorate = getattr(notebook.manager, decorator)
    with pytest.raises(ConfigurationError, match=f"@{decorator} was put on .* Decorate"):
        decorate(target)
