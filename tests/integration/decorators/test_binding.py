"""Which manager a decorator works with, and what it refuses when it is put on a function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
from flask import Flask
from greenlet import greenlet
from sqlalchemy.orm import Session

from flask_reqsession import (
    ConfigurationError,
    NoActiveScopeError,
    PropagationError,
    RequestScopedSessionManager,
    ScopeOwnershipError,
    reattach_args,
    transactional,
    with_request_session,
)
from tests.integration.decorators.notebook import Note, Notebook, write

Manager = RequestScopedSessionManager
Decorator = Callable[[Any], Any]


@transactional
@with_request_session
def note(session: Session, text: str) -> None:
    """Write a note through the current manager."""
    write(session, text)


@pytest.mark.rule("M21")
def test_bound_decorators_need_no_app(notebook: Notebook) -> None:
    """Outside any app context; each call looks nothing up."""
    manager = notebook.manager

    @manager.transactional(name="noting")
    @manager.reattach_args
    @manager.with_request_session("db")
    def bound_note(text: str, db: Session) -> None:
        write(db, text)

    bound_note("text")
    with pytest.raises(NoActiveScopeError):
        note("unbound")
    assert notebook.kept() == ["text"]


@pytest.mark.rule("M21")
def test_bound_decorators_keep_to_their_manager(
    notebook: Notebook, other_notebook: Notebook
) -> None:
    """Also in a request, a scope and a unit of work of another one."""
    manager = notebook.manager

    @manager.transactional
    def bound_note() -> None:
        write(manager.session, "mine")

    other = other_notebook.manager
    with other_notebook.app.test_request_context(), other.session_scope(), other.unit_of_work():
        bound_note()
        assert notebook.kept() == ["mine"]
    assert other_notebook.kept() == []


@pytest.mark.rule("M21")
def test_unbound_decorators_take_the_current_apps_manager(
    notebook: Notebook, other_notebook: Notebook
) -> None:
    """One function serves two apps, each with its own database."""
    for each in (notebook, other_notebook, notebook):
        with each.app.app_context():
            note(f"note {len(notebook.kept())}")

    assert notebook.kept() == ["note 0", "note 1"]
    assert other_notebook.kept() == ["note 1"]


@pytest.mark.rule("M21")
@pytest.mark.parametrize("before", [False, True], ids=["first", "after a bound call"])
def test_an_app_context_inside_a_scope_changes_what_is_current(
    notebook: Notebook, other_notebook: Notebook, *, before: bool
) -> None:
    """Whatever was found just before: what is remembered of it holds for its own app context."""

    @notebook.manager.transactional
    def remember() -> None:
        if before:
            notebook.manager.session.connection()

    with notebook.app.test_request_context(), notebook.manager.session_scope():
        note("mine")
        remember()
        with other_notebook.app.app_context():
            remember()
            note("other")
        assert other_notebook.kept() == ["other"]
        note("mine, too")
    assert notebook.kept() == ["mine", "mine, too"]


@pytest.mark.rule("M21")
def test_a_unit_of_work_inside_another_ones_changes_what_is_current(
    notebook: Notebook, other_notebook: Notebook
) -> None:
    """The manager of the innermost unit is the current one, and that of the outer one after it."""
    mine, other = notebook.manager, other_notebook.manager
    with mine.unit_of_work(), mine.session_scope() as session:
        note("mine")
        with other.unit_of_work():
            write(session, "bound")
            note("other")
            assert other_notebook.kept() == ["other"]
        note("mine, too")
    assert notebook.kept() == ["bound", "mine", "mine, too"]


def in_a_thread(run: Callable[[], object]) -> None:
    """Call ``run`` in another thread, in a copy of this context."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(copy_context().run, run).result()


def in_a_greenlet(run: Callable[[], object]) -> None:
    """Call ``run`` in a greenlet of this thread, in a copy of this context, as gevent does."""
    strand = greenlet(run)
    strand.gr_context = copy_context()
    strand.switch()


def in_a_task(run: Callable[[], object]) -> None:
    """Call ``run`` in a task of this thread; asyncio copies the context."""

    async def task() -> None:
        run()

    asyncio.run(task())


@pytest.mark.rule("M13", "M21")
@pytest.mark.parametrize("elsewhere", [in_a_thread, in_a_greenlet, in_a_task])
@pytest.mark.parametrize("inside", ["scope", "unit of work"])
def test_a_copied_context_does_not_join(
    notebook: Notebook, elsewhere: Callable[[Callable[[], object]], None], inside: str
) -> None:
    """What is remembered of the last call holds for the thread, greenlet or task that made it."""
    manager = notebook.manager
    bound_note = manager.transactional(manager.with_request_session(write))
    get_session = manager.with_request_session(session_of)

    def run() -> None:
        with pytest.raises(ScopeOwnershipError):
            bound_note("stranger's")
        with pytest.raises(ScopeOwnershipError):
            get_session()

    def run_unbound() -> None:
        with pytest.raises(ScopeOwnershipError):
            note("stranger's")

    with notebook.app.test_request_context():
        with manager.session_scope() if inside == "scope" else manager.unit_of_work():
            bound_note("owner's")
            assert get_session() is manager.session
            elsewhere(run)
            bound_note("owner's, too")
        note("unbound")
        elsewhere(run_unbound)
    assert notebook.kept() == ["owner's", "owner's, too", "unbound"]


def session_of(session: Session) -> Session:
    """Return the session that was injected."""
    return session


