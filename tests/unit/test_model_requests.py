"""The reference model of views and HTTP statuses, against outcomes worked out by hand."""

from __future__ import annotations

import pytest

from flask_reqsession.testing.model import predict
from flask_reqsession.testing.outcomes import Caught, Outcome, Raised
from flask_reqsession.testing.programs import Program, Reply, View
from flask_reqsession.testing.steps import (
    Abort,
    Add,
    Call,
    Doom,
    Options,
    Raise,
    Register,
    Step,
    Violate,
)
from tests.unit.predictions import swallow

PLAIN = Options()
TEXT = Reply()
REPLIES = [Reply("tuple", 201), Reply("json"), Reply("redirect", 302), Reply("response", 204)]
REJECTED = [Reply("tuple", 409), Reply("response", 503), Reply("error", 404)]


def outcome_of(*body: Step, options: Options | None = PLAIN, reply: Reply = TEXT) -> Outcome:
    """Predict what comes of a view."""
    return predict(Program("request", body, View(options, reply)))


def call(*body: Step, options: Options = PLAIN) -> Call:
    """Call a service function."""
    return Call("call1", options, body)


@pytest.mark.rule("T15")
@pytest.mark.parametrize("reply", [TEXT, *REPLIES, *REJECTED])
def test_the_status_decides(reply: Reply) -> None:
    """A success is committed, an error status rolled back, and both are what the client gets."""
    outcome = outcome_of(Add(1), reply=reply)
    assert (outcome.status, outcome.error) == (reply.status, None)
    assert outcome.rows == (set() if reply in REJECTED else {1})


@pytest.mark.rule("T15", "T16")
def test_a_view_that_returns_none_rolls_back() -> None:
    """Flask refuses it, also where nothing is judged; a failing flush comes first."""
    nothing = Reply("nothing")
    refusal = Raised("TypeError")
    outcome = outcome_of(Add(1), reply=nothing)
    assert (outcome.rows, outcome.error, outcome.status) == (frozenset(), refusal, None)
    outcome = outcome_of(Add(1), options=Options(rollback_on_status=None), reply=nothing)
    assert (outcome.rows, outcome.error) == (frozenset({1}), refusal)
    outcome = outcome_of(call(Add(1)), options=None, reply=nothing)
    assert (outcome.rows, outcome.error) == (frozenset({1}), refusal)
    broken = outcome_of(swallow(Violate()), Add(1), reply=nothing)
    assert broken.error == Raised("PendingRollbackError")


@pytest.mark.rule("T15")
@pytest.mark.parametrize("status", [204, 302, 404, 409, 503])
@pytest.mark.parametrize("is_joined", [False, True])
def test_a_raised_status_decides_too(status: int, is_joined: bool) -> None:
    """In a joined service as well, whether its exception is swallowed or not."""
    steps: tuple[Step, ...] = (Add(1), Abort(status, 2))
    outcome = outcome_of(call(*steps)) if is_joined else outcome_of(*steps)
    assert (outcome.status, outcome.error) == (status, None)
    assert outcome.rows == ({1} if status < 400 else set())
    swallowed = outcome_of(swallow(call(*steps)))
    assert swallowed.events == (Caught(50, Raised(f"HTTP {status}", 2)),)
    assert swallowed.status == (200 if status < 400 else None)


@pytest.mark.rule("T14", "T15")
@pytest.mark.parametrize(
    ("options", "status", "is_kept"),
    [
        (Options(no_rollback_for=("HTTPException",)), 409, True),
        (Options(rollback_for=("Conflict",), no_rollback_for=("HTTPException",)), 409, False),
        (Options(rollback_for=("Conflict",), no_rollback_for=("HTTPException",)), 404, True),
        (Options(rollback_for=("Exception",)), 302, False),
        (Options(rollback_on_status=None), 302, False),
        (Options(rollback_on_status=(302,)), 302, False),
        (Options(rollback_on_status=(302,)), 409, True),
    ],
)
def test_classes_come_before_the_status(options: Options, status: int, is_kept: bool) -> None:
    """And where there is no rule of statuses, an exception rolls back."""
    outcome = outcome_of(Add(1), Abort(status, 2), options=options)
    assert outcome.status == status
    assert outcome.rows == ({1} if is_kept else set())


@pytest.mark.rule("T15")
@pytest.mark.parametrize("rule", [None, (404, 302)])
def test_the_rule_of_statuses_is_an_option(rule: tuple[int, ...] | None) -> None:
    """None lets every answer pass, a collection names those that roll back."""
    options = Options(rollback_on_status=rule)
    assert outcome_of(Add(1), options=options, reply=Reply("tuple", 409)).rows == {1}
    redirected = outcome_of(Add(1), options=options, reply=Reply("redirect", 302))
    assert redirected.rows == ({1} if rule is None else set())


@pytest.mark.rule("T3", "T6", "T15")
def test_an_error_status_tells_of_a_rollback() -> None:
    """So nothing unexpected is raised then, as with ``set_rollback_only()``."""
    failed = swallow(call(Raise("TroubleError", 9)))
    outcome = outcome_of(Add(1), failed, reply=Reply("tuple", 409))
    assert (outcome.rows, outcome.error, outcome.status) == (frozenset(), None, 409)
    outcome = outcome_of(Add(1), failed)
    assert outcome.error is not None
    assert outcome.error.kind == "UnexpectedRollbackError"
    outcome = outcome_of(Add(1), Doom())
    assert (outcome.rows, outcome.status) == (frozenset(), 200)


@pytest.mark.rule("T15")
def test_only_a_view_that_is_decorated_is_judged() -> None:
    """A service that it calls has been committed by then."""
    outcome = outcome_of(Add(1), call(Add(2)), Add(3), options=None, reply=Reply("tuple", 409))
    assert (outcome.rows, outcome.status) == (frozenset({1, 2}), 409)


@pytest.mark.rule("T16", "T32")
def test_what_is_no_http_exception_comes_through() -> None:
    """There is no response then; one of a hook takes the place of the answer."""
    outcome = outcome_of(Raise("TroubleError", 9))
    assert (outcome.error, outcome.status) == (Raised("TroubleError", 9), None)
    hook = Register("on_commit", "hook", (Add(2), Abort(302, 3)), is_robust=False)
    outcome = outcome_of(Add(1), hook)
    assert (outcome.rows, outcome.status) == (frozenset({1}), 302)
