"""What a flow may ask for, and what it gets back.

A flow is a generator that holds policy and touches nothing: it yields an :class:`Effect`, and a
driver sends back the :data:`Outcome` of performing it. Outcomes are values, never thrown into the
flow: by PEP 479 a body's ``StopIteration`` would come out of a generator as ``RuntimeError``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from operator import methodcaller
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from flask_reqsession.options import TransactionOutcome
    from flask_reqsession.pending import Hook


@dataclass(frozen=True, slots=True)
class Ok:
    """The effect succeeded and gave ``value``."""

    value: object = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The effect raised ``error``.

    ``done`` says whether it was done all the same: no, yes, or None where nobody can tell.
    """

    error: BaseException
    done: bool | None = False


Outcome: TypeAlias = Ok | Failed

DONE: Final = Ok()


@dataclass(frozen=True, slots=True, eq=False)
class Effect:
    """A request to the port: call the method named ``verb``."""

    verb: str
    call: Callable[[object], object] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Look the method up by name once and for all."""
        object.__setattr__(self, "call", methodcaller(self.verb))


BEGIN: Final = Effect("begin")
"""Take over the session. Sends nothing: SQLAlchemy begins at the first statement."""
RENEW: Final = Effect("renew")
"""End a transaction that only read, so that another one can begin in its mode; its value says
whether that was possible. What is loaded stays loaded."""
CALL: Final = Effect("call")
"""Run the user's code. The only effect that the driver performs without the port."""
FLUSH: Final = Effect("flush")
COMMIT: Final = Effect("commit")
ROLLBACK: Final = Effect("rollback")
SAVEPOINT: Final = Effect("savepoint")
RELEASE: Final = Effect("release_savepoint")
ROLLBACK_TO: Final = Effect("rollback_to_savepoint")
CLOSE: Final = Effect("close")
LET_GO: Final = Effect("let_go")
"""Give back what a callback between two attempts has read with."""
LET_GO_IF_IDLE: Final = Effect("let_go_if_idle")
"""Give back the connection of a session that has only read, and that no scope runs on."""


@dataclass(frozen=True, slots=True, eq=False)
class Sleep:
    """A request to wait ``seconds`` before the next attempt, with no connection held."""

    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A request to run ``hook``, which is told ``outcome`` if it waits for one."""

    hook: Hook
    outcome: TransactionOutcome | None = None


class EitherPerformer(Protocol):
    """Carries out effects in either colour; never raises."""

    def perform(self, request: Effect, /) -> Outcome:
        """Carry out ``request``."""
        ...

    async def aperform(self, request: Effect, /) -> Outcome:
        """Carry out ``request``, where it may be awaited."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Elsewhere:
    """A request to have ``effect`` carried out by another performer than the flow's own."""

    performer: EitherPerformer
    effect: Effect


Request: TypeAlias = Effect | Elsewhere | Sleep | Run
Flow: TypeAlias = Generator[Request, Outcome, Outcome]
