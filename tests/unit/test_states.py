"""The states of a scope: every move, legal or not."""

from __future__ import annotations

import itertools

import pytest

from flask_reqsession.options import TransactionOptions
from flask_reqsession.outcome_rules import Rules
from flask_reqsession.scope import Scope
from flask_reqsession.states import ScopeState

NEW, ACTIVE = ScopeState.NEW, ScopeState.ACTIVE
ENDS = (ScopeState.COMMITTED, ScopeState.ROLLED_BACK, ScopeState.UNKNOWN)
LEGAL = {(NEW, ACTIVE), *((ACTIVE, end) for end in ENDS)}


@pytest.mark.parametrize(("origin", "target"), list(itertools.product(ScopeState, repeat=2)))
def test_a_scope_moves_only_forward(origin: ScopeState, target: ScopeState) -> None:
    """From new to active, from active to one of its ends, and never from an end."""
    assert origin.may_become(target) is ((origin, target) in LEGAL)


@pytest.mark.parametrize("end", ENDS)
def test_an_illegal_move_is_refused_and_changes_nothing(end: ScopeState) -> None:
    """The message says where the scope stands."""
    scope = Scope("pay()", Rules(TransactionOptions(), None))
    scope.advance(ACTIVE)
    scope.advance(end)
    with pytest.raises(RuntimeError, match=rf"pay\(\) {end.value}; it cannot become ACTIVE"):
        scope.advance(ACTIVE)
    assert scope.state is end
