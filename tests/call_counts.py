"""How many calls something takes: what a test pins about cost, since clocks are not exact."""

from __future__ import annotations

from collections.abc import Callable
from cProfile import Profile
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import sqlalchemy

import flask_reqsession

OURS = str(Path(flask_reqsession.__file__).parent)
SQLALCHEMYS = str(Path(sqlalchemy.__file__).parent)


class Calls(NamedTuple):
    """Calls that were counted; each step of a generator is one."""

    ours: int
    """Of Python functions of the package."""
    sqlalchemys: int
    """Of Python functions of SQLAlchemy."""
    python: int
    """Of any Python functions."""
    c: int
    """Of functions in C."""


def calls_in(run: Callable[[], object]) -> Calls:
    """Count the calls while ``run`` runs, its own included."""
    profile = Profile()
    profile.runcall(run)
    ours = sqlalchemys = python = 0
    c = -1  # the end of profiling
    for entry in profile.getstats():
        if isinstance(entry.code, CodeType):
            path = entry.code.co_filename
            python += entry.callcount
            ours += entry.callcount * path.startswith(OURS)
            sqlalchemys += entry.callcount * path.startswith(SQLALCHEMYS)
        else:
            c += entry.callcount
    return Calls(ours, sqlalchemys, python, c)
