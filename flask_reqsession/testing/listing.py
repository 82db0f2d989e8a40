"""The code that a body of steps stands for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from flask_reqsession.testing.steps import (
    Abort,
    Add,
    Block,
    Body,
    ByHand,
    Call,
    Doom,
    Execute,
    Flake,
    Flush,
    Generate,
    Options,
    Raise,
    Read,
    Register,
    Savepoint,
    Step,
    Try,
    Violate,
)

_FIRST_ERROR_STATUS: Final = 400
_FIRST_REDIRECT_STATUS: Final = 300
_HANDLERS: Final = MappingProxyType({"swallow": "pass", "reraise": "raise"})
ASKED: Final = "manager.session"
"""The expression for the session where it may be another one than before."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Writes bodies as code.

    ``session`` is the expression for the session; a function has one of its own, unless all of them
    ask the manager, and so has a block, which may run on another. ``counts``: steps may run more
    than once, and ask ``earlier``, a dict of counters, how often they did.
    """

    session: str = "session"
    counts: bool = False

    def indented(self, body: Body) -> Iterator[str]:
        """Yield the lines of ``body`` as a block has them."""
        for line in self.lines(body):
            yield f"    {line}"

    def lines(self, body: Body) -> Iterator[str]:
        """Yield the lines of ``body``."""
        if not body:
            yield "pass"
        for step in body:
            yield from self._step_lines(step)

    def _step_lines(self, step: Step) -> Iterator[str]:
        match step:
            case Savepoint(body):
                yield f"with {self.session}.begin_nested():"
                yield from self.indented(body)
            case Try(body, answer, number):
                yield "try:"
                yield from self.indented(body)
                yield "except BaseException as error:"
                handler = f"raise OtherTroubleError({number}) from error"
                yield f"    {_HANDLERS.get(answer, handler)}"
            case Call() | Block() | Generate():
                yield from self._scope_lines(step)
            case Register(kind, name, body, is_robust):
                outcome = ", outcome" if kind == "on_completion" else ""
                yield f"def {name}(session{outcome}):"
                yield from self._with("session").indented(body)
                yield f"{kind}(with_request_session({name}){'' if is_robust else ', robust=False'})"
            case Raise() | Flake() | Abort():
                yield self._raising_line(step)
            case _:
                yield self._simple_line(step)

    def _scope_lines(self, step: Call | Block | Generate) -> Iterator[str]:
        given = arguments(step.options)
        if isinstance(step, Block):
            given = ", ".join(filter(None, (f'name="{step.name}"', given)))
            yield f"with manager.session_scope({given}) as {step.name}_session:"
            yield from self._with(f"{step.name}_session").indented(step.body)
            return
        yield f"@transactional({given})"
        yield "@with_request_session"
        yield f"def {step.name}(session):"
        if isinstance(step, Call):
            yield from self._with("session").indented(step.body)
            yield f"{step.name}()"
        else:
            yield from self._generator_lines(step)

    def _generator_lines(self, step: Generate) -> Iterator[str]:
        inside = self._with("session")
        if step.first:
            yield from inside.indented(step.first)
        yield "    yield"
        if step.rest:
            yield from inside.indented(step.rest)
        yield f"with closing({step.name}()) as {step.name}_steps:"
        yield f"    next({step.name}_steps)"
        if step.between:
            yield from self.indented(step.between)
        if not step.is_closed:
            yield f"    list({step.name}_steps)"

    def _with(self, session: str) -> Listing:
        return self if self.session == ASKED else replace(self, session=session)

    def _row(self, number: int) -> str:
        return f"{number} + 1000 * next(earlier[{number}])" if self.counts else str(number)

    def _simple_line(self, step: Step) -> str:
        match step:
            case Add(row):
                return f"{self.session}.add(Row({self._row(row)}))"
            case Execute(row):
                return f"{self.session}.execute(insert(Row).values(number={self._row(row)}))"
            case ByHand(work):
                return f"{self.session}.{work}()"
            case _:
                return _SIMPLE[type(step)].replace("session.", f"{self.session}.")

    @staticmethod
    def _raising_line(step: Raise | Flake | Abort) -> str:
        match step:
            case Flake(times, number):
                return f"if next(earlier[{number}]) < {times}: raise FlakyError({number})"
            case Abort(status):
                return f"abort({_aborting(status)})"
            case _:
                return f"raise {step.error}({step.number})"


_SIMPLE: Final = MappingProxyType[type, str](
    {
        Flush: "session.flush()",
        Read: "print(session.scalars(select(Row.number)).all())",
        Violate: "session.add(Row(0)); session.flush()",
        Doom: "set_rollback_only()",
    }
)


def _aborting(status: int) -> str:
    if status >= _FIRST_ERROR_STATUS:
        return str(status)
    is_redirect = status >= _FIRST_REDIRECT_STATUS
    return f'redirect("/", {status})' if is_redirect else f"Response(status={status})"


def arguments(options: Options) -> str:
    """Return the arguments of the decorator."""
    given: list[str] = []
    if options.propagation != "REQUIRED":
        given.append(f'propagation="{options.propagation}"')
    if options.durable:
        given.append("durable=True")
    if options.retry:
        given.append(f"retry=Retry({options.retry}, on=FlakyError, initial=0)")
    if options.rollback_on_status != "errors":
        given.append(f"rollback_on_status={options.rollback_on_status}")
    for what, names in (
        ("rollback_for", options.rollback_for),
        ("no_rollback_for", options.no_rollback_for),
    ):
        if names:
            given.append(f"{what}=({', '.join(names)},)")
    return ", ".join(given)
