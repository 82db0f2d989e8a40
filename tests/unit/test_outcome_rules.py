"""What counts as a failure, outside of a request: there no value is a response."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Response
from werkzeug.exceptions import Conflict, HTTPException
from werkzeug.routing import RequestRedirect

from flask_reqsession.options import transaction_options
from flask_reqsession.outcome_rules import Rules


def function() -> None:
    """Be what a scope wraps."""


@pytest.mark.rule("T15")
@pytest.mark.parametrize("value", [None, "x", ("x", 404), (), Response(status=500), Conflict(), 42])
@pytest.mark.parametrize("wrapped", [None, function])
def test_outside_of_a_request_no_value_is_rejected(value: object, wrapped: Any) -> None:
    """Neither of a with block nor of a function."""
    assert not Rules(transaction_options(), wrapped).rejects(value)
    assert not Rules(transaction_options(rollback_on_status=None), wrapped).rejects(value)


@pytest.mark.rule("T15")
@pytest.mark.parametrize(
    ("error", "fails"),
    [
        (ValueError(), True),
        (KeyboardInterrupt(), True),
        (Conflict(), True),
        (HTTPException(response=Response(status=503)), True),
        (HTTPException(response=Response(status=204)), False),
        (RequestRedirect("/x"), False),
    ],
)
def test_an_exception_fails_unless_its_status_says_otherwise(
    error: BaseException, fails: bool
) -> None:
    """Also outside of a request; where the rule is off, every exception does."""
    assert Rules(transaction_options(), None).fails(error) is fails
    assert Rules(transaction_options(rollback_on_status=None), None).fails(error)


@pytest.mark.rule("T14")
def test_of_two_kinds_the_nearer_one_decides() -> None:
    """The nearer is the first of the bases; an error of neither kind is left to the status."""

    class BothError(KeyError, OSError):
        """Is of two kinds, and first of all a KeyError."""

    rules = Rules(transaction_options(rollback_for=KeyError, no_rollback_for=OSError), None)
    assert rules.fails(BothError())
    assert not rules.fails(OSError())
    rules = Rules(transaction_options(rollback_for=OSError, no_rollback_for=KeyError), None)
    assert not rules.fails(BothError())
    rules = Rules(transaction_options(rollback_for=ValueError, no_rollback_for=TypeError), None)
    assert not rules.fails(RequestRedirect("/x"))
    assert rules.fails(OSError())
