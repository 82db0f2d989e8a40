"""Each event is told once, with no row value and no credential in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, event, insert, select, text
from sqlalchemy.exc import DBAPIError, NoResultFound, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, make_transient_to_detached

from tests.integration.manager.backends import end_backend, end_backend_of
from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import Note, Shop, texts

SECRET = "battery-staple"  # noqa: S105 - a row value
UNIQUE = "error IntegrityError: IntegrityError (SQLITE_CONSTRAINT_UNIQUE)"


def read(shop: Shop) -> None:
    """Only read."""
    texts(shop.session)


def fail(shop: Shop) -> None:
    """Write, and raise."""
    shop.write()
    raise FaultError("body")


def fail_to_find(shop: Shop) -> None:
    """Raise what SQLAlchemy raises for an answer."""
    shop.session.scalars(select(Note)).one()


def fail_to_flush(shop: Shop) -> None:
    """Write the same text twice."""
    shop.write()
    shop.write()


def fail_to_commit(shop: Shop) -> None:
    """Leave to the flush of the commit what it cannot do."""
    shop.session.add_all([Note(text="same"), Note(text="same")])


def swallow(shop: Shop) -> None:
    """Fail in a savepoint of the user's own, and go on."""
    shop.write()
    try:
        with shop.session.begin_nested():
            shop.write()
    except DBAPIError:
        shop.write("another")


def nest(shop: Shop) -> None:
    """Write in scopes that join, and in a savepoint."""
    with shop.manager.session_scope():
        shop.write("joined")
    with shop.manager.session_scope(propagation="NESTED"):
        shop.write("nested")


def write_aside(shop: Shop) -> None:
    """Write in a transaction of its own."""
    with shop.manager.session_scope(propagation="REQUIRES_NEW"):
        shop.write("aside")


def do_nothing(_shop: Shop) -> None:
    """Leave the session alone."""


WORK: dict[Callable[[Shop], None], list[str]] = {
    do_nothing: [],
    read: ["created", "commit", "closed"],
    nest: ["created", "commit", "closed"],
    fail: ["created", "rollback", "closed"],
    fail_to_find: ["created", "rollback", "closed"],
    fail_to_flush: ["created", UNIQUE, "rollback", "closed"],
    fail_to_commit: ["created", UNIQUE, "rollback", "closed"],
    swallow: ["created", UNIQUE, "commit", "closed"],
    write_aside: ["created", "commit", "closed"],
}
each_work = pytest.mark.parametrize(
    ("work", "told"), WORK.items(), ids=[work.__name__ for work in WORK]
)


@pytest.mark.rule("M7")
@each_work
def test_a_scope_tells_of_its_outermost_end_once(
    shop: Shop, work: Callable[[Shop], None], told: list[str]
) -> None:
    """A COMMIT or ROLLBACK that was sent is one event, a failing operation one, an answer none."""
    decorated = shop.manager.transactional(lambda: work(shop))
    with shop.manager.unit_of_work():
        try:
            decorated()
        except (DBAPIError, FaultError, NoResultFound):
            assert "rollback" in told
    assert shop.events == told


@pytest.mark.rule("M7")
@each_work
def test_a_view_tells_the_same(shop: Shop, work: Callable[[Shop], None], told: list[str]) -> None:
    """Flask's handling of the exception adds nothing."""
    shop.serve(shop.manager.transactional(lambda: (work(shop), "ok")[1]))
    assert shop.events == told


@pytest.mark.rule("M7")
@pytest.mark.parametrize(
    ("work", "told"),
    [
        (read, ["created", "closed"]),
        (lambda shop: shop.write(), ["created", "rollback", "closed"]),
        (lambda shop: shop.session.add(Note(text="new")), ["created", "rollback", "closed"]),
        (lambda shop: (shop.write(), shop.session.commit()), ["created", "closed"]),
        (
            lambda shop: shop.session.execute(insert(Note).values(text="core")),
            ["created", "rollback", "closed"],
        ),
    ],
    ids=["only read", "written", "pending", "committed by hand", "written by Core"],
)
def test_closing_a_session_counts_a_rollback_only_if_something_was_lost(
    shop: Shop, work: Callable[[Shop], object], told: list[str]
) -> None:
    """Outside of scopes: one that only read counts none."""
    shop.serve(lambda: (work(shop), "ok")[1])
    assert shop.events == told


