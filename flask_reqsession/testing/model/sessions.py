"""SQLAlchemy's session, as far as the contract leaves it to SQLAlchemy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flask_reqsession.testing.outcomes import Raised

if TYPE_CHECKING:
    from flask_reqsession.testing.model.units import Unit


class Thrown(Exception):  # noqa: N818 - the program's exception on its way, not an error of ours
    """An exception of the program that is on its way up."""

    def __init__(self, raised: Raised) -> None:
        super().__init__(raised)
        self.raised = raised


@dataclass(eq=False)
class Layer:
    """The transaction itself, or one savepoint in it: the rows that were sent in it.

    ``broken``: a flush in it failed. SQLAlchemy has rolled it back then, and refuses everything
    until it is told to roll back. ``is_block``: it is SQLAlchemy's own ``with`` block, in which a
    statement is refused with another error than a flush.
    """

    rows: set[int] = field(default_factory=set[int])
    broken: bool = False
    is_block: bool = False


@dataclass(eq=False)
class SessionState:
    """What is pending, and the rows of the open transaction by savepoint.

    ``own`` are the rows that were ever written through it. ``unit`` is what runs on it, ``paused``
    the unit of a generator that waits in its transaction.
    """

    committed: set[int]
    layers: list[Layer] = field(default_factory=list[Layer])
    own: set[int] = field(default_factory=set[int])
    pending: set[int] = field(default_factory=set[int])
    unit: Unit | None = None
    paused: Unit | None = None
    wrote: bool = False

    @property
    def is_broken(self) -> bool:
        """Whether a failed flush has left it so that it takes nothing but a rollback."""
        return any(layer.broken for layer in self.layers)

    def begin(self) -> None:
        """Begin a transaction, unless one is open."""
        if not self.layers:
            self.layers.append(Layer())

    def require_alive(self) -> Layer:
        """Return the innermost layer; a broken one takes no flush."""
        self.begin()
        if self.layers[-1].broken:
            raise Thrown(Raised("PendingRollbackError"))
        return self.layers[-1]

    def require_usable(self) -> Layer:
        """Return the innermost layer; a broken one takes no statement."""
        self.begin()
        if self.layers[-1].broken and self.layers[-1].is_block:
            raise Thrown(Raised("InvalidRequestError"))
        return self.require_alive()

    def add(self, row: int) -> None:
        """Let ``row`` wait for the next flush."""
        self.begin()
        self.own.add(row)
        self.pending.add(row)

    def flush(self) -> None:
        """Send what is pending."""
        if self.pending:
            self.require_alive().rows |= self.pending
            self.pending.clear()
            self.wrote = True

    def execute(self, row: int) -> None:
        """Send ``row`` at once, and nothing else."""
        self.require_usable().rows.add(row)
        self.wrote = True
        self.own.add(row)

    def violate(self) -> None:
        """Send what is pending and cannot be there twice: all of it fails."""
        self.begin()
        self.pending.add(0)
        layer = self.require_alive()
        self.wrote = True
        layer.rows.clear()
        layer.broken = True
        self.pending.clear()
        raise Thrown(Raised("IntegrityError"))

    def visible(self) -> frozenset[int]:
        """Return its own rows that are there."""
        self.flush()
        self.require_usable()
        seen = self.committed.union(*(layer.rows for layer in self.layers))
        return frozenset(seen & self.own)

    def savepoint(self) -> Layer:
        """Open a savepoint; what is pending is sent before."""
        self.require_alive()
        self.flush()
        layer = Layer()
        self.layers.append(layer)
        return layer

    def release(self, layer: Layer) -> None:
        """Make the rows of a savepoint those of what is around it."""
        self.require_alive()
        self.flush()
        self.layers.remove(layer)
        self.layers[-1].rows |= layer.rows

    def merge_savepoints(self) -> None:
        """Commit the savepoints, one by one, as a commit by hand does before it is refused."""
        self.begin()
        if len(self.layers) > 1:
            self.flush()
            self.layers[0].rows.update(*(layer.rows for layer in self.layers[1:]))
            del self.layers[1:]

    def roll_back_to(self, layer: Layer) -> None:
        """Lose what is pending and what was sent since the savepoint, unless it has ended."""
        if layer in self.layers:
            del self.layers[self.layers.index(layer) :]
            self.pending.clear()

    def leave(self, layer: Layer) -> None:
        """End SQLAlchemy's own block: a broken one is only closed, and what came later stays."""
        pending = set(self.pending) if layer.broken else set[int]()
        self.roll_back_to(layer)
        self.pending |= pending

    @property
    def has_changes(self) -> bool:
        """Whether a rollback would lose something."""
        return self.wrote or bool(self.pending)

    def commit(self) -> None:
        """Keep everything."""
        if self.layers:
            self.prove_alive()
            self.flush()
            self.committed.update(*(layer.rows for layer in self.layers))
            self.layers.clear()
            self.wrote = False

    def prove_alive(self) -> None:
        """Refuse to go on with a broken transaction, if there is one."""
        if self.layers:
            self.require_alive()

    def roll_back(self) -> None:
        """Lose everything that is not committed."""
        self.layers.clear()
        self.pending.clear()
        self.wrote = False

    def close(self) -> None:
        """Lose everything that is not committed, and go on with another session."""
        self.roll_back()
        self.own.clear()
