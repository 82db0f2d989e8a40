"""Programs: trees of nested calls, and what can be seen of one that ran.

A program is data. One part of this package executes it with the real decorators, another part
predicts what must come of it, and neither knows of the other. Its ``repr`` is the Python code that
it stands for, so that a counterexample can be read and pasted.

>>> Program("unit", (Call("call1", Options("NESTED"), (Add(2), Raise("TroubleError", 3))),))
with manager.unit_of_work():
    session = manager.session
    @transactional(propagation="NESTED")
    @with_request_session
    def call1(session):
        session.add(Row(2))
        raise TroubleError(3)
    call1()
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, Protocol, TypeAlias

Root: TypeAlias = Literal["unit", "request", "bare"]
PropagationName: TypeAlias = Literal[
    "REQUIRED", "REQUIRES_NEW", "NESTED", "SUPPORTS", "MANDATORY", "NOT_SUPPORTED", "NEVER"
]
TroubleName: TypeAlias = Literal["TroubleError", "WorseTroubleError", "OtherTroubleError", "Halt"]
ErrorName: TypeAlias = Literal[TroubleName, "Exception"]
Answer: TypeAlias = Literal["swallow", "reraise", "convert"]
HandWork: TypeAlias = Literal["commit", "rollback"]
HookName: TypeAlias = Literal["before_commit", "on_commit", "on_rollback", "on_completion"]


class TroubleError(Exception):
    """What a program raises; its argument is the number of the step that raised it."""


class WorseTroubleError(TroubleError):
    """A trouble of a more specific class."""


class OtherTroubleError(Exception):
    """A trouble that is no :class:`TroubleError`."""


class Halt(BaseException):
    """What ``except Exception`` does not catch, as ``KeyboardInterrupt`` and ``GreenletExit``."""


TROUBLES: Final = MappingProxyType(
    {each.__name__: each for each in (TroubleError, WorseTroubleError, OtherTroubleError, Halt)}
)
"""The exception classes of programs, by name."""


# -- the tree -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one scope, as its decorator is given them."""

    propagation: PropagationName = "REQUIRED"
    durable: bool = False
    rollback_for: tuple[ErrorName, ...] = ()
    no_rollback_for: tuple[ErrorName, ...] = ()


@dataclass(frozen=True, slots=True)
class Add:
    """Add row ``row`` to the session; it is sent with the next flush."""

    row: int


@dataclass(frozen=True, slots=True)
class Execute:
    """Insert row ``row`` by a statement of Core's, which ``session.new`` never shows."""

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
class ByHand:
    """End the session's transaction by hand."""

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
    | ByHand
    | Savepoint
    | Try
    | Call
    | Block
    | Generate
    | Register
)
Body: TypeAlias = tuple[Step, ...]


class _Printer(Protocol):
    """What IPython's pretty printer and that of hypothesis have in common."""

    def break_(self) -> None:
        """Begin a new line."""

    def text(self, text: str) -> None:
        """Write ``text``."""


@dataclass(frozen=True, slots=True, repr=False)
class Program:
    """A body, and where it starts.

    ``root`` is ``"unit"`` (inside ``unit_of_work()``), ``"request"`` (inside a view that is not
    decorated) or ``"bare"`` (outside both, so that each outermost call opens a unit of its own).
    """

    root: Root
    body: Body

    def __repr__(self) -> str:
        """Return the code that the program stands for."""
        return "\n".join(_program_lines(self))

    def _repr_pretty_(self, printer: _Printer, _cycle: bool) -> None:  # noqa: FBT001
        """Print the code on lines of its own: hypothesis and IPython ask for this."""
        for line in _program_lines(self):
            printer.break_()
            printer.text(f"    {line}")


