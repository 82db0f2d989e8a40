"""What is a part of a scope and not at its end: a generator between two steps, an open block."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from flask_reqsession.errors import PropagationError

if TYPE_CHECKING:
    from collections.abc import Generator

    from flask_reqsession.effects import Outcome, Request
    from flask_reqsession.scope import Scope

_NEXT_STEP = (
    "Leave blocks in the reverse order of their entry. In a generator do not yield inside the "
    "block: decorate the generator with @transactional instead."
)


class OpenBlock(Protocol):
    """A ``with`` block that was entered and has not been left."""

    def cut_off(self, error: PropagationError) -> Generator[Request, Outcome, None]:
        """End it because of ``error``, which its leaving is told of, and keep nothing of it."""
        ...


class Part(NamedTuple):
    """A part of a scope, which ends before the scope does.

    A generator stands between two steps and may have a savepoint; a ``block`` is open.
    """

    name: str
    savepoint: Scope | None
    block: OpenBlock | None = None


def label_of(name: str, propagation: str) -> str:
    """Return what tells blocks apart, which all have the same name."""
    return f"{name} ({propagation})"


def left_early(outer: str, inner: str) -> PropagationError:
    """Refuse to keep anything of a scope that is left while ``inner`` is open in it."""
    return PropagationError(
        f"{outer} was left while {inner}, which was entered inside it, was still open. What one of "
        "them wrote may be in the transaction of the other, so nothing of either is kept. "
        f"{_NEXT_STEP}"
    )


def left_late(inner: str, why: PropagationError) -> PropagationError:
    """Tell a block that is left at last that it has ended before."""
    error = PropagationError(
        f"{inner} was left after the scope around it, which had rolled it back: nothing that it "
        f"wrote is kept. {_NEXT_STEP}"
    )
    error.__cause__ = why
    return error
