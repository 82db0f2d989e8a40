"""Programs: trees of nested calls.

A program is data. One part of this package executes it with the real decorators, another part
predicts what must come of it, and neither knows of the other. Its ``repr`` is the Python code that
it stands for, so that a counterexample can be read and pasted.

>>> from flask_reqsession.testing.steps import Add, Call, Options, Raise
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

from flask_reqsession.testing.listing import indented, lines
from flask_reqsession.testing.steps import Body

Root: TypeAlias = Literal["unit", "request", "bare"]

_ROOTS: Final = MappingProxyType(
    {
        "unit": "with manager.unit_of_work():",
        "request": "with app.test_request_context():",
    }
)


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


def _program_lines(program: Program) -> Iterator[str]:
    if program.root == "bare":
        yield from lines(program.body)
    else:
        yield _ROOTS[program.root]
        yield "    session = manager.session"
        yield from indented(program.body)
