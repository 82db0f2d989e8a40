"""Atomic requests: every view is in a scope by itself, unless it says otherwise."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, abort, current_app, stream_with_context
from flask.views import MethodView, View
from flask_login import LoginManager, login_required
from flask_restx import Api, Resource
from sqlalchemy.exc import IntegrityError

from flask_reqsession import (
    ConfigurationError,
    DatabaseManager,
    PropagationError,
    RequestScopedSessionManager,
    Retry,
    non_transactional,
    set_rollback_only,
    transactional,
)
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.foreign_decorators import either, hiding, passing
from tests.integration.transactions.worlds import AsyncWorld, Note, SyncWorld, World
from tests.servers.connections import async_url_of

KEY = "REQSESSION_ATOMIC_REQUESTS"


def atomic_app(world: World, flask: type[Flask] = Flask) -> Flask:
    """Make an app with atomic requests that the manager of ``world`` serves."""
    app = flask("shop")
    app.config[KEY] = True
    world.manager.init_app(app)
    return app


@pytest.fixture
def app(sync_world: SyncWorld) -> Flask:
    """Give an app with atomic requests."""
    return atomic_app(sync_world)


def in_scope(manager: RequestScopedSessionManager) -> bool:
    """Whether a scope is running."""
    try:
        manager.transactional(propagation="MANDATORY")(lambda: None)()
    except PropagationError:
        return False
    return True


# -- who says so ----------------------------------------------------------------------------------


@pytest.mark.rule("T40")
@pytest.mark.parametrize("given", [None, False, True])
@pytest.mark.parametrize("configured", [None, False, True])
@pytest.mark.parametrize("late", [False, True])
def test_the_configuration_wins_over_the_managers_argument(
    sync_world: SyncWorld, given: bool | None, configured: bool | None, late: bool
) -> None:
    """It may be set until the first request; without both, nothing is atomic."""
    argument: Any = {} if given is None else {"atomic_requests": given}
    manager = RequestScopedSessionManager(DatabaseManager(sync_world.url), **argument)
    app = Flask("shop")
    if late:
        manager.init_app(app)
    if configured is not None:
        app.config[KEY] = configured
    if not late:
        manager.init_app(app)
    app.add_url_rule("/", "view", lambda: str(in_scope(manager)))
    expected = bool(given) if configured is None else configured
    assert app.test_client().get("/").text == str(expected)
    manager.databases.dispose()


@pytest.mark.rule("T40")
def test_a_configuration_that_is_neither_true_nor_false_is_refused(sync_world: SyncWorld) -> None:
    """A string from the environment is not taken for either: at once, or at the first request."""
    app = Flask("shop")
    app.config[KEY] = "0"
    with pytest.raises(ConfigurationError, match="REQSESSION_ATOMIC_REQUESTS.*'0'"):
        sync_world.manager.init_app(app)
    late = Flask("late")
    sync_world.manager.init_app(late)
    late.config.update({KEY: "0", "TESTING": True})
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="'late'"):
            late.test_client().get("/")


@pytest.mark.rule("T40")
def test_one_manager_can_serve_an_atomic_app_and_another(sync_world: SyncWorld, app: Flask) -> None:
    """It is a matter of the app, also where an app calls the other one."""
    plain = Flask("plain")
    sync_world.manager.init_app(plain)
    plain.add_url_rule("/", "view", lambda: str(in_scope(sync_world.manager)))

    @app.get("/")
    def view() -> str:
        inner = plain.test_client().get("/").text
        return f"{in_scope(sync_world.manager)} {inner}"

    assert app.test_client().get("/").text == "True False"


# -- what a view is -------------------------------------------------------------------------------


@pytest.mark.rule("T40", "T1", "T15")
@pytest.mark.parametrize(
    ("text", "status", "kept"),
    [
        ("fine", 200, ["fine"]),
        ("moved", 302, ["moved"]),
        ("status", 409, []),
        ("abort", 410, []),
        ("error", 500, []),
        ("nothing", 500, []),
        ("set", 500, []),
        ("doomed", 200, []),
    ],
)
def test_a_view_runs_as_if_it_were_decorated(
    sync_world: SyncWorld, app: Flask, text: str, status: int, kept: list[str]
) -> None:
    """Commit, or rollback by exception, status, or set_rollback_only()."""

    @app.get("/<text>")
    def view(text: str) -> Any:
        sync_world.put(text)
        if text == "doomed":
            set_rollback_only()
        if text == "abort":
            abort(410)
        if text == "error":
            raise ValueError
        return {"moved": ("", 302), "status": ("no", 409), "nothing": None, "set": {"x"}}.get(
            text, "ok"
        )

    assert app.test_client().get(f"/{text}").status_code == status
    assert sync_world.kept() == kept


@pytest.mark.rule("T40")
def test_views_are_views_wherever_they_come_from(sync_world: SyncWorld) -> None:
    """From before ``init_app``, from a blueprint, in ``view_functions``, replaced, as objects."""
    app = Flask("shop")
    app.config[KEY] = True

    def put(text: str) -> str:
        sync_world.put(text)
        return text

    class Book:
        def show(self, text: str) -> str:
            return put(text)

        def __call__(self, text: str) -> str:
            return put(text)

    blueprint = Blueprint("inner", __name__)
    outer = Blueprint("outer", __name__, url_prefix="/outer")
    app.add_url_rule("/before/<text>", "before", put)
    blueprint.add_url_rule("/<text>", "put", put)
    outer.register_blueprint(blueprint, url_prefix="/inner")
    sync_world.manager.init_app(app)
    app.register_blueprint(outer)
    app.add_url_rule("/after/<text>", "after", put)
    app.add_url_rule("/again/<text>", "after", put)
    app.add_url_rule("/method/<text>", "method", Book().show)
    app.add_url_rule("/object/<text>", "object", Book())
    app.add_url_rule("/partial/<text>", "partial", functools.partial(put))
    app.add_url_rule("/late/<text>", "late")
    app.endpoint("late")(put)
    places = ["before", "outer/inner", "after", "again", "method", "object", "partial", "late"]
    client = app.test_client()
    for place in places:
        assert client.get(f"/{place}/{place[:5]}").status_code == 200
    app.view_functions["after"] = lambda text: put(f"{text}, replaced")
    assert client.get("/after/after").status_code == 200
    assert app.ensure_sync(put) is put  # no request, so it is no view
    assert sync_world.kept() == [*(place[:5] for place in places), "after, replaced"]


@pytest.mark.rule("T40")
def test_a_request_of_a_method_that_no_rule_names_is_served(
    sync_world: SyncWorld, app: Flask
) -> None:
    """A rule without methods takes any; what is not known beforehand is not remembered."""
    app.url_map.add(app.url_rule_class("/<text>", endpoint="any"))
    app.view_functions["any"] = lambda text: sync_world.put(text).text
    client = app.test_client()
    assert client.open("/first", method="BREW").text == "first"
    assert client.open("/second", method="BREW").text == "second"
    assert sync_world.kept() == ["first", "second"]


@pytest.mark.rule("T40", "T12")
def test_class_based_views_are_views(sync_world: SyncWorld, app: Flask) -> None:
    """Each method, and HEAD by way of GET; those of RESTX as well, which dispatch by themselves."""

    class Books(MethodView):
        def get(self, text: str) -> str:
            return sync_world.put(text).text

        def post(self, text: str) -> tuple[str, int]:
            return sync_world.put(text).text, 409

    class Book(View):
        def dispatch_request(self, text: str) -> str:  # type: ignore[override]  # as users do
            return sync_world.put(text).text

    api = Api(app, prefix="/api")

    @api.route("/<text>")
    class BookResource(Resource):  # type: ignore[misc]  # RESTX has no types
        def get(self, text: str) -> Any:
            sync_world.put(text)
            return {"text": text}, 409 if text == "refused" else 200

    app.add_url_rule("/books/<text>", view_func=Books.as_view("books"))
    app.add_url_rule("/book/<text>", view_func=Book.as_view("book"))
    client = app.test_client()
    assert client.get("/books/a").status_code == 200
    assert client.head("/books/b").status_code == 200
    assert client.post("/books/c").status_code == 409
    assert client.options("/books/d").status_code == 200
    assert client.get("/book/e").status_code == 200
    assert client.get("/api/f").json == {"text": "f"}
    assert client.get("/api/refused").status_code == 409
    assert sync_world.kept() == ["a", "b", "e", "f"]


@pytest.mark.rule("T40")
def test_static_files_have_no_scope(sync_world: SyncWorld, tmp_path: Path) -> None:
    """Nothing there could be committed: those of the app, and of a blueprint."""
    (tmp_path / "style.css").write_text("body {}")
    scopes: list[bool] = []

    class Watched:
        def get_send_file_max_age(self, filename: str | None) -> None:
            del filename
            scopes.append(in_scope(sync_world.manager))

    class WatchedFlask(Watched, Flask): ...

    class WatchedBlueprint(Watched, Blueprint): ...

    options: Any = {"static_folder": tmp_path, "static_url_path": "/static"}
    app = WatchedFlask("shop", **options)
    app.config[KEY] = True
    sync_world.manager.init_app(app)
    app.register_blueprint(WatchedBlueprint("books", __name__, url_prefix="/books", **options))

    client = app.test_client()
    for path in ("/static/style.css", "/books/static/style.css"):
        response = client.get(path)
        assert (response.status_code, response.text) == (200, "body {}")
        response.close()
    assert client.get("/static/nothing").status_code == 404
    assert set(scopes) == {False}


@pytest.mark.rule("T40")
def test_hooks_and_error_handlers_are_outside_of_the_scope(
    sync_world: SyncWorld, app: Flask
) -> None:
    """A before_request function that answers is no view; a handler runs after the rollback."""
    manager = sync_world.manager
    seen: dict[str, bool] = {}

    @app.before_request
    def before() -> None:
        seen["before"] = in_scope(manager)

    @app.after_request
    def after(response: Any) -> Any:
        seen["after"] = in_scope(manager)
        return response

    @app.teardown_request
    def teardown(_error: object) -> None:
        seen["teardown"] = in_scope(manager)

    @app.errorhandler(ValueError)
    def handle(_error: ValueError) -> str:
        seen["handler"] = in_scope(manager)
        return "handled"

    @app.get("/")
    def view() -> str:
        seen["view"] = in_scope(manager)
        sync_world.put("x")
        raise ValueError

    assert app.test_client().get("/").text == "handled"
    assert seen.pop("view")
    assert seen == dict.fromkeys(["before", "handler", "after", "teardown"], False)
    assert sync_world.kept() == []


@pytest.mark.rule("T40", "T8")
def test_the_scope_takes_over_what_was_written_before(sync_world: SyncWorld, app: Flask) -> None:
    """By a before_request function, say."""

    @app.before_request
    def before() -> None:
        sync_world.put("before")

    app.add_url_rule("/", "view", lambda: "ok")
    assert app.test_client().get("/").text == "ok"
    assert app.test_client().get("/nowhere").status_code == 500  # written twice, and never kept
    assert sync_world.kept() == ["before"]


@pytest.mark.rule("T40", "T3")
def test_calls_join_the_scope_of_the_view(sync_world: SyncWorld, app: Flask) -> None:
    """One commit for all, and a swallowed failure is reported."""
    manager = sync_world.manager

    @manager.transactional
    def service(text: str) -> None:
        sync_world.put(text)
        if text == "bad":
            raise ValueError

    @app.get("/<text>")
    def view(text: str) -> str:
        service("first")
        try:
            service(text)
        except ValueError:
            return "swallowed"
        return "ok"

    client = app.test_client()
    assert client.get("/bad").status_code == 500
    assert sync_world.sent == ["INSERT", "INSERT", "ROLLBACK"]
    assert client.get("/good").status_code == 200
    assert sync_world.sent == ["INSERT", "INSERT", "COMMIT"]
    assert sync_world.kept() == ["first", "good"]


@pytest.mark.rule("T40", "T10")
def test_an_untouched_view_costs_no_connection(sync_world: SyncWorld, app: Flask) -> None:
    """Nothing is sent, and no session is made."""
    app.add_url_rule("/", "view", lambda: "ok")
    assert app.test_client().get("/").text == "ok"
    assert sync_world.conversation.checkouts == 0
    assert sync_world.sent == []


# -- what keeps its own ---------------------------------------------------------------------------


@pytest.mark.rule("T40")
@pytest.mark.parametrize("around", [None, passing, hiding, functools.partial])
@pytest.mark.parametrize("free", [False, True])
def test_a_view_that_is_decorated_itself_keeps_its_options(
    sync_world: SyncWorld, app: Flask, around: Any, free: bool
) -> None:
    """``retry=`` would be refused in a scope around, and the status rule would be another."""
    decorator = transactional if free else sync_world.manager.transactional
    attempts: list[int] = []

    @decorator(retry=Retry(2, on=KeyError, initial=0), rollback_on_status=None)
    def book() -> Any:
        attempts.append(len(attempts))
        sync_world.put("x")
        if len(attempts) == 1:
            raise KeyError
        return "x", 409

    app.add_url_rule("/", "view", book if around is None else around(book))
    assert app.test_client().get("/").status_code == 409
    assert attempts == [0, 1]
    assert sync_world.kept() == ["x"]


@pytest.mark.rule("T40", "T45")
@pytest.mark.parametrize("method", ["get", "post", "put", "delete"])
def test_a_method_of_a_class_keeps_its_own(sync_world: SyncWorld, app: Flask, method: str) -> None:
    """GET is as it is, POST has a scope with another rule, PUT is exempt, DELETE is as GET."""
    manager = sync_world.manager

    class Books(MethodView):
        def get(self) -> Any:
            sync_world.put("get")
            return str(in_scope(manager)), 409

        @passing
        @manager.transactional(rollback_on_status=None)
        def post(self) -> Any:
            sync_world.put("post")
            return str(in_scope(manager)), 409

        @passing
        @non_transactional
        def put(self) -> Any:
            return str(in_scope(manager)), 409

        @manager.with_request_session
        def delete(self, session: Any) -> Any:
            session.add(Note(text="delete"))
            return str(in_scope(manager)), 201

    app.add_url_rule("/", view_func=Books.as_view("books"))
    answer = app.test_client().open("/", method=method.upper())
    assert answer.status_code == (201 if method == "delete" else 409)
    assert answer.text == str(method != "put")
    assert sync_world.kept() == ([method] if method in {"post", "delete"} else [])


@pytest.mark.rule("T45")
@pytest.mark.parametrize("around", [None, passing, hiding, functools.partial, "session", "class"])
def test_a_view_can_be_exempt(sync_world: SyncWorld, app: Flask, around: Any) -> None:
    """Under other decorators as well; what it calls has scopes of its own."""
    manager = sync_world.manager

    @manager.transactional
    def service() -> None:
        sync_world.put("kept")

    @non_transactional
    def book(*_args: object, **_kwargs: object) -> str:
        service()
        manager.session.rollback()
        return str(in_scope(manager))

    @non_transactional
    class Books(MethodView):
        def get(self) -> str:
            return book()

    ways = {None: book, "session": manager.reattach_args(book), "class": Books.as_view("books")}
    app.add_url_rule("/", "view", ways[around] if around in ways else around(book))
    assert app.test_client().get("/").text == "False"
    assert sync_world.kept() == ["kept"]


@pytest.mark.rule("T45", "T12")
def test_the_decorators_of_a_class_can_exempt_it(sync_world: SyncWorld, app: Flask) -> None:
    """They get the view function that Flask makes of it."""

    class Books(MethodView):
        decorators = [non_transactional]  # noqa: RUF012 - as users write it

        def get(self) -> str:
            return str(in_scope(sync_world.manager))

    app.add_url_rule("/", view_func=Books.as_view("books"))
    assert app.test_client().get("/").text == "False"


@pytest.mark.rule("T45")
def test_the_mark_is_put_on_the_object_itself() -> None:
    """Which is returned; also on a method, a static method and a callable object."""

    class Views:
        @non_transactional
        @staticmethod
        def static() -> str:
            return "static"

        @non_transactional
        def method(self) -> str:
            return "method"

    def view() -> str:
        return "view"

    assert non_transactional(view) is view
    assert Views.static() == "static"
    assert Views().method() == "method"
    bound = Views().method
    assert non_transactional(bound) is bound
    assert view() == "view"


@pytest.mark.rule("T45")
@pytest.mark.parametrize("view", [len, 42, "view"])
def test_what_takes_no_mark_is_refused(view: Any) -> None:
    """A function in C, say."""
    with pytest.raises(ConfigurationError, match="takes no mark"):
        non_transactional(view)


@pytest.mark.rule("T40")
def test_a_decorator_of_another_manager_is_not_the_views_own(sync_world: SyncWorld) -> None:
    """Each manager has its scope; both may be atomic, and one status rolls both back."""
    url = sync_world.url
    other = RequestScopedSessionManager(DatabaseManager(url), name="other")
    app = Flask("shop")
    app.config[KEY] = True
    sync_world.manager.init_app(app)
    other.init_app(app)

    def both() -> str:
        return f"{in_scope(sync_world.manager)} {in_scope(other)}"

    @app.get("/<int:status>")
    def view(status: int) -> tuple[str, int]:
        sync_world.put(f"{status}")
        return both(), status

    @app.get("/decorated")
    @other.transactional(propagation="NEVER")
    def decorated() -> str:
        return both()

    @app.get("/named")
    @transactional(manager="other", propagation="NEVER")
    def named() -> str:
        return both()

    @app.get("/default")
    @transactional(propagation="NEVER")
    def default() -> str:
        return both()

    class Books(MethodView):
        def get(self) -> str:
            return both()

    app.add_url_rule("/class", view_func=Books.as_view("books"))
    client = app.test_client()
    for _ in range(2):
        assert client.get("/409").text == "True True"
    assert client.get("/200").text == "True True"
    assert client.get("/decorated").text == client.get("/named").text == "True False"
    assert client.get("/default").text == "False True"
    assert client.get("/class").text == "True True"
    assert sync_world.kept() == ["200"]
    other.databases.dispose()


# -- generators -----------------------------------------------------------------------------------


@pytest.mark.rule("T40", "T11")
@pytest.mark.parametrize("fails", [False, True])
def test_a_view_that_is_a_generator_has_its_scope_while_it_is_sent(
    sync_world: SyncWorld, app: Flask, fails: bool
) -> None:
    """Committed when it is exhausted, as with the decorator."""

    @app.get("/")
    def view() -> Iterator[str]:
        sync_world.put("x")
        yield str(in_scope(sync_world.manager))
        if fails:
            raise ValueError

    client = app.test_client()
    if fails:
        with pytest.raises(ValueError, match="^$"):
            client.get("/", buffered=True)
    else:
        assert client.get("/").text == "True"
    assert sync_world.kept() == ([] if fails else ["x"])


@pytest.mark.rule("T40", "T11")
def test_a_body_that_would_run_after_the_commit_is_refused(
    sync_world: SyncWorld, app: Flask
) -> None:
    """With the decorator under ``stream_with_context``, or exempt, it is served."""
    app.testing = True

    def notes() -> Iterator[str]:
        sync_world.put("x")
        yield str(in_scope(sync_world.manager))

    app.add_url_rule("/", "view", stream_with_context(notes))
    scoped = stream_with_context(sync_world.manager.transactional(notes))
    app.add_url_rule("/scoped", "scoped", scoped)
    client = app.test_client()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="directly on the generator") as caught:
            client.get("/")
        assert "@non_transactional" in caught.value.__notes__[0]
    assert client.get("/scoped").text == "True"
    assert sync_world.kept() == ["x"]


# -- async views ----------------------------------------------------------------------------------


@pytest.fixture(params=["async", "awaited"])
def atomic_world(request: pytest.FixtureRequest, sqlite_file_url: str) -> Iterator[World]:
    """Give a world whose coroutines have an AsyncSession, or a Session."""
    world = make_world(request.param, sqlite_file_url)
    yield world
    world.manager.databases.dispose()
    assert world.conversation.held == 0


@pytest.mark.rule("T40", "T50")
@pytest.mark.parametrize("shape", ["function", "either", "method", "dispatch", "decorators"])
@pytest.mark.parametrize(("status", "commits"), [(200, True), (409, False)])
def test_an_async_view_has_the_scope_of_its_session(
    atomic_world: World, shape: str, status: int, commits: bool
) -> None:
    """However a synchronous function stands between Flask and the coroutine."""
    app = atomic_app(atomic_world)

    async def view() -> tuple[str, int]:
        await atomic_world.write("x")
        return "x", status

    class Books(MethodView):
        decorators = [either] if shape == "decorators" else []

        async def get(self) -> tuple[str, int]:
            return await view()

    class Book(View):
        async def dispatch_request(self) -> tuple[str, int]:  # type: ignore[override]
            return await view()

    views: dict[str, Any] = {
        "function": view,
        "either": either(view),
        "dispatch": Book.as_view("book"),
    }
    app.add_url_rule("/", "view", views.get(shape, Books.as_view("books")))
    client = app.test_client()
    assert client.get("/").status_code == status
    if not commits:
        assert client.get("/").status_code == status
    assert atomic_world.kept() == (["x"] if commits else [])


@pytest.mark.rule("T40", "T45", "T50")
def test_an_async_view_keeps_its_own(atomic_world: World) -> None:
    """Decorated, or exempt, under a decorator of both colours."""
    app = atomic_app(atomic_world)

    async def put(text: str) -> tuple[str, int]:
        await atomic_world.write(text)
        return text, 409

    own = atomic_world.manager.transactional(rollback_on_status=None)

    @app.get("/own")
    @either
    @own
    async def scoped() -> Any:
        return await put("own")

    @app.get("/exempt")
    @either
    @non_transactional
    async def exempt() -> Any:
        answer = await put("exempt")
        await atomic_world.do(lambda session: session.rollback())
        return answer

    client = app.test_client()
    assert client.get("/own").status_code == client.get("/exempt").status_code == 409
    assert atomic_world.kept() == ["own"]


@pytest.mark.rule("T40", "T50")
def test_a_view_that_needs_no_session_is_served_where_all_sessions_are_async(
    sqlite_file_url: str,
) -> None:
    """A synchronous view could use none."""
    world = AsyncWorld(sqlite_file_url, async_url_of(sqlite_file_url))
    app = atomic_app(world)
    app.add_url_rule("/", "view", lambda: "ok")
    assert app.test_client().get("/").text == "ok"


@pytest.mark.rule("T40", "T50")
@pytest.mark.parametrize("status", [200, 409])
def test_with_sessions_of_both_colours_each_part_has_its_own_scope(
    sqlite_file_url: str, status: int
) -> None:
    """The decorator writes with a Session, the coroutine with an AsyncSession."""
    world = SyncWorld(sqlite_file_url)
    manager = RequestScopedSessionManager(
        DatabaseManager(world.url, async_source=async_url_of(world.url)), atomic_requests=True
    )
    app = Flask("shop")
    manager.init_app(app)

    def audited(view: Any) -> Any:
        @functools.wraps(view)
        def wrapper() -> Any:
            answer = current_app.ensure_sync(view)()
            manager.session.add(Note(text="audit"))
            return answer

        return wrapper

    @app.get("/")
    @audited
    async def view() -> Any:
        manager.get_async_request_session().add(Note(text="x"))
        return "x", status

    assert app.test_client().get("/").status_code == status
    assert world.kept() == (["x", "audit"] if status == 200 else [])
    manager.databases.dispose()
    world.manager.databases.dispose()


# -- other libraries, and the end of the scope ----------------------------------------------------


@pytest.mark.rule("T40", "W3")
def test_a_view_that_needs_a_login_is_a_view(sync_world: SyncWorld, app: Flask) -> None:
    """Flask-Login calls it by ``ensure_sync``."""
    app.secret_key = "secret"  # noqa: S105 - of a test
    LoginManager(app).request_loader(lambda _request: None)
    app.config["LOGIN_DISABLED"] = True

    @app.get("/<text>")
    @login_required  # type: ignore[untyped-decorator]  # Flask-Login has no types
    def view(text: str) -> str:
        return sync_world.put(text).text

    assert app.test_client().get("/x").text == "x"
    assert sync_world.kept() == ["x"]


@pytest.mark.rule("T40", "T16")
def test_a_failing_flush_at_the_end_reaches_the_error_handlers(
    sync_world: SyncWorld, app: Flask
) -> None:
    """The commit comes before the response."""
    app.register_error_handler(IntegrityError, lambda _error: ("twice", 409))

    @app.get("/")
    def view() -> str:
        sync_world.session.add_all([Note(text="x"), Note(text="x")])
        return "ok"

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.text) == (409, "twice")
    assert sync_world.kept() == []
