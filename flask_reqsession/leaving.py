"""How a ``with`` block is left: last entered, first left, or nothing of it is kept.

A function can't return before what it called. A block can: inside a generator, or entered by hand.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from flask_reqsession.effects import CALL, Effect, Elsewhere, Failed
from flask_reqsession.entering import Entering, PortT
from flask_reqsession.errors import PropagationError
from flask_reqsession.parts import Part, label_of, left_early, left_late

if TYPE_CHECKING:
    from collections.abc import Generator

    from flask_reqsession.effects import Flow, Outcome, Request
    from flask_reqsession.scope import Scope


class Leaving(Entering[PortT]):
    """An entry that may be a block. ``_home`` is the scope around it, on whatever session."""

    __slots__ = ("_cut", "_home")

    _cut: PropagationError | None
    _home: Scope | None

    @property
    def label(self) -> str:
        """What messages call the block."""
        return label_of(self._spec.name, self._spec.propagation)

    @property
    def bind(self) -> str:
        """The bind whose session the block runs on."""
        return self._spec.bind

    def open_block(self) -> None:
        """Tell those around that a block was entered, which has to be left before they are."""
        self._cut = None
        self._home = self._outer if self.port is self._suspended else self._suspended.scope
        if self._home is not None:
            self._home.paused.append(self._part())
        self._unit.blocks += (self,)

    def _part(self) -> Part:
        return Part(self.label, None, self)

    def _close_block(self) -> None:
        if self._home is not None:
            self._home.paused.remove(self._part())
        self._unit.blocks = tuple(block for block in self._unit.blocks if block is not self)

    def leave_block(self, outcome: Outcome) -> tuple[Outcome, bool]:
        """Say what the block comes to whose body came to ``outcome``, and whether it is over.

        Over: those around it have ended it before, and there is nothing left to do.
        """
        if self._cut is not None:
            return self._left_late(outcome, self._cut), True
        inside = self._inside()
        self._close_block()
        mine = self._joined if self._scope is None else self._scope
        current = self._ports().get(self.bind)
        if current is None or self.port.closed:
            return outcome, False  # others have ended the session, and its scopes know
        outlives = self._scope is None and self.port is not self._suspended and bool(inside)
        if current is self.port and current.scope is mine and not outlives:
            return outcome, False
        if self._scope is not None and any(part.block for part in self._scope.paused):
            return outcome, False  # its flow refuses and cuts them off
        return self._left_early(outcome, inside, mine, current), False

    def _inside(self) -> list[Leaving[PortT]]:
        """Return the open blocks that were entered after this one, on the same sessions."""
        blocks = self._unit.blocks
        later = blocks[blocks.index(self) + 1 :]
        return [block for block in later if type(block) is type(self) and block.bind == self.bind]

    def _left_early(
        self,
        outcome: Outcome,
        inside: list[Leaving[PortT]],
        mine: Scope | None,
        current: PortT,
    ) -> Outcome:
        """Let nothing be kept of what was open on the session besides this block."""
        error = left_early(self.label, inside[-1].label if inside else "another scope")
        for scope in (mine, current.scope):
            if scope is not None:
                scope.doom_transaction(error)
        if not inside:
            self._take_place(current)
        self._flow = self._cutting(self._flow, inside, PropagationError(*error.args))
        next(self._flow)
        return _told(outcome, error)

    def _take_place(self, current: PortT) -> None:
        """End on the session that the block ran on, and leave the unit what it has now."""
        if self._scope is not None:
            self.port.scope = self._scope
        self._step_out()
        self._ports()[self.bind] = current

    def _cutting(self, flow: Flow, inside: list[Leaving[PortT]], error: PropagationError) -> Flow:
        outcome = yield CALL
        for block in reversed(inside):
            yield from block.cut_off(error)
        return (yield from _went_on(flow, outcome))

    def cut_off(self, error: PropagationError) -> Generator[Request, Outcome, None]:
        """End the block because of ``error``, and what is open in it; keep nothing.

        The flow of the block runs to its end, so that its hooks run and its session is closed.
        """
        inside = self._inside()
        self._close_block()
        for block in reversed(inside):
            yield from block.cut_off(error)
        self._cut = error
        if self._scope is not None:
            self._scope.rollback_only = True  # whatever its outcome rules say of the error
        done: Outcome = Failed(error)
        with suppress(StopIteration):
            while True:
                request = self._flow.send(done)
                if isinstance(request, Effect):
                    request = Elsewhere(self.port, request)
                done = yield request
        self._end()

    def _left_late(self, outcome: Outcome, why: PropagationError) -> Outcome:
        """Tell of it; what the body wrote at last is in what runs now, and is not kept either."""
        error = left_late(self.label, why)
        current = self._ports().get(self.bind)
        if isinstance(outcome, Failed) and isinstance(outcome.error, GeneratorExit):
            ...  # the body did not go on, and who drops a generator may be anybody
        elif current is not None and current.scope is not None:
            current.scope.doom(error)
        return _told(outcome, error)


def _went_on(flow: Flow, outcome: Outcome) -> Flow:
    """Go on with a ``flow`` that waits for its body."""
    try:
        request = flow.send(outcome)
        while True:
            request = flow.send((yield request))
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]


def _told(outcome: Outcome, error: PropagationError) -> Outcome:
    """Return ``error`` as the outcome, or what the body raised with a note of it."""
    if not isinstance(outcome, Failed):
        return Failed(error)
    outcome.error.add_note(str(error))
    return outcome
