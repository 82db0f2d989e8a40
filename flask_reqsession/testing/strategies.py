"""Draw random programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar, get_args

from hypothesis import strategies as st

from flask_reqsession.testing.programs import (
    Add,
    Answer,
    Block,
    Body,
    ByHand,
    Call,
    Doom,
    Execute,
    Flush,
    Generate,
    HandWork,
    HookName,
    Options,
    Program,
    PropagationName,
    Raise,
    Read,
    Register,
    Root,
    Savepoint,
    Step,
    TroubleName,
    Try,
    Violate,
)

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

T = TypeVar("T")

ROOTS: Final[tuple[Root, ...]] = get_args(Root)
"""Where a program may start."""


def scope_programs(
    *,
    roots: Sequence[Root] = ROOTS,
    second_session: bool = True,
    second_writer: bool = True,
    steps: int = 25,
) -> SearchStrategy[Program]:
    """Draw programs of at most ``steps`` steps: trees of nested calls, writes and exceptions.

    ``second_session``: whether a scope may run on a connection of its own while another one is in
    use. False for a memory database of SQLite. ``second_writer``: whether it may write meanwhile.
    False for SQLite, which has one writer at a time. ``roots``: where a program may start; an
    async one can't start in a request.

    >>> from hypothesis import find
    >>> from flask_reqsession.testing.model import predict
    >>> program = find(scope_programs(roots=["unit"]), lambda program: predict(program).rows)
    >>> print(repr(program).splitlines()[0])
    with manager.unit_of_work():
    """
    limits = _Limits(tuple(roots), second_session, second_writer and second_session, steps)
    return _programs(limits)


@dataclass(frozen=True, slots=True)
class _Limits:
    roots: tuple[Root, ...]
    second_session: bool
    second_writer: bool
    steps: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a program a body stands.

    ``has_session``: not so outside of every call of a bare program. ``in_scope``: whether a scope
    runs on the session, if the body runs at all. ``may_write``: whether the sessions that are
    suspended leave that to this one. ``is_paused``: whether a generator waits in the session's
    transaction, where no other can be started. ``is_tried``: whether somebody around may catch
    what is raised, so that the program goes on. ``in_savepoint``: in a block of SQLAlchemy's own,
    which forbids all SQL after somebody has ended its transaction; so there is none without a
    scope, whose end would do that, and no end by hand in one. ``depth`` counts the bodies around.
    """

    has_session: bool
    in_scope: bool = False
    may_write: bool = True
    is_paused: bool = False
    is_tried: bool = False
    in_savepoint: bool = False
    depth: int = 0


@dataclass(slots=True)
class _Traffic:
    """Whether a session may have sent something in its open transaction: now, or on the way.

    Where an exception is caught, nobody knows how far the body came.
    """

    by_now: bool = False
    ever: bool = False

    def begin(self) -> None:
        self.by_now = self.ever = True


@st.composite
def _programs(draw: DrawFn, limits: _Limits) -> Program:
    root = draw(st.sampled_from(limits.roots))
    drawing = _Drawing(draw, limits)
    return Program(root, drawing.body(_Place(has_session=root != "bare"), _Traffic()))


