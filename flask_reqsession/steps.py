"""Run a generator's body step by step inside a scope that its consumer does not see.

The scope opens at the first step and ends with the generator: exhausted, it commits; raising or
closed early, it rolls back. ``send``, ``throw`` and the return value pass through (PEP 342, 380).
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from flask_reqsession.drivers import aattempt, attempt, result_of
from flask_reqsession.effects import DONE, Failed, Ok, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from flask_reqsession.execution import AnyExecution, Execution


NOTHING: Final[Outcome] = DONE
"""That the consumer threw in nothing."""


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
                sent, thrown, refused = None, NOTHING, execution.pause()
                if isinstance(refused, Ok):
                    try:
                        sent = yield value
                    except BaseException as error:  # noqa: BLE001 - thrown in for the body
                        thrown = Failed(error)
                    refused = attempt(execution.resume)
                step = attempt(_next, generator, sent, thrown, refused)
                del sent, thrown, refused
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


def _next(
    generator: Generator[Any, Any, Any], sent: object, thrown: Outcome, refused: Outcome
) -> tuple[Any, Any]:
    """Run the next step, with what the consumer sent or threw.

    A body that is closed early, or whose next step was refused, may clean up and nothing else: what
    it makes of the exception is not asked.
    """
    try:
        if isinstance(thrown, Failed) and isinstance(thrown.error, GeneratorExit):
            generator.close()
            raise thrown.error
        if isinstance(refused, Failed):
            _note_context(refused, thrown)
            with suppress(StopIteration):
                generator.throw(refused.error)
            generator.close()
            raise refused.error
        if isinstance(thrown, Failed):
            return generator, generator.throw(thrown.error)
        return generator, generator.send(sent)
    finally:
        del thrown, refused


async def asteps(
    execution: AnyExecution, body: Callable[[], Awaitable[AsyncGenerator[Any, Any]]]
) -> AsyncGenerator[Any, Any]:
    """Do what :func:`steps` does for an async generator, which has no return value."""
    try:
        ended = await _awaited(execution.start())
        if ended is None:
            step = await aattempt(_afirst, body)
            while isinstance(step, Ok):
                generator, value = cast("tuple[Any, Any]", step.value)
                sent, thrown, refused = None, NOTHING, await _awaited(execution.pause())
                if isinstance(refused, Ok):
                    try:
                        sent = yield value
                    except BaseException as error:  # noqa: BLE001 - thrown in for the body
                        thrown = Failed(error)
                    refused = attempt(execution.resume)
                step = await aattempt(_anext, generator, sent, thrown, refused)
                del sent, thrown, refused
            is_through = isinstance(step.error, StopAsyncIteration)
            ended = await _awaited(execution.finish(Ok() if is_through else step))
            del step
    except BaseException as error:  # noqa: BLE001 - it goes on below
        ended = await _awaited(execution.interrupted(error))
    try:
        _result_of(ended)
    finally:
        del ended


async def _afirst(body: Callable[[], Awaitable[AsyncGenerator[Any, Any]]]) -> tuple[Any, Any]:
    generator = await body()
    return generator, await anext(generator)


async def _anext(
    generator: AsyncGenerator[Any, Any], sent: object, thrown: Outcome, refused: Outcome
) -> tuple[Any, Any]:
    """Do what :func:`_next` does."""
    try:
        if isinstance(thrown, Failed) and isinstance(thrown.error, GeneratorExit):
            await generator.aclose()
            raise thrown.error
        if isinstance(refused, Failed):
            _note_context(refused, thrown)
            with suppress(StopAsyncIteration):
                await generator.athrow(refused.error)
            await generator.aclose()
            raise refused.error
        if isinstance(thrown, Failed):
            return generator, await generator.athrow(thrown.error)
        return generator, await generator.asend(sent)
    finally:
        del thrown, refused


def _note_context(refused: Failed, thrown: Outcome) -> None:
    if isinstance(thrown, Failed):
        refused.error.__context__ = thrown.error


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _result_of(ended: Outcome | None) -> object:
    try:
        return result_of(ended or DONE)  # None would ask for another attempt: retry= is refused
    finally:
        del ended  # else the frame, the outcome and its traceback are a cycle
