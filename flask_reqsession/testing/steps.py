"""The steps that programs are made of."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

PropagationName: TypeAlias = Literal[
    "REQUIRED", "REQUIRES_NEW", "NESTED", "SUPPORTS", "MANDATORY", "NOT_SUPPORTED", "NEVER"
]
TroubleName: TypeAlias = Literal["TroubleError", "WorseTroubleError", "OtherTroubleError", "Halt"]
ErrorName: TypeAlias = Literal[TroubleName, "FlakyError", "Conflict", "HTTPException", "Exception"]
Answer: TypeAlias = Literal["swallow", "reraise", "convert"]
HandWork: TypeAlias = Literal["commit", "rollback", "close"]
HookName: TypeAlias = Literal["before_commit", "on_commit", "on_rollback", "on_completion"]


class TroubleError(Exception):
    """What a program raises; its argument is the number of the step that raised it."""


class WorseTroubleError(TroubleError):
    """A trouble of a more specific class."""


class OtherTroubleError(Exception):
    """A trouble that is no :class:`TroubleError`."""


class FlakyError(Exception):
    """What may not come again: every ``retry`` of a program runs the call once more for it."""


class Halt(BaseException):
    """What ``except Exception`` does not catch, as ``KeyboardInterrupt`` and ``GreenletExit``."""


TROUBLES: Final = MappingProxyType(
    {
        each.__name__: each
        for each in (TroubleError, WorseTroubleError, OtherTroubleError, FlakyError, Halt)
    }
)
"""The exception classes of programs, by name."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one scope, as its decorator is given them.

    ``retry``: how often the call is run at most, while it fails with :class:`FlakyError`; 0: there
    is no such option. ``rollback_on_status``: the default rule, a collection, or none.
    """

    propagation: PropagationName = "REQUIRED"
    durable: bool = False
    rollback_for: tuple[ErrorName, ...] = ()
    no_rollback_for: tuple[ErrorName, ...] = ()
    rollback_on_status: tuple[int, ...] | Literal["errors"] | None = "errors"
    retry: int = 0


@dataclass(frozen=True, slots=True)
class Add:
    """Add row ``row`` to the session; it is sent with the next flush.

    Where a call is run again, the step adds ``row + 1000`` the second time, and so on.
    """

    row: int


@dataclass(frozen=True, slots=True)
class Execute:
    """Insert row ``row`` by a statement of Core's, which ``session.new`` never shows.

    Where a call is run again, the number is another one, as of :class:`Add`.
    """

    row: int


@dataclass(frozen=True, slots=True)
class Flush:
    """Send what is pending."""


@dataclass(frozen=True, slots=True)
class Read:
    """Look which rows written through this session are there."""


@dataclass(frozen=True, slots=True)
class Violate:
    """Insert row 0 once more: the flush fails with an ``IntegrityError``."""


@dataclass(frozen=True, slots=True)
class Doom:
    """Call ``set_rollback_only()``."""


@dataclass(frozen=True, slots=True)
class Raise:
    """Raise an exception of class ``error`` with the argument ``number``."""

    error: TroubleName
    number: int


@dataclass(frozen=True, slots=True)
class Flake:
    """Raise a :class:`FlakyError` with the argument ``number``, unless it did ``times`` times."""

    times: int
    number: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Raise the ``HTTPException`` that makes a response of ``status``."""

    status: int
    number: int


@dataclass(frozen=True, slots=True)
class ByHand:
    """End the session's transaction by hand, or the session."""

    work: HandWork


@dataclass(frozen=True, slots=True)
class Savepoint:
    """Run ``body`` in ``session.begin_nested()``."""

    body: Body


@dataclass(frozen=True, slots=True)
class Try:
    """Run ``body`` and answer whatever it raises; ``number`` marks the answer."""

    body: Body
    answer: Answer
    number: int


@dataclass(frozen=True, slots=True)
class Call:
    """Call a function that is decorated with ``@transactional``."""

    name: str
    options: Options
    body: Body


@dataclass(frozen=True, slots=True)
class Block:
    """Run ``body`` in a ``session_scope()``."""

    name: str
    options: Options
    body: Body


@dataclass(frozen=True, slots=True)
class Generate:
    """Take two steps of a generator that is decorated with ``@transactional``.

    Its body is ``first``, a ``yield``, and ``rest``. The consumer runs ``between`` while it waits,
    and then exhausts it, or closes it early where ``is_closed`` or ``between`` raised.
    """

    name: str
    options: Options
    first: Body
    between: Body
    rest: Body
    is_closed: bool


@dataclass(frozen=True, slots=True)
class Register:
    """Register a hook that runs ``body``; ``name`` is the hook's.

    Not ``is_robust``: its exception may reach the caller of the scope.
    """

    kind: HookName
    name: str
    body: Body
    is_robust: bool = True


Step: TypeAlias = (
    Add
    | Execute
    | Flush
    | Read
    | Violate
    | Doom
    | Raise
    | Flake
    | Abort
    | ByHand
    | Savepoint
    | Try
    | Call
    | Block
    | Generate
    | Register
)
Body: TypeAlias = tuple[Step, ...]
