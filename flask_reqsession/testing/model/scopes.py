"""Scopes: what entering one does, and how it ends."""

from __future__ import annotations

from dataclasses import replace

from flask_reqsession.testing.model.hooks import Hooks, take_hooks, wait_for_commit
from flask_reqsession.testing.model.sessions import SessionState, Thrown
from flask_reqsession.testing.model.stage import Stage
from flask_reqsession.testing.model.units import Scoped, Unit
from flask_reqsession.testing.model.verdicts import fails, judged, refused
from flask_reqsession.testing.outcomes import Raised


class Scopes:
    """The rules of scopes."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.hooks: Hooks = Hooks(stage, self._enter)

    def run(self, call: Scoped) -> None:
        """M10: outside of a request and of every unit, the outermost call has its own."""
        if self._stage.session is not None:
            self._enter(call)
            return
        with self._stage.on_a_session_of_its_own():
            self._enter(call)

    def _enter(self, call: Scoped) -> None:
        """T2 and T7: the table of propagations, with a scope running and without."""
        session, propagation = self._stage.current, call.options.propagation
        running = session.unit
        if running is None:
            self._enter_without_a_scope(call, session)
        elif propagation == "NEVER":
            raise refused(call.name, running.name)
        elif propagation == "NOT_SUPPORTED":
            self._run_outside(call)
        elif propagation == "REQUIRES_NEW":
            self._run_anew(call)
        elif call.options.durable:
            raise refused(call.name, running.name)
        elif call.options.retry:
            raise refused(call.name, running.name, kind="RetryNotAllowedError")
        elif propagation == "NESTED":
            self._run_nested(call, session, running)
        else:
            _join(call, running)

    def _enter_without_a_scope(self, call: Scoped, session: SessionState) -> None:
        match call.options.propagation:
            case "MANDATORY":
                raise refused(call.name)
            case "SUPPORTS" | "NEVER":
                call.run()
            case "NOT_SUPPORTED":
                self._run_outside(call)
            case _ if session.paused is None:
                if call.options.retry and session.has_changes and not session.is_broken:
                    raise refused(call.name, kind="RetryNotAllowedError")
                self._run_attempts(call, session)
            case "REQUIRES_NEW":
                self._run_anew(call)
            case _:
                raise refused(call.name, session.paused.name)

    def _run_outside(self, call: Scoped) -> None:
        with self._stage.on_a_session_of_its_own():
            call.run()

    def _run_anew(self, call: Scoped) -> None:
        with self._stage.on_a_session_of_its_own() as own:
            self._run_attempts(call, own)

    def _run_attempts(self, call: Scoped, session: SessionState) -> None:
        """T20, T23, T25: each is a transaction of its own, and only the last one has hooks."""
        attempts, left = call.options.retry, call.options.retry or 1
        while True:
            left -= 1
            unit = Unit(call.name)
            is_lost, thrown = self._run_in_a_transaction(call, session, unit)
            if thrown is None or not is_lost:
                break
            if attempts and not left:
                given_up = (*thrown.raised.attempts, attempts)
                thrown = Thrown(replace(thrown.raised, attempts=given_up))
            if not left or thrown.raised.kind != "FlakyError":
                break
        thrown = self.hooks.fire_at_the_end(unit, thrown, is_lost=is_lost)
        if thrown is not None:
            raise thrown

    def _run_in_a_transaction(
        self, call: Scoped, session: SessionState, unit: Unit
    ) -> tuple[bool, Thrown | None]:
        """T1, T8: commit or roll back, with what the session had done before."""
        if session.layers and session.layers[-1].broken:
            session.roll_back()
        session.unit = unit
        is_lost, thrown = judged(call, unit, session)
        if not is_lost:
            try:
                is_lost, thrown = self._commit(session, unit, thrown)
            except Thrown as failed:
                is_lost, thrown = True, failed
        if is_lost:
            session.roll_back()
        session.unit = None
        return is_lost, thrown

    def _commit(
        self, session: SessionState, unit: Unit, thrown: Thrown | None
    ) -> tuple[bool, Thrown | None]:
        """T33: hooks of ``before_commit`` run inside the transaction, and may fail or doom it."""
        session.flush()
        session.prove_alive()
        while wait_for_commit(unit):
            if self.hooks.fire_before_commit(unit):
                if unit.rollback_only:
                    return True, thrown
                if unit.cause is not None:
                    return True, unit.unexpected_rollback()
                session.flush()
                session.prove_alive()
        session.commit()
        return False, thrown

    def _run_nested(self, call: Scoped, session: SessionState, running: Unit) -> None:
        """T4: the outer's pending work is sent before the savepoint; the outer is not doomed."""
        layer = session.savepoint()
        unit = session.unit = Unit(call.name, running)
        is_lost, thrown = judged(call, unit, session)
        if not is_lost:
            try:
                session.release(layer)
            except Thrown as failed:
                is_lost, thrown = True, failed
        if is_lost:
            session.roll_back_to(layer)
            if unit.is_shared:
                running.doom(Raised("PropagationError", 0, frozenset({call.name})))
        session.unit = running
        if is_lost:
            thrown = self.hooks.fire(take_hooks(unit), "", thrown)
        if thrown is not None:
            raise thrown


def _join(call: Scoped, running: Unit) -> None:
    """T3: a failure dooms the unit, whoever swallows it later."""
    try:
        call.run()
    except Thrown as thrown:
        if fails(call.options, thrown.raised):
            running.doom(thrown.raised, call.name)
        raise
