"""The mode of a transaction in the flows, and what each database is told, without one."""

from __future__ import annotations

import pytest

from flask_reqsession import PropagationError, TransactionTimeoutError
from flask_reqsession.effects import Failed, Ok, Outcome, Request
from flask_reqsession.flows import transaction_flow
from flask_reqsession.mode_statements import MariaDB, MySQL
from flask_reqsession.modes import Deadline, TransactionMode
from flask_reqsession.options import TransactionOptions
from flask_reqsession.outcome_rules import Rules
from flask_reqsession.scope import Scope
from flask_reqsession.states import ScopeState
from tests.unit.scripted import EffectError, Script


class Renewing(Script):
    """A performer whose session can begin a new transaction, or not."""

    renews = True

    def perform(self, request: Request) -> Outcome:
        """Perform ``request`` as the script says."""
        performed = super().perform(request)
        is_asked = not isinstance(performed, Failed) and self.conversation[-1] == "renew"
        return Ok(self.renews) if is_asked else performed


def scope_in(mode: TransactionMode) -> Scope:
    """Return a scope whose transaction begins in ``mode``."""
    scope = Scope("pay()", Rules(TransactionOptions(), None))
    scope.begin_in(mode, reads_replica=False)
    return scope


@pytest.mark.rule("T18", "T19")
def test_a_mode_needs_a_transaction_of_its_own() -> None:
    """What was begun before is ended first, when the session has been taken over."""
    scope, script = scope_in(TransactionMode(read_only=True)), Renewing()
    assert script.run(transaction_flow(scope)) == Ok("value")
    assert script.conversation == ["begin", "renew", "body", "flush", "commit"]


@pytest.mark.rule("T18", "T19")
@pytest.mark.parametrize("failing", ["begin", "renew"])
def test_a_mode_that_cannot_begin_runs_nothing(failing: str) -> None:
    """Nothing was begun, so nothing is rolled back."""
    scope, script = scope_in(TransactionMode(isolation="SERIALIZABLE")), Renewing({failing})
    outcome = script.run(transaction_flow(scope))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, EffectError)
    assert script.conversation[-1] == failing
    assert scope.state is ScopeState.NEW


@pytest.mark.rule("T18", "T19")
def test_earlier_changes_refuse_a_mode() -> None:
    """They are not rolled back: they belong to whoever made them."""
    scope, script = scope_in(TransactionMode(isolation="SERIALIZABLE")), Renewing()
    script.renews = False
    outcome = script.run(transaction_flow(scope))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, PropagationError)
    assert script.conversation == ["begin", "renew"]


@pytest.mark.rule("T19")
def test_what_is_late_is_rolled_back() -> None:
    """After the flush, whose statements have taken time, and before COMMIT."""
    scope, script = scope_in(TransactionMode(timeout=1e-9)), Renewing()
    outcome = script.run(transaction_flow(scope))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, TransactionTimeoutError)
    assert script.conversation == ["begin", "renew", "body", "flush", "rollback"]
    assert scope.state is ScopeState.ROLLED_BACK


@pytest.mark.rule("T19")
def test_a_flush_that_failed_stays_the_cause() -> None:
    """Though it was late as well."""
    scope, script = scope_in(TransactionMode(timeout=1e-9)), Renewing({"flush"})
    outcome = script.run(transaction_flow(scope))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, EffectError)
    assert script.conversation[-2:] == ["flush", "rollback"]


@pytest.mark.rule("T19")
def test_a_savepoint_has_the_mode_and_the_time_of_its_transaction() -> None:
    """Both belong to the whole."""
    outer = scope_in(TransactionMode(timeout=60))
    inner = Scope("inner()", outer.rules, outer, "NESTED")
    assert (inner.mode, inner.deadline) == (outer.mode, outer.deadline)
    inner.doom_transaction(TransactionTimeoutError("late"))
    assert outer.is_doomed


@pytest.mark.rule("T19")
def test_the_time_begins_to_run_at_once() -> None:
    """And is not over before its end."""
    deadline = Deadline("pay()", 60)
    assert 59 < deadline.left < 60
    assert not deadline.is_over
    assert Deadline("pay()", 1e-9).is_over


@pytest.mark.rule("T19")
def test_the_limits_have_their_variables_unit() -> None:
    """MariaDB counts seconds, MySQL milliseconds."""
    assert MariaDB().amount(1500) == "1.500"
    assert MySQL().amount(1500) == "1500"


def test_nothing_else_is_renewed() -> None:
    """A scope that asks for no mode takes over what there is."""
    script = Renewing()
    scope = Scope("pay()", Rules(TransactionOptions(), None))
    assert script.run(transaction_flow(scope)) == Ok("value")
    assert script.conversation == ["begin", "body", "flush", "commit"]
