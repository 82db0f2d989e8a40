"""Whatever fails: no connection stays out, the first cause is told, and nothing half is kept."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from sqlalchemy import event, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from flask_reqsession import (
    RequestScopedSessionManager,
    UncommittedChangesWarning,
    UnexpectedRollbackError,
)
from tests.integration.manager.faults import FaultError, Faulty
from tests.integration.manager.shop import Base, Note, Shop, connections_held, texts
from tests.servers.connections import Rows

STEPS = ("connect", "begin", "flush", "body", "commit", "rollback", "close")
SUBSETS = [
    frozenset(chosen)
    for size in range(len(STEPS) + 1)
    for chosen in itertools.combinations(STEPS, size)
]


class Trial:
    """A transactional function on a database in which some steps fail."""

    def __init__(self, url: str, failing: frozenset[str]) -> None:
        self.faulty = Faulty(url)
        self.app = Flask("trial")
        self.app.testing = True
        self.manager = RequestScopedSessionManager(self.faulty, self.app)
        Base.metadata.create_all(self.faulty.engine)
        with self.manager.session_scope() as session:
            session.add(Note(text="taken"))
        self.failing = failing

    def body(self) -> str:
        """Be the user's code."""
        self.manager.session.add(Note(text="taken" if "flush" in self.failing else "new"))
        self.manager.session.flush()
        if "body" in self.failing:
            raise FaultError("body")
        return "done"

    def call(self) -> object:
        """Run it outside of everything."""
        return self.manager.transactional(self.body)()

    def in_unit(self) -> object:
        """Run it in a unit of work."""
        with self.manager.unit_of_work(), self.manager.session_scope():
            return self.body()

    def in_request(self) -> object:
        """Run it as a view."""
        view = self.manager.transactional(self.body)
        self.app.add_url_rule("/", "index", view_func=view)
        return self.app.test_client().get("/").text

    def run(self, form: Callable[[Trial], object]) -> object:
        """Run it with the faults, on a connection that is not there yet."""
        self.faulty.engine.dispose()
        self.faulty.failing = self.failing
        return form(self)


@pytest.fixture
def engines() -> Iterator[list[Faulty]]:
    """Give a list; the databases in it are disposed of after the test."""
    given: list[Faulty] = []
    yield given
    for faulty in given:
        faulty.failing = ()
        faulty.engine.dispose()


FORMS = [Trial.call, Trial.in_unit, Trial.in_request]


def name_of(error: BaseException) -> str:
    """Return the step that ``error`` speaks of."""
    if isinstance(error, IntegrityError):
        return "flush"
    return str(error.orig) if isinstance(error, DBAPIError) else str(error)


def expected(failing: frozenset[str]) -> list[str]:
    """Say which failures the caller is told of, the raised one first."""
    told: list[str] = []
    if "connect" in failing:
        told = ["connect"]
    elif "begin" in failing:
        told = ["begin"]
    elif "flush" in failing:  # SQLAlchemy rolls back inside the flush, and raises what fails last
        told = ["rollback" if "rollback" in failing else "flush"]
    elif "body" in failing:
        told = ["body"] + ["rollback"] * ("rollback" in failing)
    elif "commit" in failing:  # what is left to do then is done by the pool
        told = ["commit"]
    return told + ["close"] * (bool(told) and "close" in failing)


@pytest.mark.rule("M17", "M19", "T1", "T16")
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("failing", SUBSETS, ids=lambda each: "+".join(sorted(each)) or "nothing")
def test_no_connection_stays_out_and_the_first_cause_is_told(
    sqlite_file_url: str,
    rows: Rows,
    engines: list[Faulty],
    failing: frozenset[str],
    form: Callable[[Trial], object],
) -> None:
    """Each subset of failing steps: nothing checked out, nothing half kept, nobody else harmed."""
    trial = Trial(sqlite_file_url, failing)
    engines.append(trial.faulty)
    told = expected(failing)
    if told:
        with pytest.raises((FaultError, DBAPIError)) as caught:
            trial.run(form)
        notes = getattr(caught.value, "__notes__", [])
        named = [step for note in notes for step in STEPS if step.upper() in note]
        assert [name_of(caught.value), *named] == told
    else:
        assert trial.run(form) == "done"

    assert connections_held(trial.faulty.engine) == 0
    assert trial.faulty.pooled() not in trial.faulty.poisoned
    kept = [("taken",)] if told else [("taken",), ("new",)]
    assert rows(sqlite_file_url, "SELECT text FROM note ORDER BY id") == kept


