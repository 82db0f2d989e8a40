"""Run a generator's body step by step inside a scope that its consumer does not see.

The scope opens at the first step and ends with the generator: exhausted, it commits; raising or
closed early, it rolls back. ``send``, ``throw`` and the return value pass through (PEP 342, 380).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from flask_reqsession.drivers import aattempt, attempt, result_of
from flask_reqsession.effects import Failed, Ok, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from flask_reqsession.execution import AnyExecution, Execution


def steps(
    execution: Execution, body: Callable[[], Generator[Any, Any, Any]]
) -> Generator[Any, Any, Any]:
    """Yield what ``body()`` yields, each step of it inside the scope.

    All in one generator: ``yield from`` another would close that and go no further.
    """
    try:
        ended = execution.start()
        if ended is None:
            step = attempt(_first, body)
            while isinstance(step, Ok):
                generator, value = cast("tuple[Any, Any]", step.value)
                sent, refused = None, execution.pause()
                if isinstance(refused, Ok):
                    try:
                        sent = yield value
                    except BaseException as error:  # noqa: BLE001 - thrown in for the body
                        refused = Failed(error)
                    refused = _first_cause(refused, attempt(execution.resume))
                step = attempt(_next, generator, sent, refused)
                del sent, refused
            through = step.error if isinstance(step.error, StopIteration) else None
            ended = execution.finish(step if through is None else Ok(through.value))
            del step, through
    except BaseException as error:  # noqa: BLE001 - it goes on below
        ended = execution.interrupted(error)
    try:
        return _result_of(ended)
    finally:
        del ended


def _first(body: Callable[[], Generator[Any, Any, Any]]) -> tuple[Any, Any]:
    generator = body()
    return generator, next(generator)


def _next(generator: Generator[Any, Any, Any], sent: object, so_far: Outcome) -> tuple[Any, Any]:
    if isinstance(so_far, Ok):
        return generator, generator.send(sent)
    try:
        if isinstance(so_far.error, GeneratorExit):
            generator.close()
            raise so_far.error  # also where the body swallowed it: closed early is rolled back
        return generator, generator.throw(so_far.error)
    finally:
        del so_far


async def asteps(
    execution: AnyExecution, body: Callable[[], AsyncGenerator[Any, Any]]
) -> AsyncGenerator[Any, Any]:
    """Do what :func:`steps` does for an async generator, which has no return value."""
    try:
        ended = await _awaited(execution.start())
        if ended is None:
            step = await aattempt(_afirst, body)
            while isinstance(step, Ok):
                generator, value = cast("tuple[Any, Any]", step.value)
                sent, refused = None, await _awaited(execution.pause())
                if isinstance(refused, Ok):
                    try:
                        sent = yield value
                    except BaseException as error:  # noqa: BLE001 - thrown in for the body
                        refused = Failed(error)
                    refused = _first_cause(refused, attempt(execution.resume))
                step = await aattempt(_anext, generator, sent, refused)
                del sent, refused
            is_through = isinstance(step.error, StopAsyncIteration)
            ended = await _awaited(execution.finish(Ok() if is_through else step))
            del step
    except BaseException as error:  # noqa: BLE001 - it goes on below
        ended = await _awaited(execution.interrupted(error))
    try:
        _result_of(ended)
    finally:
        del ended


async def _afirst(body: Callable[[], AsyncGenerator[Any, Any]]) -> tuple[Any, Any]:
    generator = body()
    return generator, await anext(generator)


async def _anext(
    generator: AsyncGenerator[Any, Any], sent: object, so_far: Outcome
) -> tuple[Any, Any]:
    if isinstance(so_far, Ok):
        return generator, await generator.asend(sent)
    try:
        if isinstance(so_far.error, GeneratorExit):
            await generator.aclose()
            raise so_far.error
        return generator, await generator.athrow(so_far.error)
    finally:
        del so_far


def _first_cause(thrown: Outcome, refused: Outcome) -> Outcome:
    """Return what the body gets: a refusal to go on, unless it is closed anyway."""
    if isinstance(thrown, Failed) and isinstance(thrown.error, GeneratorExit):
        return thrown
    return refused if isinstance(refused, Failed) else thrown


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _result_of(ended: Outcome | None) -> object:
    if ended is None:
        raise RuntimeError("A generator cannot be run again.")
    try:
        return result_of(ended)
    finally:
        del ended  # else the frame, the outcome and its traceback are a cycle
