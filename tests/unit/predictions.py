"""What the tests of the reference model have in common: programs in short, and their outcomes."""

from __future__ import annotations

from flask_reqsession.testing.model import predict
from flask_reqsession.testing.outcomes import Outcome
from flask_reqsession.testing.programs import Program, Root
from flask_reqsession.testing.steps import Call, Options, PropagationName, Step, Try


def outcome_of(*body: Step, root: Root = "unit") -> Outcome:
    """Predict what comes of a body."""
    return predict(Program(root, body))


def call(name: str, *body: Step, propagation: PropagationName = "REQUIRED") -> Call:
    """Call a function with one option at most."""
    return Call(name, Options(propagation), body)


def swallow(*body: Step) -> Try:
    """Run ``body``, whatever it raises."""
    return Try(body, "swallow", 50)
