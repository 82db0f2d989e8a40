"""What a decorated callable looks like to those who look before they call."""

from __future__ import annotations

import copy
import doctest
import functools
import inspect
import pickle
import sys
import typing
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from sqlalchemy.orm import Session

from flask_reqsession import (
    RequestScopedSessionManager,
    reattach_args,
    transactional,
    with_request_session,
)
from tests.integration.decorators.notebook import Notebook, write

Decorator = Callable[[Any], Any]
manager = RequestScopedSessionManager("sqlite://")

STACKS: dict[str, Decorator] = {
    "injected": with_request_session,
    "bound": manager.with_request_session,
    "scope above": lambda f: transactional(with_request_session(f)),
    "scope below": lambda f: with_request_session(transactional(f)),
    "all": lambda f: reattach_args(with_request_session(transactional(f))),
}
any_stack = pytest.mark.parametrize("decorate", STACKS.values(), ids=STACKS)


def pay(session: Session, name: str, /, amount: int = 1, *rest: int, **extra: str) -> None:
    """Pay somebody.

    >>> 1 + 1
    2
    """


class Bank:
    """Methods of each kind, not decorated."""

    def pay(self, session: Session, name: str) -> None:
        """Pay."""

    @classmethod
    def pay_on_class(cls, session: Session, name: str) -> None:
        """Pay."""

    @staticmethod
    def pay_statically(session: Session, name: str) -> None:
        """Pay."""

    def __call__(self, session: Session, name: str) -> None:
        """Pay."""


def bank_of(decorate: Decorator) -> Any:
    """Return the class with every method decorated."""
    members = {
        name: decorate(member)
        for name, member in vars(Bank).items()
        if name == "__call__" or name.startswith("pay")
    }
    return type("Bank", (Bank,), members)


@pytest.mark.rule("W4")
@any_stack
def test_the_signature_shows_what_callers_have_to_give(decorate: Decorator) -> None:
    """Everything but the session: kinds, defaults, annotations and the return type."""
    expected = "(name: 'str', /, amount: 'int' = 1, *rest: 'int', **extra: 'str') -> 'None'"
    decorated = decorate(pay)

    assert str(inspect.signature(decorated)) == expected
    assert list(inspect.getfullargspec(decorated).args) == ["name", "amount"]


@pytest.mark.rule("W4")
@any_stack
def test_the_signature_of_every_kind_of_method(decorate: Decorator) -> None:
    """From an instance, from the class, of an object that is called."""
    bank = bank_of(decorate)
    bound, unbound = "(name: 'str') -> 'None'", "(self, name: 'str') -> 'None'"

    assert str(inspect.signature(bank().pay)) == bound
    assert str(inspect.signature(bank.pay)) == unbound
    assert str(inspect.signature(bank.pay_on_class)) == bound
    assert str(inspect.signature(bank().pay_on_class)) == bound
    assert str(inspect.signature(bank.pay_statically)) == bound
    assert str(inspect.signature(bank().pay_statically)) == bound
    assert str(inspect.signature(bank())) == bound
    assert str(inspect.signature(decorate(Bank().pay))) == bound
    assert str(inspect.signature(decorate(Bank()))) == bound
    assert str(inspect.signature(decorate(functools.partial(Bank.pay, Bank())))) == bound
    assert str(inspect.signature(decorate(functools.lru_cache(Bank.pay)))) == unbound


@pytest.mark.rule("W4")
@pytest.mark.parametrize("target", [pay, Bank(), Bank.pay], ids=["function", "object", "method"])
def test_other_decorators_leave_the_signature_alone(target: Callable[..., object]) -> None:
    """``@transactional`` and ``@reattach_args`` hide nothing."""
    assert inspect.signature(transactional(target)) == inspect.signature(target)
    assert inspect.signature(reattach_args(target)) == inspect.signature(target)


