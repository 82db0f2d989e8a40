"""What a view returns becomes a response before the COMMIT: what can't, is not committed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, jsonify
from flask.views import MethodView
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from flask_reqsession import DatabaseManager, RequestScopedSessionManager, set_rollback_only
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.worlds import Note, SyncWorld
from tests.never import never
from tests.servers.connections import rows_of


@pytest.fixture
def app(sync_world: SyncWorld) -> Flask:
    """Give an app that the manager serves."""
    app = Flask("shop")
    sync_world.manager.init_app(app)
    return app


class Application:
    """A WSGI application, which can be called twice but must not be."""

    def __init__(self, status: str) -> None:
        self.status = status
        self.calls = 0

    def __call__(self, _environ: object, start_response: Any) -> list[bytes]:
        """Answer."""
        self.calls += 1
        start_response(self.status, [("Content-Type", "text/plain")])
        return [b"answer"]


IMPOSSIBLE: list[Callable[[], object]] = [
    lambda: None,
    lambda: (None, 204),
    lambda: {"x"},
    lambda: 42,
    object,
    lambda: {"x": object()},
    lambda: [{"x"}],
    lambda: ({"x": object()}, 201),
    lambda: (42, 201),
    lambda: (),
    lambda: ("x",),
    lambda: ("x", 200, {}, "more"),
    lambda: ("x", 200, 42),
    lambda: "\ud800",
]


@pytest.mark.rule("T15", "T16")
@pytest.mark.parametrize("make", IMPOSSIBLE)
@pytest.mark.parametrize("rule", [{}, {"rollback_on_status": {409}}], ids=["default", "own"])
def test_what_flask_makes_no_response_of_is_rolled_back(
    sync_world: SyncWorld, app: Flask, make: Callable[[], Any], rule: Any
) -> None:
    """Flask answers 500, and its error reaches the app's error handlers."""
    heard: list[Exception] = []

    @app.errorhandler(Exception)
    def hear(error: Exception) -> tuple[str, int]:
        heard.append(error)
        return "sorry", 500

    @app.get("/")
    @sync_world.manager.transactional(**rule)
    def view() -> Any:
        sync_world.put("x")
        return make()

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.text) == (500, "sorry")
    assert isinstance(heard[0], TypeError | ValueError)
    assert sync_world.kept() == []


@pytest.mark.rule("T15")
@pytest.mark.parametrize("make", IMPOSSIBLE[:6])
def test_where_the_status_does_not_count_nothing_is_asked(
    sync_world: SyncWorld, app: Flask, make: Callable[[], Any]
) -> None:
    """``rollback_on_status=None``: only exceptions of the view roll back."""

    @app.get("/")
    @sync_world.manager.transactional(rollback_on_status=None)
    def view() -> Any:
        sync_world.put("x")
        return make()

    assert app.test_client().get("/").status_code == 500
    assert sync_world.kept() == ["x"]


@pytest.mark.rule("T15")
@pytest.mark.parametrize(("status", "kept"), [("404 NOT FOUND", []), ("200 OK", ["x"])])
def test_a_wsgi_application_is_asked_once_for_its_status(
    sync_world: SyncWorld, app: Flask, status: str, kept: list[str]
) -> None:
    """Before the commit; the answer is what it said."""
    application = Application(status)

    @app.get("/")
    @sync_world.manager.transactional
    def view() -> Any:
        sync_world.put("x")
        return application

    answer = app.test_client().get("/")
    assert (answer.status, answer.text, application.calls) == (status, "answer", 1)
    assert sync_world.kept() == kept


@pytest.mark.rule("T15")
def test_the_answer_is_made_once_and_inside_the_scope(sync_world: SyncWorld, app: Flask) -> None:
    """After a flush: a model that was only added has its key, and may still load."""
    made: list[Note] = []

    def default(note: Note) -> dict[str, object]:
        made.append(note)
        assert sync_world.session.in_transaction()
        return {"id": note.id, "all": len(sync_world.session.query(Note).all())}

    app.json.default = default  # type: ignore[attr-defined]  # as Flask documents

    @app.get("/")
    @sync_world.manager.transactional
    def view() -> Any:
        note = Note(text="x")
        sync_world.session.add(note)
        return {"note": note}, 201

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.json) == (201, {"note": {"id": 1, "all": 1}})
    assert len(made) == 1
    assert sync_world.sent == ["INSERT", "SELECT", "COMMIT"]


@pytest.mark.rule("T15", "T16")
def test_a_flush_that_fails_comes_before_the_answer(sync_world: SyncWorld, app: Flask) -> None:
    """The database's error is the view's."""
    heard: list[Exception] = []
    app.register_error_handler(IntegrityError, lambda error: (heard.append(error), ("no", 409))[1])

    @app.get("/")
    @sync_world.manager.transactional
    def view() -> Any:
        sync_world.session.add_all([Note(text="x"), Note(text="x")])
        return {"answer": 42}

    assert app.test_client().get("/").status_code == 409
    assert len(heard) == 1
    assert sync_world.kept() == []


