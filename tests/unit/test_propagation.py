"""The table of propagations, every cell of it."""

from __future__ import annotations

import dataclasses

import pytest

from flask_reqsession import Propagation, PropagationError, Retry, RetryNotAllowedError
from flask_reqsession.modes import TransactionMode
from flask_reqsession.options import TransactionOptions
from flask_reqsession.outcome_rules import Rules
from flask_reqsession.propagation import Entry, ScopeSpec, entry_of
from flask_reqsession.scope import Scope
from flask_reqsession.specs import spec_of as full_spec_of

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


MODES = {
    "none": None,
    "serializable": TransactionMode(isolation="SERIALIZABLE"),
    "read only": TransactionMode(read_only=True),
    "5 seconds": TransactionMode(timeout=5.0),
}
JOINING = [
    # what the inner scope asks for, and which of the running ones it joins
    (TransactionOptions(), set(MODES)),
    (TransactionOptions(read_only=True), set(MODES)),
    (TransactionOptions(read_only=False), {"none", "serializable", "5 seconds"}),
    (TransactionOptions(isolation="SERIALIZABLE"), {"serializable"}),
    (TransactionOptions(isolation="READ COMMITTED"), set()),
    (TransactionOptions(timeout=5.0), {"5 seconds"}),
    (TransactionOptions(timeout=6.0), {"5 seconds"}),
    (TransactionOptions(timeout=4.9), set()),
]


@pytest.mark.rule("T18", "T19")
@pytest.mark.parametrize("running", MODES)
@pytest.mark.parametrize(("options", "joined"), JOINING)
@pytest.mark.parametrize("propagation", [Propagation.REQUIRED, Propagation.NESTED])
def test_a_part_of_a_transaction_cannot_have_another_mode(
    propagation: Propagation, options: TransactionOptions, joined: set[str], running: str
) -> None:
    """Level, access and time belong to the whole; ``REQUIRES_NEW`` is not a part."""
    outer = Scope("pay()", RULES)
    outer.mode = MODES[running]
    spec = full_spec_of(dataclasses.replace(options, propagation=propagation), None)
    if running in joined:
        assert entry_of(spec, outer, None) in {Entry.JOIN, Entry.SAVEPOINT}
    else:
        with pytest.raises(
            PropagationError, match=r"would be a part of the transaction of pay\(\)"
        ):
            entry_of(spec, outer, None)
    alone = full_spec_of(dataclasses.replace(options, propagation=Propagation.REQUIRES_NEW), None)
    assert entry_of(alone, outer, None) is Entry.OWN_SESSION


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
