"""The table of propagations, every cell of it."""

from __future__ import annotations

import pytest

from flask_reqsession import Propagation, PropagationError, Retry, RetryNotAllowedError
from flask_reqsession.options import TransactionOptions
from flask_reqsession.outcome_rules import Rules
from flask_reqsession.propagation import Entry, ScopeSpec, entry_of
from flask_reqsession.scope import Scope

RULES = Rules(TransactionOptions(), None)
RUNNING = Scope("pay()", RULES)
PAUSED = Scope("notes()", RULES)

TABLE = {
    # propagation: no scope runs, one runs, a generator is between two steps
    Propagation.REQUIRED: (Entry.START, Entry.JOIN, Entry.START),
    Propagation.REQUIRES_NEW: (Entry.START, Entry.OWN_SESSION, Entry.OWN_SESSION),
    Propagation.NESTED: (Entry.START, Entry.SAVEPOINT, Entry.START),
    Propagation.SUPPORTS: (Entry.BARE, Entry.JOIN, Entry.BARE),
    Propagation.MANDATORY: (None, Entry.JOIN, None),
    Propagation.NOT_SUPPORTED: (Entry.OUTSIDE, Entry.OUTSIDE, Entry.OUTSIDE),
    Propagation.NEVER: (Entry.BARE, None, Entry.BARE),
}
STATES = [(None, None), (RUNNING, None), (None, PAUSED)]


def spec_of(options: TransactionOptions | None) -> ScopeSpec:
    """Return the spec of a scope with ``options``."""
    return ScopeSpec("note()", "default", options, RULES)


@pytest.mark.rule("T2")
@pytest.mark.parametrize("propagation", Propagation)
@pytest.mark.parametrize("case", range(3), ids=["none", "running", "paused"])
def test_a_propagation_enters_as_the_table_says(propagation: Propagation, case: int) -> None:
    """START, a generator between two steps being an obstacle, is refused later, by the session."""
    spec = spec_of(TransactionOptions(propagation=propagation))
    expected = TABLE[propagation][case]
    if expected is None:
        with pytest.raises(PropagationError, match=rf"note\(\) is {propagation.name}"):
            entry_of(spec, *STATES[case])
    else:
        assert entry_of(spec, *STATES[case]) is expected


@pytest.mark.rule("T7", "T22")
@pytest.mark.parametrize("propagation", Propagation)
@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        (TransactionOptions(durable=True), PropagationError),
        (TransactionOptions(retry=Retry()), RetryNotAllowedError),
    ],
    ids=["durable", "retry"],
)
def test_a_part_of_a_transaction_is_neither_durable_nor_retried(
    propagation: Propagation, options: TransactionOptions, refusal: type[Exception]
) -> None:
    """Refused where it would join or be a savepoint, and nowhere else."""
    spec = spec_of(
        TransactionOptions(propagation=propagation, durable=options.durable, retry=options.retry)
    )
    entry = TABLE[propagation][1]
    if entry in {Entry.JOIN, Entry.SAVEPOINT}:
        with pytest.raises(refusal, match=r"note\(\).*pay\(\)"):
            entry_of(spec, RUNNING, None)
    elif entry is not None:
        assert entry_of(spec, RUNNING, None) is entry
    if TABLE[propagation][0] is not None:
        assert entry_of(spec, None, None) is TABLE[propagation][0]


@pytest.mark.parametrize("running", [None, RUNNING])
def test_without_options_there_is_no_scope(running: Scope | None) -> None:
    """Injection alone needs a session."""
    spec = spec_of(None)
    assert entry_of(spec, running, None) is Entry.BARE
    assert spec.propagation == ""
    assert spec_of(TransactionOptions()).propagation == "REQUIRED"
