"""What a counterexample is printed as can be pasted, and does what the program does."""

from __future__ import annotations

import warnings
from contextlib import closing
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, settings
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

import flask_reqsession
from flask_reqsession import RequestScopedSessionManager
from flask_reqsession.testing import Program, predict, scope_programs
from flask_reqsession.testing.steps import TROUBLES


class Base(MappedAsDataclass, DeclarativeBase):
    """The table of the printed programs stands alone."""


class Row(Base):
    """What ``Row(2)`` in a printed program is; row 0 is there from the beginning."""

    __tablename__ = "row"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


@pytest.mark.rule("K4")
def test_the_printed_code_does_what_the_program_does(sqlite_file_url: str) -> None:
    """The same rows are there at the end, and the same exception reaches the caller."""
    app = Flask(__name__)
    manager = RequestScopedSessionManager(sqlite_file_url, app)
    Base.metadata.create_all(manager.databases.engine())
    names: dict[str, Any] = {
        **vars(flask_reqsession),
        **TROUBLES,
        "manager": manager,
        "app": app,
        "Row": Row,
        "insert": insert,
        "select": select,
        "closing": closing,
        "print": lambda *_: None,
    }

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
                exec(repr(program), dict(names))  # noqa: S102 - that is the claim
            except BaseException as error:  # noqa: BLE001 - a program may raise anything
                kind = type(error).__name__
        expected = predict(program)
        assert kind == (expected.error and expected.error.kind)
        with manager.session_scope() as session:
            assert set(session.scalars(select(Row.number))) - {0} == expected.rows - {0}

    execute()
