"""A performer that follows a script: which effects fail, and with what."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING

from flask_reqsession.drivers import aadvance, aattempt, advance, attempt
from flask_reqsession.effects import DONE, Elsewhere, Failed, Outcome, Request, Run, Sleep

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from flask_reqsession.effects import Flow


class EffectError(Exception):
    """The failure of one effect, named after it."""


class Script:
    """Performs effects without a database, in either colour, and remembers the conversation."""

    def __init__(
        self,
        failing: Collection[str] = (),
        value: object = "value",
        errors: Mapping[str, BaseException] = MappingProxyType({}),
        *,
        done: bool | None = False,
    ) -> None:
        self.done = done
        self.errors = errors
        self.failing = failing
        self.value = value
        self.conversation: list[str] = []
        self.slept: list[float] = []

    def perform(self, request: Request) -> Outcome:
        """Perform ``request`` as the script says."""
        if isinstance(request, Sleep):
            self.slept.append(request.seconds)
            return Failed(EffectError("sleep")) if "sleep" in self.failing else DONE
        if isinstance(request, Run):
            return attempt(request.hook.task.run, request.outcome)
        if isinstance(request, Elsewhere):
            return request.performer.perform(request.effect)
        self.conversation.append(request.verb)
        if request.verb in self.failing:
            return Failed(EffectError(request.verb))
        error = self.errors.get(request.verb)
        return DONE if error is None else Failed(error, self.done)

    async def aperform(self, request: Request) -> Outcome:
        """Perform ``request`` after giving way once."""
        await asyncio.sleep(0)
        if isinstance(request, Run):
            return await aattempt(request.hook.task.arun, request.outcome)
        return self.perform(request)

    def body(self) -> object:
        """Be the user's code."""
        self.conversation.append("body")
        if "body" in self.failing:
            raise EffectError("body")
        return self.value

    async def abody(self) -> object:
        """Be the user's code, awaited."""
        return self.body()

    def run(self, flow: Flow) -> Outcome:
        """Drive ``flow`` to its end."""
        ended = advance(flow, self)
        while ended is None:
            ended = advance(flow, self, attempt(self.body))
        return ended

    def arun(self, flow: Flow) -> Outcome:
        """Drive ``flow`` to its end in an event loop."""

        async def drive() -> Outcome:
            ended = await aadvance(flow, self)
            while ended is None:
                ended = await aadvance(flow, self, await aattempt(self.abody))
            return ended

        return asyncio.run(drive())
