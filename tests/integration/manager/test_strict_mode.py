"""Strict mode: a request that forgets to commit is told so."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask, Response, abort, request, stream_with_context
from flask_restx import Api, Resource
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from flask_reqsession import RequestScopedSessionManager, UncommittedChangesWarning
from tests.integration.manager.async_shop import AsyncShop
from tests.integration.manager.shop import Note, Shop, connections_held


@pytest.fixture
def strict_shop(shop: Shop) -> Shop:
    """Give a shop in strict mode, with the notes "old" and "older"."""
    shop.app.testing = True
    shop.keep("old", "older")
    shop.app.add_url_rule("/forget", "forget", lambda: "ok")
    return shop


@contextmanager
def caught() -> Generator[list[str]]:
    """Collect the messages of the warnings."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield messages
    assert {each.category for each in warned} <= {UncommittedChangesWarning}
    messages += [str(each.message) for each in warned]


def lost(shop: Shop, forget: Callable[[], object]) -> str:
    """Return what a request loses that does ``forget``; "" without a warning."""
    shop.app.view_functions["forget"] = lambda: (forget(), "ok")[1]
    with caught() as messages:
        assert shop.get("/forget").text == "ok"
    assert connections_held(shop.engine) == 0
    assert shop.kept() == ["old", "older"]
    if not messages:
        return ""
    (message,) = messages
    assert message.startswith("The request to 'forget' ended with uncommitted changes outside")
    return message.partition("rolled back: ")[2].partition(". Put")[0]


def add(shop: Shop) -> None:
    """Add notes that nobody flushes."""
    shop.session.add_all([Note(text="secret"), Note(text="secret, too")])


def change(shop: Shop) -> None:
    """Change a note."""
    shop.session.get_one(Note, 2).text = "secret 2"


def remove(shop: Shop) -> None:
    """Delete a note."""
    shop.session.delete(shop.session.get_one(Note, 1))


def all_of_them(shop: Shop) -> None:
    """Do all three."""
    add(shop)
    change(shop)
    remove(shop)


@pytest.mark.rule("T46")
@pytest.mark.parametrize(
    ("forget", "pending", "flushed"),
    [
        (add, "2 x new Note", "new Note 3, new Note 4"),
        (change, "changed Note 2", "changed Note 2"),
        (remove, "deleted Note 1", "deleted Note 1"),
    ],
)
def test_what_is_forgotten_is_named_by_class_and_key(
    strict_shop: Shop, forget: Callable[[Shop], None], pending: str, flushed: str
) -> None:
    """Pending or flushed; never a value of a row."""

    def forget_flushed() -> None:
        forget(strict_shop)
        strict_shop.session.flush()

    assert lost(strict_shop, lambda: forget(strict_shop)) == pending
    assert lost(strict_shop, forget_flushed) == flushed


@pytest.mark.rule("T46")
def test_statements_are_counted(strict_shop: Shop) -> None:
    """Core, ORM-enabled and plain text; not what only reads, and not what a flush sends."""

    def one() -> None:
        strict_shop.session.execute(update(Note).values(text=Note.text + "!"))
        strict_shop.session.scalars(select(Note)).all()

    def more() -> None:
        strict_shop.session.execute(insert(Note), [{"text": "a"}, {"text": "b"}])
        strict_shop.session.execute(delete(Note))
        strict_shop.session.execute(text("INSERT INTO note (text) VALUES ('secret')"))
        strict_shop.write("flushed")

    assert lost(strict_shop, one) == "1 statement"
    assert lost(strict_shop, more) == "new Note 2, 3 statements"


@pytest.mark.rule("T46", "M18")
def test_what_follows_a_session_that_was_closed_by_hand_is_told_as_well(strict_shop: Shop) -> None:
    """What the closed one had, it was to lose."""

    def forget() -> None:
        add(strict_shop)
        strict_shop.session.flush()
        strict_shop.session.close()
        change(strict_shop)

    assert lost(strict_shop, forget) == "changed Note 2"


@pytest.mark.rule("T46")
def test_of_many_the_first_are_named(strict_shop: Shop) -> None:
    """A warning is no list of all that an import would have written."""

    def forget() -> None:
        strict_shop.session.add_all([Note(text=f"{n}") for n in range(12)])
        strict_shop.session.flush()

    named = ", ".join(f"new Note {n}" for n in range(3, 13))
    assert lost(strict_shop, forget) == f"{named}, 2 more"


@pytest.mark.rule("T46")
def test_nothing_is_lost_where_nothing_was_changed(strict_shop: Shop) -> None:
    """Reading, setting what is there already, and objects of no session."""

    def look() -> None:
        note = strict_shop.session.get_one(Note, 1)
        note.text = "old"
        Note(text="nowhere")

    assert lost(strict_shop, lambda: None) == ""
    assert lost(strict_shop, look) == ""