@pytest.mark.rule("M11", "M21")
def test_a_request_inside_a_scope_does_not_join_it(notebook: Notebook) -> None:
    """The test client inside a request of the same manager: each has its own session."""
    manager = notebook.manager
    get_session = manager.with_request_session(session_of)

    @notebook.app.get("/")
    @manager.transactional
    def inner() -> str:
        assert get_session() is not outer
        return "inner"

    with notebook.app.test_request_context(), manager.session_scope() as outer:
        assert get_session() is outer
        assert notebook.app.test_client().get("/").status_code == 200
        assert get_session() is outer
        with notebook.app.test_request_context():  # Flask's hooks don't run for this one
            assert get_session() is not outer
        assert get_session() is outer


@pytest.fixture
def two_managers(notebook: Notebook, other_notebook: Notebook) -> Iterator[Flask]:
    """Give an app that has two managers: the default one, and ``analytics``."""
    analytics = Manager(other_notebook.manager.databases, name="analytics")
    analytics.init_app(notebook.app)
    with notebook.app.test_request_context():
        yield notebook.app


@pytest.mark.rule("M21")
@pytest.mark.parametrize("joined", [False, True])
def test_a_decorator_may_name_its_manager(
    two_managers: Flask, notebook: Notebook, other_notebook: Notebook, *, joined: bool
) -> None:
    """By name, or as an object; alone, or in a scope of either."""
    analytics: Manager = two_managers.extensions["reqsession:analytics"]

    @transactional(manager="analytics")
    @with_request_session(manager="analytics")
    def count(session: Session, text: str) -> None:
        write(session, text)

    @transactional(manager=analytics)
    @with_request_session(manager=analytics)
    @reattach_args(manager=analytics)
    def count_too(session: Session, text: str) -> None:
        write(session, text)

    def run() -> None:
        note("default")
        count("by name")
        count_too("as object")

    analytics.transactional(transactional(run))() if joined else run()
    assert notebook.kept() == ["default"]
    assert other_notebook.kept() == ["as object", "by name"]


@pytest.mark.rule("M21")
def test_an_unknown_name_is_refused_when_it_is_needed(two_managers: Flask) -> None:
    """The app decides at the call; the error lists the managers that it has."""

    @transactional(manager="reports")
    def nothing() -> None: ...

    assert two_managers.extensions
    with pytest.raises(ConfigurationError, match="It has: default, analytics"):
        nothing()


# -- configuring -----------------------------------------------------------------------------------


@pytest.mark.rule("W1", "M16", "M21")
def test_a_configured_decorator_can_be_configured_further(
    notebook: Notebook, other_notebook: Notebook
) -> None:
    """What was said before stays, unless it is said again."""
    manager = Manager({"default": notebook.url, "analytics": other_notebook.url})
    on_analytics = manager.transactional(bind="analytics")
    db_of_analytics = manager.with_request_session("db", bind="analytics")
    attached = manager.reattach_args("note", bind="analytics")

    @on_analytics(name="counting")(durable=True)
    @attached()(manager=manager)
    @db_of_analytics(manager=manager)
    def count(note: Note, text: str, db: Session) -> None:
        write(db, text + (note.text or ""))

    count(Note(), "text")

    @on_analytics
    def outer() -> None:
        count(Note(), "joined")

    with pytest.raises(PropagationError, match="counting"):
        outer()
    assert (notebook.kept(), other_notebook.kept()) == ([], ["text"])
    manager.databases.dispose()


@pytest.mark.rule("W1", "M21")
def test_options_beside_the_function_count_as_well(
    notebook: Notebook, other_notebook: Notebook
) -> None:
    """``transactional(function, ...)`` is not what the types say, but it does what it says."""
    manager: Any = Manager({"default": notebook.url, "analytics": other_notebook.url})

    def count(session: Session, text: str) -> None:
        write(session, text)

    injected = manager.with_request_session(count, bind="analytics")
    scoped = manager.transactional(injected, bind="analytics")
    manager.reattach_args(scoped, bind="analytics")("text")
    assert (notebook.kept(), other_notebook.kept()) == ([], ["text"])
    manager.databases.dispose()


@pytest.mark.rule("M21")
@pytest.mark.parametrize("decorator", [transactional, with_request_session, reattach_args])
@pytest.mark.parametrize(
    "wrong", [{"manager": 5}, {"manager": Flask("shop")}, {"bind": 1}, {"bind": ["default"]}]
)
def test_a_wrong_option_is_refused_at_decoration(
    decorator: Callable[..., object], wrong: dict[str, object]
) -> None:
    """With the option, its value, and what it must be."""
    (option,) = wrong

    with pytest.raises(ConfigurationError, match=f"{option} is .* must be"):
        decorator(**wrong)


@pytest.mark.rule("R1")
def test_a_function_and_names_at_once_are_refused() -> None:
    """``reattach_args(function, "user")`` would leave open what was meant."""
    decorate: Any = reattach_args
    with pytest.raises(ConfigurationError, match="Name the parameters first"):
        decorate(write, "session")


@pytest.mark.rule("R1")
@pytest.mark.parametrize("name", ["usr", "session ", 5])
def test_an_unknown_parameter_to_reattach_is_refused_at_decoration(name: Any) -> None:
    """TypeError, with the function and its parameters."""
    decorate = reattach_args("user", name)
    with pytest.raises(TypeError, match=r"pay\(\) has no parameter .* user, amount"):

        @decorate
        def pay(user: object, amount: int) -> None: ...


@pytest.mark.rule("R1")
def test_what_does_not_tell_its_parameters_has_none_to_reattach() -> None:
    """As some functions written in C."""
    with pytest.raises(TypeError, match=r"dir\(\) does not tell its parameters"):
        reattach_args(dir)
