"""Run a program on nothing but sets of numbers."""

from __future__ import annotations

from flask_reqsession.testing.model.generators import Generators
from flask_reqsession.testing.model.scopes import Scopes
from flask_reqsession.testing.model.sessions import SessionState, Thrown
from flask_reqsession.testing.model.stage import Stage
from flask_reqsession.testing.model.units import Scoped
from flask_reqsession.testing.outcomes import Caught, Outcome, Raised, Seen
from flask_reqsession.testing.programs import Program
from flask_reqsession.testing.steps import (
    Add,
    Block,
    Body,
    ByHand,
    Call,
    Doom,
    Execute,
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


class Interpreter:
    """Runs one program."""

    def __init__(self) -> None:
        self._stage = Stage(self._body)
        self._scopes = Scopes(self._stage)
        self._generators = Generators(self._stage, self._scopes)

    def run(self, program: Program) -> Outcome:
        """M3, M9: the end of a request or unit of work rolls back what no scope committed."""
        stage, usable, error = self._stage, True, None
        if program.root != "bare":
            stage.session = SessionState(stage.committed)
        try:
            self._body(program.body)
        except Thrown as thrown:
            error = thrown.raised
        if stage.session is not None:
            usable = not any(layer.broken for layer in stage.session.layers)
        return Outcome(frozenset(stage.committed), error, tuple(stage.events), usable)

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
            case Raise(error, number):
                raise Thrown(Raised(error, number))
            case Doom():
                self._doom()
            case Register():
                self._scopes.hooks.register(step)
            case ByHand(work):
                self._end_by_hand(work)
            case Read():
                self._stage.events.append(Seen(self._stage.current.visible()))
            case _:
                self._write(step)

    def _write(self, step: Step) -> None:
        session = self._stage.current
        match step:
            case Add(row):
                session.add(row)
            case Execute(row):
                session.execute(row)
            case Flush():
                session.flush()
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
        """T17: inside a scope it is refused, and everything up to the transaction is doomed."""
        session = self._stage.current
        unit = session.unit or session.paused
        if unit is None:
            session.commit() if work == "commit" else session.roll_back()
            return
        if work == "commit":
            session.prove_alive()
            session.merge_savepoints()
        elif not session.layers:
            return
        else:
            session.roll_back()
        refusal = Raised("ManualCommitError", 0, frozenset({unit.name}))
        unit.doom_all(refusal)
        raise Thrown(refusal)
