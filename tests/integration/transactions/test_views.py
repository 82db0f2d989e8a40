"""In a view the HTTP status decides as well, and only in a view."""

from __future__ import annotations

import functools
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, redirect
from flask.views import MethodView, View
from flask_restx import Api, Resource
from werkzeug.exceptions import Conflict, HTTPException, NotFound
from werkzeug.routing import RequestRedirect

from flask_reqsession import RequestScopedSessionManager, UnexpectedRollbackError
from tests.integration.transactions.foreign_decorators import hiding, passing
from tests.integration.transactions.worlds import SyncWorld
from tests.never import never

PLAIN = "x"


@pytest.fixture
def manager(sync_world: SyncWorld) -> RequestScopedSessionManager:
    """Give the manager alone."""
    return sync_world.manager


@pytest.fixture
def app(manager: RequestScopedSessionManager) -> Flask:
    """Give an app that the manager serves."""
    app = Flask("shop")
    manager.init_app(app)
    return app


def answer_of(app: Flask, view: Callable[..., Any]) -> int:
    """Return the status of a request to ``view``."""
    app.add_url_rule("/view", "view", view)
    with app.test_client() as client:
        return client.get("/view").status_code


def conflict() -> HTTPException:
    """Make an exception that has a response of its own."""
    return HTTPException(response=Response("x", 409))


@pytest.mark.rule("T15")
@pytest.mark.parametrize(
    ("make", "status", "commits"),
    [
        (lambda: "x", 200, True),
        (lambda: b"x", 200, True),
        (lambda: {"x": 1}, 200, True),
        (lambda: ["x"], 200, True),
        (lambda: ("x", 201), 201, True),
        (lambda: ("x", HTTPStatus.CREATED), 201, True),
        (lambda: ("x", "201 CREATED"), 201, True),
        (lambda: ("x", {"X-Y": "z"}), 200, True),
        (lambda: ("x", 202, {"X-Y": "z"}), 202, True),
        (lambda: (Response("x", 203), {"X-Y": "z"}), 203, True),
        (lambda: Response("x", 204), 204, True),
        (lambda: iter(["x"]), 200, True),
        (lambda: (text for text in "xy"), 200, True),
        (lambda: redirect("/elsewhere"), 302, True),
        (lambda: ("x", 399), 399, True),
        (lambda: (Response("x", 500), 200), 200, True),
        (lambda: ("x", 400), 400, False),
        (lambda: ("x", 409), 409, False),
        (lambda: ("x", HTTPStatus.CONFLICT), 409, False),
        (lambda: ("x", "409 CONFLICT"), 409, False),
        (lambda: ("x", "409"), 409, False),
        (lambda: ({"x": 1}, 422, {"X-Y": "z"}), 422, False),
        (lambda: ("x", 503), 503, False),
        (lambda: Response("x", 500), 500, False),
        (lambda: (Response("x", 500), {"X-Y": "z"}), 500, False),
        (lambda: (Response("x", 200), 500), 500, False),
        (NotFound, 404, False),
        (conflict, 409, False),
        (lambda: None, 500, False),
        (lambda: (None, 204), 500, False),
        (lambda: (None, {"X-Y": "z"}), 500, False),
        (lambda: (), 500, False),
    ],
)
def test_the_status_of_what_a_view_returns_decides(
    sync_world: SyncWorld, app: Flask, make: Callable[[], object], status: int, commits: bool
) -> None:
    """2xx and 3xx commit, an error status rolls back, in every form that Flask accepts."""

    @sync_world.manager.transactional
    def view() -> Any:
        sync_world.put("x")
        return make()

    assert answer_of(app, view) == status
    assert sync_world.kept() == (["x"] if commits else [])


@pytest.mark.rule("T15")
@pytest.mark.parametrize(
    ("raised", "status", "commits"),
    [
        (Conflict(), 409, False),
        (conflict(), 409, False),
        (HTTPException(), 200, True),
        (RequestRedirect("/elsewhere"), 308, True),
        (HTTPException(response=redirect("/elsewhere")), 302, True),
        (HTTPException(response=Response("x", 200)), 200, True),
    ],
)
def test_the_status_of_what_a_view_raises_decides(
    sync_world: SyncWorld, app: Flask, raised: HTTPException, status: int, commits: bool
) -> None:
    """abort(409) rolls back, a raised redirect commits, and each reaches Flask as it is."""
    heard: list[Exception] = []

    @app.errorhandler(HTTPException)
    def hear(error: HTTPException) -> HTTPException:
        heard.append(error)
        return error

    @sync_world.manager.transactional
    def view() -> None:
        sync_world.put("x")
        raise raised

    assert answer_of(app, view) == status
    assert heard in ([], [raised])  # what has a response of its own passes Flask's handlers by
    assert sync_world.kept() == (["x"] if commits else [])