@pytest.mark.rule("M7")
def test_a_change_that_changes_nothing_is_not_lost(shop: Shop) -> None:
    """SQLAlchemy calls an attribute dirty that was set to what it was."""
    shop.keep("same")

    def view() -> str:
        note = shop.session.scalars(select(Note)).one()
        note.text = "same"
        return "ok"

    shop.serve(view)
    assert shop.events == ["created", "closed"]


@pytest.mark.rule("M7")
def test_a_reattachment_is_told_with_its_type(shop: Shop) -> None:
    """By ``ensure_session_attachment`` and by the decorator; one that was there already is none."""
    shop.keep("loaded")
    note = Note(id=1)
    make_transient_to_detached(note)
    other = Note(id=1)
    make_transient_to_detached(other)

    with shop.manager.unit_of_work():
        shop.manager.ensure_session_attachment(note)
        shop.manager.ensure_session_attachment(note)
    with shop.manager.unit_of_work():
        shop.manager.reattach_args(lambda note: note)(other)
    assert shop.events == ["created", "reattached Note", "closed"] * 2


@pytest.mark.rule("M7")
def test_durations_are_seconds(shop: Shop) -> None:
    """Not milliseconds, and never negative."""
    shop.serve(lambda: str(read(shop)))
    assert len(shop.manager.durations) == 2
    assert all(0 <= duration < 5 for duration in shop.manager.durations)


@pytest.mark.rule("M7")
def test_a_connection_that_cannot_be_made_is_one_error(shop: Shop) -> None:
    """In a scope, and outside of every one, where nobody of ours sees the exception pass."""
    shop.engine.dispose()

    @event.listens_for(shop.engine, "do_connect")
    def refuse(*_arguments: object) -> None:
        raise shop.engine.dialect.loaded_dbapi.OperationalError(SECRET)

    told = ["created", "error OperationalError: OperationalError", "closed"]
    shop.app.add_url_rule("/plain", "plain", lambda: str(read(shop)))
    shop.app.add_url_rule("/scoped", "scoped", shop.manager.transactional(lambda: str(read(shop))))

    shop.get("/plain")
    assert shop.events == told
    shop.get("/scoped")
    assert shop.events == [*told[:2], "rollback", "closed"]
    with pytest.raises(OperationalError):
        shop.engine.connect()
    assert shop.events == []
    event.remove(shop.engine, "do_connect", refuse)


@pytest.mark.rule("M7", "D3")
def test_a_pooled_connection_that_died_unseen_is_no_error(postgresql_shop: Shop) -> None:
    """The pool finds out before anybody uses it, and connects anew."""
    shop = postgresql_shop
    with shop.manager.unit_of_work():
        end_backend(shop)
        with pytest.raises(OperationalError):
            texts(shop.session)
    assert shop.events[1].startswith("error")
    with shop.manager.unit_of_work():
        pid = shop.session.scalar(text("SELECT pg_backend_pid()"))
    end_backend_of(shop.url, pid)
    shop.manager.events.clear()
    with shop.manager.unit_of_work():
        shop.session.connection()
        assert shop.events == ["created"]


@pytest.mark.rule("M7")
def test_a_pool_that_has_nothing_left_is_one_error(sqlite_file_url: str) -> None:
    """The database was not asked, but the operation failed."""
    engine = create_engine(sqlite_file_url, pool_size=1, max_overflow=0, pool_timeout=0)
    shop = Shop(sqlite_file_url)
    manager = type(shop.manager)(engine)
    with engine.connect(), manager.unit_of_work():
        with pytest.raises(PoolTimeout):
            manager.transactional(lambda: texts(manager.session))()
        created, error, rollback = manager.events
        assert error.startswith("error TimeoutError: QueuePool limit of size 1 overflow 0 reached")
        assert (created, rollback) == ("created", "rollback")
    shop.close()
    engine.dispose()


@pytest.mark.rule("M7")
def test_what_others_do_with_the_engine_is_no_event(shop: Shop) -> None:
    """Neither their sessions nor their errors."""
    shop.keep("taken")
    factory_of_ours = shop.manager.databases.source().event_target
    assert factory_of_ours is not None
    with factory_of_ours() as session:
        session.add(Note(text="taken"))
        with pytest.raises(DBAPIError):
            session.commit()
    with Session(shop.engine) as session, pytest.raises(DBAPIError):
        session.execute(insert(Note).values(text="taken"))
    assert shop.events == []
