"""The session reaches the function, whatever its signature and however it is called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import Parameter
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from werkzeug.local import LocalProxy

from flask_reqsession import NoActiveScopeError, RequestScopedSessionManager, with_request_session
from tests.integration.decorators.notebook import Notebook, write
from tests.integration.decorators.shapes import (
    POSITIONAL,
    Function,
    Shape,
    any_calls,
    calls,
    is_legal,
    shapes,
)

Manager = RequestScopedSessionManager
Decorator = Callable[[Function], Function]
WAYS: dict[str, Callable[[Manager], Decorator]] = {
    "injected": lambda manager: manager.with_request_session,
    "in a scope": lambda manager: lambda f: manager.transactional(manager.with_request_session(f)),
    "reattaching": lambda manager: lambda f: manager.reattach_args(manager.with_request_session(f)),
}


@contextmanager
def known_unit(manager: Manager) -> Generator[None]:
    """Open a unit of work, and ask for its session: the next call need not look for it."""
    with manager.unit_of_work():
        manager.get_request_session()
        yield


@contextmanager
def known_scope(manager: Manager) -> Generator[None]:
    """Open a scope, and ask for its session: the next call need not look for it."""
    with manager.session_scope():
        manager.get_request_session()
        yield


PLACES: dict[str, Callable[[Manager], AbstractContextManager[object]]] = {
    "outside": lambda _manager: nullcontext(),
    "in a new unit of work": lambda manager: manager.unit_of_work(),
    "in a unit of work": known_unit,
    "in a new scope": lambda manager: manager.session_scope(),
    "in a scope": known_scope,
}

any_way = pytest.mark.parametrize("way", WAYS)
anywhere = pytest.mark.parametrize("place", PLACES)
thorough = settings(max_examples=50, deadline=None)


@pytest.fixture(scope="module")
def manager() -> Iterator[Manager]:
    """Give a manager; nothing is sent to its database."""
    manager = Manager("sqlite://")
    yield manager
    manager.databases.dispose()


@pytest.fixture(scope="module")
def own_session() -> Iterator[Session]:
    """Give a session of the caller's own."""
    with Session() as session:
        yield session


def is_injected(manager: Manager, place: str, received: object, *, given: object = None) -> bool:
    """Whether ``received`` is a session that the manager handed out; call it in the same place."""
    if place == "outside":
        return isinstance(received, Session) and received is not given
    return received is manager.session


@pytest.mark.rule("W2", "M21")
@any_way
@anywhere
@thorough
@given(data=st.data())
def test_what_the_visible_signature_allows_is_legal(
    manager: Manager, way: str, place: str, data: st.DataObject
) -> None:
    """The function gets what plain Python would give it, and the session at its place."""
    shape = data.draw(shapes())
    args, kwargs = data.draw(calls(shape.visible))
    decorated = WAYS[way](manager)(shape.full)
    with PLACES[place](manager):
        received = decorated(*args, **kwargs)
        session = received.pop("session")
        assert is_injected(manager, place, session)
    assert received == shape.visible(*args, **kwargs)


@pytest.mark.rule("W2")
@any_way
@anywhere
@thorough
@given(data=st.data())
def test_an_explicit_session_wins(
    manager: Manager, own_session: Session, way: str, place: str, data: st.DataObject
) -> None:
    """Whatever else is passed, and however: by position or by keyword."""
    shape, args, kwargs = draw_full_call(data, own_session)
    decorated = WAYS[way](manager)(shape.full)
    with PLACES[place](manager):
        assert decorated(*args, **kwargs) == shape.full(*args, **kwargs)


@pytest.mark.rule("W2")
@any_way
@anywhere
@thorough
@given(data=st.data())
def test_a_double_wins_where_nothing_else_can_be_meant(
    manager: Manager, way: str, place: str, data: st.DataObject
) -> None:
    """A test may pass any object as the session; it need not look like one."""
    shape, args, kwargs = draw_full_call(data, object())
    assume(not is_legal(shape.visible, (args, kwargs)))
    decorated = WAYS[way](manager)(shape.full)
    with PLACES[place](manager):
        assert decorated(*args, **kwargs) == shape.full(*args, **kwargs)