class _Drawing:
    """One program while it is drawn. Its numbers count the steps, so that all are different."""

    def __init__(self, draw: DrawFn, limits: _Limits) -> None:
        self._draw = draw
        self._limits = limits
        self._number = 0

    def body(self, place: _Place, traffic: _Traffic) -> Body:
        """Draw the steps of a body; what follows a ``raise`` would never run."""
        steps: list[Step] = []
        kinds = _kinds(place)
        for _ in range(self._draw(_LENGTHS)):
            if self._number == self._limits.steps or (steps and isinstance(steps[-1], Raise)):
                break
            steps.append(self._step(self._draw(kinds), place, traffic))
        return tuple(steps)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _step(self, kind: type[Step], place: _Place, traffic: _Traffic) -> Step:
        number = self._next()
        if kind in _COMPOUND:
            return _COMPOUND[kind](self, number, place, traffic)
        if kind in _SENDING:
            traffic.begin()
        return _SIMPLE[kind](self._draw, number)

    def savepoint(self, _number: int, place: _Place, traffic: _Traffic) -> Step:
        """Draw a block of SQLAlchemy's own. What is pending is sent before."""
        traffic.begin()
        inside = replace(place, in_savepoint=True, depth=place.depth + 1)
        return Savepoint(self.body(inside, traffic))

    def answer(self, number: int, place: _Place, traffic: _Traffic) -> Step:
        """Draw a ``try`` around a body."""
        before = traffic.ever
        traffic.ever = traffic.by_now
        body = self.body(replace(place, is_tried=True, depth=place.depth + 1), traffic)
        traffic.by_now = traffic.ever
        traffic.ever |= before
        return Try(body, self._draw(_ANSWERS), number)

    def register(self, number: int, place: _Place, traffic: _Traffic) -> Step:
        """Draw a hook. It runs later, where its session may use what it may use now."""
        kind = self._draw(_HOOKS)
        inside = replace(place, depth=_DEEPEST, is_tried=True, in_savepoint=False)
        body = self.body(inside, traffic)
        is_robust = kind == "before_commit" or self._draw(_IS_ROBUST)
        return Register(kind, f"hook{number}", body, is_robust)

    def call(self, number: int, place: _Place, traffic: _Traffic) -> Step:
        """Draw a decorated function."""
        options = self._options(place, traffic)
        body = self._scope_body(options.propagation, place, traffic)
        return Call(f"call{number}", options, body)

    def block(self, number: int, place: _Place, traffic: _Traffic) -> Step:
        """Draw a ``session_scope()``."""
        options = self._options(place, traffic)
        body = self._scope_body(options.propagation, place, traffic)
        return Block(f"block{number}", options, body)

    def generate(self, number: int, place: _Place, traffic: _Traffic) -> Step:
        """Draw a generator, and what its consumer does between its steps.

        Its own session would be open meanwhile: where there can't be a second one, or none that
        writes, it gets none, and the consumer has nothing to do outside of all sessions.
        """
        options = self._options(place, traffic)
        is_alone = _has_own_session(options.propagation, place) or not place.has_session
        if is_alone and place.has_session and not self._limits.second_writer:
            options, is_alone = replace(options, propagation="NESTED"), False
        inside, own = self._inside(options.propagation, place, traffic)
        first = self.body(inside, own)
        between: Body = ()
        if not is_alone or self._limits.second_writer:
            between = self.body(self._meanwhile(options.propagation, place), traffic)
        rest = self.body(inside, own)
        self._leave(options.propagation, place, traffic)
        return Generate(f"generator{number}", options, first, between, rest, self._draw(_IS_CLOSED))

    @staticmethod
    def _meanwhile(propagation: PropagationName, place: _Place) -> _Place:
        starts = propagation in _STARTING and not place.in_scope and not place.is_paused
        nests = propagation == "NESTED" and place.in_scope
        return replace(
            place,
            is_paused=place.has_session and (place.is_paused or starts),
            in_savepoint=place.in_savepoint or nests,
            depth=place.depth + 1,
        )

    def _options(self, place: _Place, traffic: _Traffic) -> Options:
        propagation = self._draw(_PROPAGATIONS[place.in_scope])
        options = replace(self._draw(_RULES), propagation=propagation)
        is_second = _has_own_session(propagation, place)
        if is_second and traffic.by_now and not self._limits.second_session:
            return replace(options, propagation="NESTED")
        return options

    def _scope_body(self, propagation: PropagationName, place: _Place, traffic: _Traffic) -> Body:
        inside, own = self._inside(propagation, place, traffic)
        body = self.body(inside, own)
        self._leave(propagation, place, traffic)
        return body

    def _inside(
        self, propagation: PropagationName, place: _Place, traffic: _Traffic
    ) -> tuple[_Place, _Traffic]:
        inside = replace(
            place,
            has_session=True,
            in_scope=_SCOPES.get(propagation, place.in_scope),
            depth=place.depth + 1,
        )
        if _has_own_session(propagation, place):
            may_write = place.may_write and (self._limits.second_writer or not traffic.by_now)
            own = replace(inside, may_write=may_write, is_paused=False, in_savepoint=False)
            return own, _Traffic()
        if not place.has_session:
            return inside, _Traffic()
        if propagation == "NESTED":
            traffic.begin()  # what is pending is sent first
        return inside, traffic

    @staticmethod
    def _leave(propagation: PropagationName, place: _Place, traffic: _Traffic) -> None:
        if propagation in _STARTING and not (place.in_scope or place.is_paused):
            traffic.by_now = False  # its transaction has ended


def _has_own_session(propagation: PropagationName, place: _Place) -> bool:
    is_busy = place.in_scope or place.is_paused
    return propagation == "NOT_SUPPORTED" or (propagation == "REQUIRES_NEW" and is_busy)


_SCOPES: Final = {
    "REQUIRED": True,
    "REQUIRES_NEW": True,
    "NESTED": True,
    "MANDATORY": True,
    "NOT_SUPPORTED": False,
    "NEVER": False,
}
"""Whether a scope runs inside; SUPPORTS leaves it as it was."""

