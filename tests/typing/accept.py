"""What a type checker has to accept, and the types it has to see. Checked, never run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator
from datetime import datetime
from typing import Protocol, TypeVar, assert_type
from uuid import UUID

from flask import Flask
from flask.views import MethodView, View
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from flask_reqsession import (
    Propagation,
    RequestScopedSessionManager,
    Retry,
    reattach_args,
    transactional,
    with_request_session,
)

T = TypeVar("T")

manager = RequestScopedSessionManager("sqlite://")


class OwnSession(Session):
    """A session class of the user's own."""


# -- the session comes first: callers give the rest, and its types count ---------------------------


@with_request_session
def bare(session: Session, name: str, count: int = 1) -> int:
    """Unbound, without parentheses."""
    return len(session.new) + count + len(name)


@with_request_session("db", bind="analytics", manager="other")
def configured(db: Session, name: str) -> int:
    """Unbound, configured."""
    return len(db.new) + len(name)


@with_request_session()
def called(session: Session, name: str) -> int:
    """Unbound, with empty parentheses."""
    return len(session.new) + len(name)


@manager.with_request_session
def bound(session: Session, name: str) -> int:
    """Bound to a manager."""
    return len(session.new) + len(name)


@manager.with_request_session(bind="analytics")
def bound_configured(session: Session, name: str) -> int:
    """Bound to a manager and configured."""
    return len(session.new) + len(name)


@with_request_session
def optional(session: Session | None, name: str) -> int:
    """Annotated as optional, as code with its own default often is."""
    return 0 if session is None else len(name)


@with_request_session
def of_own_class(session: OwnSession, name: str) -> int:
    """Annotated with a subclass."""
    return len(session.new) + len(name)


@with_request_session
def generic(session: Session, value: T) -> list[T]:
    """Return what depends on an argument."""
    return [value] * len(session.new)


@with_request_session
def alone(session: Session) -> int:
    """Nothing but the session."""
    return len(session.new)


@with_request_session
async def coroutine(session: AsyncSession, name: str) -> int:
    """Asynchronous, with an asynchronous session."""
    return len(session.new) + len(name)


@with_request_session
async def coroutine_with_sync_session(session: Session, name: str) -> int:
    """Asynchronous, with a synchronous session."""
    return len(session.new) + len(name)


@with_request_session
def generator(session: Session, name: str) -> Generator[str, int, bool]:
    """Yield in steps."""
    yield name
    return bool(session.new)


@with_request_session
async def async_generator(session: AsyncSession, name: str) -> AsyncGenerator[str, int]:
    """Yield in steps, asynchronously."""
    yield name + str(session.new)


assert_type(bare("ada"), int)
assert_type(bare("ada", 2), int)
assert_type(bare("ada", count=2), int)
assert_type(bare(name="ada"), int)
assert_type(configured("ada"), int)
assert_type(called("ada"), int)
assert_type(bound("ada"), int)
assert_type(bound_configured("ada"), int)
assert_type(optional("ada"), int)
assert_type(of_own_class("ada"), int)
assert_type(generic("ada"), list[str])
assert_type(alone(), int)
assert_type(generator("ada"), Generator[str, int, bool])
assert_type(async_generator("ada"), AsyncGenerator[str, int])

without_session: Callable[[str], int] = bound
register: Callable[[Callable[[], int]], None] = print
register(alone)


# -- the session comes after self or cls -----------------------------------------------------------


