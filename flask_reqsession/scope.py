"""The scope record: one physical unit of work, a transaction or a savepoint.

A call that joins has no record of its own; it can only doom the unit that it joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from flask_reqsession.errors import UnexpectedRollbackError
from flask_reqsession.states import ScopeState

if TYPE_CHECKING:
    from collections.abc import Iterator


class OutcomeRules(Protocol):
    """What a scope's options say about the end of its body."""

    def fails(self, error: BaseException) -> bool:
        """Whether ``error`` leaving the body rolls back."""

    def rejects(self, value: object) -> bool:
        """Whether ``value``, returned by the body, rolls back (a view's error status)."""


class Scope:
    """One transaction or savepoint, from its begin to its end. Fresh for every call."""

    __slots__ = (
        "cause",
        "culprit",
        "depth",
        "name",
        "parent",
        "propagation",
        "rollback_only",
        "rules",
        "state",
    )

    def __init__(
        self,
        name: str,
        rules: OutcomeRules,
        parent: Scope | None = None,
        propagation: str = "REQUIRED",
    ) -> None:
        self.name = name
        self.propagation = propagation
        self.rules = rules
        self.parent = parent
        self.depth = 1 if parent is None else parent.depth + 1
        self.state = ScopeState.NEW
        self.rollback_only = False
        self.cause: BaseException | None = None
        self.culprit = ""

    def advance(self, target: ScopeState) -> None:
        """Move to ``target``; call it after the effect succeeded."""
        if not self.state.may_become(target):
            raise RuntimeError(
                f"Scope {self.name} {self.state.value}; it cannot become {target.name}."
            )
        self.state = target

    def doom(self, error: BaseException, culprit: str) -> None:
        """Let the unit end in a rollback because ``culprit``, which joined it, failed.

        The first cause stays: what fails after it usually fails because of it.
        """
        if self.cause is None:
            self.cause = error
            self.culprit = culprit

    def lineage(self) -> Iterator[Scope]:
        """Yield this scope and those around it: a commit or rollback by hand ends them all."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    @property
    def is_doomed(self) -> bool:
        """Whether the unit can only be rolled back."""
        return self.rollback_only or self.cause is not None

    def unexpected_rollback(self) -> UnexpectedRollbackError:
        """Tell the caller of a doomed scope that nothing of it was kept."""
        error = UnexpectedRollbackError(
            f"{self.name} returned normally, but everything it did was rolled back: "
            f"{self.culprit} had joined its transaction and failed with "
            f"{type(self.cause).__name__}, and that exception was swallowed. Let it propagate, "
            f"answer it with set_rollback_only() or an error status, or give {self.culprit} "
            "propagation=Propagation.NESTED or REQUIRES_NEW."
        )
        error.__cause__ = self.cause
        return error