_STARTING: Final = frozenset({"REQUIRED", "REQUIRES_NEW", "NESTED"})

_DEEPEST: Final = 4
_LENGTHS: Final = st.sampled_from((0, 1, 2, 3, 4, 2, 3))
_TROUBLES: Final[SearchStrategy[TroubleName]] = st.sampled_from(get_args(TroubleName))
_HAND_WORK: Final[SearchStrategy[HandWork]] = st.sampled_from(get_args(HandWork))
_HOOKS: Final[SearchStrategy[HookName]] = st.sampled_from((*get_args(HookName), "on_completion"))
_IS_ROBUST: Final = st.sampled_from((True, True, False))
_IS_CLOSED: Final = st.booleans()
_ANSWERS: Final[SearchStrategy[Answer]] = st.sampled_from((*get_args(Answer), "swallow", "swallow"))
_ALL: Final[tuple[PropagationName, ...]] = get_args(PropagationName)
_ALONE: Final[tuple[PropagationName, ...]] = (
    *_ALL,
    "REQUIRED",
    "REQUIRED",
    "REQUIRED",
    "REQUIRED",
    "NESTED",
)
_INSIDE: Final[tuple[PropagationName, ...]] = (*_ALONE, "NESTED", "MANDATORY")
_PROPAGATIONS: Final = MappingProxyType(
    {False: st.sampled_from(_ALONE), True: st.sampled_from(_INSIDE)}
)
"""By whether a scope is running: there the ones that join are worth more."""
_RULES: Final = st.sampled_from(
    (
        *(Options() for _ in range(6)),
        Options(no_rollback_for=("TroubleError",)),
        Options(no_rollback_for=("Exception",)),
        Options(no_rollback_for=("Halt",)),
        Options(rollback_for=("WorseTroubleError",), no_rollback_for=("TroubleError",)),
        Options(rollback_for=("TroubleError",), no_rollback_for=("Exception",)),
        Options(rollback_for=("TroubleError",), no_rollback_for=("WorseTroubleError",)),
        Options(rollback_for=("Exception",), no_rollback_for=("TroubleError",)),
        Options(durable=True),
    )
)
_COMPOUND: Final = MappingProxyType[type[Step], Callable[[_Drawing, int, _Place, _Traffic], Step]](
    {
        Call: _Drawing.call,
        Block: _Drawing.block,
        Generate: _Drawing.generate,
        Try: _Drawing.answer,
        Savepoint: _Drawing.savepoint,
        Register: _Drawing.register,
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
        Raise: lambda draw, number: Raise(draw(_TROUBLES), number),
        ByHand: lambda draw, _number: ByHand(draw(_HAND_WORK)),
    }
)
_SENDING: Final = frozenset({Execute, Flush, Read, Violate})

# -- which steps where --------------------------------------------------------------------------

_CHOICES: Final = (  # what shrinks to the front stands in front
    (Add, 4, {"session", "writing"}),
    (Execute, 2, {"session", "writing"}),
    (Call, 4, {"depth"}),
    (Call, 4, {"depth", "tried"}),
    (Try, 7, {"depth"}),
    (Block, 2, {"depth"}),
    (Generate, 2, {"depth"}),
    (Register, 7, {"scope", "depth"}),
    (Raise, 1, set[str]()),
    (Raise, 5, {"tried"}),
    (Read, 2, {"session"}),
    (Flush, 1, {"session"}),
    (Doom, 1, {"scope"}),
    (Doom, 1, {"session", "tried"}),
    (Savepoint, 1, {"scope", "depth"}),
    (Violate, 1, {"session", "writing", "tried"}),
    (ByHand, 2, {"session", "no savepoint", "tried"}),
)
"""The steps, how often each is drawn, and what it needs."""


def _kinds(place: _Place) -> SearchStrategy[type[Step]]:
    there = {
        "session": place.has_session,
        "writing": place.may_write,
        "depth": place.depth < _DEEPEST,
        "scope": place.in_scope,
        "tried": place.is_tried,
        "no savepoint": not place.in_savepoint,
    }
    return _KINDS[frozenset(each for each, is_there in there.items() if is_there)]


def _choice(there: frozenset[str]) -> SearchStrategy[type[Step]]:
    fitting = ((kind, weight) for kind, weight, needed in _CHOICES if needed <= there)
    return st.sampled_from([kind for kind, weight in fitting for _ in range(weight)])


_NEEDED: Final = ("session", "writing", "depth", "scope", "tried", "no savepoint")
_KINDS: Final = MappingProxyType(
    {
        there: _choice(there)
        for count in range(len(_NEEDED) + 1)
        for there in map(frozenset[str], combinations(_NEEDED, count))
    }
)
