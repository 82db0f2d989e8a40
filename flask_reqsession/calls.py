"""Run the calls of a decorated function: a fast path that joins, and a long way round.

Nearly every call of a service function finds a scope running on the session of its own thread. The
fast path answers that with two context variables, four identity tests and a dict lookup; whatever
it does not expect goes the long way.

Each function made here takes the arguments that the undecorated function sees, ``self`` included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from flask_reqsession.colour import Colour
from flask_reqsession.completion import completed_flow
from flask_reqsession.contexts import app_context, request_context
from flask_reqsession.drivers import perform_all, result_of
from flask_reqsession.effects import Failed, Ok
from flask_reqsession.execution import AsyncExecution, Execution
from flask_reqsession.flows import broken_flow, ending_flow
from flask_reqsession.owners import current_strand, running_loop
from flask_reqsession.places import place
from flask_reqsession.reattachment import Recall
from flask_reqsession.scope import Scope
from flask_reqsession.states import ScopeState
from flask_reqsession.steps import asteps, steps

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from flask_reqsession.effects import Outcome
    from flask_reqsession.places import Place
    from flask_reqsession.plans import CallPlan
    from flask_reqsession.ports import SessionPort

Call: TypeAlias = "Callable[..., Any]"

Begin: TypeAlias = "Callable[[Place, tuple[Any, ...], dict[str, Any]], Any]"
"""Runs a call from where it is, with its arguments."""


def call_of(plan: CallPlan) -> Call:
    """Return the function that runs the calls of ``plan``."""
    match plan.colour:
        case Colour.SYNC:
            return _finding_call(plan) if plan.finds_plainly else _sync_call(plan)
        case Colour.ASYNC:
            return _async_call(plan)
        case Colour.GENERATOR:
            return _generator_call(plan)
        case _:
            return _async_generator_call(plan)


def _finding_call(plan: CallPlan) -> Call:  # noqa: C901 - see below
    """Run the body at once where a running scope, or only the session, is found; else start.

    All in one piece, because every service call passes here, and a call of Python's own costs more
    than all these tests.
    """
    function, spec, keeper = plan.function, plan.spec, plan.binding.keeper
    bind, name, fails, prepare = spec.bind, spec.name, spec.rules.fails, plan.prepare
    joins, bound, prepares = spec.options is not None, keeper is not None, plan.prepares
    append, insert, by_keyword, keyword = plan.quick
    begin = _beginning_call(plan)
    start, where = _starting_call(plan, begin), place.get

    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: C901 - see above
        here = where()
        if (
            here is None
            or here.context is not request_context(None)
            or here.owner is not current_strand()
            or running_loop() is not None
            or (here.keeper is not keeper and (bound or here.chosen_in is not app_context(None)))
        ):
            return start(*args, **kwargs)
        port = None
        try:  # noqa: SIM105 - suppress() costs as much as all of this
            port = here.ports[bind]
        except KeyError:
            pass
        if port is None or ((scope := port.scope) is None and joins):
            return begin(here, args, kwargs)
        try:
            count = len(args)
            if not kwargs:
                if count == append:
                    return function(*(args + (port.session or port.open(),)))  # noqa: RUF005 - faster
                if append < count <= insert:
                    given = [*args]
                    given.insert(append, port.session or port.open())
                    return function(*given)
                if not prepares:
                    return function(*args)
            if count <= by_keyword and keyword not in kwargs:
                kwargs[keyword] = port.session or port.open()
            elif prepares:
                args, kwargs = prepare(port, args, kwargs)
            return function(*args, **kwargs)
        except BaseException as error:
            port.record_failure(error)
            if joins and scope is not None and fails(error):
                scope.doom(error, name)
            raise

    return call


def _starting_call(plan: CallPlan, begin: Begin) -> Call:
    """Look around anew, and ``begin`` a scope where the unit is found."""
    enter = _sync_call(plan)
    if not plan.spec.starts_plainly:
        return enter

    def call(*args: Any, **kwargs: Any) -> Any:
        here = plan.find_keeper().find()
        return enter(*args, **kwargs) if here is None else begin(here, args, kwargs)

    return call


def _beginning_call(plan: CallPlan) -> Begin:  # noqa: C901 - in one piece, as the call that joins
    """Begin the transaction of a plain scope where no other runs; what is not plain, enters.

    Most requests have one such call, and many of these touch no session. So no execution is made
    for it, and a flow only where there is something to end.
    """
    function, spec, enter = plan.function, plan.spec, _sync_call(plan)
    name, bind, rules, propagation = spec.name, spec.bind, spec.rules, spec.propagation
    prepares, prepare, append = plan.prepares, plan.prepare, plan.quick.append
    if not spec.starts_plainly:
        return lambda _here, args, kwargs: enter(*args, **kwargs)

    def call(here: Place, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        unit = here.unit
        if unit.ended or unit.of_parent:
            return enter(*args, **kwargs)
        port = here.keeper.port(unit, bind)
        if not port.is_free:
            return enter(*args, **kwargs)
        scope = Scope(name, rules, None, propagation)
        scope.state = ScopeState.ACTIVE  # as advance() would have it
        ended: Outcome
        try:
            port.scope = scope
            try:
                if not prepares:
                    value = function(*args, **kwargs)
                elif not kwargs and len(args) == append:
                    value = function(*args, port.open())
                else:
                    args, kwargs = prepare(port, args, kwargs)
                    value = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - the flow decides what follows
                port.record_failure(error)
                ended = _end(port, scope, Failed(error))
            else:
                if scope.is_plain and not port.in_transaction and rules.is_moot(value):
                    scope.state = ScopeState.COMMITTED  # there was nothing to commit
                    port.scope = None
                    return value
                ended = _end(port, scope, Ok(value))
        except BaseException as error:  # noqa: BLE001 - a signal, outside the body
            port.scope = None
            ended = perform_all(broken_flow(error, scope, None), port)
        try:
            return result_of(ended)
        finally:
            del ended

    return call


def _end(port: SessionPort, scope: Scope, body: Outcome) -> Outcome:
    """Commit or roll back, run what waited for that, and return what the caller gets."""
    ended = perform_all(ending_flow(scope, body), port)
    port.scope = None
    if scope.hooks is None:
        return ended
    return perform_all(completed_flow(scope, scope.hooks, ended), port)


def _sync_call(plan: CallPlan) -> Call:
    """Start a scope, or only find the session."""
    function, recalls = plan.function, plan.recalls

    def call(*args: Any, **kwargs: Any) -> Any:
        complete = plan.complete(args, kwargs)
        if complete is not None:
            return function(*complete[0], **complete[1])
        execution = Execution(plan.find_keeper(), plan.spec)
        recall = Recall() if recalls else None

        def body() -> Any:
            positional, named = plan.prepare(execution.port, args, kwargs, recall)
            return function(*positional, **named)

        return execution.run(body)

    return call


def _async_call(plan: CallPlan) -> Call:
    function, recalls = plan.function, plan.recalls

    async def call(*args: Any, **kwargs: Any) -> Any:
        complete = plan.complete(args, kwargs)
        if complete is not None:
            return await function(*complete[0], **complete[1])
        execution = plan.execution()
        recall = Recall() if recalls else None

        async def body() -> Any:
            positional, named = await plan.aprepare(execution.port, args, kwargs, recall)
            return await function(*positional, **named)

        if isinstance(execution, AsyncExecution):
            return await execution.run(body)
        return await execution.run_awaited(body)

    return call


def _generator_call(plan: CallPlan) -> Call:
    function = plan.function

    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        complete = plan.complete(args, kwargs)
        if complete is not None:
            given: Generator[Any, Any, Any] = function(*complete[0], **complete[1])
            return (yield from given)
        execution = Execution(plan.find_keeper(), plan.spec)

        def body() -> Generator[Any, Any, Any]:
            positional, named = plan.prepare(execution.port, args, kwargs)
            generator: Generator[Any, Any, Any] = function(*positional, **named)
            return generator

        return (yield from steps(execution, body))

    return call


def _async_generator_call(plan: CallPlan) -> Call:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        # What "yield from" would do, if async generators had it.
        stepping = _stepping(plan, args, kwargs)
        step = stepping.asend(None)
        try:
            while True:
                value = await step
                try:
                    step = stepping.asend((yield value))
                except GeneratorExit:
                    await stepping.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in, for the body
                    step = stepping.athrow(error)
        except StopAsyncIteration:
            return
        finally:
            del step  # what was thrown in has this frame in its traceback

    return call


def _stepping(
    plan: CallPlan, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[Any, Any]:
    complete = plan.complete(args, kwargs)
    if complete is not None:
        given: AsyncGenerator[Any, Any] = plan.function(*complete[0], **complete[1])
        return given
    execution = plan.execution()

    async def body() -> AsyncGenerator[Any, Any]:
        positional, named = await plan.aprepare(execution.port, args, kwargs)
        generator: AsyncGenerator[Any, Any] = plan.function(*positional, **named)
        return generator

    return asteps(execution, body)
