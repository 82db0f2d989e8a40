"""What can be seen of a program that ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception as somebody caught it.

    ``kind`` is the name of its class, ``number`` the step that raised it (0 for an exception that
    no step raised itself), ``names`` the calls and blocks that the message of one of the package's
    own errors names, ``cause`` the ``__cause__`` where it is such an exception too. ``attempts``
    are the numbers of attempts that its notes tell of.
    """

    kind: str
    number: int = 0
    names: frozenset[str] = frozenset()
    cause: Raised | None = None
    attempts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Caught:
    """A :class:`Try` caught something; ``number`` is its own."""

    number: int
    raised: Raised


@dataclass(frozen=True, slots=True)
class Seen:
    """What a :class:`Read` found."""

    rows: frozenset[int]


@dataclass(frozen=True, slots=True)
class Fired:
    """The hook ``name`` ran; ``outcome`` is what a hook of ``on_completion`` was told."""

    name: str
    outcome: str = ""


Event: TypeAlias = Caught | Seen | Fired


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came, or must come, of a program.

    ``rows`` are those that another connection sees at the end, ``error`` is what reached the
    caller, ``events`` what was seen on the way, in order. ``usable`` tells whether the session
    could be used after the body, before its request or unit of work ended; ``held`` how many
    connections were still out of the pool after that, and ``unclosed`` how many sessions it left.
    ``status`` is that of the response, where a request got one.
    """

    rows: frozenset[int]
    error: Raised | None
    events: tuple[Event, ...]
    usable: bool = True
    held: int = 0
    unclosed: int = 0
    status: int | None = None

    @property
    def hooks(self) -> tuple[str, ...]:
        """The names of the hooks that ran, in order."""
        return tuple(event.name for event in self.events if isinstance(event, Fired))
