"""A scope that did nothing with its session has nothing to commit, and the same rules."""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Iterator
from contextlib import closing

import pytest
from flask import Flask, Response
from flask.json.provider import DefaultJSONProvider
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from flask_reqsession import (
    ConfigurationError,
    PropagationError,
    RequestScopedSessionManager,
    TransactionOutcome,
    UnexpectedRollbackError,
    on_commit,
    on_completion,
    on_rollback,
    set_rollback_only,
)
from tests.integration.transactions.worlds import Note, SyncWorld
from tests.never import never


@pytest.fixture
def inside(sync_world: SyncWorld) -> Iterator[SyncWorld]:
    """Give a world in a unit of work, in which nothing was done."""
    with sync_world.manager.unit_of_work():
        yield sync_world
    assert sync_world.sent == []


@pytest.mark.rule("T30", "T37")
def test_its_hooks_are_run(inside: SyncWorld) -> None:
    """What waits for the commit does not ask whether there was anything to commit."""
    told = list[object]()

    @inside.manager.transactional
    def pay() -> None:
        on_commit(told.append, "committed")
        on_completion(told.append)
        on_rollback(told.append, "rolled back")
        assert told == []

    pay()
    assert told == ["committed", TransactionOutcome.COMMITTED]


@pytest.mark.rule("T10", "T30")
def test_a_listener_hears_of_transactions_and_a_hook_of_scopes(sync_world: SyncWorld) -> None:
    """A session that was only fetched has begun nothing, so SQLAlchemy has nothing to tell."""
    told = list[str]()
    factory = sessionmaker(sync_world.engine)
    event.listen(factory, "before_commit", lambda _session: told.append("listener"))
    manager = RequestScopedSessionManager(factory)
    with manager.session_scope():
        manager.on_commit(told.append, "hook")
    assert told == ["hook"]
    with manager.session_scope() as session:
        session.add(Note(text="rent"))
    assert told == ["hook", "listener"]


@pytest.mark.rule("T3")
def test_a_swallowed_failure_in_it_is_told(inside: SyncWorld) -> None:
    """The failure may be that of the work which was not done."""

    @inside.manager.transactional
    def withdraw() -> None:
        raise ValueError

    @inside.manager.transactional
    def pay() -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - the very one above
            withdraw()

    with pytest.raises(UnexpectedRollbackError, match=r"withdraw\(\)"):
        pay()


@pytest.mark.rule("T6", "T37")
def test_a_doomed_one_ends_in_a_rollback(inside: SyncWorld) -> None:
    """Its hooks are told so."""
    told = list[TransactionOutcome]()

    @inside.manager.transactional
    def pay() -> str:
        on_completion(told.append)
        set_rollback_only()
        return "not paid"

    assert pay() == "not paid"
    assert told == [TransactionOutcome.ROLLED_BACK]


@pytest.mark.rule("T12")
def test_work_that_has_not_begun_is_refused(inside: SyncWorld) -> None:
    """It would run after the end of the scope, and that is why the session is untouched."""

    async def work() -> None:
        never()

    @inside.manager.transactional
    def pay() -> Coroutine[object, object, None]:
        return work()

    with pytest.raises(ConfigurationError, match="has not begun"):
        _ = pay()


@pytest.mark.rule("T15", "T16")
def test_a_response_that_first_uses_the_session_is_made_in_the_scope(
    sync_world: SyncWorld,
) -> None:
    """What it writes is committed, as where the view had used the session before."""

    class Provider(DefaultJSONProvider):
        @staticmethod
        def default(o: object) -> str:
            sync_world.manager.session.add(Note(text=type(o).__name__))
            return "written"

    class Answer: ...

    app = Flask(__name__)
    app.json = Provider(app)
    sync_world.manager.init_app(app)

    @app.get("/written")
    @sync_world.manager.transactional
    def written() -> dict[str, object]:
        return {"answer": Answer()}

    @app.get("/made")
    @sync_world.manager.transactional
    def made() -> Response:
        return Response("made by the view")

    client = app.test_client()
    assert client.get("/made").text == "made by the view"
    assert sync_world.sent == []
    assert client.get("/written").json == {"answer": "written"}
    assert sync_world.kept() == ["Answer"]


@pytest.mark.rule("T11")
def test_it_does_not_end_while_a_part_of_it_is_half_done(inside: SyncWorld) -> None:
    """The generator may have begun nothing so far."""

    @inside.manager.transactional
    def rows() -> Generator[int, None, None]:
        yield 1

    @inside.manager.transactional
    def export(steps: Iterator[int]) -> None:
        next(steps)

    with closing(rows()) as steps:
        with pytest.raises(PropagationError, match=r"rows\(\), which is a part of it"):
            export(steps)


@pytest.mark.rule("T11")
def test_a_generator_does_not_go_on_after_it(inside: SyncWorld) -> None:
    """One that only has a session, and stands between two steps when the scope ends."""

    @inside.manager.with_request_session
    def rows(session: Session) -> Iterator[bool]:
        yield session.is_active
        yield never()

    @inside.manager.transactional
    def export() -> list[Iterator[bool]]:
        generator = iter(rows())
        assert next(generator)
        return [generator]

    [generator] = export()
    with pytest.raises(PropagationError, match="ended"):
        next(generator)
