"""Tools for the tests of applications, and the proof that this package keeps its rules.

This part needs the extra ``flask-reqsession[testing]``: it imports hypothesis.
"""

from __future__ import annotations

from flask_reqsession.testing.model import predict
from flask_reqsession.testing.outcomes import Outcome
from flask_reqsession.testing.programs import Program
from flask_reqsession.testing.running import arun_program, run_program
from flask_reqsession.testing.strategies import scope_programs

__all__ = [
    "Outcome",
    "Program",
    "arun_program",
    "predict",
    "run_program",
    "scope_programs",
]
