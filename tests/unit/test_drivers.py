"""The two drivers: the same loop, once for each colour."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from flask_reqsession.drivers import aadvance, aattempt, advance, attempt, result_of
from flask_reqsession.effects import (
    BEGIN,
    CALL,
    COMMIT,
    DONE,
    Effect,
    Failed,
    Flow,
    Ok,
    Outcome,
    Request,
    Sleep,
)


class Recording:
    """Performs everything at once, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def perform(self, request: Request) -> Outcome:
        """Answer with the request itself."""
        self.asked.append(request)
        return Ok(request)

    async def aperform(self, request: Request) -> Outcome:
        """Answer with the request itself, later."""
        await asyncio.sleep(0)
        return self.perform(request)


def drive(flow: Flow, performer: Recording, outcome: Outcome | None = None) -> Outcome | None:
    """Advance in the synchronous colour."""
    return advance(flow, performer, outcome)


def adrive(flow: Flow, performer: Recording, outcome: Outcome | None = None) -> Outcome | None:
    """Advance in the asynchronous colour."""
    return asyncio.run(aadvance(flow, performer, outcome))


Drive = Callable[..., Outcome | None]
both_colours = pytest.mark.parametrize("step", [drive, adrive], ids=["sync", "async"])


@both_colours
def test_effects_are_performed_in_order_until_the_body_is_wanted(step: Drive) -> None:
    """None says that the body is to be run now; its outcome is what the flow goes on with."""
    answers: list[Outcome] = []

    def flow() -> Flow:
        answers.append((yield BEGIN))
        answers.append((yield Sleep(1.5)))
        answers.append((yield CALL))
        answers.append((yield COMMIT))
        answers.append((yield CALL))
        return Ok("ended")

    performer, running = Recording(), flow()
    assert step(running, performer) is None
    assert [type(request) for request in performer.asked] == [Effect, Sleep]
    assert step(running, performer, Ok("first")) is None
    assert step(running, performer, Ok("second")) == Ok("ended")
    assert answers == [
        Ok(BEGIN),
        Ok(performer.asked[1]),
        Ok("first"),
        Ok(COMMIT),
        Ok("second"),
    ]


@both_colours
def test_a_flow_may_end_without_a_body(step: Drive) -> None:
    """It was refused."""
    refused = Failed(ValueError())

    def flow() -> Flow:
        yield BEGIN
        return refused

    assert step(flow(), Recording()) is refused


@both_colours
def test_a_failure_is_sent_not_thrown(step: Drive) -> None:
    """A StopIteration of the body arrives as a value; thrown, PEP 479 would make it another."""
    failure = Failed(StopIteration("body"))

    def flow() -> Flow:
        return (yield CALL)

    running = flow()
    assert step(running, Recording()) is None
    assert step(running, Recording(), failure) is failure


def run_attempt(body: Callable[..., Any], *args: Any, **kwargs: Any) -> Outcome:
    """Attempt in the synchronous colour."""
    return attempt(body, *args, **kwargs)


def run_aattempt(body: Callable[..., Any], *args: Any, **kwargs: Any) -> Outcome:
    """Attempt in the asynchronous colour."""

    def awaited(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        async def run() -> Any:
            return body(*args, **kwargs)

        return run()

    return asyncio.run(aattempt(awaited, *args, **kwargs))


both_attempts = pytest.mark.parametrize("attempted", [run_attempt, run_aattempt])


@pytest.mark.rule("T1")
@both_attempts
@pytest.mark.parametrize("raised", [ValueError(), GeneratorExit(), asyncio.CancelledError()])
def test_whatever_a_body_raises_is_a_value(
    attempted: Callable[..., Outcome], raised: BaseException
) -> None:
    """The very object."""

    def body() -> None:
        raise raised

    outcome = attempted(body)
    assert isinstance(outcome, Failed)
    assert outcome.error is raised


@both_attempts
def test_what_a_body_returns_is_a_value(attempted: Callable[..., Outcome]) -> None:
    """Arguments are passed on."""
    assert attempted(dict[str, int], one=1) == Ok({"one": 1})
    assert attempted(int, "42") == Ok(42)


def test_a_result_is_returned_or_raised() -> None:
    """The same object, without another context."""
    assert result_of(Ok("value")) == "value"
    assert result_of(DONE) is None
    error = KeyError()
    with pytest.raises(KeyError) as caught:
        result_of(Failed(error))
    assert caught.value is error
    assert error.__context__ is None