@pytest.mark.rule("T15")
@pytest.mark.parametrize("argument", [409, Response("x", 409)], ids=["status", "response"])
def test_abort_rolls_back(sync_world: SyncWorld, app: Flask, argument: Any) -> None:
    """By status or with a response of its own."""

    @sync_world.manager.transactional
    def view() -> None:
        sync_world.put("x")
        abort(argument)

    assert answer_of(app, view) == 409
    assert sync_world.kept() == []


@pytest.mark.rule("T15", "T3")
def test_a_redirect_raised_in_a_joined_service_commits(sync_world: SyncWorld, app: Flask) -> None:
    """It dooms nothing on its way through the view, nor if the view answers otherwise."""

    @sync_world.manager.transactional
    def service() -> None:
        sync_world.put("x")
        abort(redirect("/elsewhere"))

    @sync_world.manager.transactional
    def view() -> str:
        service()
        return never()

    assert answer_of(app, view) == 302
    assert sync_world.kept() == ["x"]


@pytest.mark.rule("T15", "T3")
@pytest.mark.parametrize("answer", ["no", ("no", 200)])
def test_an_abort_in_a_joined_service_that_the_view_swallows_is_no_success(
    sync_world: SyncWorld, app: Flask, answer: Any
) -> None:
    """The view says 200, but the service rolled back: an error reaches the error handlers."""

    @sync_world.manager.transactional
    def service() -> None:
        sync_world.put("x")
        abort(404)

    @sync_world.manager.transactional
    def view() -> Any:
        with pytest.raises(NotFound):
            service()
        return answer

    heard: list[Exception] = []

    @app.errorhandler(UnexpectedRollbackError)
    def hear(error: UnexpectedRollbackError) -> tuple[str, int]:
        heard.append(error)
        return "conflict", 409

    assert answer_of(app, view) == 409
    assert isinstance(heard[0].__cause__, NotFound)
    assert sync_world.kept() == []


@pytest.mark.rule("T15", "T3")
def test_an_error_status_answers_a_swallowed_failure(sync_world: SyncWorld, app: Flask) -> None:
    """``try: service() except: return "no", 409`` is a plain 409 with a rollback."""

    @sync_world.manager.transactional
    def service() -> None:
        sync_world.put("x")
        raise ValueError

    @sync_world.manager.transactional
    def view() -> Any:
        try:
            service()
        except ValueError:
            return "no", 409

    assert answer_of(app, view) == 409
    assert sync_world.kept() == []


@pytest.mark.rule("T15", "T3")
def test_a_redirect_after_a_swallowed_failure_is_no_success(
    sync_world: SyncWorld, app: Flask
) -> None:
    """It would have committed; now its caller has to be told. The redirect is its context."""

    @sync_world.manager.transactional
    def service() -> None:
        raise ValueError

    @sync_world.manager.transactional
    def view() -> None:
        sync_world.put("x")
        with pytest.raises(ValueError, match="^$"):
            service()
        abort(redirect("/done"))

    app.testing = True
    with pytest.raises(UnexpectedRollbackError) as caught:
        answer_of(app, view)
    assert isinstance(caught.value.__cause__, ValueError)
    assert sync_world.kept() == []


# -- what is a view -----------------------------------------------------------------------------


@pytest.mark.rule("T15")
def test_a_service_that_returns_a_tuple_commits(sync_world: SyncWorld, app: Flask) -> None:
    """Its return value is no response, even where it is the outermost scope of the request."""

    @sync_world.manager.transactional
    def service(*answer: object) -> tuple[object, ...]:
        sync_world.put(f"note {len(answer)}")
        return answer

    def view() -> str:
        assert service("x", 404) == ("x", 404)
        assert service() == ()
        assert service(None) == (None,)
        assert service(None, 500, None) == (None, 500, None)
        return "ok"

    assert answer_of(app, view) == 200
    assert sync_world.kept() == ["note 2", "note 0", "note 1", "note 3"]
    service("outside", 500, "a", "request")
    assert len(sync_world.kept()) == 5


