"""The decorators of this package above and below each other, in any order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.orm import Session, object_session

from flask_reqsession import (
    DatabaseManager,
    Propagation,
    PropagationError,
    RequestScopedSessionManager,
    UnexpectedRollbackError,
    reattach_args,
    transactional,
    with_request_session,
)
from tests.integration.decorators.notebook import Note, Notebook, read, write

Decorator = Callable[[Any], Any]
KINDS: dict[str, Decorator] = {"classmethod": classmethod, "staticmethod": staticmethod}


class FailError(Exception):
    """What a body raises to be rolled back."""


def orders(*kinds: str) -> list[tuple[str, ...]]:
    """Return every order of the three decorators, and of ``kinds`` among them."""
    three = ("transactional", "with_request_session", "reattach_args")
    return list(itertools.permutations((*three, *kinds)))


def stacked(
    order: tuple[str, ...], decorators: dict[str, Decorator], function: Callable[..., object]
) -> Any:
    """Decorate ``function``; the first of ``order`` stands above all others."""
    decorated: Any = function
    for name in reversed(order):
        decorated = decorators[name](decorated)
    return decorated


@pytest.fixture(params=["bound", "unbound", "mixed"])
def decorators(request: pytest.FixtureRequest, notebook: Notebook) -> dict[str, Decorator]:
    """Give the decorators by name: bound to the manager, unbound, and some of each."""
    manager = notebook.manager
    bound: dict[str, Decorator] = {
        "transactional": manager.transactional,
        "with_request_session": manager.with_request_session,
        "reattach_args": manager.reattach_args,
    }
    unbound: dict[str, Decorator] = {
        "transactional": transactional,
        "with_request_session": with_request_session,
        "reattach_args": reattach_args("note"),
    }
    mixed = bound | {"with_request_session": with_request_session}
    return {"bound": bound, "unbound": unbound, "mixed": mixed}[request.param] | KINDS


def change(session: Session, note: Note, text: str) -> None:
    """Change a note that has to be attached, and fail if the text says so."""
    assert object_session(note) is session
    note.text = text
    if text == "fail":
        raise FailError


def change_on_class(cls: type, session: Session, note: Note, text: str) -> None:
    """Do the same as a classmethod."""
    assert cls.__name__ == "Service"
    change(session, note, text)


def saved(notebook: Notebook, text: str) -> Note:
    """Return a detached note that was written before."""
    note = Note(text=text)
    with notebook.manager.session_scope() as session:
        session.add(note)
    return note


def changes_and_fails(notebook: Notebook, run: Callable[[Note, str], None]) -> None:
    """Claim that ``run`` commits a change, and rolls one back if it fails."""
    with notebook.app.app_context():
        run(saved(notebook, "first"), "changed")
        assert notebook.kept() == ["changed"]
        with pytest.raises(FailError):
            run(saved(notebook, "second"), "fail")
        assert notebook.kept() == ["changed", "second"]


@pytest.mark.rule("W3", "R1", "R12", "M21")
@pytest.mark.parametrize("order", orders(), ids=">".join)
def test_any_order_on_a_function(
    notebook: Notebook, decorators: dict[str, Decorator], order: tuple[str, ...]
) -> None:
    """A scope, the session, and the detached argument attached to it, whatever stands above."""
    changes_and_fails(notebook, stacked(order, decorators, change))


@pytest.mark.rule("W3", "R1", "R12", "M21")
@pytest.mark.parametrize("order", orders("staticmethod"), ids=">".join)
def test_any_order_on_a_staticmethod(
    notebook: Notebook, decorators: dict[str, Decorator], order: tuple[str, ...]
) -> None:
    """The staticmethod may stand anywhere among them."""
    service: Any = type("Service", (), {"change": stacked(order, decorators, change)})

    changes_and_fails(notebook, service.change)


@pytest.mark.rule("W3", "R1", "R12", "M21")
@pytest.mark.parametrize("order", orders("classmethod"), ids=">".join)
def test_any_order_on_a_classmethod(
    notebook: Notebook, decorators: dict[str, Decorator], order: tuple[str, ...]
) -> None:
    """The classmethod may stand anywhere among them."""
    service: Any = type("Service", (), {"change": stacked(order, decorators, change_on_class)})

    changes_and_fails(notebook, service().change)


@pytest.mark.rule("W3")
@pytest.mark.parametrize("order", orders(), ids=">".join)
def test_stacked_decorators_share_one_stand_in(notebook: Notebook, order: tuple[str, ...]) -> None:
    """Three decorators cost as many calls as one: right below the outermost is the function."""
    manager = notebook.manager
    decorated = stacked(order, {name: getattr(manager, name) for name in order}, change)

    assert decorated.__wrapped__ is change


# -- several scopes around one function ------------------------------------------------------------


@pytest.mark.rule("W3", "T5")
@pytest.mark.parametrize("order", ["scopes above", "session between", "session above"])
def test_a_scope_around_a_scope(notebook: Notebook, order: str) -> None:
    """``REQUIRES_NEW`` around a plain one: it commits by itself, on a session of its own."""
    manager = notebook.manager
    inject = manager.with_request_session
    own, plain = manager.transactional(propagation="REQUIRES_NEW"), manager.transactional
    sessions: list[Session] = []

    def note(session: Session, text: str) -> None:
        sessions.append(session)
        write(session, text)

    decorated = {
        "scopes above": lambda: own(plain(inject(note))),
        "session between": lambda: own(inject(plain(note))),
        "session above": lambda: inject(own(plain(note))),
    }[order]()

    @manager.transactional
    def outer() -> None:
        read(manager.session)
        decorated("kept")
        assert sessions[0] is not manager.session
        raise FailError

    with pytest.raises(FailError):
        outer()
    assert notebook.kept() == ["kept"]


@pytest.mark.rule("W3", "T3", "T4")
def test_a_savepoint_around_a_scope(notebook: Notebook) -> None:
    """What the plain scope dooms is the savepoint that it joined, and the outer goes on."""
    manager = notebook.manager

    @manager.transactional(propagation=Propagation.NESTED)
    @manager.transactional
    @manager.with_request_session
    def fail(session: Session) -> None:
        write(session, "fail")
        raise FailError

    @manager.transactional
    @manager.with_request_session
    def outer(session: Session) -> None:
        write(session, "outer")
        with pytest.raises(FailError):
            fail()

    outer()
    assert notebook.kept() == ["outer"]


@pytest.mark.rule("W3", "M21")
@pytest.mark.parametrize("fails", [False, True], ids=["commits", "rolls back"])
def test_the_decorators_of_two_managers_on_one_function(
    notebook: Notebook, other_notebook: Notebook, *, fails: bool
) -> None:
    """Each has its session and its scope; both commit, or both roll back."""
    mine, other = notebook.manager, other_notebook.manager

    @mine.transactional
    @other.with_request_session("copy")
    @mine.with_request_session
    @other.transactional
    def write_both(session: Session, text: str, *, copy: Session) -> None:
        assert session is mine.session
        assert copy is other.session
        write(session, text)
        write(copy, text)
        if fails:
            raise FailError

    if fails:
        with pytest.raises(FailError):
            write_both("text")
    else:
        write_both("text")
    assert notebook.kept() == other_notebook.kept() == ([] if fails else ["text"])


@pytest.mark.rule("W3", "M16")
def test_the_sessions_of_two_binds_in_one_function(
    notebook: Notebook, other_notebook: Notebook
) -> None:
    """Each ``@with_request_session`` takes its own parameter, and each bind has its own scope."""
    databases = DatabaseManager({"default": notebook.url, "analytics": other_notebook.url})
    manager = RequestScopedSessionManager(databases)

    @manager.transactional(bind="analytics")
    @manager.with_request_session
    @manager.transactional
    @manager.with_request_session("stats", bind="analytics")
    def write_both(session: Session, stats: Session, text: str) -> None:
        assert session is manager.get_request_session()
        assert stats is manager.get_request_session("analytics")
        write(session, text)
        write(stats, text.upper())

    write_both("text")
    assert (notebook.kept(), other_notebook.kept()) == (["text"], ["TEXT"])
    databases.dispose()


@pytest.mark.rule("W3", "M16", "T1")
@pytest.mark.parametrize("scope_first", [True, False])
def test_decorators_without_a_bind_take_that_of_the_scope(
    notebook: Notebook, other_notebook: Notebook, *, scope_first: bool
) -> None:
    """In either order, each of several; one between them for another manager is no hindrance."""
    databases = DatabaseManager({"default": notebook.url, "analytics": other_notebook.url})
    app = Flask("shop")
    manager = RequestScopedSessionManager(databases, app)
    note = Note(text="text")
    with manager.session_scope(bind="analytics") as session:
        session.add(note)

    def change(session: Session, note: Note, *, copy: Session, elsewhere: Session) -> str:
        assert session is copy is object_session(note) is manager.get_request_session("analytics")
        assert elsewhere is notebook.manager.session
        note.text = "changed"
        return ""

    decorators: list[Any] = [
        manager.with_request_session,
        notebook.manager.with_request_session("elsewhere"),
        manager.with_request_session("copy"),
        manager.reattach_args,
    ]
    decorators.insert(0 if scope_first else 4, manager.transactional(bind="analytics"))
    view: Any = change
    for decorator in decorators:
        view = decorator(view)
    app.add_url_rule("/", "change", lambda: view(note=note))

    assert app.test_client().get("/").status_code == 200
    assert (notebook.kept(), other_notebook.kept()) == ([], ["changed"])
    databases.dispose()


@pytest.mark.rule("W3", "M16", "T1")
def test_the_first_call_on_another_bind_in_a_unit_of_work(
    notebook: Notebook, other_notebook: Notebook
) -> None:
    """It starts a scope there; what it raises is what the body raised, and nothing around it."""
    databases = DatabaseManager({"default": notebook.url, "analytics": other_notebook.url})
    manager = RequestScopedSessionManager(databases)

    @manager.transactional(bind="analytics")
    @manager.with_request_session(bind="analytics")
    def count(session: Session, text: str) -> None:
        write(session, text)
        if text == "fail":
            raise FailError

    with manager.unit_of_work(), manager.session_scope():
        with pytest.raises(FailError) as failed:
            count("fail")
        count("counted")
        assert (notebook.kept(), other_notebook.kept()) == ([], ["counted"])
    assert failed.value.__context__ is None
    databases.dispose()


@pytest.mark.rule("W3")
def test_the_same_decorator_twice_is_no_harm(notebook: Notebook) -> None:
    """Two scopes join, and of two names each is reattached, or gets the session."""
    manager = notebook.manager
    first, second = saved(notebook, "first"), saved(notebook, "second")

    @manager.transactional
    @manager.transactional
    @manager.reattach_args("first")
    @manager.reattach_args("second")
    @manager.with_request_session("other")
    @manager.with_request_session
    def swap(session: Session, first: Note, second: Note, *, other: Session) -> None:
        assert object_session(first) is object_session(second) is session is other
        session.delete(first)
        second.text = "changed"

    swap(first, second)
    assert notebook.kept() == ["changed"]


# -- classes ---------------------------------------------------------------------------------------


@pytest.mark.rule("W3")
def test_a_method_may_be_overridden_and_call_the_one_it_overrides(notebook: Notebook) -> None:
    """Both are in the scope of the call, and share its session."""
    manager = notebook.manager

    class Service:
        @manager.transactional
        @manager.with_request_session
        def note(self, session: Session, text: str) -> Session:
            write(session, text)
            return session

    class LoudService(Service):
        @manager.with_request_session
        @manager.transactional
        def note(self, session: Session, text: str) -> Session:
            assert super().note(text.upper()) is session
            write(session, text)
            if text == "fail":
                raise FailError
            return session

    class QuietService(LoudService):
        """Inherits."""

    QuietService().note("text")
    with pytest.raises(FailError):
        LoudService().note("fail")
    assert notebook.kept() == ["TEXT", "text"]


@pytest.mark.rule("W3", "T3")
def test_calls_nest_to_any_depth(notebook: Notebook) -> None:
    """One session, one transaction, and a failure at the bottom dooms it all."""
    manager = notebook.manager

    @manager.transactional
    @manager.with_request_session
    def descend(session: Session, depth: int, *, fails: bool) -> Session:
        write(session, f"{depth}")
        if depth:
            assert descend(depth - 1, fails=fails) is session
        elif fails:
            raise FailError
        return session

    with pytest.raises(FailError):
        descend(5, fails=True)
    assert notebook.kept() == []
    descend(5, fails=False)
    assert notebook.kept() == ["0", "1", "2", "3", "4", "5"]


def decorated_class(manager: RequestScopedSessionManager) -> Any:
    """Return a class that is decorated as a whole."""

    @manager.transactional
    class Service:
        number = 1

        def __init__(self) -> None:
            self.write("from init")

        @staticmethod
        def write(text: str) -> None:
            write(manager.session, text)

        @classmethod
        def write_on_class(cls, text: str) -> None:
            cls.write(text)
            raise FailError

        def write_twice(self, text: str) -> None:
            self.write(text)
            self.write(text.upper())
            raise FailError

        @manager.transactional(propagation="NEVER")
        def write_unscoped(self, text: str) -> None:
            write(manager.session, text)

        @manager.with_request_session
        def write_injected(self, session: Session, text: str) -> None:
            write(session, text)

        def _write_unscoped(self, text: str) -> None:
            write(manager.session, text)

        @property
        def session(self) -> Session:
            return manager.session

        class Nested:
            def write(self, text: str) -> None:
                write(manager.session, text)

    return Service


@pytest.mark.rule("T12")
def test_every_public_method_of_a_decorated_class_is_in_a_scope(notebook: Notebook) -> None:
    """Methods of each kind; one public method that calls another is one scope."""
    service = decorated_class(notebook.manager)()
    service.write("static")
    service.write_injected("injected")
    with pytest.raises(FailError):
        service.write_on_class("fail")
    with pytest.raises(FailError):
        service.write_twice("fail, too")

    assert notebook.kept() == ["from init", "injected", "static"]


@pytest.mark.rule("T12")
def test_a_methods_own_decorator_wins_over_that_of_its_class(notebook: Notebook) -> None:
    """``NEVER`` would be refused in a scope of the class's, and commits nothing."""
    service = decorated_class(notebook.manager)()
    service.write_unscoped("unscoped")

    with notebook.manager.session_scope(), pytest.raises(PropagationError):
        service.write_unscoped("refused")
    assert notebook.kept() == ["from init"]


