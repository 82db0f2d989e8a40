"""Refuse a scope of synchronous sessions around a coroutine that has asynchronous ones.

A class of views, or a decorator of somebody else's, may be a plain function that has a coroutine
run. A scope around it would commit a session that the coroutine never uses, and lose its work.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any

from flask_reqsession.colour import Colour, colour_of
from flask_reqsession.contexts import request_context
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.marks import STAND_IN, Mark
from flask_reqsession.views import is_of_class, method_of
from flask_reqsession.wrapper import plan_of

if TYPE_CHECKING:
    from flask_reqsession.plans import CallPlan


def is_scoped(function: object) -> bool:
    """Whether a scope is declared on ``function``, or under decorators of others inside it."""
    plans = map(plan_of, _layers_of(function))
    return any(plan is not None and plan.spec.options is not None for plan in plans)


def refusing_coroutines(plan: CallPlan) -> CallPlan:
    """Return a plan whose function refuses to have a coroutine run that is not in the scope.

    Around a class of views only the request tells which method that is, so it is asked there.
    """
    function = plan.function
    if type(function) is not FunctionType or plan.colour is not Colour.SYNC:
        return plan
    inside = list(_layers_of(function))[1:]
    of_class = any(map(is_of_class, [function, *inside]))
    if not of_class and not _is_lost_in(function):
        return plan

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        if not of_class or any(map(_is_lost_in, _methods())):
            _refuse_asynchronous_sessions(plan)
        return function(*args, **kwargs)

    setattr(call, STAND_IN, Mark(call, None))  # it passes on what the function returns
    return dataclasses.replace(plan, function=call)


def _refuse_asynchronous_sessions(plan: CallPlan) -> None:
    if plan.find_keeper().databases.has_async(plan.spec.bind):
        raise ConfigurationError(
            f"{plan.spec.name} is a plain function that has a coroutine run, and coroutines "
            "have an AsyncSession here, which would not be in the scope. Put @transactional on the "
            "coroutine function itself, under other decorators; of a class of views on the class, "
            "or on its method, instead of its decorators."
        )


def _is_lost_in(function: object) -> bool:
    """Whether a coroutine function is inside, and no scope of its own."""
    layers = list(_layers_of(function))
    return any(colour_of(layer) is Colour.ASYNC for layer in layers) and not is_scoped(function)


def _layers_of(function: Any) -> Iterator[Any]:  # noqa: ANN401 - of any type
    while function is not None:
        yield function
        function = getattr(function, "__wrapped__", None)


def _methods() -> Iterator[object]:
    """Find what the class of the running request's view has it served by."""
    context = request_context(None)
    if context is not None:
        endpoint = context.request.endpoint or ""
        view_class = getattr(context.app.view_functions.get(endpoint), "view_class", None)
        if view_class is not None:
            yield view_class.dispatch_request
            yield method_of(view_class, context.request.method)