@pytest.mark.rule("T15")
def test_a_service_that_returns_nothing_or_a_response_commits(
    sync_world: SyncWorld, app: Flask
) -> None:
    """Only the view's own return value is looked at."""

    @sync_world.manager.transactional
    def service(text: str, answer: object) -> object:
        sync_world.put(text)
        return answer

    def view() -> str:
        service("nothing", None)
        service("response", Response("x", 500))
        return "ok"

    assert answer_of(app, view) == 200
    assert sync_world.kept() == ["nothing", "response"]


class Holding:
    """Decorate a view by an object that holds it."""

    def __init__(self, view: Callable[..., Any]) -> None:
        functools.update_wrapper(self, view)
        self._view = view

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the view."""
        return self._view(*args, **kwargs)


def partially(view: Callable[..., Any]) -> Callable[..., Any]:
    """Make a partial of a view."""
    return functools.partial(view)


@pytest.mark.rule("T15")
@pytest.mark.parametrize(
    "decorators",
    [
        [passing],
        [passing, passing],
        [hiding],
        [hiding, passing],
        [passing, hiding],
        [Holding],
        [partially],
        [hiding, partially],
    ],
    ids=lambda each: "+".join(decorator.__name__ for decorator in each),
)
def test_a_view_is_recognised_under_other_decorators(
    sync_world: SyncWorld, app: Flask, decorators: list[Callable[..., Any]]
) -> None:
    """With functools.wraps or without, several of them, as an object or a partial."""

    @sync_world.manager.transactional
    def book() -> Any:
        sync_world.put("x")
        return "no", 409

    decorated: Callable[..., Any] = book
    for decorate in decorators:
        decorated = decorate(decorated)
    assert answer_of(app, decorated) == 409
    assert sync_world.kept() == []


@pytest.mark.rule("T15")
@pytest.mark.parametrize("decorator", [passing, hiding])
def test_a_view_is_recognised_over_other_decorators(
    sync_world: SyncWorld, app: Flask, decorator: Callable[..., Any]
) -> None:
    """The scope wraps what another decorator made of the view."""

    def view() -> Any:
        sync_world.put("x")
        return "no", 409

    assert answer_of(app, sync_world.manager.transactional(decorator(view))) == 409
    assert sync_world.kept() == []


@pytest.mark.rule("T15")
def test_a_service_in_the_closure_of_a_view_is_not_taken_for_it(
    sync_world: SyncWorld, app: Flask
) -> None:
    """An app factory holds services by their own names; its views take no arbitrary arguments."""

    @sync_world.manager.transactional
    def service() -> Any:
        sync_world.put("x")
        return "x", 404

    def make_view(anything: Callable[..., Any]) -> Callable[..., Any]:
        def view(**_values: Any) -> str:
            assert service() == ("x", 404)
            return "ok"

        def simple() -> str:
            return never(anything)

        return view if anything is service else simple

    assert answer_of(app, make_view(service)) == 200
    assert sync_world.kept() == ["x"]


@pytest.mark.rule("T15")
@pytest.mark.parametrize("decorator", [passing, hiding])
def test_none_may_be_a_response_where_a_decorator_outside_makes_one_of_it(
    sync_world: SyncWorld, app: Flask, decorator: Callable[..., Any]
) -> None:
    """The scope can't know, so a write is not lost under a 200."""

    @sync_world.manager.transactional
    def nothing() -> None:
        sync_world.put("x")

    @decorator
    def view(**_values: Any) -> Any:
        return {"answer": nothing()}

    assert answer_of(app, view) == 200
    assert sync_world.kept() == ["x"]


@pytest.mark.rule("T15")
def test_a_view_of_a_blueprint_is_a_view(sync_world: SyncWorld, app: Flask) -> None:
    """Its endpoint has the blueprint's name in front."""
    blueprint = Blueprint("books", __name__)

    @blueprint.get("/<text>")
    @sync_world.manager.transactional
    def view(text: str) -> tuple[str, int]:
        sync_world.put(text)
        return text, 409 if text == "bad" else 201

    app.register_blueprint(blueprint, url_prefix="/books")
    client = app.test_client()
    assert client.get("/books/bad").status_code == 409
    assert client.get("/books/good").status_code == 201
    assert sync_world.kept() == ["good"]


