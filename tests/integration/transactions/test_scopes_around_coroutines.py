"""A scope is around the work, or is refused: behind decorators of others, and behind classes."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.views import MethodView, View

from flask_reqsession import (
    ConfigurationError,
    DatabaseManager,
    PropagationError,
    RequestScopedSessionManager,
)
from tests.integration.transactions.foreign_decorators import either, passing
from tests.integration.transactions.worlds import SyncWorld, World
from tests.servers.connections import async_url_of


@pytest.mark.rule("T12")
@pytest.mark.parametrize("shape", ["method", "static method", "twice", "injected"])
def test_a_methods_own_decorator_wins_under_those_of_others(
    sync_world: SyncWorld, shape: str
) -> None:
    """What ``functools.wraps`` leaves is followed; the class has no say."""
    manager = sync_world.manager
    mandatory = manager.transactional(propagation="MANDATORY")

    @manager.transactional
    class Service:
        def pay(*_self: object) -> bool:
            return bool(manager.get_session_info()["depth"])

        own: Any = {
            "method": passing(mandatory(pay)),
            "static method": staticmethod(passing(mandatory(pay))),
            "twice": passing(passing(mandatory(pay))),
            "injected": manager.reattach_args(passing(mandatory(pay))),
        }[shape]
        others = passing(pay)

    with pytest.raises(PropagationError, match="MANDATORY"):
        Service().own()
    assert Service().others()
    with manager.session_scope():
        assert Service().own()


def classes(world: World) -> dict[str, type[View]]:
    """Return classes of views that have coroutines, by where their scope is declared."""
    scoped = world.manager.transactional

    async def put() -> str:
        await world.write("x")
        return "x"

    class Decorators(MethodView):
        decorators = [scoped]  # noqa: RUF012 - as users write it

        async def get(self) -> str:
            return await put()

    class Others(Decorators):
        decorators = [passing, scoped, either]  # noqa: RUF012

    class Method(MethodView):
        decorators = [scoped]  # noqa: RUF012

        @either
        async def get(self) -> str:
            return await put()

    class Dispatch(View):
        decorators = [scoped]  # noqa: RUF012

        async def dispatch_request(self) -> str:  # type: ignore[override]
            return await put()

    class Own(MethodView):
        decorators = [scoped]  # noqa: RUF012

        @either
        @scoped
        async def get(self) -> str:
            return await put()

    @scoped
    class Whole(MethodView):
        async def get(self) -> str:
            return await put()

    refused = {each.__name__: each for each in (Decorators, Others, Method, Dispatch)}
    return {**refused, "Own": Own, "Whole": Whole}


@pytest.mark.rule("T12", "T50")
@pytest.mark.parametrize("shape", ["Decorators", "Others", "Method", "Dispatch"])
def test_a_scope_around_a_class_is_around_its_coroutines_or_refused(
    served: World, shape: str
) -> None:
    """It has the session that they use, or they don't run; the message says where to put it."""
    client = served.app_of(classes(served)[shape].as_view("view")).test_client()

    if isinstance(served, SyncWorld):
        assert client.get("/").status_code == 200
        assert served.kept() == ["x"]
    else:
        with pytest.raises(ConfigurationError, match="on the class, or on its method"):
            client.get("/")
        assert served.kept() == []


@pytest.mark.rule("T12", "T50")
@pytest.mark.parametrize("shape", ["Own", "Whole"])
def test_a_coroutine_in_a_scope_of_its_own_runs(served: World, shape: str) -> None:
    """As the message says, on the class or on the method."""
    client = served.app_of(classes(served)[shape].as_view("view")).test_client()

    assert client.get("/").status_code == 200
    assert served.kept() == ["x"]


@pytest.mark.rule("T50")
@pytest.mark.parametrize("order", ["over", "under"])
def test_a_decorator_of_both_colours_is_under_the_scope_or_refused(
    served: World, order: str
) -> None:
    """Around what has a coroutine run there is no scope of other sessions."""

    async def put() -> str:
        await served.write("x")
        return "x"

    scoped = served.manager.transactional
    view = scoped(either(put)) if order == "over" else either(scoped(put))
    client = served.app_of(view).test_client()

    if order == "under" or isinstance(served, SyncWorld):
        assert client.get("/").status_code == 200
        assert served.kept() == ["x"]
    else:
        with pytest.raises(ConfigurationError, match="on the coroutine function itself"):
            client.get("/")
        assert served.kept() == []


@pytest.mark.rule("T12", "T50")
def test_a_method_that_is_no_coroutine_has_the_scope_of_its_class(sync_world: SyncWorld) -> None:
    """One database, two engines: what is refused is the coroutine, not the class."""
    url = sync_world.url
    manager = RequestScopedSessionManager(DatabaseManager(url, async_source=async_url_of(url)))

    class Notes(MethodView):
        decorators = [manager.transactional]  # noqa: RUF012

        def get(self) -> str:
            return str(manager.get_session_info()["depth"])

        async def post(self) -> str: ...  # type: ignore[empty-body]

    app = Flask("shop")
    app.testing = True
    manager.init_app(app)
    view = Notes.as_view("view")
    app.add_url_rule("/", view_func=view)

    assert app.test_client().get("/").text == "1"
    with pytest.raises(ConfigurationError, match="AsyncSession"):
        app.test_client().post("/")
    with app.test_request_context("/unknown"):
        assert view() == "1"
    with pytest.raises(RuntimeError, match="Working outside"):
        view()
    manager.databases.dispose()
