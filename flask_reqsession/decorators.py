"""The three decorators: what the user writes, checked at decoration and turned into a plan."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack, overload
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from flask_reqsession.colour import name_of
from flask_reqsession.coroutines import is_scoped, refusing_coroutines
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.injection import find_injection, signature_of
from flask_reqsession.options import (
    ScopeOptions,
    transaction_options,
)
from flask_reqsession.plans import Binding
from flask_reqsession.reattachment import ArgumentPlan, ReattachChoices, reattach_options
from flask_reqsession.specs import spec_of
from flask_reqsession.wrapper import decorate

if TYPE_CHECKING:
    from flask_reqsession.manager import RequestScopedSessionManager
    from flask_reqsession.plans import CallPlan

P = ParamSpec("P")
R = TypeVar("R")
Self = TypeVar("Self")
SessionT = TypeVar("SessionT", bound=Session | AsyncSession)
# No session and no "self": a function that takes one of these first has its session elsewhere.
ValueT = TypeVar("ValueT", str, bool, bytes, Decimal, datetime, UUID, list[Any], dict[Any, Any])
F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, ..., Any] | staticmethod[..., Any]")


class WithRequestSession:
    """Inject the request session as an argument.

    The parameter that gets it is the one named, else the one annotated with ``Session`` (or
    ``AsyncSession``), else the one called ``session``. A session that the caller passes wins, so
    tests may pass their own; None counts as not passed. Callers, and frameworks that read
    signatures, see the function without that parameter.

    Outside a request and a unit of work, the outermost call opens a unit of its own and closes it
    on the way out; nothing is committed. ``bind`` chooses the database (else it is that of
    ``@transactional`` on the same function), ``manager`` (an object or a name) the manager.

    :raises TypeError: at decoration, if there is no such parameter.

    >>> from sqlalchemy import text
    >>> from sqlalchemy.orm import Session
    >>> from flask_reqsession import RequestScopedSessionManager
    >>> manager = RequestScopedSessionManager("sqlite://")
    >>> @manager.with_request_session
    ... def answer(session: Session, question: str) -> int:
    ...     return session.scalar(text("SELECT 42"))
    >>> answer("what?")
    42
    """

    def __init__(self, binding: Binding, name: str | None = None, bind: str | None = None) -> None:
        self._binding = binding
        self._name = name
        self._bind = bind

    # First, since a staticmethod is a Callable, too.
    @overload
    def __call__(
        self, function: classmethod[Self, Concatenate[SessionT, P], R], /
    ) -> classmethod[Self, P, R]: ...
    @overload
    def __call__(
        self, function: staticmethod[Concatenate[SessionT, P], R], /
    ) -> staticmethod[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[object, P], R], /) -> Callable[..., R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[ValueT, P], R], /) -> Callable[..., R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[SessionT, P], R], /) -> Callable[P, R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Self, SessionT, P], R], /
    ) -> Callable[Concatenate[Self, P], R]: ...
    @overload
    def __call__(self, function: Callable[..., R], /) -> Callable[..., R]: ...
    @overload
    def __call__(
        self,
        name: str | None = None,
        /,
        *,
        bind: str | None = None,
        manager: RequestScopedSessionManager | str | None = None,
    ) -> WithRequestSession: ...
    def __call__(
        self,
        target: Any = None,
        /,
        *,
        bind: str | None = None,
        manager: RequestScopedSessionManager | str | None = None,
    ) -> Any:
        """Decorate a function, or return the decorator that is configured so."""
        names = target is None or isinstance(target, str)
        configured = WithRequestSession(
            self._binding.chosen(manager),
            target if isinstance(target, str) else self._name,
            _checked_bind(bind, self._bind),
        )
        return configured if names else configured._decorate(target)

    def _decorate(self, target: Any) -> Any:
        return decorate(target, "with_request_session", self._binding, self._bind, self._extend)

    def _extend(self, plan: CallPlan) -> CallPlan | None:
        if plan.injection is not None:
            return None
        return dataclasses.replace(plan, injection=find_injection(plan.function, self._name))


class Transactional:
    """Run a function in a transaction scope: commit on return, roll back on any exception.

    A call inside a running scope joins it, and only the outermost commits. In a view an error
    status (>= 400, returned or raised) rolls back as well, and the commit comes before the response
    is sent. Generators keep the scope open until they are exhausted.

    Options: ``propagation`` (:class:`~flask_reqsession.Propagation`), ``retry`` (attempts or
    :class:`~flask_reqsession.Retry`), ``rollback_for`` and ``no_rollback_for`` (exception classes;
    the most specific wins), ``rollback_on_status`` (a predicate, a collection of statuses, None),
    ``durable`` (refuse to be anything but outermost), ``idempotent`` (``retry`` may run the call
    again although its COMMIT got no answer and may have happened), ``manual_commit`` (what
    ``session.commit()`` and ``session.rollback()`` do inside: "raise", "defer" to the scope's end,
    "allow"), ``isolation`` (the level of this transaction), ``read_only`` (True: the database
    refuses writes; False: refuse to join where it does), ``timeout`` (seconds that the transaction
    may take), ``bind`` (which database), ``name`` (what messages call the scope), ``manager`` (an
    object or a name).

    :raises ConfigurationError: at decoration, for a wrong option.
    :raises RetryNotAllowedError: at decoration, for ``retry`` on what can't be run twice.

    >>> from sqlalchemy import text
    >>> from sqlalchemy.orm import Session
    >>> from flask_reqsession import RequestScopedSessionManager
    >>> manager = RequestScopedSessionManager("sqlite://")
    >>> @manager.transactional
    ... @manager.with_request_session
    ... def create_table(session: Session) -> None:
    ...     session.execute(text("CREATE TABLE note (text VARCHAR)"))
    >>> create_table()
    """

    def __init__(self, binding: Binding, options: ScopeOptions | None = None) -> None:
        self._binding = binding
        self._given: ScopeOptions = options or {}
        self._options = transaction_options(**self._given)

    @overload
    def __call__(self, function: F, /) -> F: ...
    @overload
    def __call__(
        self,
        function: None = None,
        /,
        *,
        manager: RequestScopedSessionManager | str | None = None,
        **options: Unpack[ScopeOptions],
    ) -> Transactional: ...
    def __call__(
        self,
        target: Any = None,
        /,
        *,
        manager: RequestScopedSessionManager | str | None = None,
        **options: Unpack[ScopeOptions],
    ) -> Any:
        """Decorate a function or class, or return the decorator that is configured so."""
        configured = Transactional(self._binding.chosen(manager), {**self._given, **options})
        return configured if target is None else configured._decorate(target)

    def _decorate(self, target: Any) -> Any:
        if isinstance(target, type):
            return self._on_class(target)
        bind = self._options.bind
        return decorate(
            target, "transactional", self._binding, bind, self._extend, opens_scope=True
        )

    def _on_class(self, decorated_class: type) -> type:
        """Decorate the public methods that the class itself defines; a method's own one wins."""
        for name, member in list(vars(decorated_class).items()):
            function = getattr(member, "__func__", member)
            # A cached property is a routine for inspect, but nothing that is called.
            is_method = callable(function) and inspect.isroutine(function)
            if is_method and not name.startswith("_") and not is_scoped(function):
                setattr(decorated_class, name, self._decorate(member))
        return decorated_class

    def _extend(self, plan: CallPlan) -> CallPlan | None:
        if plan.spec.options is not None:
            return None
        spec = spec_of(self._options, plan.function)
        return refusing_coroutines(dataclasses.replace(plan, spec=spec))


