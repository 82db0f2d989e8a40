"""What a counterexample is printed as can be pasted, and does what the program does."""

from __future__ import annotations

import warnings
from collections import defaultdict
from contextlib import closing
from itertools import count
from typing import Any

import pytest
from flask import Flask, Response, abort, redirect
from hypothesis import example, given, settings
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column
from werkzeug.exceptions import Conflict, HTTPException, default_exceptions

import flask_reqsession
from flask_reqsession import RequestScopedSessionManager
from flask_reqsession.testing import Program, predict, scope_programs
from flask_reqsession.testing.steps import TROUBLES, Abort


class Base(MappedAsDataclass, DeclarativeBase):
    """The table of the printed programs stands alone."""


class Row(Base):
    """What ``Row(2)`` in a printed program is; row 0 is there from the beginning."""

    __tablename__ = "row"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


NAMES: dict[str, Any] = {
    **vars(flask_reqsession),
    **TROUBLES,
    "abort": abort,
    "redirect": redirect,
    "Response": Response,
    "default_exceptions": default_exceptions,
    "Conflict": Conflict,
    "HTTPException": HTTPException,
    "defaultdict": defaultdict,
    "count": count,
    "Row": Row,
    "insert": insert,
    "select": select,
    "closing": closing,
    "print": lambda *_: None,
}
"""What the printed code takes for granted, but for the manager and its app."""


def kind_of(error: BaseException) -> str:
    """Return what the model calls ``error``."""
    if isinstance(error, HTTPException):
        return f"HTTP {error.get_response().status_code}"
    return type(error).__name__


def app_of(manager: RequestScopedSessionManager) -> Flask:
    """Make an app that lets exceptions through."""
    app = Flask(__name__)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    manager.init_app(app)
    return app


@pytest.mark.timeout(600)
@pytest.mark.rule("K4")
def test_the_printed_code_does_what_the_program_does(sqlite_file_url: str) -> None:
    """The same rows are there at the end, and the same exception reaches the caller."""
    manager = RequestScopedSessionManager(sqlite_file_url)
    Base.metadata.create_all(manager.databases.engine())

    @example(Program("unit", (Abort(409, 1),)))
    @settings(max_examples=200)
    @given(scope_programs(second_writer=False, roots=["unit", "request"]))
    def execute(program: Program) -> None:
        with manager.session_scope() as session:
            session.execute(delete(Row))
            session.add(Row(0))
        kind = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SQLAlchemy's, about the mistakes of the program
            try:
                names = {**NAMES, "manager": manager, "app": app_of(manager)}
                exec(repr(program), names)  # noqa: S102 - the claim
            except BaseException as error:  # noqa: BLE001 - a program may raise anything
                kind = kind_of(error)
        expected = predict(program)
        assert kind == (expected.error and expected.error.kind)
        with manager.session_scope() as session:
            assert set(session.scalars(select(Row.number))) - {0} == expected.rows - {0}

    execute()
