"""Run a program on nothing but sets of numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import count
from types import MappingProxyType
from typing import Final

from flask_reqsession.testing.model.generators import Generators
from flask_reqsession.testing.model.scopes import Scopes
from flask_reqsession.testing.model.sessions import SessionState, Thrown
from flask_reqsession.testing.model.stage import Stage
from flask_reqsession.testing.model.units import Scoped
from flask_reqsession.testing.model.verdicts import NOTHING, status_of
from flask_reqsession.testing.outcomes import Caught, Outcome, Raised, Seen
from flask_reqsession.testing.programs import Program
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
    HandWork,
    Raise,
    Read,
    Register,
    Savepoint,
    Step,
    Try,
)

_HAND_WORK: Final[Mapping[HandWork, Callable[[SessionState], None]]] = MappingProxyType(
    {
        "commit": SessionState.commit,
        "rollback": SessionState.roll_back,
        "close": SessionState.close,
    }
)


class Interpreter:
    """Runs one program."""

    def __init__(self) -> None:
        self._runs: defaultdict[int, count[int]] = defaultdict(count)
        self._stage = Stage(self._body)
        self._scopes = Scopes(self._stage)
        self._generators = Generators(self._stage, self._scopes)

    def run(self, program: Program) -> Outcome:
        """M3, M9: the end of a request or unit of work rolls back what no scope committed."""
        stage, error, status = self._stage, None, None
        if program.root != "bare":
            stage.session = SessionState(stage.committed)
        try:
            if program.root == "request":
                status = self._serve(program)
            else:
                self._body(program.body)
        except Thrown as thrown:
            error = thrown.raised
        # After a decorated view nobody looks: one without a scope may leave the session broken.
        is_looked_at = stage.session is not None and program.view.options is None
        usable = not (is_looked_at and stage.current.is_broken)
        rows, events = frozenset(stage.committed), tuple(stage.events)
        return Outcome(rows, error, events, usable, status=status)

    def _serve(self, program: Program) -> int | None:
        """T15, T16: Flask makes a response of what the view returns, and of HTTP exceptions."""
        options, reply = program.view.options, program.view.reply
        try:
            if options is None:
                self._body(program.body)
            else:
                self._scopes.run(Scoped("view", options, lambda: self._body(program.body), reply))
        except Thrown as thrown:
            status = status_of(thrown.raised)
            if status is None:
                raise
            return status
        if reply.form == "nothing":
            raise Thrown(NOTHING)
        return reply.status

    def _body(self, body: Body) -> None:
        for step in body:
            self._step(step)

    def _step(self, step: Step) -> None:
        match step:
            case Call(name, options, body) | Block(name, options, body):
                self._scopes.run(Scoped(name, options, lambda: self._body(body)))
            case Generate():
                self._generators.run(step)
            case Try():
                self._answer(step)
            case Savepoint(body):
                self._savepoint(body)
            case Raise() | Flake() | Abort():
                self._raise(step)
            case Doom():
                self._doom()
            case Register():
                self._scopes.hooks.register(step)
            case ByHand(work):
                self._end_by_hand(work)
            case _:
                self._write(step)

    def _raise(self, step: Raise | Flake | Abort) -> None:
        match step:
            case Abort(status):
                kind = f"HTTP {status}"
            case Flake(times):
                if next(self._runs[step.number]) >= times:
                    return
                kind = "FlakyError"
            case _:
                kind = step.error
        raise Thrown(Raised(kind, step.number))

    def _write(self, step: Step) -> None:
        session = self._stage.current
        match step:
            case Add(row):
                session.add(row + 1000 * next(self._runs[row]))
            case Execute(row):
                session.execute(row + 1000 * next(self._runs[row]))
            case Flush():
                session.flush()
            case Read():
                self._stage.events.append(Seen(session.visible()))
            case _:
                session.violate()

    def _answer(self, step: Try) -> None:
        try:
            self._body(step.body)
        except Thrown as thrown:
            self._stage.events.append(Caught(step.number, thrown.raised))
            if step.answer == "reraise":
                raise
            if step.answer == "convert":
                converted = Raised("OtherTroubleError", step.number, cause=thrown.raised)
                raise Thrown(converted) from None

    def _savepoint(self, body: Body) -> None:
        """SQLAlchemy's own block; it is no unit of the contract's, and dooms nothing."""
        session = self._stage.current
        layer = session.savepoint()
        layer.is_block = True
        try:
            self._body(body)
        except Thrown:
            session.leave(layer)
            raise
        if layer.broken:
            session.leave(layer)
        elif layer in session.layers:
            session.release(layer)

    def _doom(self) -> None:
        """T6."""
        unit = self._stage.current.unit
        if unit is None:
            raise Thrown(Raised("NoActiveScopeError"))
        unit.rollback_only = True

    def _end_by_hand(self, work: HandWork) -> None:
        """T17: inside a scope it is refused, and everything up to the transaction is doomed.

        A close that loses something dooms it too, but says so at the end only.
        """
        session = self._stage.current
        unit = session.unit or session.paused
        if unit is None:
            _HAND_WORK[work](session)
            return
        refusal = Raised("ManualCommitError", 0, frozenset({unit.name}))
        if work == "commit":
            session.prove_alive()
            session.merge_savepoints()
        elif not session.layers:
            if work == "close":  # there is nothing to lose, but another session from now on
                session.close()
            return
        else:
            _HAND_WORK[work](session)
        unit.doom_all(refusal)
        if work != "close":
            raise Thrown(refusal)
