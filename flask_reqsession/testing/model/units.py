"""Physical units, and what waits for their end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from flask_reqsession.testing.model.sessions import Thrown
from flask_reqsession.testing.outcomes import Raised
from flask_reqsession.testing.programs import Reply
from flask_reqsession.testing.steps import Options, Register


@dataclass(eq=False, frozen=True)
class Scoped:
    """What runs in a scope: a call, a block or a generator; ``reply`` is what a view returns."""

    name: str
    options: Options
    run: Callable[[], None]
    reply: Reply | None = None


@dataclass(eq=False)
class Hook:
    """A hook that waits; ``outcome`` is what it will be told, where that is known already."""

    step: Register
    unit: Unit
    outcome: str = ""


@dataclass(eq=False)
class Unit:
    """A physical unit: a transaction, or a savepoint of the unit ``outer``.

    ``is_shared``: a savepoint into which the consumer of its generator wrote. ``waiting`` is the
    generator that has a savepoint in it and waits.
    """

    name: str
    outer: Unit | None = None
    rollback_only: bool = False
    cause: Raised | None = None
    culprit: str = ""
    hooks: list[Hook] = field(default_factory=list[Hook])
    is_shared: bool = False
    waiting: str = ""

    def is_inside(self, other: Unit) -> bool:
        """Whether it is ``other`` or a part of it."""
        return self is other or (self.outer is not None and self.outer.is_inside(other))

    @property
    def transaction(self) -> Unit:
        """The unit around all others."""
        return self if self.outer is None else self.outer.transaction

    def doom(self, cause: Raised, culprit: str = "") -> None:
        """T3: the first failure is the one that is told."""
        if self.cause is None:
            self.cause, self.culprit = cause, culprit
        elif self.cause is cause and not self.culprit:
            self.culprit = culprit

    def doom_all(self, cause: Raised) -> None:
        """T17: everything up to the transaction."""
        self.doom(cause)
        if self.outer is not None:
            self.outer.doom_all(cause)

    def unexpected_rollback(self) -> Thrown:
        """T3: the inner exception is the cause, and the message names the inner call."""
        cause = self.cause or Raised("")
        names = {self.culprit} if self.culprit else cause.names
        return Thrown(Raised("UnexpectedRollbackError", 0, frozenset({self.name, *names}), cause))