@pytest.mark.rule("M19")
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_connection_whose_rollback_failed_once_is_not_handed_out_again(
    sqlite_file_url: str, engines: list[Faulty], form: Callable[[Trial], object]
) -> None:
    """Even if the pool's own attempt would succeed: who knows what is left in it."""
    trial = Trial(sqlite_file_url, frozenset({"body", "rollback"}))
    trial.faulty.heals = True
    engines.append(trial.faulty)
    with pytest.raises(FaultError, match="body") as caught:
        trial.run(form)

    (note,) = caught.value.__notes__
    assert note.startswith("ROLLBACK also failed: OperationalError")
    assert len(trial.faulty.poisoned) == 1
    assert trial.faulty.pooled() not in trial.faulty.poisoned


@pytest.mark.rule("M17", "M19")
def test_a_rollback_that_fails_at_the_end_of_a_request_is_logged(
    sqlite_file_url: str, engines: list[Faulty], caplog: pytest.LogCaptureFixture
) -> None:
    """A forgotten commit, and nobody is left to be told: the log names the class only."""
    trial = Trial(sqlite_file_url, frozenset({"rollback"}))
    trial.faulty.heals = True
    engines.append(trial.faulty)
    trial.app.add_url_rule("/", "index", trial.body)
    trial.faulty.failing = trial.failing

    with pytest.warns(UncommittedChangesWarning, match="new Note 2"):
        assert trial.app.test_client().get("/").text == "done"
    assert connections_held(trial.faulty.engine) == 0
    assert trial.faulty.pooled() not in trial.faulty.poisoned
    ours = [record.getMessage() for record in caplog.records if record.name == "flask_reqsession"]
    assert ours == ["Closing a session failed: OperationalError"]


@pytest.mark.rule("M19", "T4")
def test_a_savepoint_that_cannot_be_rolled_back_is_not_committed_by_the_outer_scope(
    shop: Shop,
) -> None:
    """What the inner scope did could not be undone, so the outer one cannot keep the rest."""

    @event.listens_for(shop.engine, "before_cursor_execute")
    def refuse(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if statement.startswith("ROLLBACK TO"):
            raise FaultError("rollback to")

    @shop.manager.transactional(propagation="NESTED")
    def inner() -> None:
        shop.write("inner")
        raise FaultError("body")

    @shop.manager.transactional
    def outer() -> None:
        shop.write("outer")
        with pytest.raises(FaultError, match="body") as caught:
            inner()
        assert caught.value.__notes__ == ["ROLLBACK also failed: FaultError: rollback to"]

    with pytest.raises(UnexpectedRollbackError):
        outer()
    assert shop.kept() == []


@pytest.mark.rule("M18")
@pytest.mark.parametrize(
    "failing", [each for each in SUBSETS if each], ids=lambda each: "+".join(sorted(each))
)
def test_after_a_failure_the_same_unit_goes_on(
    sqlite_file_url: str, engines: list[Faulty], failing: frozenset[str]
) -> None:
    """The session can be used again at once, and what was loaded before can be read."""
    trial = Trial(sqlite_file_url, failing)
    engines.append(trial.faulty)
    with trial.manager.unit_of_work():
        session = trial.manager.session
        note = session.scalars(select(Note)).one()
        session.rollback()
        trial.faulty.failing = failing
        with contextlib.suppress(FaultError, DBAPIError):
            trial.manager.transactional(trial.body)()
        trial.faulty.failing = ()
        assert trial.manager.session is session
        assert note.text == "taken"
        assert set(texts(session)) >= {"taken"}
        with trial.manager.session_scope() as again:
            again.add(Note(text="later"))
    with trial.manager.session_scope() as session:
        assert "later" in texts(session)