@pytest.mark.rule("W4")
@any_stack
def test_names_and_documentation_are_the_functions(decorate: Decorator) -> None:
    """So that routes, help pages and tracebacks tell what the author wrote."""
    vars(pay)["tag"] = "kept"
    decorated = decorate(pay)
    method = bank_of(decorate)().pay

    for each, original in ((decorated, pay), (method, Bank.pay)):
        assert each.__name__ == original.__name__
        assert each.__qualname__ == original.__qualname__
        assert each.__module__ == original.__module__
        assert each.__doc__ == original.__doc__
        assert each.__wrapped__ is original
        assert inspect.unwrap(each) is original
    assert decorated.tag == "kept"
    assert inspect.getsource(decorated) == inspect.getsource(pay)


@pytest.mark.rule("W3", "W4")
def test_what_others_left_on_a_stand_in_stays_when_another_takes_its_place() -> None:
    """Flask-RESTX and others mark the function that they get, and come between two of ours."""
    injected: Any = with_request_session(pay)
    injected.mark = "marked"
    injected.__name__ = "renamed"
    decorated: Any = transactional(injected)

    assert decorated.mark == "marked"
    assert decorated.__name__ == "renamed"
    assert decorated.__wrapped__ is pay
    assert inspect.signature(decorated) == inspect.signature(injected)
    assert not hasattr(pay, "mark")


@pytest.mark.rule("W4")
@any_stack
def test_annotations_lack_the_session(decorate: Decorator) -> None:
    """Flask-Pydantic and others read them; those of the function itself stay as they are."""
    decorated = decorate(pay)

    assert decorated.__annotations__ | {"session": "Session"} == pay.__annotations__
    assert "session" not in decorated.__annotations__
    assert typing.get_type_hints(decorated)["return"] is type(None)
    assert list(typing.get_type_hints(bank_of(decorate)().pay)) == ["name", "return"]
    assert list(decorate(functools.lru_cache(Bank.pay)).__annotations__) == ["name", "return"]
    assert "session" in pay.__annotations__
    assert "session" in Bank.pay.__annotations__


@pytest.mark.rule("W4")
def test_annotations_of_a_proxy_are_its_objects() -> None:
    """With no session to hide they are the very same."""
    cached = functools.lru_cache(Bank.pay)

    assert transactional(cached).__annotations__ is cached.__annotations__
    assert not hasattr(transactional(Bank()), "__name__")


@with_request_session
def pickled(session: Session) -> None:
    """Be found in this module."""


@transactional
@functools.lru_cache
def pickled_cache(name: str) -> None:
    """Be found in this module, too."""


class Picklable:
    """Methods that are found on this class."""

    @transactional
    @with_request_session
    def method(self, session: Session) -> None:
        """Be found on this class."""

    @classmethod
    @with_request_session
    def class_method(cls, session: Session) -> None:
        """Be found on this class."""

    @with_request_session
    @staticmethod
    def static_method(session: Session) -> None:
        """Be found on this class."""


@pytest.mark.rule("W4")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling_is_by_reference(protocol: int) -> None:
    """Job queues send functions and bound methods by name."""

    def sent(value: object) -> object:
        return pickle.loads(pickle.dumps(value, protocol))  # noqa: S301 - our own

    assert sent(pickled) is pickled
    assert sent(pickled_cache) is pickled_cache
    assert sent(Picklable.method) is Picklable.method
    assert sent(Picklable.static_method) is Picklable.static_method
    assert sent(Picklable.class_method) == Picklable.class_method
    method: Any = sent(Picklable().method)
    assert method.__func__ is Picklable.method
    assert isinstance(method.__self__, Picklable)


@pytest.mark.rule("W4")
def test_what_has_no_name_cannot_be_pickled() -> None:
    """By reference to what? The error says so, instead of losing the decorators."""
    with pytest.raises(TypeError, match=r"Bank object can't be pickled, .* no name"):
        pickle.dumps(transactional(Bank()))


