"""Draw the steps of one program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from flask_reqsession.testing.programs import Program, View
from flask_reqsession.testing.steps import (
    Abort,
    Add,
    Block,
    Body,
    ByHand,
    Call,
    Doom,
    Execute,
    Flake,
    Flush,
    Generate,
    Options,
    PropagationName,
    Raise,
    Read,
    Register,
    Savepoint,
    Step,
    Try,
    Violate,
)
from flask_reqsession.testing.strategies.choices import (
    ANSWERS,
    DEEPEST,
    HAND_WORK,
    HOOKS,
    IS_CLOSED,
    IS_DECORATED,
    IS_ROBUST,
    LENGTHS,
    PROPAGATIONS,
    REPLIES,
    RULES,
    STATUSES,
    TIMES,
    TROUBLES,
    kinds_in,
)
from flask_reqsession.testing.strategies.places import (
    SCOPES,
    STARTING,
    Limits,
    Place,
    Traffic,
    has_own_session,
)

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn


class Drawing:
    """One program while it is drawn. Its numbers count the steps, so that all are different."""

    def __init__(self, draw: DrawFn, limits: Limits) -> None:
        self._draw = draw
        self._limits = limits
        self._number = 0

    def request(self) -> Program:
        """Draw a program that starts in a view, which is decorated or not."""
        place, traffic, reply = Place(has_session=True), Traffic(), self._draw(REPLIES)
        if not self._draw(IS_DECORATED):
            return Program("request", self.body(place, traffic), View(None, reply))
        options = self._options(place, traffic)
        body = self._scope_body(options, place, traffic)
        return Program("request", body, View(options, reply))

    def body(self, place: Place, traffic: Traffic) -> Body:
        """Draw the steps of a body; what follows a ``raise`` would never run."""
        steps: list[Step] = []
        kinds = kinds_in(place)
        for _ in range(self._draw(LENGTHS)):
            is_over = bool(steps) and isinstance(steps[-1], Raise | Abort)
            if is_over or self._number == self._limits.steps:
                break
            steps.append(self._step(self._draw(kinds), place, traffic))
        return tuple(steps)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _step(self, kind: type[Step], place: Place, traffic: Traffic) -> Step:
        number = self._next()
        if kind in _COMPOUND:
            return _COMPOUND[kind](self, number, place, traffic)
        if kind in _SENDING:
            traffic.begin()
        return _SIMPLE[kind](self._draw, number)

    def savepoint(self, _number: int, place: Place, traffic: Traffic) -> Step:
        """Draw a block of SQLAlchemy's own. What is pending is sent before."""
        traffic.begin()
        inside = replace(place, in_savepoint=True, depth=place.depth + 1)
        return Savepoint(self.body(inside, traffic))

    def answer(self, number: int, place: Place, traffic: Traffic) -> Step:
        """Draw a ``try`` around a body."""
        before = traffic.ever
        traffic.ever = traffic.by_now
        body = self.body(replace(place, is_tried=True, depth=place.depth + 1), traffic)
        traffic.by_now = traffic.ever
        traffic.ever |= before
        return Try(body, self._draw(ANSWERS), number)

    def register(self, number: int, place: Place, traffic: Traffic) -> Step:
        """Draw a hook. It runs later, where its session may use what it may use now."""
        kind = self._draw(HOOKS)
        inside = replace(place, depth=DEEPEST, is_tried=True, in_savepoint=False)
        body = self.body(inside, traffic)
        is_robust = kind == "before_commit" or self._draw(IS_ROBUST)
        return Register(kind, f"hook{number}", body, is_robust)

    def call(self, number: int, place: Place, traffic: Traffic) -> Step:
        """Draw a decorated function."""
        options = self._options(place, traffic)
        body = self._scope_body(options, place, traffic)
        return Call(f"call{number}", options, body)

    def block(self, number: int, place: Place, traffic: Traffic) -> Step:
        """Draw a ``session_scope()``."""
        options = replace(self._options(place, traffic), retry=0)
        body = self._scope_body(options, place, traffic)
        return Block(f"block{number}", options, body)

    def generate(self, number: int, place: Place, traffic: Traffic) -> Step:
        """Draw a generator, and what its consumer does between its steps.

        Its own session would be open meanwhile: where there can't be a second one, or none that
        writes, it gets none, and the consumer has nothing to do outside of all sessions.
        """
        options = replace(self._options(place, traffic), retry=0)
        is_alone = has_own_session(options.propagation, place) or not place.has_session
        if is_alone and place.has_session and not self._limits.second_writer:
            options, is_alone = replace(options, propagation="NESTED"), False
        inside, own = self._inside(options.propagation, place, traffic)
        first = self.body(inside, own)
        between: Body = ()
        if not is_alone or self._limits.second_writer:
            between = self.body(self._meanwhile(options.propagation, place), traffic)
        rest = self.body(inside, own)
        self._leave(options.propagation, place, traffic)
        return Generate(f"generator{number}", options, first, between, rest, self._draw(IS_CLOSED))

    @staticmethod
    def _meanwhile(propagation: PropagationName, place: Place) -> Place:
        starts = propagation in STARTING and not place.in_scope and not place.is_paused
        nests = propagation == "NESTED" and place.in_scope
        return replace(
            place,
            is_paused=place.has_session and (place.is_paused or starts),
            in_savepoint=place.in_savepoint or nests,
            depth=place.depth + 1,
        )

    def _options(self, place: Place, traffic: Traffic) -> Options:
        propagation = self._draw(PROPAGATIONS[place.in_scope])
        options = replace(self._draw(RULES), propagation=propagation)
        is_second = has_own_session(propagation, place)
        if is_second and traffic.by_now and not self._limits.second_session:
            return replace(options, propagation="NESTED")
        if options.retry and propagation not in STARTING:
            return replace(options, retry=0)
        return options

    def _scope_body(self, options: Options, place: Place, traffic: Traffic) -> Body:
        inside, own = self._inside(options.propagation, place, traffic)
        body = self.body(replace(inside, is_repeated=inside.is_repeated or options.retry > 1), own)
        self._leave(options.propagation, place, traffic)
        return body

    def _inside(
        self, propagation: PropagationName, place: Place, traffic: Traffic
    ) -> tuple[Place, Traffic]:
        inside = replace(
            place,
            has_session=True,
            in_scope=SCOPES.get(propagation, place.in_scope),
            depth=place.depth + 1,
        )
        if has_own_session(propagation, place):
            may_write = place.may_write and (self._limits.second_writer or not traffic.by_now)
            own = replace(inside, may_write=may_write, is_paused=False, in_savepoint=False)
            return own, Traffic()
        if not place.has_session:
            return inside, Traffic()
        if propagation == "NESTED":
            traffic.begin()  # what is pending is sent first
        return inside, traffic

    @staticmethod
    def _leave(propagation: PropagationName, place: Place, traffic: Traffic) -> None:
        if propagation in STARTING and not (place.in_scope or place.is_paused):
            traffic.by_now = False  # its transaction has ended


_COMPOUND: Final = MappingProxyType[type[Step], Callable[[Drawing, int, Place, Traffic], Step]](
    {
        Call: Drawing.call,
        Block: Drawing.block,
        Generate: Drawing.generate,
        Try: Drawing.answer,
        Savepoint: Drawing.savepoint,
        Register: Drawing.register,
    }
)
_SIMPLE: Final = MappingProxyType[type[Step], "Callable[[DrawFn, int], Step]"](
    {
        Add: lambda _draw, number: Add(number),
        Execute: lambda _draw, number: Execute(number),
        Flush: lambda _draw, _number: Flush(),
        Read: lambda _draw, _number: Read(),
        Violate: lambda _draw, _number: Violate(),
        Doom: lambda _draw, _number: Doom(),
        Raise: lambda draw, number: Raise(draw(TROUBLES), number),
        Flake: lambda draw, number: Flake(draw(TIMES), number),
        Abort: lambda draw, number: Abort(draw(STATUSES), number),
        ByHand: lambda draw, _number: ByHand(draw(HAND_WORK)),
    }
)
_SENDING: Final = frozenset({Execute, Flush, Read, Violate})