class Accounts:
    """A service, with every kind of method."""

    @with_request_session
    def method(self, session: Session, name: str) -> int:
        """Be a method."""
        return len(session.new) + len(name)

    @manager.with_request_session(bind="analytics")
    def bound_method(self, session: Session, name: str) -> int:
        """Be a method, by a bound and configured decorator."""
        return len(session.new) + len(name)

    @with_request_session
    def method_alone(self, session: Session) -> int:
        """Take nothing but the session."""
        return len(session.new)

    @classmethod
    @with_request_session
    def class_method(cls, session: Session, name: str) -> int:
        """Be a classmethod, decorated below."""
        return len(session.new) + len(name)

    @with_request_session
    @classmethod
    def class_method_below(cls, session: Session, name: str) -> int:
        """Be a classmethod, decorated above."""
        return len(session.new) + len(name)

    @staticmethod
    @with_request_session
    def static_method(session: Session, name: str) -> int:
        """Be a staticmethod, decorated below."""
        return len(session.new) + len(name)

    @with_request_session
    @staticmethod
    def static_method_below(session: Session, name: str) -> int:
        """Be a staticmethod, decorated above."""
        return len(session.new) + len(name)

    @with_request_session
    async def coroutine(self, session: AsyncSession, name: str) -> int:
        """Be asynchronous."""
        return len(session.new) + len(name)

    @with_request_session
    def generator(self, session: Session, name: str) -> Generator[str]:
        """Yield in steps."""
        yield name + str(session.new)

    @transactional
    @with_request_session
    def transactional_method(self, session: Session, name: str) -> int:
        """Be in a scope as well."""
        return len(session.new) + len(name)

    @with_request_session
    @transactional(propagation=Propagation.REQUIRES_NEW)
    def transactional_below(self, session: Session, name: str) -> int:
        """Be in a scope as well, the other way round."""
        return len(session.new) + len(name)

    @reattach_args("name")
    @with_request_session
    def reattaching_method(self, session: Session, name: str) -> int:
        """Have arguments reattached as well."""
        return len(session.new) + len(name)


class Code(str):
    """A value with a decorated method."""

    __slots__ = ()

    @with_request_session
    def method(self, session: Session, name: str) -> int:
        """Be a method."""
        return len(session.new) + len(name) + len(self)


class SavingsAccounts(Accounts):
    """A service that overrides a decorated method."""

    @with_request_session
    def method(self, session: Session, name: str) -> int:
        """Call the overridden method."""
        return super().method(name) + len(session.new)

    @property
    @with_request_session
    def count(self, session: Session) -> int:  # noqa: PLR0206 - injected
        """Be a property."""
        return len(session.new)


class Countable(Protocol):
    """What others want of the service."""

    def method(self, name: str) -> int:
        """Be called without a session."""
        ...


class AbstractAccounts(ABC):
    """A service that leaves a decorated method to its subclasses."""

    @abstractmethod
    @with_request_session
    def method(self, session: Session, name: str) -> int:
        """Be overridden."""


class NotesView(MethodView):
    """A class-based view of one method for each HTTP method."""

    @transactional
    @with_request_session
    def get(self, session: Session, note_id: int) -> str:
        """Be called by Flask."""
        return f"{session} {note_id}"


class NoteView(View):
    """A class-based view that overrides a method of Flask's."""

    @with_request_session
    def dispatch_request(self, session: Session) -> str:
        """Be called by Flask."""
        return str(session)


app = Flask(__name__)
app.add_url_rule("/notes/<int:note_id>", view_func=NotesView.as_view("notes"))


@app.get("/accounts/<name>")
@with_request_session
def view(session: Session, name: str) -> str:
    """Be a view."""
    return name + str(session)


@app.post("/accounts/<name>")
@transactional
@with_request_session
def view_with_session_last(name: str, session: Session) -> tuple[str, int]:
    """Be a view, with the session last."""
    return name + str(session), 201


accounts = Accounts()
countable: Countable = accounts
counting: Callable[[str], int] = accounts.method
assert_type(Code("a").method("ada"), int)
numbers = list(map(accounts.method, ["ada", "grace"]))
assert_type(numbers, list[int])
assert_type(SavingsAccounts().method("ada"), int)
assert_type(SavingsAccounts().count, int)
assert_type(accounts.method("ada"), int)
assert_type(accounts.method(name="ada"), int)
assert_type(accounts.bound_method("ada"), int)
assert_type(accounts.method_alone(), int)
assert_type(Accounts.method(accounts, "ada"), int)
assert_type(Accounts.class_method("ada"), int)
assert_type(Accounts.class_method_below("ada"), int)
assert_type(accounts.class_method_below("ada"), int)
assert_type(Accounts.static_method("ada"), int)
assert_type(Accounts.static_method_below("ada"), int)
assert_type(accounts.static_method_below("ada"), int)
assert_type(accounts.generator("ada"), Generator[str])
assert_type(accounts.transactional_method("ada"), int)
assert_type(accounts.transactional_below("ada"), int)
assert_type(accounts.reattaching_method("ada"), int)


# -- the session is somewhere else: the return type stays ------------------------------------------


