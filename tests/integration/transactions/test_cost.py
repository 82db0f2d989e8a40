"""What a scope costs: counted in Python calls, since clocks are not exact, and in SQL.

The numbers are ceilings without slack: lower one when the code has become cheaper. A call costs
about 50 ns.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from flask_reqsession import RequestScopedSessionManager
from tests.call_counts import Calls, calls_in
from tests.integration.transactions.worlds import SyncWorld

READ = text("SELECT count(*) FROM note")
WRITE = text("INSERT INTO note (text) VALUES (hex(randomblob(8)))")
Work = Callable[[Session], object]


def untouched(_session: Session) -> None:
    """Do nothing."""


def read(session: Session) -> None:
    """Read once."""
    session.execute(READ)


def write(session: Session) -> None:
    """Write once."""
    session.execute(WRITE)


def fail(session: Session) -> None:
    """Write once, and fail."""
    session.execute(WRITE)
    raise ValueError


OUTERMOST = [
    (untouched, 8, 0),
    (read, 38, 10),
    (write, 39, 10),
    (fail, 36, 5),
]
INNER: list[tuple[Any, int]] = [
    ({}, 1),
    ({"propagation": "SUPPORTS"}, 1),
    ({"propagation": "MANDATORY"}, 1),
    ({"propagation": "NESTED"}, 57),
    ({"propagation": "REQUIRES_NEW"}, 92),
    ({"propagation": "NOT_SUPPORTED"}, 63),
]
OWN_UNIT = 99
OWN_UNIT_AND_SESSION = 143


def by_hand(session: Session, work: Work) -> None:
    """Do what a scope does, as one writes it by hand."""
    try:
        work(session)
        session.commit()
    except BaseException:
        session.rollback()
        raise


def warm(run: Callable[[], object]) -> Calls:
    """Count the calls of ``run`` when everything is cached; it may fail."""

    def bearing_failure() -> None:
        with suppress(ValueError):
            run()

    bearing_failure()
    bearing_failure()
    return calls_in(bearing_failure)


def theirs_by_hand(url: str, work: Work) -> int:
    """Count SQLAlchemy's calls for ``work`` done by hand, on an engine that nobody listens to."""
    engine = create_engine(url)
    with sessionmaker(engine, expire_on_commit=False)() as session:
        counted = warm(lambda: by_hand(session, work))
    engine.dispose()
    return counted.sqlalchemys


@pytest.mark.rule("T10")
@pytest.mark.parametrize(("work", "ours", "more"), OUTERMOST)
def test_an_outermost_scope_costs_this_many_calls(
    sync_world: SyncWorld, work: Work, ours: int, more: int
) -> None:
    """In a unit of work: calls of ours, and SQLAlchemy's beyond those of the work by hand."""
    manager = RequestScopedSessionManager(sync_world.url)
    scope = manager.transactional(lambda: work(session))
    with manager.unit_of_work():
        session = manager.session
        counted = warm(scope)
    manager.databases.dispose()
    by_hand = theirs_by_hand(sync_world.url, work)
    assert counted.ours <= ours
    assert counted.sqlalchemys - (3 if work is untouched else by_hand) <= more


@pytest.mark.rule("T10")
@pytest.mark.parametrize(
    ("work", "sent"),
    [
        (untouched, []),
        (read, ["SELECT", "COMMIT"]),
        (write, ["INSERT", "COMMIT"]),
        (fail, ["INSERT", "ROLLBACK"]),
    ],
)
def test_a_scope_sends_nothing_of_its_own_but_its_end(
    sync_world: SyncWorld, work: Work, sent: list[str]
) -> None:
    """No savepoint, no ping, no second BEGIN, no refresh."""
    scope = sync_world.manager.transactional(lambda: work(sync_world.manager.session))
    with suppress(ValueError):
        scope()
    assert sync_world.sent == sent


@pytest.mark.rule("T2", "T10")
@pytest.mark.parametrize(("options", "ours"), INNER)
def test_an_inner_scope_costs_this_many_calls(
    sync_world: SyncWorld, options: Any, ours: int
) -> None:
    """That does nothing: calls of ours; SQLAlchemy has work with a savepoint only."""
    inner = sync_world.manager.transactional(**options)(lambda: None)
    with sync_world.manager.session_scope() as session:
        read(session)
        counted = warm(inner)
    assert counted.ours <= ours
    assert (counted.sqlalchemys > 0) is (options.get("propagation") == "NESTED")


@pytest.mark.rule("M10")
def test_a_call_with_a_unit_of_its_own_costs_this_many_calls(sync_world: SyncWorld) -> None:
    """Outside of everything: a unit of work is opened and closed for the call."""
    manager = sync_world.manager
    without_session = warm(manager.transactional(lambda: None))
    assert without_session.ours <= OWN_UNIT
    assert without_session.sqlalchemys == 0
    with_session = warm(manager.transactional(lambda: read(manager.session)))
    assert with_session.ours <= OWN_UNIT_AND_SESSION