@pytest.mark.rule("W4")
def test_copies() -> None:
    """A copied function is itself, as ever; a copied object is decorated like its original."""
    decorated: Any = transactional(Bank())
    decorated.tags = ["tag"]
    shallow, deep = copy.copy(decorated), copy.deepcopy(decorated)

    assert copy.copy(pickled) is copy.deepcopy(pickled) is pickled
    assert type(shallow) is type(deep) is type(decorated)
    assert shallow.__wrapped__ is not decorated.__wrapped__
    assert shallow.tags is decorated.tags
    assert deep.tags == decorated.tags
    assert deep.tags is not decorated.tags


@pytest.mark.rule("W4")
@any_stack
def test_wrappers_of_others_show_the_same(decorate: Decorator) -> None:
    """``functools.wraps`` hands the visible signature on."""
    decorated = decorate(pay)

    @functools.wraps(decorated)
    def wrapper(*args: object, **kwargs: object) -> None: ...

    assert inspect.signature(wrapper) == inspect.signature(decorated)
    assert inspect.unwrap(wrapper) is pay
    assert "session" not in wrapper.__annotations__


@pytest.mark.rule("W3", "W4")
def test_a_wrapper_of_others_is_called_between_two_of_ours(notebook: Notebook) -> None:
    """It carries a copy of the attributes of what it wraps, and is not taken for that."""
    called: list[str] = []

    @notebook.manager.with_request_session
    def note(session: Session, text: str) -> None:
        write(session, text)

    @functools.wraps(note)
    def wrapper(text: str) -> None:
        called.append(text)
        note(text)

    notebook.manager.transactional(wrapper)("text")
    assert called == notebook.kept() == ["text"]


@pytest.mark.rule("W4")
@any_stack
def test_the_colour_is_the_functions(decorate: Decorator) -> None:
    """``inspect`` tells coroutine functions and generators as before; Flask asks it."""

    async def coroutine(session: Session) -> None: ...

    def generator(session: Session) -> Iterator[Session]:
        yield session  # pragma: no cover - never called

    async def async_generator(session: Session) -> AsyncIterator[Session]:
        yield session  # pragma: no cover - never called

    def kinds(function: object) -> list[bool]:
        return [
            inspect.iscoroutinefunction(function),
            inspect.isgeneratorfunction(function),
            inspect.isasyncgenfunction(function),
            inspect.isfunction(function),
        ]

    for function in (pay, coroutine, generator, async_generator):
        assert kinds(decorate(function)) == kinds(function)


@pytest.mark.rule("W4")
def test_an_abstract_method_stays_one() -> None:
    """In either order with ``@abstractmethod``."""

    class Service(ABC):
        @abstractmethod
        @with_request_session
        def above(self, session: Session) -> Session:
            """Be abstract."""

        @with_request_session
        @abstractmethod
        def below(self, session: Session) -> Session:
            """Be abstract."""

    assert Service.__abstractmethods__ == {"above", "below"}


@pytest.mark.rule("W4")
def test_doctests_of_decorated_functions_are_found() -> None:
    """With the right source line, and run."""
    decorated = with_request_session(pay)
    found = doctest.DocTestFinder().find(decorated, module=sys.modules[__name__])

    assert [test.name for test in found if test.examples] == ["pay"]
    assert doctest.DocTestRunner().run(found[0]) == (0, 1)


@pytest.mark.rule("W4")
def test_autospecced_mocks_take_what_callers_give() -> None:
    """A test double of a decorated service refuses the same wrong calls."""
    double = mock.create_autospec(with_request_session(pay))
    service = mock.create_autospec(Picklable, instance=True)
    double("ada", amount=2)
    service.method()

    with pytest.raises(TypeError, match="missing a required argument: 'name'"):
        double()
    with pytest.raises(TypeError, match="too many positional arguments"):
        service.method("ada")