@pytest.mark.rule("W2")
@any_way
@anywhere
@thorough
@given(data=st.data())
def test_an_explicit_none_counts_as_not_given(
    manager: Manager, way: str, place: str, data: st.DataObject
) -> None:
    """Where None can't be meant for another parameter, by position or by keyword."""
    shape, args, kwargs = draw_full_call(data, None)
    assume(not is_legal(shape.visible, (args, kwargs)))
    decorated = WAYS[way](manager)(shape.full)
    with PLACES[place](manager):
        received = decorated(*args, **kwargs)
        assert is_injected(manager, place, received["session"])
    assert received == shape.full(*args, **kwargs) | {"session": received["session"]}


@pytest.mark.rule("W2")
@any_way
@anywhere
@thorough
@given(data=st.data(), given_session=st.sampled_from([Session(), object(), None]))
def test_a_session_by_name_goes_with_every_legal_call(
    manager: Manager, way: str, place: str, data: st.DataObject, given_session: object
) -> None:
    """Callers see no parameter at its place, so they pass the next one there."""
    shape = data.draw(shapes())
    assume(shape.session.kind is not Parameter.POSITIONAL_ONLY)
    args, kwargs = data.draw(calls(shape.visible))
    decorated = WAYS[way](manager)(shape.full)
    with PLACES[place](manager):
        received = decorated(*args, **kwargs, session=given_session)
        session = received.pop("session")
        if given_session is None:
            assert is_injected(manager, place, session)
        else:
            assert session is given_session
    assert received == shape.visible(*args, **kwargs)


@pytest.mark.rule("W2")
@any_way
@anywhere
@thorough
@given(data=st.data())
def test_a_wrong_call_is_wrong(manager: Manager, way: str, place: str, data: st.DataObject) -> None:
    """A call that is legal neither with nor without the session raises TypeError, as ever."""
    shape = data.draw(shapes())
    args, kwargs = data.draw(any_calls(shape))
    assume(not is_legal(shape.full, (args, kwargs)))
    assume(not is_legal(shape.visible, (args, kwargs)))
    if shape.session.kind is not Parameter.POSITIONAL_ONLY:
        others = {name: value for name, value in kwargs.items() if name != "session"}
        assume(not is_legal(shape.visible, (args, others)))
    decorated = WAYS[way](manager)(shape.full)
    with pytest.raises(TypeError), PLACES[place](manager):
        decorated(*args, **kwargs)


def draw_full_call(
    data: st.DataObject, session: object
) -> tuple[Shape, tuple[Any, ...], dict[str, Any]]:
    """Draw a shape and a legal call of its full signature that passes ``session``."""
    shape = data.draw(shapes())
    args, kwargs = data.draw(calls(shape.full))
    index = shape.parameters.index(shape.session)
    if shape.session.kind in POSITIONAL and len(args) > index:
        return shape, (*args[:index], session, *args[index + 1 :]), kwargs
    assume("session" in kwargs and shape.session.kind is not Parameter.POSITIONAL_ONLY)
    return shape, args, {**kwargs, "session": session}


# -- single cases, as people write them ------------------------------------------------------------


def any_of(function: object) -> Any:
    """Return ``function``, without its type, which says that callers give no session (W5)."""
    return function


def greet(session: Session, name: str | None = "nobody") -> tuple[Session, str | None]:
    """Take the session first."""
    return session, name


@pytest.mark.rule("W2")
def test_none_is_an_argument_like_any_other_to_the_visible_signature(manager: Manager) -> None:
    """``f(None)`` means the name, since callers see no session; ``f(None, "ada")`` can't."""
    greets = any_of(manager.with_request_session(greet))
    with manager.unit_of_work():
        session = manager.session

        assert greets(None) == (session, None)
        assert greets(None, "ada") == (session, "ada")
        assert greets(None, name="ada") == (session, "ada")
        assert greets(session=None) == (session, "nobody")


@pytest.mark.rule("W2")
def test_a_session_comes_in_many_disguises(manager: Manager, own_session: Session) -> None:
    """A ``scoped_session`` and a proxy are explicit sessions, where a name could stand, too."""
    greets = any_of(manager.with_request_session(greet))
    registry = scoped_session(sessionmaker())
    proxy = LocalProxy(lambda: own_session)

    assert greets(own_session) == (own_session, "nobody")
    assert greets(registry) == (registry, "nobody")
    assert greets(proxy) == (own_session, "nobody")


