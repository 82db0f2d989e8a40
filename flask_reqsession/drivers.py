"""Perform what a flow asks for: the same loop twice, once for each colour.

``advance`` stops where the flow wants the user's code, so that a ``with`` block or a generator can
supply it; ``run`` supplies it from a function. ``None`` means "run the body now", an outcome means
"finished".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, Protocol

from flask_reqsession.effects import CALL, Failed, Flow, Ok, Outcome, Request

P = ParamSpec("P")


class Performer(Protocol):
    """Carries out effects; never raises."""

    def perform(self, request: Request) -> Outcome:
        """Carry out ``request``."""
        ...


class AsyncPerformer(Protocol):
    """The async twin of :class:`Performer`."""

    async def aperform(self, request: Request) -> Outcome:
        """Carry out ``request``."""
        ...


def advance(flow: Flow, performer: Performer, outcome: Outcome | None = None) -> Outcome | None:
    """Perform effects until ``flow`` wants its body (None) or has finished (its outcome)."""
    try:
        # The first send must be None, and that is what an absent outcome is.
        request = flow.send(outcome)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        while request is not CALL:
            request = flow.send(performer.perform(request))
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]
    return None


def perform_all(flow: Flow, performer: Performer) -> Outcome:
    """Perform the effects of a ``flow`` that wants no body, and return its outcome."""
    try:
        request = next(flow)
        while True:
            request = flow.send(performer.perform(request))
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]


async def aadvance(
    flow: Flow, performer: AsyncPerformer, outcome: Outcome | None = None
) -> Outcome | None:
    """Do what :func:`advance` does, awaiting each effect."""
    try:
        request = flow.send(outcome)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        while request is not CALL:
            request = flow.send(await performer.aperform(request))
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]
    return None


def attempt(body: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Outcome:
    """Call ``body`` and return what happened as a value.

    The references are dropped on the way out, since an argument may hold the very error.
    """
    try:
        return Ok(body(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt and GreenletExit roll back too
        return Failed(error)
    finally:
        del body, args, kwargs


async def aattempt(
    body: Callable[P, Awaitable[object]], *args: P.args, **kwargs: P.kwargs
) -> Outcome:
    """Await ``body`` and return what happened as a value."""
    try:
        return Ok(await body(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - CancelledError rolls back too
        return Failed(error)
    finally:
        del body, args, kwargs


def result_of(outcome: Outcome) -> object:
    """Return the value, or raise the very error.

    The reference is dropped on the way out: error, traceback, frame and outcome would form a cycle
    and keep ORM objects alive until the cyclic collector runs.
    """
    if isinstance(outcome, Ok):
        return outcome.value
    try:
        raise outcome.error
    finally:
        del outcome