# -- what is seen -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception as somebody caught it.

    ``kind`` is the name of its class, ``number`` the step that raised it (0 for an exception that
    no step raised itself), ``names`` the calls and blocks that the message of one of the package's
    own errors names, ``cause`` the ``__cause__`` where it is such an exception too.
    """

    kind: str
    number: int = 0
    names: frozenset[str] = frozenset()
    cause: Raised | None = None


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
    """

    rows: frozenset[int]
    error: Raised | None
    events: tuple[Event, ...]
    usable: bool = True
    held: int = 0
    unclosed: int = 0

    @property
    def hooks(self) -> tuple[str, ...]:
        """The names of the hooks that ran, in order."""
        return tuple(event.name for event in self.events if isinstance(event, Fired))


# -- the code -----------------------------------------------------------------------------------

_ROOTS: Final = MappingProxyType(
    {
        "unit": "with manager.unit_of_work():",
        "request": "with app.test_request_context():",
    }
)
_HANDLERS: Final = MappingProxyType({"swallow": "pass", "reraise": "raise"})


def _program_lines(program: Program) -> Iterator[str]:
    if program.root == "bare":
        yield from _lines(program.body)
    else:
        yield _ROOTS[program.root]
        yield "    session = manager.session"
        yield from _indented(program.body)


def _indented(body: Body) -> Iterator[str]:
    for line in _lines(body):
        yield f"    {line}"


def _lines(body: Body) -> Iterator[str]:
    if not body:
        yield "pass"
    for step in body:
        yield from _step_lines(step)


def _step_lines(step: Step) -> Iterator[str]:
    match step:
        case Savepoint(body):
            yield "with session.begin_nested():"
            yield from _indented(body)
        case Try(body, answer, number):
            yield "try:"
            yield from _indented(body)
            yield "except BaseException as error:"
            handler = f"raise OtherTroubleError({number}) from error"
            yield f"    {_HANDLERS.get(answer, handler)}"
        case Call(name, options, body):
            yield f"@transactional({_arguments(options)})"
            yield "@with_request_session"
            yield f"def {name}(session):"
            yield from _indented(body)
            yield f"{name}()"
        case Block(name, options, body):
            given = ", ".join(filter(None, (f'name="{name}"', _arguments(options))))
            yield f"with manager.session_scope({given}) as session:"
            yield from _indented(body)
        case Generate():
            yield from _generator_lines(step)
        case Register(kind, name, body, is_robust):
            outcome = ", outcome" if kind == "on_completion" else ""
            yield f"def {name}(session{outcome}):"
            yield from _indented(body)
            yield f"{kind}(with_request_session({name}){'' if is_robust else ', robust=False'})"
        case _:
            yield _simple_line(step)


def _generator_lines(step: Generate) -> Iterator[str]:
    yield f"@transactional({_arguments(step.options)})"
    yield "@with_request_session"
    yield f"def {step.name}(session):"
    if step.first:
        yield from _indented(step.first)
    yield "    yield"
    if step.rest:
        yield from _indented(step.rest)
    yield f"with closing({step.name}()) as steps:"
    yield "    next(steps)"
    if step.between:
        yield from _indented(step.between)
    if not step.is_closed:
        yield "    list(steps)"


def _simple_line(step: Step) -> str:
    match step:
        case Add(row):
            return f"session.add(Row({row}))"
        case Execute(row):
            return f"session.execute(insert(Row).values(number={row}))"
        case Raise(error, number):
            return f"raise {error}({number})"
        case ByHand(work):
            return f"session.{work}()"
        case _:
            return _SIMPLE[type(step)]


_SIMPLE: Final = MappingProxyType[type, str](
    {
        Flush: "session.flush()",
        Read: "print(session.scalars(select(Row.number)).all())",
        Violate: "session.add(Row(0)); session.flush()",
        Doom: "set_rollback_only()",
    }
)


def _arguments(options: Options) -> str:
    given: list[str] = []
    if options.propagation != "REQUIRED":
        given.append(f'propagation="{options.propagation}"')
    if options.durable:
        given.append("durable=True")
    for what, names in (
        ("rollback_for", options.rollback_for),
        ("no_rollback_for", options.no_rollback_for),
    ):
        if names:
            given.append(f"{what}=({', '.join(names)},)")
    return ", ".join(given)
