"""What stands in for a decorated callable: one stand-in, whatever decorators it has.

For a function that is another function, made for it and dressed like it: nothing else is called as
fast, least of all as a method. For any other callable it is a wrapt proxy, which is like the object
in everything but the call.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import wrapt

from flask_reqsession.calls import call_of
from flask_reqsession.colour import colour_of
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.marks import STAND_IN, Mark
from flask_reqsession.options import DEFAULT_BIND
from flask_reqsession.plans import Binding, CallPlan
from flask_reqsession.specs import bare_spec

if TYPE_CHECKING:
    from collections.abc import Callable


def decorate(  # noqa: PLR0913 - what a decorator knows
    target: Any,
    decorator: str,
    binding: Binding,
    bind: str | None,
    extend: Callable[[CallPlan], CallPlan | None],
    *,
    opens_scope: bool = False,
) -> Any:
    """Add a part to the plan of a function decorated before, or make it a first plan.

    A part that the plan already has (two scopes around each other, say) or one for another bind or
    manager gets a stand-in of its own around the first. Without ``bind`` it is that of the scope in
    the same stack, which may come later.
    """
    if issubclass(type(target), (staticmethod, classmethod, MethodType)):
        function = decorate(
            target.__func__, decorator, binding, bind, extend, opens_scope=opens_scope
        )
        is_method = type(target) is MethodType
        return MethodType(function, target.__self__) if is_method else type(target)(function)
    if not callable(target) or isinstance(target, type):
        raise ConfigurationError(
            f"@{decorator} was put on {target!r}, which is no function, method or callable "
            "object. Decorate the function itself."
        )
    found = bind or _bind_of_scope(target, binding)
    bind = found or DEFAULT_BIND
    if opens_scope:
        target = _following(target, binding, bind)
    plan = plan_of(target)
    if plan is not None and plan.spec.bind == bind and plan.binding == binding:
        plan = dataclasses.replace(plan, awaits_bind=found is None and plan.awaits_bind)
        extended = extend(plan)
        if extended is not None:
            return wrap(extended, like=target)
    spec = bare_spec(bind, target)
    fresh = CallPlan(
        function=target,
        colour=colour_of(target),
        spec=spec,
        binding=binding,
        awaits_bind=found is None,
    )
    return wrap(extend(fresh) or fresh)


def _bind_of_scope(target: object, binding: Binding) -> str | None:
    """Return the bind of the nearest scope of this manager in the stack, if there is one."""
    plan = plan_of(target)
    while plan is not None:
        if plan.binding == binding and plan.spec.options is not None:
            return plan.spec.bind
        plan = plan_of(plan.function)
    return None


def _following(target: Any, binding: Binding, bind: str) -> Any:
    """Return ``target`` with ``bind`` in all parts of the stack that wait for that of a scope."""
    plan = plan_of(target)
    if plan is None:
        return target
    function, spec = _following(plan.function, binding, bind), plan.spec
    waits = plan.awaits_bind and plan.binding == binding
    if waits:
        spec = dataclasses.replace(spec, bind=bind)
    elif function is plan.function:
        return target
    awaits_bind = plan.awaits_bind and not waits
    changed = dataclasses.replace(plan, function=function, spec=spec, awaits_bind=awaits_bind)
    return wrap(changed, like=target)


def wrap(plan: CallPlan, *, like: Any = None) -> Any:
    """Return what stands in for the plan's callable, or now does so in place of ``like``."""
    if type(plan.function) is FunctionType:
        return _dressed(plan, plan.function if like is None else like)
    return ScopedCallable(plan)


def plan_of(target: object) -> CallPlan | None:
    """Return the plan of what was made here, None of any other callable."""
    if type(target) is ScopedCallable:
        plan: CallPlan = target._self_plan  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # so named for wrapt
        return plan
    mark: Mark | None = getattr(target, STAND_IN, None) if type(target) is FunctionType else None
    return mark.plan if mark is not None and mark.function is target else None


