"""Find the parameter that receives the session, and put the session there."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ForwardRef, NamedTuple, TypeAlias, Union

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from flask_reqsession.colour import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""Of one call, positional and by keyword."""

_SESSION_CLASSES = (Session, AsyncSession, scoped_session, async_scoped_session)
"""What a positional argument is taken for the session by."""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_NEVER = 1 << 29  # within the integers that the interpreter compares fast


class Quick(NamedTuple):
    """The calls in which the session's place needs no closer look, by their positional arguments.

    With ``append`` of them and no keywords the session comes next; with more, up to ``insert``, it
    comes at the index ``append``; with up to ``by_keyword`` and ``name`` not among the keywords, it
    is passed as ``name``.
    """

    append: int = _NEVER
    insert: int = -1
    by_keyword: int = -1
    name: str = ""


@dataclass(frozen=True, slots=True)
class Injection:
    """Where the session goes in the calls of one function.

    ``position`` is its index among the positional arguments, beyond all of them if it is passed by
    keyword only. ``visible`` is the signature that callers see, without the session. ``names`` are
    its positional parameters (None for one that no keyword reaches); the first ``required`` of them
    have no default, and a call has ``most`` positional arguments at most.
    """

    name: str
    position: int
    by_keyword: bool
    names: tuple[str | None, ...]
    required: int
    most: int
    parameters: tuple[inspect.Parameter, ...]
    visible: inspect.Signature
    wants_async: bool | None

    @property
    def quick(self) -> Quick:
        """The calls that :meth:`complete` need not be asked about."""
        by_keyword = self.position if self.by_keyword else -1
        # A session among so few arguments would leave a required one without a value.
        insert = self.required
        return Quick(self.position, insert, by_keyword, self.name)

    def complete(
        self, open_session: Callable[[], object], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments:
        """Return the call with the session in it; one that the caller gave wins.

        ``args`` is as the undecorated function sees it, ``self`` included.
        """
        index = self.position
        if self.by_keyword and (self.name in kwargs or len(args) < index):
            if kwargs.get(self.name) is None:
                kwargs = {**kwargs, self.name: open_session()}
            return self.settled(args, kwargs)
        if len(args) < index:
            before = self.parameters[len(args) : index]
            if all(each.default is not each.empty for each in before):  # else the call is wrong
                args = (*args, *(each.default for each in before), open_session())
        elif not self._has_session(args, kwargs):
            args = (*args[:index], open_session(), *args[index:])
        elif args[index] is None:
            args = (*args[:index], open_session(), *args[index + 1 :])
        return args, kwargs

    def settled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Return the call with a session that was passed by its name at its own place.

        Callers see no parameter there, and the value that they pass next would take it.
        """
        is_named = self.by_keyword and self.name in kwargs
        if not is_named or not self.position < len(args) <= self.most:
            return args, kwargs
        named = dict(kwargs)
        session = named.pop(self.name)
        return (*args[: self.position], session, *args[self.position :]), named

    def is_given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the caller gave a session; None counts as not given."""
        if self.by_keyword and self.name in kwargs:
            return kwargs[self.name] is not None
        return self._has_session(args, kwargs) and args[self.position] is not None

    def _has_session(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the positional argument at the session's place is meant as the session.

        What the visible signature allows is always legal, so any double counts where the call would
        not be legal otherwise, and a real session also where the parameter that it would take
        from the others can do without.
        """
        count = len(args)
        if count <= self.position:
            return False
        if count > self.most:
            return True
        last = count - 1
        if last >= len(self.names):  # in *args
            return isinstance(args[self.position], _SESSION_CLASSES)
        if self.names[last] in kwargs:
            return True
        return last >= self.required and isinstance(args[self.position], _SESSION_CLASSES)


def find_injection(function: Callable[..., object], name: str | None) -> Injection:
    """Find the parameter: the one named, else annotated with a session class, else ``session``.

    :raises TypeError: there is none; the message lists the parameters.
    """
    signature = signature_of(function)
    parameters = {
        each.name: each for each in signature.parameters.values() if each.kind not in _VARIADIC
    }
    kinds = {each.name: _asks_for_async(_resolved(each, function)) for each in parameters.values()}
    if name is None:
        name = next((each for each, kind in kinds.items() if kind is not None), "session")
    if name not in parameters:
        has = ", ".join(map(str, signature.parameters)) or "none"
        raise TypeError(
            f"{name_of(function)} has no parameter for the session: looked for {name!r} and for "
            f"one annotated with Session, but its parameters are: {has}. Add a parameter "
            "'session: Session', or name yours: @with_request_session(\"db\")."
        )
    return _injection(signature, parameters[name], wants_async=kinds[name])


def signature_of(function: Callable[..., object]) -> inspect.Signature:
    """Return the signature.

    :raises TypeError: the function has none, like some of those written in C.
    """
    try:
        return inspect.signature(function)
    except ValueError:
        raise TypeError(
            f"{name_of(function)} does not tell its parameters, so none of them can be chosen. "
            "Decorate a function that calls it."
        ) from None


def _injection(
    signature: inspect.Signature, parameter: inspect.Parameter, *, wants_async: bool | None
) -> Injection:
    parameters = list(signature.parameters.values())
    visible = [each for each in parameters if each is not parameter]
    positional = [each for each in visible if each.kind in _POSITIONAL]
    takes_any = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in visible)
    by_keyword_only = parameter.kind is inspect.Parameter.KEYWORD_ONLY
    return Injection(
        name=parameter.name,
        position=_NEVER if by_keyword_only else parameters.index(parameter),
        by_keyword=parameter.kind is not inspect.Parameter.POSITIONAL_ONLY,
        names=tuple(
            None if each.kind is inspect.Parameter.POSITIONAL_ONLY else each.name
            for each in positional
        ),
        required=sum(each.default is inspect.Parameter.empty for each in positional),
        most=_NEVER if takes_any else len(positional),
        parameters=tuple(parameters),
        visible=signature.replace(parameters=visible),
        wants_async=wants_async,
    )


def _resolved(parameter: inspect.Parameter, function: Callable[..., object]) -> object:
    """Return the parameter's annotation, evaluated if that is possible.

    One by one: another annotation may name what only the type checker imports.
    """
    stub = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        hints = typing.get_type_hints(stub, _namespace_of(function), include_extras=True)
    except Exception:  # noqa: BLE001 - evaluating it may raise anything
        return parameter.annotation
    return hints[parameter.name]


def _namespace_of(function: Any) -> dict[str, Any]:
    """Return the global names of the function behind partials, wrappers and ``__call__``."""
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    if not inspect.isroutine(function):
        function = inspect.unwrap(type(function).__call__)
    namespace: dict[str, Any] = getattr(function, "__globals__", {})
    return namespace


def _asks_for_async(annotation: object) -> bool | None:
    """Whether ``annotation`` means an AsyncSession; None if it means no session at all."""
    if isinstance(annotation, type):
        if issubclass(annotation, AsyncSession):
            return True
        return False if issubclass(annotation, Session) else None
    meant = (_asks_for_async(each) for each in _alternatives(annotation))
    return next((each for each in meant if each is not None), None)


def _alternatives(annotation: Any) -> Iterator[object]:
    """Yield what a value of the annotation may be, as far as sessions go."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        yield annotation.__origin__
    elif origin in {Union, types.UnionType}:
        yield from typing.get_args(annotation)
    elif isinstance(annotation, ForwardRef):
        yield from _named(annotation.__forward_arg__)
    elif isinstance(annotation, str):
        yield from _named(annotation)
    else:
        for attribute in ("__value__", "__supertype__", "__bound__"):  # type X, NewType, TypeVar
            with contextlib.suppress(Exception):  # evaluating a type statement may raise anything
                yield getattr(annotation, attribute)


def _named(annotation: str) -> Iterator[object]:
    """Read an annotation that can't be evaluated, because its import is for type checkers only."""
    with contextlib.suppress(SyntaxError, ValueError):  # it may be prose
        yield from _classes_in(ast.parse(annotation.strip(), mode="eval").body)


def _classes_in(node: ast.expr) -> Iterator[object]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield {"Session": Session, "AsyncSession": AsyncSession}.get(name)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from _classes_in(left)
            yield from _classes_in(right)
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            members = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            wanted = {"Optional": 1, "Annotated": 1, "Union": len(members)}.get(name, 0)
            for member in members[:wanted]:
                yield from _classes_in(member)
        case ast.Constant(value=str(text)):
            yield from _named(text)
        case _:
            pass