class ReattachArgs:
    """Attach the model instances among a call's arguments to the request session.

    Without names every argument is looked at, else those of the named parameters; lists, tuples,
    sets, dict values, dataclasses and ``LocalProxy`` are looked into. A detached instance is
    attached as it is: no SQL, what is loaded stays readable, what was changed is flushed. If the
    session holds the row already, its own instance is passed, with the changes carried over.
    Instances that were never saved, and all other values, pass untouched.

    Options: ``refresh=True`` brings everything up to date; ``missing`` says what happens to an
    instance whose row is gone (``"raise"``, ``"none"``, ``"404"``); ``conflict`` whose value counts
    where both sides changed an attribute (``"raise"``, ``"session"``, ``"argument"``); ``foreign``
    what happens to an instance of another live session (``"copy"``, ``"raise"``).

    :raises TypeError: at decoration, for a name that is no parameter.
    :raises ConfigurationError: at decoration, for a wrong option.
    :raises ReattachError: at the call, for what would lose a change or bring back a deleted row;
        then no argument has been touched.

    >>> from flask_reqsession import RequestScopedSessionManager
    >>> manager = RequestScopedSessionManager("sqlite://")
    >>> @manager.reattach_args("user")
    ... def greet(user, greeting="hello"):
    ...     return f"{greeting}, {user}"
    >>> greet("ada")
    'hello, ada'
    """

    def __init__(
        self,
        binding: Binding,
        names: tuple[str, ...] = (),
        bind: str | None = None,
        options: ReattachChoices | None = None,
    ) -> None:
        self._binding = binding
        self._names = names
        self._bind = bind
        self._given: ReattachChoices = options or {}
        self._options = reattach_options(**self._given)

    @overload
    def __call__(self, function: F, /) -> F: ...
    @overload
    def __call__(
        self,
        /,
        *names: str,
        bind: str | None = None,
        manager: RequestScopedSessionManager | str | None = None,
        **options: Unpack[ReattachChoices],
    ) -> ReattachArgs: ...
    def __call__(
        self,
        /,
        *targets: Any,
        bind: str | None = None,
        manager: RequestScopedSessionManager | str | None = None,
        **options: Unpack[ReattachChoices],
    ) -> Any:
        """Decorate a function, or return the decorator that is configured so."""
        first = targets[0] if targets else ""
        names = isinstance(first, str)
        configured = ReattachArgs(
            self._binding.chosen(manager),
            targets if names and targets else self._names,
            _checked_bind(bind, self._bind),
            {**self._given, **options},
        )
        if names:
            return configured
        if len(targets) > 1:
            raise ConfigurationError(
                f"reattach_args was given {first!r} together with more arguments. Name the "
                'parameters first, then decorate: @reattach_args("user").'
            )
        return configured._decorate(first)

    def _decorate(self, target: Any) -> Any:
        return decorate(target, "reattach_args", self._binding, self._bind, self._extend)

    def _extend(self, plan: CallPlan) -> CallPlan | None:
        if plan.reattachment is not None:
            return None
        name, signature = name_of(plan.function), signature_of(plan.function)
        name = name.removesuffix("()")
        arguments = ArgumentPlan(name, signature, self._names, self._options)
        return dataclasses.replace(plan, reattachment=arguments)


with_request_session: WithRequestSession = WithRequestSession(Binding())
transactional: Transactional = Transactional(Binding())
reattach_args: ReattachArgs = ReattachArgs(Binding())


def _checked_bind(given: str | None, inherited: str | None) -> str | None:
    return inherited if given is None else transaction_options(bind=given).bind