@pytest.mark.rule("T15", "T12")
@pytest.mark.parametrize("where", ["method", "class", "decorators", "around as_view", "all"])
def test_a_method_view_is_a_view_wherever_it_is_decorated(
    sync_world: SyncWorld, app: Flask, where: str
) -> None:
    """The method, the class, its ``decorators`` or the view function."""
    scoped = sync_world.manager.transactional

    def method_only(function: Any) -> Any:
        return scoped(function) if where in {"method", "all"} else function

    class Books(MethodView):
        decorators = [scoped] if where in {"decorators", "all"} else []

        @method_only
        def get(self, text: str) -> Any:
            sync_world.put(text)
            return None if text == "nothing" else (text, 409 if text == "bad" else 200)

        @method_only
        def delete(self, text: str) -> Any:
            sync_world.put(f"{text} deleted")
            abort(410)

    view_class = scoped(Books) if where in {"class", "all"} else Books
    view = view_class.as_view("books")
    app.add_url_rule("/<text>", view_func=scoped(view) if where == "around as_view" else view)
    client = app.test_client()
    assert client.get("/good").status_code == 200
    assert client.get("/bad").status_code == 409
    assert client.get("/nothing").status_code == 500
    assert client.head("/head").status_code == 200
    assert client.delete("/good").status_code == 410
    assert sync_world.kept() == ["good", "head"]


@pytest.mark.rule("T15", "T12")
def test_a_view_class_with_dispatch_request_is_a_view(sync_world: SyncWorld, app: Flask) -> None:
    """flask.views.View without methods of its own."""

    class Book(View):
        @sync_world.manager.transactional
        def dispatch_request(self, text: str) -> Any:  # type: ignore[override]  # as users do
            sync_world.put(text)
            return None if text == "nothing" else (text, 409 if text == "bad" else 200)

    app.add_url_rule("/<text>", view_func=Book.as_view("book"))
    client = app.test_client()
    assert client.get("/good").status_code == 200
    assert client.get("/bad").status_code == 409
    assert client.get("/nothing").status_code == 500
    assert sync_world.kept() == ["good"]


@pytest.mark.rule("T15")
def test_a_bound_method_and_a_callable_object_can_be_views(
    sync_world: SyncWorld, app: Flask
) -> None:
    """A method of an object of the user's own, registered as a view; or the object itself."""

    class Books:
        @sync_world.manager.transactional
        def show(self, text: str) -> Any:
            sync_world.put(text)
            return None if text == "nothing" else (text, 409 if text == "bad" else 200)

        @sync_world.manager.transactional
        def __call__(self, text: str) -> Any:
            return Books.show(self, text)

    books = Books()
    app.add_url_rule("/method/<text>", "method", books.show)
    app.add_url_rule("/object/<text>", "object", books)
    client = app.test_client()
    for kind in ("method", "object"):
        assert client.get(f"/{kind}/good {kind}").status_code == 200
        assert client.get(f"/{kind}/bad").status_code == 409
    assert client.get("/method/nothing").status_code == 500
    assert sync_world.kept() == ["good method", "good object"]


@pytest.mark.rule("T15")
def test_a_resource_of_restx_may_return_none(sync_world: SyncWorld, app: Flask) -> None:
    """RESTX makes ``null`` of it with status 200; an error status still rolls back."""
    api = Api(app)

    @api.route("/<text>")
    class Book(Resource):  # type: ignore[misc]  # RESTX has no types
        @sync_world.manager.transactional
        def get(self, text: str) -> Any:
            sync_world.put(text)
            return {"nothing": None, "none 204": (None, 204)}.get(text, ({"x": text}, 409))

    client = app.test_client()
    assert client.get("/nothing").status_code == 200
    assert client.get("/none 204").status_code == 204
    assert client.get("/bad").status_code == 409
    assert sync_world.kept() == ["nothing", "none 204"]


@pytest.mark.rule("T15", "T50")
@pytest.mark.parametrize("status", [200, 409])
def test_an_async_view_is_a_view(sync_world: SyncWorld, app: Flask, status: int) -> None:
    """Flask runs it in an event loop in a helper thread."""

    @sync_world.manager.transactional
    async def view() -> Any:
        sync_world.put("x")
        return "x", status

    assert answer_of(app, view) == status
    assert sync_world.kept() == (["x"] if status == 200 else [])