@pytest.mark.rule("T46")
def test_what_the_user_rolled_back_is_not_lost(strict_shop: Shop) -> None:
    """All of it, or a savepoint with those inside."""

    def roll_back() -> None:
        all_of_them(strict_shop)
        strict_shop.session.flush()
        strict_shop.session.rollback()

    def roll_back_savepoint() -> None:
        with strict_shop.session.begin_nested() as savepoint:
            with strict_shop.session.begin_nested():
                change(strict_shop)
            strict_shop.session.execute(delete(Note))
            savepoint.rollback()

    def release_savepoint() -> None:
        with strict_shop.session.begin_nested():
            change(strict_shop)

    def close() -> None:
        all_of_them(strict_shop)
        strict_shop.manager.close_request_session()

    assert lost(strict_shop, roll_back) == ""
    assert lost(strict_shop, roll_back_savepoint) == ""
    assert lost(strict_shop, release_savepoint) == "changed Note 2"
    assert lost(strict_shop, close) == ""


@pytest.mark.rule("T46")
def test_what_was_committed_is_not_lost(strict_shop: Shop) -> None:
    """By a scope, which takes over what was written before, or by hand; what comes after, is."""
    with caught() as messages:

        @strict_shop.app.get("/scope")
        def scope() -> str:
            strict_shop.write("before")
            with strict_shop.manager.session_scope():
                strict_shop.write("inside")
                strict_shop.session.execute(update(Note).values(text=Note.text + "!"))
            return "ok"

        @strict_shop.app.get("/hand")
        def hand() -> str:
            strict_shop.write("by hand")
            strict_shop.session.execute(update(Note).values(text=Note.text + "?"))
            strict_shop.session.commit()
            return "ok"

        @strict_shop.app.get("/after")
        @strict_shop.manager.transactional
        def after() -> str:
            strict_shop.write("committed")
            return "ok"

        @strict_shop.app.after_request
        def audit(response: Response) -> Response:
            if request.endpoint == "after":
                add(strict_shop)
            return response

        for path in ("/scope", "/hand", "/after"):
            assert strict_shop.get(path).text == "ok"
    assert len(messages) == 1
    assert "'after'" in messages[0]
    assert "rolled back: 2 x new Note. Put" in messages[0]
    kept = ["old!?", "older!?", "before!?", "inside!?", "by hand?", "committed"]
    assert strict_shop.kept() == kept


@pytest.mark.rule("T46")
@pytest.mark.parametrize("failure", ["abort", "handled", "raised", "teardown", "restx"])
def test_what_an_exception_ends_is_not_kept_on_purpose(strict_shop: Shop, failure: str) -> None:
    """Handled by the app or not, by ``abort()``, or by another library's handlers."""
    app = strict_shop.app
    app.register_error_handler(KeyError, lambda _error: "handled")
    api = Api(app, prefix="/api")

    @api.errorhandler(ValueError)  # type: ignore[untyped-decorator]  # RESTX has no types
    def answer(_error: ValueError) -> tuple[dict[str, str], int]:
        return {"answer": "restx"}, 422

    @api.route("/restx")
    class Books(Resource):  # type: ignore[misc]  # RESTX has no types
        def get(self) -> None:
            add(strict_shop)
            raise ValueError

    @app.get("/<failure>")
    def view(failure: str) -> str:
        add(strict_shop)
        if failure == "abort":
            abort(409)
        raise KeyError if failure == "handled" else ZeroDivisionError

    with caught() as messages:
        if failure == "raised":
            with pytest.raises(ZeroDivisionError):
                strict_shop.get("/raised")
        else:
            status = {"abort": 409, "handled": 200, "restx": 422}.get(failure, 404)
            path = "/api/restx" if failure == "restx" else f"/{failure}"
            path = "/no/where" if failure == "teardown" else path
            assert strict_shop.get(path).status_code == status
    assert messages == []
    assert strict_shop.kept() == ["old", "older"]


@pytest.mark.rule("T46")
@pytest.mark.parametrize("strict", [None, False, True])
@pytest.mark.parametrize("setting", ["debug", "testing", "production"])
def test_it_is_on_where_the_app_is_debugged_or_tested(
    sqlite_file_url: str, strict: bool | None, setting: str
) -> None:
    """Or as the manager was told."""
    Shop(sqlite_file_url).close()
    app = Flask("shop")
    options: Any = {} if strict is None else {"strict": strict}
    manager = RequestScopedSessionManager(sqlite_file_url, app, **options)
    app.debug, app.testing = setting == "debug", setting == "testing"

    @app.get("/")
    def view() -> str:
        manager.session.add(Note(text="x"))
        return "ok"

    with caught() as messages:
        assert app.test_client().get("/").text == "ok"
    assert len(messages) == (setting != "production" if strict is None else strict)
    manager.databases.dispose()


