"""Hooks: what waits for the end of a transaction, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable

from flask_reqsession.testing.model.sessions import Thrown
from flask_reqsession.testing.model.stage import Stage
from flask_reqsession.testing.model.units import Hook, Scoped, Unit
from flask_reqsession.testing.outcomes import Fired, Raised
from flask_reqsession.testing.steps import Options, Register


class Hooks:
    """The rules of hooks. ``enter`` runs something in a scope."""

    def __init__(self, stage: Stage, enter: Callable[[Scoped], None]) -> None:
        self._stage = stage
        self._enter = enter

    def register(self, step: Register) -> None:
        """T30, T37: it waits for the end of the transaction, and knows its savepoint."""
        unit = self._stage.current.unit
        if unit is None:
            raise Thrown(Raised("NoActiveScopeError", 0, frozenset({step.name})))
        unit.transaction.hooks.append(Hook(step, unit))

    def fire(self, hooks: list[Hook], outcome: str, thrown: Thrown | None) -> Thrown | None:
        """T32, T37: all run, in a transaction of their own; the first cause wins.

        Each exception loses the work of its hook, a redirect as well: hooks answer nobody.
        """
        options = Options("NESTED", rollback_on_status=None)
        for hook in hooks:
            try:
                self._enter(Scoped(hook.step.name, options, self._running(hook, outcome)))
            except Thrown as failed:
                is_exit = failed.raised.kind == "Halt"
                if thrown is None:
                    thrown = failed if is_exit or not hook.step.is_robust else None
                elif is_exit and thrown.raised.kind not in {"Halt", "GeneratorExit"}:
                    thrown = failed
        return thrown

    def fire_at_the_end(self, unit: Unit, thrown: Thrown | None, *, is_lost: bool) -> Thrown | None:
        """T37: those that wait for either end come after those that wait for the one it was."""
        due = "on_rollback" if is_lost else "on_commit"
        outcome = "rolled back" if is_lost else "committed"
        thrown = self.fire(_of_kind(unit, due), "", thrown)
        return self.fire(_of_kind(unit, "on_completion"), outcome, thrown)

    def fire_before_commit(self, unit: Unit) -> bool:
        """T33: run the next one in the transaction itself; tell whether it was the last."""
        hooks = _of_kind(unit, "before_commit")
        unit.hooks.remove(hooks[0])
        self._run(hooks[0], "")
        return len(hooks) == 1

    def _running(self, hook: Hook, outcome: str) -> Callable[[], None]:
        return lambda: self._run(hook, hook.outcome or outcome)

    def _run(self, hook: Hook, outcome: str) -> None:
        self._stage.events.append(Fired(hook.step.name, outcome))
        self._stage.play(hook.step.body)


def wait_for_commit(unit: Unit) -> bool:
    """Whether any hook is to run before COMMIT."""
    return bool(_of_kind(unit, "before_commit"))


def take_hooks(savepoint: Unit) -> list[Hook]:
    """T37: what a savepoint's ROLLBACK does to its hooks; return those that are due."""
    hooks = savepoint.transaction.hooks
    inside = [hook for hook in hooks if hook.unit.is_inside(savepoint)]
    for hook in inside:
        if hook.step.kind == "on_completion":
            hook.outcome = "rolled back"
        else:
            hooks.remove(hook)
    return [hook for hook in inside if hook.step.kind == "on_rollback"]


def _of_kind(unit: Unit, kind: str) -> list[Hook]:
    return [hook for hook in unit.hooks if hook.step.kind == kind]
