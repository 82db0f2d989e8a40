"""What is a failure, and what is refused."""

from __future__ import annotations

from typing import Final

from flask_reqsession.testing.model.sessions import Thrown
from flask_reqsession.testing.model.units import Scoped, Unit
from flask_reqsession.testing.outcomes import Raised
from flask_reqsession.testing.steps import Options

_ANCESTORS: Final = {
    "WorseTroubleError": ("TroubleError", "Exception"),
    "Halt": (),
    "GeneratorExit": (),
}


def fails(options: Options, raised: Raised) -> bool:
    """T14: the most specific class wins; without one, every exception rolls back."""
    for name in (raised.kind, *_ANCESTORS.get(raised.kind, ("Exception",))):
        if name in options.rollback_for:
            return True
        if name in options.no_rollback_for:
            return False
    return True


def judged(call: Scoped, unit: Unit) -> tuple[bool, Thrown | None]:
    """Run the body; tell whether its unit is rolled back, and what its caller gets.

    T14 first, then T6, then T3: where work was to be kept but the unit is doomed, the caller is
    told.
    """
    thrown: Thrown | None = None
    try:
        call.run()
    except Thrown as raised:
        thrown = raised
    if thrown is not None and fails(call.options, thrown.raised):
        return True, thrown
    if unit.rollback_only:
        return True, thrown
    if unit.cause is not None:
        return True, unit.unexpected_rollback()
    return False, thrown


def refused(*names: str) -> Thrown:
    """Return what tells that the propagation or ``durable`` does not allow an entry."""
    return Thrown(Raised("PropagationError", 0, frozenset(names)))