@with_request_session
def last(name: str, count: int, session: Session) -> int:
    """Take the session last."""
    return len(session.new) + count + len(name)


@manager.with_request_session
def by_keyword(name: str, count: int, *, session: Session) -> int:
    """Take the session by keyword only."""
    return len(session.new) + count + len(name)


@with_request_session
def second(name: str, session: Session, count: int = 1) -> int:
    """Take the session between other parameters."""
    return len(session.new) + count + len(name)


@with_request_session
def after_anything(value: object, session: Session) -> str:
    """Take the session after a parameter that a session would fit."""
    return f"{value} {session}"


@with_request_session
def after_two(value: object, count: int, session: Session) -> str:
    """Take the session after two parameters, the first of which a session would fit."""
    return f"{value} {count} {session}"


@with_request_session
def after_a_mapping(counts: dict[str, int], session: Session) -> int:
    """Take the session after a parameter that has a generic type."""
    return len(session.new) + len(counts)


@with_request_session
def after_an_id(key: UUID, when: datetime | None, session: Session) -> str:
    """Take the session after two values of the standard library."""
    return f"{key} {when} {session}"


@with_request_session
def with_default(name: str, count: int, session: Session | None = None) -> int:
    """Take the session last, with a default."""
    return 0 if session is None else count + len(name)


assert_type(last("ada", 1), int)
assert_type(by_keyword("ada", 1), int)
assert_type(with_default("ada", 1), int)
assert_type(last(name="ada", count=1), int)
assert_type(second("ada"), int)
assert_type(second("ada", 1), int)
assert_type(second("ada", count=1), int)
assert_type(second(name="ada", count=1), int)
assert_type(after_a_mapping({"ada": 1}), int)
assert_type(after_a_mapping(counts={"ada": 1}), int)
assert_type(after_an_id(UUID(int=1), when=None), str)
assert_type(after_anything("ada"), str)
assert_type(after_anything(value="ada"), str)
assert_type(after_two("ada", 1), str)
assert_type(after_two(value="ada", count=1), str)


# -- @transactional and @reattach_args change no type ----------------------------------------------


@transactional
def plain(name: str, count: int = 1) -> int:
    """Be decorated without parentheses."""
    return count + len(name)


@transactional()
def plain_called(name: str) -> int:
    """Be decorated with empty parentheses."""
    return len(name)


@manager.transactional(propagation="NESTED", rollback_for=ValueError, rollback_on_status=None)
def plain_bound(name: str) -> int:
    """Be decorated by a bound and configured decorator."""
    return len(name)


@transactional(
    retry=Retry(attempts=2),
    durable=True,
    idempotent=True,
    manual_commit="defer",
    name="pay",
    bind="default",
    manager=manager,
)
async def plain_coroutine(name: str) -> int:
    """Be asynchronous."""
    return len(name)


@reattach_args
def reattached(user: object, *users: object) -> object:
    """Be decorated without parentheses."""
    return user, users


@manager.reattach_args("user", bind="analytics")
def reattached_bound(user: object, name: str) -> str:
    """Be decorated by a bound and configured decorator."""
    return name + str(user)


assert_type(plain("ada", count=2), int)
assert_type(plain_called("ada"), int)
assert_type(plain_bound("ada"), int)
assert_type(reattached(1, 2), object)
assert_type(reattached_bound(1, name="ada"), str)


@transactional
class Ledger:
    """A class whose public methods are all in a scope."""

    def __init__(self, name: str) -> None:
        self.name = name

    @transactional
    @classmethod
    def class_method(cls, name: str) -> Ledger:
        """Be a classmethod, decorated above."""
        return cls(name)

    @reattach_args
    @staticmethod
    def static_method(name: str) -> int:
        """Be a staticmethod, decorated above."""
        return len(name)


ledger = Ledger("ada")
assert_type(ledger, Ledger)
assert_type(Ledger.class_method("ada"), Ledger)
assert_type(Ledger.static_method("ada"), int)


async def wait() -> None:
    """Await every coroutine function above."""
    assert_type(await coroutine("ada"), int)
    assert_type(await coroutine_with_sync_session(name="ada"), int)
    assert_type(await accounts.coroutine("ada"), int)
    assert_type(await plain_coroutine("ada"), int)