@pytest.mark.rule("T6", "T15")
def test_the_answer_can_still_doom_the_scope(sync_world: SyncWorld, app: Flask) -> None:
    """What makes the answer runs inside the scope like the view itself."""

    def default(_value: object) -> str:
        set_rollback_only()
        return "doomed"

    app.json.default = default  # type: ignore[attr-defined]  # as Flask documents

    @app.get("/")
    @sync_world.manager.transactional
    def view() -> Any:
        sync_world.put("x")
        return [object()]

    assert app.test_client().get("/").json == ["doomed"]
    assert sync_world.kept() == []


@pytest.mark.rule("T15", "T16")
def test_a_statement_that_fails_while_the_answer_is_made_is_no_success(
    postgresql_url: str,
) -> None:
    """PostgreSQL would answer COMMIT with a silent rollback."""
    world = SyncWorld(postgresql_url)
    app = Flask("shop")
    world.manager.init_app(app)

    def default(_value: object) -> str:
        try:
            world.session.connection().exec_driver_sql("SELECT nonsense")
        except SQLAlchemyError:
            return "unknown"
        return never()

    app.json.default = default  # type: ignore[attr-defined]  # as Flask documents

    @app.get("/")
    @world.manager.transactional
    def view() -> Any:
        world.put("x")
        return {"value": object()}

    assert app.test_client().get("/").status_code == 500
    assert world.kept() == []
    assert world.conversation.held == 0
    world.manager.databases.dispose()


@pytest.mark.rule("T15", "T11")
def test_what_is_streamed_is_not_consumed(sync_world: SyncWorld, app: Flask) -> None:
    """An iterator is a response already; it runs when the response is sent."""
    kept: list[object] = []

    def body() -> Iterator[str]:
        kept.extend(sync_world.kept())
        yield "streamed"

    @app.get("/")
    @sync_world.manager.transactional
    def view() -> Any:
        sync_world.put("x")
        return map(str, body())

    assert app.test_client().get("/").text == "streamed"
    assert kept == ["x"]


# -- who gets the value ---------------------------------------------------------------------------


class Tolerant(Flask):
    """An app to which nothing is a response, too."""

    def make_response(self, rv: Any) -> Response:
        """Make nothing a 204."""
        return super().make_response(("", 204) if rv is None else rv)


class Dispatching(Flask):
    """An app that turns what its views return."""

    def dispatch_request(self) -> Any:
        """Wrap it."""
        return jsonify(answer=super().dispatch_request())


@pytest.mark.rule("T15")
@pytest.mark.parametrize(
    ("flask", "value", "status"),
    [(Tolerant, None, 204), (Dispatching, None, 200), (Dispatching, {"x": 1}, 200)],
)
def test_the_app_itself_decides_what_is_a_response(
    sync_world: SyncWorld, flask: type[Flask], value: Any, status: int
) -> None:
    """What its own methods make of the value is an answer, and the write is not lost under it."""
    app = flask("shop")
    sync_world.manager.init_app(app)

    @app.get("/")
    @sync_world.manager.transactional
    def view() -> Any:
        sync_world.put("x")
        return value

    answer = app.test_client().get("/")
    assert answer.status_code == status
    assert answer.json is None if status == 204 else answer.json == {"answer": value}
    assert sync_world.kept() == ["x"]


@pytest.mark.rule("T15")
def test_a_dispatch_request_of_the_classes_own_may_turn_the_value(
    sync_world: SyncWorld, app: Flask
) -> None:
    """It gets what the method returned, and the method's scope can't know what it will make."""

    class Books(MethodView):
        def dispatch_request(self, **values: Any) -> Any:
            return jsonify(answer=super().dispatch_request(**values))

        @sync_world.manager.transactional
        def get(self, text: str) -> Any:
            sync_world.put(text)
            return None if text == "nothing" else {"text": text}

    app.add_url_rule("/<text>", view_func=Books.as_view("books"))
    client = app.test_client()
    assert client.get("/nothing").json == {"answer": None}
    assert client.get("/dict").json == {"answer": {"text": "dict"}}
    assert sync_world.kept() == ["nothing", "dict"]


@pytest.mark.rule("T12", "T15")
def test_a_decorated_class_dispatches_inside_a_scope(sync_world: SyncWorld, app: Flask) -> None:
    """``dispatch_request`` of its own is a public method, and Flask gets what it returns."""

    @sync_world.manager.transactional
    class Books(MethodView):
        def dispatch_request(self, **values: Any) -> Any:
            sync_world.put("dispatched")
            super().dispatch_request(**values)
            return {"x"}

        def get(self) -> Any:
            sync_world.put("got")

    app.add_url_rule("/", view_func=Books.as_view("books"))
    assert app.test_client().get("/").status_code == 500
    assert sync_world.kept() == []


