"""Which parameter receives the session: found once, at decoration."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Annotated, ForwardRef, NewType, Optional, TypeVar, Union

import pytest
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session

from flask_reqsession.injection import find_injection


class OwnSession(Session):
    """A session class of the user's own."""


class OwnAsyncSession(AsyncSession):
    """An asynchronous one."""


class LazyAlias:
    """What ``type X = ...`` makes in Python 3.12: it is evaluated when somebody asks."""

    def __init__(self, evaluate: Callable[[], object]) -> None:
        self._evaluate = evaluate

    @property
    def __value__(self) -> object:
        return self._evaluate()

    def __repr__(self) -> str:
        """Name itself without its address: test ids are compared between processes."""
        return f"LazyAlias({self._evaluate.__name__})"


def broken() -> object:
    """Name what only the type checker imports."""
    raise NameError("Session")


NewSession = NewType("NewSession", Session)
AnySession = TypeVar("AnySession", bound=Session)
KNOWN = {
    "orm": orm,
    "Session": Session,
    "AsyncSession": AsyncSession,
    "OwnSession": OwnSession,
    "Alias": OwnSession,
    "Database": Annotated[Session, "the main one"],
    "Annotated": Annotated,
    "Optional": Optional,
}
SYNC = [
    Session,
    OwnSession,
    Session | None,
    None | Session,
    Optional[OwnSession],  # noqa: UP045 - as people write it
    Union[int, Session],  # noqa: UP007 - as people write it
    Annotated[Session, "the main one"],
    Annotated[Session | None, "the main one"],
    Optional[Annotated[Session, "the main one"]],  # noqa: UP045 - as people write it
    NewSession,
    AnySession,
    LazyAlias(lambda: Session),
    "Session",
    "OwnSession",
    "Alias",
    "Database",
    "orm.Session",
    "Session | None",
    "None | OwnSession",
    "Optional[Session]",
    "Annotated[Session, 'the main one']",
    "'Session'",
    Optional["Session"],
]
UNEVALUATED = [
    "Session",
    "orm.Session",
    "sqlalchemy.orm.Session",
    " Session ",
    "Session | None",
    "None | orm.Session",
    "int | 'Session'",
    "Optional[Session]",
    "typing.Optional[Session]",
    "Union[int, Session]",
    "Annotated[Session, 'the main one']",
    "t.Annotated[Session | None, Anything]",
    "'Session'",
    ForwardRef("Session"),
    Optional["Session"],
]
NO_SESSION = [
    int,
    object,
    "int",
    dict[str, Session],
    list[Session],
    Callable[[Session], int],
    type[Session],
    scoped_session,
    Annotated[int, Session],
    LazyAlias(broken),
    "dict[str, Session]",
    "Callable[[Session], int]",
    "Callable[[Session | None], int]",
    "Annotated[int, Session]",
    "type[Session]",
    "SessionMaker",
    "the session, or None",
    "",
    "\0",
    "make(Session)",
]


def function_with(annotation: object, namespace: Mapping[str, object]) -> Callable[..., object]:
    """Return a function whose second parameter is annotated so, in a module with these names."""

    def function(first: int, db: object, last: str) -> None:
        """Have three parameters."""

    copied = FunctionType(function.__code__, dict(namespace))
    copied.__annotations__ = {"first": int, "db": annotation, "last": "OnlyForTheTypeChecker"}
    return copied


@pytest.mark.rule("W1")
@pytest.mark.parametrize("annotation", SYNC, ids=str)
def test_the_parameter_annotated_with_a_session_is_it(annotation: object) -> None:
    """As a class, a string, an alias, optional, annotated; other annotations may not evaluate."""
    injection = find_injection(function_with(annotation, KNOWN), None)

    assert injection.name == "db"
    assert injection.wants_async is False


@pytest.mark.rule("W1")
@pytest.mark.parametrize("annotation", UNEVALUATED, ids=str)
def test_a_name_that_only_the_type_checker_imports_is_understood(annotation: object) -> None:
    """Under ``if TYPE_CHECKING:`` the annotation can't be evaluated, but it can be read."""
    injection = find_injection(function_with(annotation, {}), None)

    assert injection.name == "db"
    assert injection.wants_async is False


