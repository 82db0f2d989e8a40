"""The reference model: what must come of a program, by the contract alone.

An interpreter of its own, small enough to be read against the rules. It knows neither Flask nor
SQLAlchemy nor the rest of this package, only the programs.

What is kept or lost together is a *physical unit*: a transaction, or the savepoint of a NESTED
scope (T3). A call that joins is no unit of its own, it is a part of one.
"""

from __future__ import annotations

from flask_reqsession.testing.model.interpreter import Interpreter
from flask_reqsession.testing.outcomes import Outcome
from flask_reqsession.testing.programs import Program

__all__ = ["predict"]


def predict(program: Program) -> Outcome:
    """Tell what must come of ``program``.

    >>> from flask_reqsession.testing.programs import Program
    >>> from flask_reqsession.testing.steps import Add, Call, Options, Raise, Try
    >>> inner = Call("inner", Options(), (Add(1), Raise("TroubleError", 2)))
    >>> outer = Call("outer", Options(), (Add(3), Try((inner,), "swallow", 4)))
    >>> outcome = predict(Program("unit", (outer,)))
    >>> sorted(outcome.rows), outcome.error.kind, sorted(outcome.error.names)
    ([], 'UnexpectedRollbackError', ['inner', 'outer'])
    """
    return Interpreter().run(program)