@pytest.mark.rule("T15", "W3")
@pytest.mark.parametrize("value", [None, {"x"}])
def test_a_stand_in_of_the_packages_own_passes_the_value_on(
    sync_world: SyncWorld, app: Flask, value: object
) -> None:
    """Another bind's session around the scope: the scope is the view's own all the same."""
    other = RequestScopedSessionManager(
        DatabaseManager({"default": "sqlite://", "analytics": "sqlite://"}), app, name="other"
    )

    @app.get("/")
    @other.with_request_session("analytics", bind="analytics")
    @sync_world.manager.transactional
    def view(analytics: object) -> Any:
        sync_world.put(type(analytics).__name__)
        return value

    assert app.test_client().get("/").status_code == 500
    assert sync_world.kept() == []
    other.databases.dispose()


class Holding:
    """A view that is an object."""

    def __init__(self, view: Any) -> None:
        self.view = view

    def __call__(self) -> Any:
        """Call the view."""
        return self.view()


def hiding(view: Any) -> Any:
    """Decorate a view without functools.wraps."""

    def wrapper(**values: Any) -> Any:
        return view(**values)

    return wrapper


@pytest.mark.rule("T15")
@pytest.mark.parametrize(
    ("around", "kept"),
    [
        (functools.partial, []),
        (Holding, ["x"]),  # its own code stands between Flask and the function
        (hiding, ["x"]),
    ],
)
def test_only_what_passes_the_value_on_for_sure_is_looked_through(
    sync_world: SyncWorld, app: Flask, around: Callable[[Any], Any], kept: list[str]
) -> None:
    """Elsewhere a decorator may make an answer of anything, and no write is lost under it."""

    @sync_world.manager.transactional
    def view() -> Any:
        sync_world.put("x")

    app.add_url_rule("/", "view", around(view))
    client = app.test_client()
    assert client.get("/").status_code == 500
    assert sync_world.kept() == kept


@pytest.mark.rule("T15")
def test_an_object_that_is_the_view_is_looked_through(sync_world: SyncWorld, app: Flask) -> None:
    """Its ``__call__`` is what Flask calls, with weak references or without."""

    class Slotted:
        __slots__ = ()

        @sync_world.manager.transactional
        def __call__(self, text: str) -> Any:
            sync_world.put(text)
            return {text} if text == "bad" else text

    app.add_url_rule("/<text>", "view", Slotted())
    client = app.test_client()
    assert client.get("/bad").status_code == 500
    assert client.get("/good").status_code == 200
    assert client.get("/bad").status_code == 500
    assert sync_world.kept() == ["good"]


@pytest.mark.rule("T15")
def test_the_role_of_a_function_is_that_in_the_request_that_runs(
    sync_world: SyncWorld, app: Flask
) -> None:
    """One function is a view here, a service there, and a part of a view elsewhere."""

    @sync_world.manager.transactional
    def put(text: str) -> Any:
        sync_world.put(text)
        return {"text"}

    @app.get("/service/<text>")
    def service(text: str) -> Any:
        return sorted(put(text))

    @app.get("/part/<text>", endpoint="part")
    @functools.wraps(put)
    def part(text: str) -> Any:
        return sorted(put(text))

    app.add_url_rule("/view/<text>", "view", put)
    client = app.test_client()
    for turn in range(2):
        assert client.get(f"/service/a{turn}").status_code == 200
        assert client.get(f"/view/b{turn}").status_code == 500
        assert client.get(f"/part/c{turn}").status_code == 200
    assert sync_world.kept() == ["a0", "c0", "a1", "c1"]
    with app.test_request_context("/nowhere"):
        assert put("d") == {"text"}
    assert sync_world.kept()[-1] == "d"


@pytest.mark.rule("T15", "T50")
@pytest.mark.parametrize("colour", ["async", "awaited"])
@pytest.mark.parametrize(
    ("make", "status", "kept"),
    [
        (lambda: {"x"}, 500, []),
        (lambda: {"x": object()}, 500, []),
        (lambda: Application("404 NOT FOUND"), 404, []),
        (lambda: {"x": 1}, 200, ["x"]),
    ],
    ids=["set", "dict", "application", "fine"],
)
def test_the_answer_of_an_async_view_is_made_before_the_commit(
    sqlite_file_url: str, colour: str, make: Callable[[], Any], status: int, kept: list[str]
) -> None:
    """With an AsyncSession or with a Session."""
    world = make_world(colour, sqlite_file_url)
    app = Flask("shop")
    world.manager.init_app(app)

    @world.transactional()
    async def view() -> Any:
        await world.write("x")
        return make()

    app.add_url_rule("/", "view", view)
    assert app.test_client().get("/").status_code == status
    assert [text for (text,) in rows_of(world.url, "SELECT text FROM note")] == kept
    assert world.conversation.held == 0
    world.manager.databases.dispose()
