"""The code that a body of steps stands for."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final

from flask_reqsession.testing.steps import (
    Add,
    Block,
    Body,
    ByHand,
    Call,
    Doom,
    Execute,
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

_HANDLERS: Final = MappingProxyType({"swallow": "pass", "reraise": "raise"})


def indented(body: Body) -> Iterator[str]:
    """Yield the lines of ``body`` as a block has them."""
    for line in lines(body):
        yield f"    {line}"


def lines(body: Body) -> Iterator[str]:
    """Yield the lines of ``body``."""
    if not body:
        yield "pass"
    for step in body:
        yield from _step_lines(step)


def _step_lines(step: Step) -> Iterator[str]:
    match step:
        case Savepoint(body):
            yield "with session.begin_nested():"
            yield from indented(body)
        case Try(body, answer, number):
            yield "try:"
            yield from indented(body)
            yield "except BaseException as error:"
            handler = f"raise OtherTroubleError({number}) from error"
            yield f"    {_HANDLERS.get(answer, handler)}"
        case Call() | Block() | Generate():
            yield from _scope_lines(step)
        case Register(kind, name, body, is_robust):
            outcome = ", outcome" if kind == "on_completion" else ""
            yield f"def {name}(session{outcome}):"
            yield from indented(body)
            yield f"{kind}(with_request_session({name}){'' if is_robust else ', robust=False'})"
        case _:
            yield _simple_line(step)


def _scope_lines(step: Call | Block | Generate) -> Iterator[str]:
    given = _arguments(step.options)
    if isinstance(step, Block):
        given = ", ".join(filter(None, (f'name="{step.name}"', given)))
        yield f"with manager.session_scope({given}) as session:"
        yield from indented(step.body)
        return
    yield f"@transactional({given})"
    yield "@with_request_session"
    yield f"def {step.name}(session):"
    if isinstance(step, Call):
        yield from indented(step.body)
        yield f"{step.name}()"
    else:
        yield from _generator_lines(step)


def _generator_lines(step: Generate) -> Iterator[str]:
    if step.first:
        yield from indented(step.first)
    yield "    yield"
    if step.rest:
        yield from indented(step.rest)
    yield f"with closing({step.name}()) as steps:"
    yield "    next(steps)"
    if step.between:
        yield from indented(step.between)
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
