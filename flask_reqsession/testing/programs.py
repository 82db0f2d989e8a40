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

from flask_reqsession.testing.listing import ASKED, Listing, arguments
from flask_reqsession.testing.steps import Body, Options

Root: TypeAlias = Literal["unit", "request", "bare"]
ReplyForm: TypeAlias = Literal["text", "json", "tuple", "response", "redirect", "error", "nothing"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a view returns, in which ``form``.

    ``status`` is that of its response; Flask can't make one of nothing.
    """

    form: ReplyForm = "text"
    status: int = 200


@dataclass(frozen=True, slots=True)
class View:
    """The view of a program that starts in a request; without ``options`` it is not decorated."""

    options: Options | None = None
    reply: Reply = Reply()


class _Printer(Protocol):
    """What IPython's pretty printer and that of hypothesis have in common."""

    def break_(self) -> None:
        """Begin a new line."""

    def text(self, text: str) -> None:
        """Write ``text``."""


@dataclass(frozen=True, slots=True, repr=False)
class Program:
    """A body, and where it starts.

    ``root`` is ``"unit"`` (inside ``unit_of_work()``), ``"request"`` (inside ``view``) or
    ``"bare"`` (outside both, so that each outermost call opens a unit of its own).
    """

    root: Root
    body: Body
    view: View = View()

    def __repr__(self) -> str:
        """Return the code that the program stands for."""
        return "\n".join(_program_lines(self))

    def _repr_pretty_(self, printer: _Printer, _cycle: bool) -> None:  # noqa: FBT001
        """Print the code on lines of its own: hypothesis and IPython ask for this."""
        for line in _program_lines(self):
            printer.break_()
            printer.text(f"    {line}")


def _program_lines(program: Program) -> Iterator[str]:
    listing = _listing(program)
    if listing.counts:
        yield "earlier = defaultdict(count)"
    if program.root == "bare":
        yield from listing.lines(program.body)
    elif program.root == "unit":
        yield "with manager.unit_of_work():"
        yield "    session = manager.session"
        yield from listing.indented(program.body)
    else:
        yield '@app.get("/")'
        if program.view.options is not None:
            yield f"@transactional({arguments(program.view.options)})"
        yield "@with_request_session"
        yield "def view(session):"
        yield from listing.indented(program.body)
        reply = program.view.reply
        yield f"    return {_RETURNED[reply.form].replace('%s', str(reply.status))}"
        yield 'app.test_client().get("/")'


def _listing(program: Program) -> Listing:
    """Return how the program is best written, which is seen where it is written plainly."""
    plain = Listing()
    code = "\n".join(plain.lines(program.body))
    view = arguments(program.view.options or Options())
    # After a close() there is another session, and what it was called before is closed.
    session = ASKED if ".close()" in code else plain.session
    return Listing(session, counts="retry=" in code + view or "earlier[" in code)


_RETURNED: Final = MappingProxyType[ReplyForm, str](
    {
        "text": '"done"',
        "json": '{"done": True}',
        "tuple": '"done", %s',
        "response": "Response(status=%s)",
        "redirect": 'redirect("/", %s)',
        "error": "default_exceptions[%s]()",
        "nothing": "None",
    }
)
