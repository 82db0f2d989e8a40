"""A signal may strike at any line of the package: the next call starts anew all the same."""

from __future__ import annotations

import contextvars
import itertools
import linecache
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import flask_reqsession
from flask_reqsession import Propagation
from tests.integration.transactions.worlds import Note, SyncWorld, World

PACKAGE = str(Path(flask_reqsession.__file__).parent)
# Python itself leaves a lock behind that is interrupted in the middle of its ``with``.
LOCKING = ("metrics.py", "recording.py")


class SignalError(BaseException):
    """What a signal handler raised."""


class Signal:
    """Raises in the n-th line of the package that is run, of one function or of all.

    It takes the place of the tracer that measures coverage, which then sees nothing. After
    :meth:`strike` that tracer goes on; after a block, in a coroutine, it has lost its place.
    """

    def __init__(self, line: int, function: str = "") -> None:
        self._left = line
        self._function = function
        self.struck_at = ""

    def strike(self, act: Callable[..., object], *args: object) -> None:  # pragma: no cover
        """Call ``act`` while the signal is on its way, and swallow that."""
        tracer = sys.gettrace()
        sys.settrace(self._enter)
        try:
            with suppress(BaseException):  # inside SQLAlchemy the signal may become another error
                act(*args)
        finally:
            sys.settrace(tracer)

    @contextmanager
    def on_its_way(self) -> Generator[None, None, None]:  # pragma: no cover - see above
        """Let the signal strike inside the block, and swallow it at its end."""
        tracer = sys.gettrace()
        sys.settrace(self._enter)
        try:
            with suppress(BaseException):
                yield
        finally:
            sys.settrace(tracer)

    def _enter(  # pragma: no cover - see above
        self, frame: FrameType, _event: str, _argument: object
    ) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(PACKAGE) or name.endswith(LOCKING):
            return None
        return self._step if frame.f_code.co_name.startswith(self._function) else None

    def _step(  # pragma: no cover - see above
        self, frame: FrameType, event: str, _argument: object
    ) -> Any:
        if event == "line":
            self._left -= 1
            # A bare ``try:`` is an instruction that does nothing, at which no signal is handled.
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            if self._left <= 0 and line != "try:":
                self.struck_at = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                sys.settrace(None)
                raise SignalError
        return self._step


def calls(world: SyncWorld) -> dict[str, Callable[[str], object]]:
    """Return calls that write the notes "<text> 1" and "<text> 2"."""
    manager = world.manager

    @manager.transactional
    def write(text: str) -> None:
        world.put(text)

    @manager.transactional
    def function(text: str) -> None:
        write(f"{text} 1")
        world.put(f"{text} 2")

    @manager.transactional
    def generator(text: str) -> Generator[None, None, None]:
        world.put(f"{text} 1")
        yield
        world.put(f"{text} 2")

    @manager.transactional(propagation=Propagation.NESTED)
    def attempt(text: str) -> None:
        world.put(text)

    @manager.transactional(propagation=Propagation.REQUIRES_NEW)
    def look() -> None:
        manager.session.query(Note).first()

    def block(text: str) -> None:
        with manager.session_scope():
            look()
            write(f"{text} 1")
            attempt(f"{text} 2")

    def within(text: str) -> None:
        with manager.unit_of_work():
            function(text)

    return {
        "function": function,
        "within": within,
        "generator": lambda text: list(generator(text)),
        "block": block,
    }


@pytest.mark.rule("T1", "M10", "M17")
@pytest.mark.parametrize(
    ("kind", "stride"), [("function", 1), ("within", 1), ("generator", 3), ("block", 5)]
)
def test_a_signal_at_any_line_leaves_no_half_and_no_dead_scope(
    sync_world: SyncWorld, kind: str, stride: int
) -> None:
    """All or nothing is kept, no connection is held, and what comes next is committed."""
    call = calls(sync_world)[kind]
    call("whole")
    assert sync_world.kept() == ["whole 1", "whole 2"]
    lines = itertools.count(1, stride)
    while True:
        line = next(lines)
        text = f"line {line}"
        signal = Signal(line)

        def strike(signal: Signal = signal, text: str = text) -> set[object]:
            signal.strike(call, text)
            with sync_world.manager.session_scope():
                sync_world.put(f"after {text}")
            return set(sync_world.kept())

        kept = contextvars.copy_context().run(strike)
        if not signal.struck_at:
            break
        assert f"after {text}" in kept, signal.struck_at
        assert len({f"{text} 1", f"{text} 2"} & kept) in {0, 2}, signal.struck_at
        assert sync_world.conversation.held == 0, signal.struck_at
    assert line > 100


@pytest.mark.rule("T1", "T50", "M17")
@pytest.mark.parametrize("function", ["_acquire", "_step_in", "_verdict", "advance", "_end"])
async def test_a_signal_around_the_body_of_a_coroutine_leaves_no_dead_scope(
    awaiting_world: World, function: str
) -> None:
    """With either kind of session. Signals that would leave coroutines unawaited are Python's."""
    world = awaiting_world

    @world.transactional()
    async def pay() -> None:
        await world.write("lost")
        raise ValueError("by itself")

    @world.manager.transactional
    async def steps() -> AsyncGenerator[None, None]:
        await world.write("lost")
        yield
        raise ValueError("by itself")

    async def exhaust() -> None:
        async for _step in steps():
            ...

    async def block() -> None:
        async with world.scope():
            await pay()

    for call in (pay, exhaust, block):  # pragma: no cover - see Signal
        with pytest.raises(ValueError, match="by itself"):
            await call()
        signal = Signal(1, function)
        with signal.on_its_way():
            await call()
        assert signal.struck_at
        assert world.conversation.held == 0
        async with world.scope():
            await world.write(f"after {call.__name__}")
    assert world.kept() == ["after pay", "after exhaust", "after block"]


@pytest.mark.rule("T1", "T32", "T37")
@pytest.mark.parametrize(
    "function",
    ["transaction_flow", "commit", "perform", "advance", "_attempt", "completed_flow", "take"],
)
def test_a_signal_at_any_line_never_lets_the_wrong_hook_run(
    sync_world: SyncWorld, function: str
) -> None:
    """A hook of the commit ran: it is kept. One of the rollback did: it is not. Never both."""
    manager = sync_world.manager
    ran: list[str] = []

    @manager.transactional
    def pay(text: str) -> None:
        manager.on_commit(ran.append, f"{text} committed")
        manager.on_rollback(ran.append, f"{text} rolled back")
        manager.on_completion(lambda outcome: ran.append(f"{text} {outcome.name}"))
        sync_world.put(text)

    pay("whole")
    assert ran == ["whole committed", "whole COMMITTED"]
    lines = itertools.count(1)
    while True:
        line = next(lines)
        text = f"line {line}"
        signal = Signal(line, function)

        def strike(signal: Signal = signal, text: str = text) -> bool:
            signal.strike(pay, text)
            with manager.session_scope():
                sync_world.put(f"after {text}")
            return text in sync_world.kept()

        is_kept = contextvars.copy_context().run(strike)
        if not signal.struck_at:
            break
        wrong = f"{text} rolled back" if is_kept else f"{text} committed"
        told = f"{text} ROLLED_BACK" if is_kept else f"{text} COMMITTED"
        assert not {wrong, told} & set(ran), signal.struck_at
    assert ran[-2:] == [f"line {line} committed", f"line {line} COMMITTED"]
    assert line > 5