@pytest.mark.rule("T15")
def test_only_the_outermost_scope_of_the_view_looks_at_the_return_value(
    sync_world: SyncWorld, app: Flask
) -> None:
    """A scope inside the view joined one that a decorator outside had opened."""
    scoped = sync_world.manager.transactional

    @scoped
    def view() -> tuple[str, int]:
        sync_world.put("x")
        return "x", 409

    @functools.wraps(view)
    def soften() -> str:
        assert view() == ("x", 409)
        return "ok"

    assert answer_of(app, scoped(soften)) == 200
    assert sync_world.kept() == ["x"]


# -- rollback_on_status -------------------------------------------------------------------------


@pytest.mark.rule("T15")
@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (None, ["200", "302", "404", "409", "nothing", "raised 302"]),
        ({404, 302}, ["200", "409", "raised 409"]),
        ([HTTPStatus.CONFLICT], ["200", "302", "404", "raised 302"]),
        (range(400, 405), ["200", "302", "409", "raised 302", "raised 409"]),
        (lambda status: status == 200, ["302", "404", "409", "raised 302", "raised 409"]),
    ],
    ids=["None", "set", "list", "range", "predicate"],
)
def test_rollback_on_status_switches_the_rule_off_or_replaces_it(
    sync_world: SyncWorld, app: Flask, rule: Any, kept: list[str]
) -> None:
    """None leaves only exceptions: then abort() still rolls back, and a raised redirect too."""

    @app.get("/<text>")
    @sync_world.manager.transactional(rollback_on_status=rule)
    def view(text: str) -> Any:
        sync_world.put(text)
        if text == "nothing":
            return None
        word, _, status = text.rpartition(" ")
        if word == "raised":
            abort(redirect("/x") if status == "302" else int(status))
        return "x", int(text)

    client = app.test_client()
    for text in ("200", "302", "404", "409", "nothing", "raised 302", "raised 409"):
        client.get(f"/{text}")
    if rule is None:
        kept = [text for text in kept if text != "raised 302"]
    assert sync_world.kept() == kept


@pytest.mark.rule("T15")
@pytest.mark.parametrize("value", ["x", {"a": 1}, ("x", {"X-Header": "y"})], ids=str)
def test_a_rule_of_the_users_judges_a_success_that_is_not_spelt_out(
    sync_world: SyncWorld, app: Flask, value: Any
) -> None:
    """A view that says no status answers 200, and a rule may be about that."""

    @app.get("/")
    @sync_world.manager.transactional(rollback_on_status={200})
    def view() -> Any:
        sync_world.put("x")
        return value

    assert app.test_client().get("/").status_code == 200
    assert sync_world.kept() == []


@pytest.mark.rule("T15")
def test_a_predicate_that_fails_on_an_exception_rolls_back_and_is_a_note(
    sync_world: SyncWorld, app: Flask
) -> None:
    """The first cause wins, and the session is not left in the middle of the scope."""

    def broken(_status: int) -> bool:
        raise ZeroDivisionError("broken rule")

    raised = Conflict()

    @sync_world.manager.transactional(rollback_on_status=broken)
    def view() -> None:
        sync_world.put("x")
        raise raised

    assert answer_of(app, view) == 409
    assert raised.__notes__ == ["rollback_on_status also failed: ZeroDivisionError: broken rule"]
    assert sync_world.kept() == []


@pytest.mark.rule("T15")
def test_a_predicate_that_fails_on_a_return_value_rolls_back_and_is_raised(
    sync_world: SyncWorld, app: Flask
) -> None:
    """There is no other cause; the next scope of the request is a new one."""

    def broken(_status: int) -> bool:
        raise ZeroDivisionError("broken rule")

    @sync_world.manager.transactional(rollback_on_status=broken)
    def view() -> tuple[str, int]:
        sync_world.put("x")
        return "x", 200

    @app.errorhandler(ZeroDivisionError)
    def handle(_error: ZeroDivisionError) -> tuple[str, int]:
        with sync_world.manager.session_scope():
            sync_world.put("audit")
        return "broken", 500

    assert answer_of(app, view) == 500
    assert sync_world.kept() == ["audit"]