@pytest.mark.rule("T12")
def test_what_is_not_a_public_method_is_left_alone(notebook: Notebook) -> None:
    """Private methods, properties, attributes, and the methods of a class inside."""
    service_class = decorated_class(notebook.manager)
    service = service_class()
    with notebook.manager.unit_of_work():
        service._write_unscoped("private")
        service_class.Nested().write("nested")
        assert service.session is notebook.manager.session

    assert service.number == 1
    assert notebook.kept() == ["from init"]


@pytest.mark.rule("T12")
def test_only_what_the_class_itself_defines_is_decorated(notebook: Notebook) -> None:
    """A base class may be used without a scope elsewhere."""
    manager = notebook.manager

    class Base:
        def write_inherited(self, text: str) -> None:
            write(manager.session, text)

    @manager.transactional
    class Service(Base):
        def write_own(self, text: str) -> None:
            self.write_inherited(text)

    with manager.unit_of_work():
        Service().write_inherited("inherited")
    Service().write_own("own")

    assert notebook.kept() == ["own"]


@pytest.mark.rule("T3", "T12")
def test_a_scope_is_named_after_the_function_inside_whatever_is_around(
    notebook: Notebook,
) -> None:
    """Messages call it as its author did, also where the decorators were put on something else."""
    manager = notebook.manager

    class Service:
        @manager.transactional
        @classmethod
        def fail(cls) -> None:
            raise FailError

    @manager.transactional
    def outer() -> None:
        with pytest.raises(FailError):
            Service.fail()

    with pytest.raises(UnexpectedRollbackError, match=r"Service\.fail\(\)"):
        outer()