def _dressed(plan: CallPlan, like: Callable[..., Any]) -> Callable[..., Any]:
    """Make the function that runs the plan's calls look like ``like``.

    That may be an earlier stand-in, on which a framework has left marks of its own. Callers, and
    frameworks that read signatures, see only what they have to give.
    """
    call: Any = functools.wraps(like)(call_of(plan))
    call.__wrapped__ = plan.function
    if plan.injection is not None:
        call.__signature__ = plan.injection.visible
        call.__annotations__ = _without(plan.injection.name, call.__annotations__)
    setattr(call, STAND_IN, Mark(call, plan))
    return call  # type: ignore[no-any-return]


def _without(name: str, annotations: dict[str, Any]) -> dict[str, Any]:
    return {each: meaning for each, meaning in annotations.items() if each != name}


if TYPE_CHECKING:
    CallableProxy = wrapt.CallableObjectProxy[Any]
else:
    CallableProxy = wrapt.CallableObjectProxy  # no generic class before wrapt 2.1


class ScopedCallable(CallableProxy):
    """A decorated callable object, partial, function in C, or wrapper of another library.

    Attributes whose names begin with ``_self_`` are the proxy's own; others are the callable's.
    """

    __reqsession__: bool = True
    """It was made here, see :data:`~flask_reqsession.marks.STAND_IN`."""

    def __init__(self, plan: CallPlan) -> None:
        super().__init__(plan.function)
        self._self_plan = plan
        self._self_call = call_of(plan)
        if hasattr(type(plan.function), "__get__"):
            self._self_method = wrap(dataclasses.replace(plan, function=_binding(plan.function)))

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Go through the plan."""
        return self._self_call(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind as the callable itself would: those of other libraries do, plain objects don't."""
        wrapped = self.__wrapped__
        if _is_classmethod(wrapped):
            return MethodType(self._self_method, type(instance) if owner is None else owner)
        if instance is None or isinstance(wrapped, staticmethod) or not hasattr(self, _METHOD):
            return self
        return MethodType(self._self_method, instance)

    def __set_name__(self, owner: type, name: str) -> None:
        announce = getattr(self.__wrapped__, "__set_name__", None)
        if announce is not None:
            announce(owner, name)

    @property
    def __signature__(self) -> inspect.Signature:
        injection = self._self_plan.injection
        return inspect.signature(self.__wrapped__) if injection is None else injection.visible

    @property
    def __annotations__(self) -> dict[str, Any]:
        annotations: dict[str, Any] = self.__wrapped__.__annotations__
        injection = self._self_plan.injection
        return annotations if injection is None else _without(injection.name, annotations)

    @__annotations__.setter
    def __annotations__(self, _annotations: dict[str, Any]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Leave the callable's own alone: wrapt's version in Python copies them here."""

    def __copy__(self) -> Any:
        return wrap(dataclasses.replace(self._self_plan, function=copy.copy(self.__wrapped__)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = copy.deepcopy(self.__wrapped__, memo)
        return wrap(dataclasses.replace(self._self_plan, function=copied))

    def __reduce_ex__(self, protocol: object) -> str:
        """Pickle by reference, as functions are.

        :raises TypeError: the callable has no name to refer to.
        """
        name: str | None = getattr(self.__wrapped__, "__qualname__", None)
        if name is None:
            raise TypeError(
                f"A decorated {type(self.__wrapped__).__name__} object can't be pickled, because "
                "it has no name to be found by. Decorate a function, and pickle that."
            )
        return name


_METHOD = "_self_method"


def _binding(wrapped: Any) -> Callable[..., Any]:
    """Return ``wrapped`` as a function of what it is bound to, bound anew for each call.

    ``self`` is an argument like any other to the decorators, and may be replaced by them.
    """
    on_class = _is_classmethod(wrapped)

    @functools.wraps(wrapped.__func__ if on_class else wrapped)
    def call(receiver: Any, /, *args: Any, **kwargs: Any) -> Any:
        bind = functools.partial(wrapped.__get__, None if on_class else receiver)
        return bind(receiver if on_class else type(receiver))(*args, **kwargs)

    return call


def _is_classmethod(wrapped: object) -> bool:
    return isinstance(wrapped, classmethod)