@pytest.mark.rule("W1", "T50")
@pytest.mark.parametrize(
    "annotation",
    [AsyncSession, OwnAsyncSession, AsyncSession | None, "AsyncSession", "aio.AsyncSession"],
    ids=str,
)
def test_an_async_session_is_one_too(annotation: object) -> None:
    """And the scope is one of asynchronous sessions then."""
    injection = find_injection(function_with(annotation, KNOWN), None)

    assert injection.name == "db"
    assert injection.wants_async is True


@pytest.mark.rule("W1")
@pytest.mark.parametrize("annotation", NO_SESSION, ids=str)
@pytest.mark.parametrize("namespace", [KNOWN, {}], ids=["evaluated", "read"])
def test_an_annotation_that_only_mentions_a_session_is_none(
    annotation: object, namespace: Mapping[str, object]
) -> None:
    """A mapping of sessions is not a session; nor is what can't be understood at all."""
    with pytest.raises(TypeError):
        find_injection(function_with(annotation, namespace), None)


@pytest.mark.rule("W1")
def test_the_named_parameter_comes_before_the_annotated_one() -> None:
    """Then the annotated one, the first of several, then the one called ``session``."""

    def both(db: object, main: Session, other: Session, session: object) -> None: ...

    def called(name: str, session: object) -> None: ...

    assert find_injection(both, "db").name == "db"
    assert find_injection(both, "db").wants_async is None
    assert find_injection(both, "other").name == "other"
    assert find_injection(both, None).name == "main"
    assert find_injection(called, None).name == "session"


@pytest.mark.rule("W1")
def test_a_star_parameter_is_never_it() -> None:
    """Neither ``*sessions: Session`` nor ``**session``, by annotation or by name."""

    def starred(*sessions: Session, session: object) -> None: ...

    def double_starred(name: str, **session: Session) -> None: ...

    assert find_injection(starred, None).name == "session"
    with pytest.raises(TypeError):
        find_injection(starred, "sessions")
    with pytest.raises(TypeError):
        find_injection(double_starred, None)


class Handler:
    """A callable object."""

    def __call__(self, name: str, db: Session) -> None:
        """Handle."""

    def handle(self, name: str, db: Session) -> None:
        """Handle, too."""


def handle(name: str, db: Session) -> None:
    """Handle, too."""


def logged(function: Callable[..., object]) -> Callable[..., object]:
    """Decorate as everybody does."""

    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> None: ...

    return wrapper


@pytest.mark.rule("W1", "W3")
@pytest.mark.parametrize(
    "function",
    [
        handle,
        Handler(),
        Handler.handle,
        Handler().handle,
        logged(handle),
        logged(Handler()),
        functools.partial(handle, "ada"),
        functools.partial(logged(Handler()), "ada"),
        functools.lru_cache(handle),
    ],
    ids=["function", "object", "method", "bound", "wrapper", "of object", "partial", "of it", "C"],
)
def test_the_annotation_is_found_through_every_layer(function: Callable[..., object]) -> None:
    """It stands in the module of the function, and is evaluated there."""
    injection = find_injection(function, None)

    assert injection.name == "db"
    assert injection.wants_async is False


@pytest.mark.rule("W1")
def test_where_there_is_none_the_error_names_the_function_and_its_parameters() -> None:
    """At decoration, with what was looked for and what to do."""

    def pay(payer: str, *, amount: int = 1) -> None: ...

    def rest() -> None: ...

    with pytest.raises(TypeError) as unnamed:
        find_injection(pay, None)
    with pytest.raises(TypeError) as named:
        find_injection(pay, "db")
    with pytest.raises(TypeError, match="its parameters are: none"):
        find_injection(rest, None)

    assert "pay() has no parameter" in str(unnamed.value)
    assert "'session'" in str(unnamed.value)
    assert "payer, amount" in str(unnamed.value)
    assert "session: Session" in str(unnamed.value)
    assert "'db'" in str(named.value)


@pytest.mark.rule("W1")
def test_a_function_that_does_not_tell_its_parameters_is_refused() -> None:
    """As some of those written in C: TypeError, naming it."""
    with pytest.raises(TypeError, match=r"dir\(\) does not tell its parameters"):
        find_injection(dir, None)
