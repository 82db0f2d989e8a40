"""What is a failure, and what is refused."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from flask_reqsession.testing.model.sessions import SessionState, Thrown
from flask_reqsession.testing.model.units import Scoped, Unit
from flask_reqsession.testing.outcomes import Raised
from flask_reqsession.testing.programs import Reply
from flask_reqsession.testing.steps import Options

_ANCESTORS: Final = MappingProxyType[str, tuple[str, ...]](
    {
        "WorseTroubleError": ("TroubleError", "Exception"),
        "HTTP 409": ("Conflict", "HTTPException", "Exception"),
        **{f"HTTP {status}": ("HTTPException", "Exception") for status in (204, 302, 404, 503)},
        "Halt": (),
        "GeneratorExit": (),
    }
)
_FIRST_ERROR_STATUS: Final = 400
NOTHING: Final = Raised("TypeError")
"""What Flask raises where a view returns None."""


def fails(options: Options, raised: Raised) -> bool:
    """T14, T15: the most specific class wins, then the status, then every exception rolls back."""
    for name in (raised.kind, *_ANCESTORS.get(raised.kind, ("Exception",))):
        if name in options.rollback_for:
            return True
        if name in options.no_rollback_for:
            return False
    status = status_of(raised)
    return status is None or options.rollback_on_status is None or _is_error(options, status)


def status_of(raised: Raised) -> int | None:
    """Return the status of the response that Flask makes of an exception, where it does."""
    what, _, status = raised.kind.partition(" ")
    return int(status) if what == "HTTP" else None


def _is_error(options: Options, status: int) -> bool:
    if isinstance(options.rollback_on_status, tuple):
        return status in options.rollback_on_status
    return status >= _FIRST_ERROR_STATUS


def judged(call: Scoped, unit: Unit, session: SessionState) -> tuple[bool, Thrown | None]:
    """Run the body; tell whether its unit is rolled back, and what its caller gets.

    T14 first, then T15, then T6, then T3: where work was to be kept but the unit is doomed, the
    caller is told. What Flask can't answer with is not kept either.
    """
    thrown: Thrown | None = None
    try:
        call.run()
    except Thrown as raised:
        thrown = raised
    if thrown is not None and fails(call.options, thrown.raised):
        return True, thrown
    reply = call.reply if thrown is None and call.options.rollback_on_status is not None else None
    if reply is not None and reply.form != "nothing" and _is_error(call.options, reply.status):
        return True, None
    if unit.rollback_only:
        return True, thrown
    if unit.cause is not None:
        return True, unit.unexpected_rollback()
    return (False, thrown) if reply is None else _answered(reply, session)


def _answered(reply: Reply, session: SessionState) -> tuple[bool, Thrown | None]:
    """T15: None rolls back; first comes a flush, for what the database fills in."""
    try:
        session.flush()
        session.prove_alive()
    except Thrown as failed:
        return True, failed
    return (True, Thrown(NOTHING)) if reply.form == "nothing" else (False, None)


def refused(*names: str, kind: str = "PropagationError") -> Thrown:
    """Return what tells that the options do not allow an entry."""
    return Thrown(Raised(kind, 0, frozenset(names)))
