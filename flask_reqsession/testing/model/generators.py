"""Generators: a scope that waits while its consumer goes on."""

from __future__ import annotations

from flask_reqsession.testing.model.scopes import Scopes
from flask_reqsession.testing.model.sessions import SessionState, Thrown
from flask_reqsession.testing.model.stage import Stage
from flask_reqsession.testing.model.units import Scoped, Unit
from flask_reqsession.testing.model.verdicts import refused
from flask_reqsession.testing.outcomes import Raised
from flask_reqsession.testing.steps import Generate


class Generators:
    """The rules of generators."""

    def __init__(self, stage: Stage, scopes: Scopes) -> None:
        self._stage = stage
        self._scopes = scopes

    def run(self, step: Generate) -> None:
        """T11: the scope is open from the first step to the end; closed early, it rolls back."""
        closed = Raised("GeneratorExit")
        consumer = self._stage.session
        outer = None if consumer is None else consumer.unit
        left: Thrown | None = None

        def run() -> None:
            nonlocal left
            self._stage.play(step.first)
            left = self._wait(step, consumer, outer)
            if left is not None or step.is_closed:
                raise Thrown(closed)
            self._stage.play(step.rest)

        try:
            self._scopes.run(Scoped(step.name, step.options, run))
        except Thrown as thrown:
            if thrown.raised is not closed:
                raise
        if left is not None:
            raise left

    def _wait(
        self, step: Generate, consumer: SessionState | None, outer: Unit | None
    ) -> Thrown | None:
        """T11: between two steps the scope is not current for the consumer.

        Return what the consumer leaves the generator with.
        """
        session, unit = self._stage.current, self._stage.current.unit
        if session is not consumer or unit is outer or unit is None:
            return self._consume(step, consumer)
        if outer is not None:
            return self._wait_in_a_savepoint(step, session, unit, outer)
        session.unit, session.paused = None, unit
        left = self._consume(step, consumer)
        session.unit, session.paused = unit, None
        return left

    def _wait_in_a_savepoint(
        self, step: Generate, session: SessionState, unit: Unit, outer: Unit
    ) -> Thrown | None:
        """T4, T11: what the consumer writes meanwhile is in the savepoint, and goes with it."""
        session.flush()
        session.prove_alive()
        if outer.waiting:
            raise refused(outer.waiting, step.name, outer.name)
        outer.waiting = step.name
        wrote, session.wrote = session.wrote, False
        session.unit = outer
        left = self._consume(step, session)
        session.unit = unit
        unit.is_shared |= session.has_changes
        session.wrote |= wrote
        outer.waiting = ""
        return left

    def _consume(self, step: Generate, consumer: SessionState | None) -> Thrown | None:
        with self._stage.on(consumer):
            try:
                self._stage.play(step.between)
            except Thrown as thrown:
                return thrown
        return None