@pytest.mark.rule("T15")
def test_a_predicate_is_asked_about_views_only(sync_world: SyncWorld, app: Flask) -> None:
    """It need not expect the numbers that services return."""

    def rule(status: int) -> bool:
        return never(status)

    @sync_world.manager.transactional(rollback_on_status=rule)
    def service() -> tuple[str, int]:
        return "x", -1

    @sync_world.manager.transactional(rollback_on_status=rule)
    def other() -> tuple[str, int]:
        return "x", 200

    def view() -> Any:
        service()
        return other()

    assert answer_of(app, view) == 200


# -- classes of exceptions ----------------------------------------------------------------------


class BusinessError(Exception):
    """An exception of the user's own."""


class LateError(BusinessError):
    """A special one."""


@pytest.mark.rule("T14")
@pytest.mark.parametrize(
    ("options", "raised", "commits"),
    [
        ({"no_rollback_for": BusinessError}, BusinessError(), True),
        ({"no_rollback_for": BusinessError}, LateError(), True),
        ({"no_rollback_for": (KeyError, BusinessError)}, BusinessError(), True),
        ({"no_rollback_for": BusinessError}, ValueError(), False),
        ({"no_rollback_for": BusinessError, "rollback_for": LateError}, LateError(), False),
        ({"no_rollback_for": BusinessError, "rollback_for": LateError}, BusinessError(), True),
        ({"no_rollback_for": LateError, "rollback_for": BusinessError}, LateError(), True),
        ({"no_rollback_for": LateError, "rollback_for": Exception}, BusinessError(), False),
        ({"no_rollback_for": KeyboardInterrupt}, KeyboardInterrupt(), True),
    ],
)
def test_the_most_specific_class_decides(
    sync_world: SyncWorld, options: Any, raised: BaseException, commits: bool
) -> None:
    """With no_rollback_for the work is committed, and the exception is raised all the same."""

    @sync_world.manager.transactional(**options)
    def pay() -> None:
        sync_world.put("x")
        raise raised

    with pytest.raises(type(raised)) as caught:
        pay()
    assert caught.value is raised
    assert sync_world.kept() == (["x"] if commits else [])


@pytest.mark.rule("T14", "T15")
@pytest.mark.parametrize(
    ("options", "raised", "commits"),
    [
        ({"no_rollback_for": HTTPException}, Conflict(), True),
        ({"no_rollback_for": HTTPException, "rollback_for": Conflict}, Conflict(), False),
        ({"rollback_for": HTTPException}, RequestRedirect("/x"), False),
        ({"rollback_for": ValueError}, RequestRedirect("/x"), True),
        ({"rollback_for": ValueError}, Conflict(), False),
    ],
)
def test_the_classes_come_before_the_status(
    sync_world: SyncWorld, app: Flask, options: Any, raised: HTTPException, commits: bool
) -> None:
    """Precedence: T14's classes, then the status, then "an exception rolls back"."""

    @sync_world.manager.transactional(**options)
    def view() -> None:
        sync_world.put("x")
        raise raised

    assert answer_of(app, view) == raised.code
    assert sync_world.kept() == (["x"] if commits else [])


@pytest.mark.rule("T14", "T3")
def test_a_joined_failure_that_its_own_rules_forgive_dooms_nothing(sync_world: SyncWorld) -> None:
    """The classes of the inner decide about the join, those of the outer about the end."""

    @sync_world.manager.transactional(no_rollback_for=BusinessError)
    def inner() -> None:
        sync_world.put("inner")
        raise BusinessError

    @sync_world.manager.transactional
    def outer() -> None:
        sync_world.put("outer")
        with pytest.raises(BusinessError):
            inner()

    outer()
    assert sync_world.kept() == ["outer", "inner"]


@pytest.mark.rule("T14", "T3")
def test_an_outer_cannot_forgive_what_doomed_it(sync_world: SyncWorld) -> None:
    """The joined call failed by its own rules: its caller expects a commit, and is told."""

    @sync_world.manager.transactional
    def inner() -> None:
        sync_world.put("inner")
        raise BusinessError

    @sync_world.manager.transactional(no_rollback_for=BusinessError)
    def outer() -> None:
        inner()

    with pytest.raises(UnexpectedRollbackError) as caught:
        outer()
    assert isinstance(caught.value.__cause__, BusinessError)
    assert sync_world.kept() == []