@pytest.mark.rule("T46")
def test_a_unit_of_work_is_no_request(strict_shop: Shop) -> None:
    """It may be a script that only tries something; and its scopes are as ever."""
    with caught() as messages, strict_shop.manager.unit_of_work():
        add(strict_shop)
        strict_shop.session.flush()
    assert messages == []


@pytest.mark.rule("T46", "M17")
@pytest.mark.parametrize("written", ["pending", "flushed"])
def test_an_error_made_of_the_warning_comes_when_all_is_closed(
    strict_shop: Shop, written: str
) -> None:
    """``filterwarnings = error``: the test that forgot fails, and the connection is back."""
    ended: list[str] = []
    strict_shop.app.teardown_request(lambda _error: ended.append("request"))
    strict_shop.app.teardown_appcontext(lambda _error: ended.append("app"))

    @strict_shop.app.get("/")
    def view() -> str:
        add(strict_shop)
        if written == "flushed":
            strict_shop.session.flush()
        return "ok"

    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UncommittedChangesWarning, match="new Note"):
                strict_shop.get("/")
        assert connections_held(strict_shop.engine) == 0
        assert not strict_shop.manager.is_session_active()
    assert ended == ["request", "app"] * 2
    assert strict_shop.events[-1] == "closed"


@pytest.mark.rule("T46", "M22")
def test_a_streamed_body_that_forgets_is_told_as_well(strict_shop: Shop) -> None:
    """It has a session of its own, and its end is the end of the request."""

    def forget() -> Any:
        strict_shop.write("x")
        yield "streamed"

    strict_shop.app.add_url_rule("/", "view", lambda: stream_with_context(forget()))
    with caught() as messages:
        assert strict_shop.get("/").text == "streamed"
    assert len(messages) == 1
    assert "'view'" in messages[0]


@pytest.mark.rule("T46")
def test_a_request_without_an_endpoint_is_told_too(strict_shop: Shop) -> None:
    """A hook can write and answer before there is a view."""

    @strict_shop.app.before_request
    def answer() -> str:
        strict_shop.write("x")
        return "answered"

    with caught() as messages:
        assert strict_shop.get("/nowhere").text == "answered"
    assert messages[0].startswith("A request without an endpoint ended with uncommitted changes")


@pytest.mark.rule("T46", "M18")
def test_a_flush_that_failed_and_was_swallowed_is_told_with_what_went_with_it(
    strict_shop: Shop,
) -> None:
    """The rollback took along what had been flushed before; what comes after it is another."""

    def swallow() -> None:
        strict_shop.session.add(Note(text="old"))
        with pytest.raises(IntegrityError):
            strict_shop.session.flush()
        strict_shop.session.rollback()
        strict_shop.session.execute(delete(Note))

    assert lost(strict_shop, swallow) == "1 statement"


@pytest.mark.rule("T46", "T50")
@pytest.mark.parametrize("fails", [False, True])
def test_an_async_view_that_forgets_is_told(async_shop: AsyncShop, fails: bool) -> None:
    """When its session is closed, in its event loop; not if an exception ends it."""
    async_shop.app.testing = True
    async_shop.app.register_error_handler(KeyError, lambda _error: "handled")

    @async_shop.app.get("/")
    async def view() -> str:
        session = async_shop.manager.get_async_request_session()
        session.add(Note(text="x"))
        await session.flush()
        if fails:
            raise KeyError
        return "ok"

    with caught() as messages:
        assert async_shop.app.test_client().get("/").text == ("handled" if fails else "ok")
    assert ["new Note 1" in message for message in messages] == ([] if fails else [True])
    assert async_shop.held == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if not fails:
            with pytest.raises(UncommittedChangesWarning):
                async_shop.app.test_client().get("/")
    assert async_shop.held == 0


@pytest.mark.rule("T46")
def test_a_generator_between_two_steps_is_in_a_scope(strict_shop: Shop) -> None:
    """Its changes belong to that, which tells of its end by itself."""
    steps = strict_shop.manager.transactional(functools.partial(two_steps, strict_shop))()
    with caught() as messages:
        assert strict_shop.serve(lambda: next(steps)).text == "first"
    assert messages == []
    steps.close()


def two_steps(shop: Shop) -> Any:
    """Write, and wait."""
    shop.write("x")
    yield "first"