@pytest.mark.rule("W2")
def test_a_session_that_another_parameter_needs_is_not_the_functions_own(
    manager: Manager, own_session: Session
) -> None:
    """A function that copies between two sessions can be told the other one."""

    @manager.with_request_session
    def copy(session: Session, other: Session) -> tuple[Session, Session]:
        return session, other

    with manager.unit_of_work():
        assert any_of(copy)(own_session) == (manager.session, own_session)


@pytest.mark.rule("W2")
@pytest.mark.parametrize("way", ["injected", "in a scope"])
def test_a_given_session_makes_no_other(manager: Manager, own_session: Session, way: str) -> None:
    """Nobody asked for the request session, so there is none: in a unit, nor in a scope."""
    greets = WAYS[way](manager)(any_of(greet))

    def greet_twice() -> bool:
        greets(own_session, "ada")
        greets(session=own_session)
        return manager.is_session_active()

    with manager.unit_of_work():
        assert not greet_twice()
        assert not manager.transactional(greet_twice)()


@pytest.mark.rule("W2")
def test_a_session_by_name_leaves_its_place_to_the_next_argument(own_session: Session) -> None:
    """``f("ada", session=s)`` for ``def f(session, name)``: a function of each kind, no manager."""

    @with_request_session
    def function(session: Session, name: str) -> tuple[Session, str]:
        return session, name

    @with_request_session
    def generator(session: Session, name: str) -> Generator[tuple[Session, str]]:
        yield session, name

    @with_request_session
    async def coroutine(session: Session, name: str) -> tuple[Session, str]:
        return session, name

    class Greeter:
        @with_request_session
        def greet(self, session: Session, name: str) -> tuple[Session, str]:
            return session, name

    expected = (own_session, "ada")
    assert any_of(function)("ada", session=own_session) == expected
    assert list(any_of(generator)("ada", session=own_session)) == [expected]
    assert asyncio.run(any_of(coroutine)("ada", session=own_session)) == expected
    assert any_of(Greeter().greet)("ada", session=own_session) == expected
    with pytest.raises(TypeError, match="multiple values"):
        any_of(function)(own_session, "ada", session=own_session)


@pytest.mark.rule("W2", "T1")
def test_a_given_session_leaves_the_scope_on(notebook: Notebook, own_session: Session) -> None:
    """The scope is that of the manager's session; the caller's own is the caller's."""
    manager = notebook.manager

    @manager.transactional
    @manager.with_request_session
    def note(session: Session, text: str) -> Session:
        write(manager.session, text)
        return session

    assert any_of(note)(own_session, "kept") is own_session
    assert notebook.kept() == ["kept"]


@pytest.mark.rule("W2")
def test_a_given_session_needs_no_manager(own_session: Session) -> None:
    """A unit test can call the function with a session of its own and nothing else around."""

    @with_request_session
    def function(session: Session) -> Session:
        return session

    @with_request_session
    def generator(session: Session) -> Generator[Session, str, str]:
        return (yield session)

    @with_request_session
    async def coroutine(session: Session) -> Session:
        return session

    @with_request_session
    async def async_generator(session: Session) -> AsyncGenerator[Session]:
        yield session

    steps = any_of(generator)(own_session)

    assert any_of(function)(own_session) is own_session
    assert next(steps) is own_session
    with pytest.raises(StopIteration, match="sent"):
        steps.send("sent")
    assert asyncio.run(any_of(coroutine)(session=own_session)) is own_session
    assert asyncio.run(first_of(any_of(async_generator)(own_session))) is own_session


@pytest.mark.rule("W2", "M21")
def test_without_a_session_a_manager_is_needed() -> None:
    """The error says what is missing, and that bound decorators need no look-up."""
    greets = with_request_session(greet)

    with pytest.raises(NoActiveScopeError, match=r"@manager\.transactional"):
        greets("ada")


async def first_of(generator: AsyncGenerator[Session]) -> Session:
    """Return what an async generator yields first."""
    try:
        return await anext(generator)
    finally:
        await generator.aclose()


@pytest.mark.rule("W2", "M8", "M10")
def test_the_session_is_the_one_of_the_request_or_of_the_call(notebook: Notebook) -> None:
    """In a request it is the manager's; outside, a session of the call, which ends with it."""

    @notebook.manager.with_request_session
    def get_session(session: Session) -> Session:
        return session

    with notebook.app.test_request_context():
        assert get_session() is notebook.manager.session
        assert get_session() is get_session()
    session = get_session()

    assert isinstance(session, Session)
    with pytest.raises(InvalidRequestError, match="closed"):
        session.connection()
