"""Register a function to run at the end of a transaction, whatever end it waits for."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from flask_reqsession.colour import colour_of, name_of
from flask_reqsession.current import bind_meant, scope_in
from flask_reqsession.errors import ConfigurationError, NoActiveScopeError
from flask_reqsession.hook_calls import HookCall
from flask_reqsession.options import TransactionOutcome, transaction_options
from flask_reqsession.pending import Hook, HookKind
from flask_reqsession.plans import Binding
from flask_reqsession.selection import current_keeper

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask_reqsession.keeper import UnitKeeper
    from flask_reqsession.manager import RequestScopedSessionManager
    from flask_reqsession.scope import Scope
    from flask_reqsession.units import Unit


class Registration(NamedTuple):
    """What is said about a registration, apart from the function and its arguments.

    Without ``bind`` it is about the scope that is running when the function is registered.
    """

    binding: Binding
    bind: str | None
    robust: bool


class Registering:
    """What all kinds of hooks share: find the running scope, and let the hook wait for its end."""

    _kind: ClassVar[HookKind]

    def __init__(self, binding: Binding) -> None:
        self._binding = binding

    def _options(
        self,
        bind: str | None,
        manager: RequestScopedSessionManager | str | None,
        *,
        robust: bool = True,
    ) -> Registration:
        bind = None if bind is None else transaction_options(bind=bind).bind
        return Registration(self._binding.chosen(manager), bind, robust)

    def _register(
        self,
        options: Registration,
        function: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> None:
        self._check(function, args, kwargs)
        keeper = options.binding.keeper
        if keeper is None:
            keeper = current_keeper(options.binding.manager_name)
        here = keeper.find()
        unit = None if here is None else here.unit
        bind = options.bind or bind_meant(f"{self._kind.value}({name_of(function)})", unit)
        call = HookCall(self._kind, keeper, bind, function, *args, **kwargs)
        scope = None if unit is None else self._scope(call, unit)
        if scope is None:
            self._without_scope(call, keeper, unit, options)
        else:
            scope.register(Hook(self._kind, call.name, call, scope, robust=options.robust))

    def _scope(self, call: HookCall, unit: Unit) -> Scope | None:
        scope = scope_in(unit, call.bind)
        if not call.is_async or scope is None:
            return scope
        awaiting = scope_in(unit, call.bind, awaiting=True)
        if awaiting is None:
            raise ConfigurationError(
                f"{self._kind.value}({call.name}) was called with a coroutine function in the "
                f"scope {scope.name}, which is synchronous: nobody would await it. Register a "
                "plain function, or open the scope with an AsyncSession."
            )
        return awaiting

    def _without_scope(
        self, call: HookCall, _keeper: UnitKeeper, _unit: Unit | None, _options: Registration
    ) -> None:
        raise NoActiveScopeError(
            f"{self._kind.value}({call.name}) needs a running transaction scope, and there is none "
            f"for bind {call.bind!r}. Call it from a @transactional function or inside "
            "session_scope()."
        )

    def _check(self, function: object, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Refuse what would only fail at the end, when nobody is left to be told."""
        self._check_function(function)
        signature = _signature_of(function)
        if signature is None:
            return
        if self._kind is HookKind.ON_COMPLETION:
            args = (TransactionOutcome.UNKNOWN, *args)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            name = name_of(function)
            raise TypeError(
                f"{self._kind.value}({name}, ...) was given arguments that {name} does not take: "
                f"{error}. It takes {signature}."
            ) from None

    def _check_function(self, function: object) -> None:
        what = self._kind.value
        if inspect.iscoroutine(function):
            function.close()  # or Python warns that it was never awaited
        if not callable(function):
            raise ConfigurationError(
                f"{what}() was given a {type(function).__name__}, which can't be called later. "
                f"Give it the function and its arguments, {what}(send, order_id), not what the "
                "call returned."
            )
        if (colour := colour_of(function)).is_generator:
            raise ConfigurationError(
                f"{what}() was given {name_of(function)}, a {colour.value}: a call of it runs "
                "nothing. Give it a function that does the work."
            )

    def _refuse_shared(self, function: object, **given: object) -> None:
        """Refuse an option of ours that is a parameter of ``function`` as well."""
        chosen = [name for name, value in given.items() if value is not None]
        signature = _signature_of(function) if chosen else None
        for name in chosen:
            if signature is not None and name in signature.parameters:
                raise ConfigurationError(
                    f"{self._kind.value}({name_of(function)}, {name}=...) may mean the option of "
                    f"{self._kind.value}() or the parameter of {name_of(function)}. Give the "
                    "function its arguments with functools.partial()."
                )


def _signature_of(function: Any) -> inspect.Signature | None:  # noqa: ANN401 - any callable
    """Return the signature of ``function`` itself, not of what a decorator wrapped in it."""
    try:
        return inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return None
