"""What a type checker has to reject: an ignore on a line that it accepts is an error itself."""

from __future__ import annotations

from typing import assert_type

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from flask_reqsession import (
    RequestScopedSessionManager,
    reattach_args,
    transactional,
    with_request_session,
)

manager = RequestScopedSessionManager("sqlite://")


@with_request_session
def first(session: Session, name: str, count: int = 1) -> int:
    """Take the session first."""
    return len(session.new) + count + len(name)


@manager.with_request_session(bind="analytics")
def bound(session: Session, name: str) -> int:
    """Take the session first, by a bound and configured decorator."""
    return len(session.new) + len(name)


@with_request_session
async def coroutine(session: AsyncSession, name: str) -> int:
    """Be asynchronous."""
    return len(session.new) + len(name)


@with_request_session
def last(name: str, session: Session) -> int:
    """Take the session last."""
    return len(session.new) + len(name)


@with_request_session
def after_two(name: str, count: int, session: Session) -> int:
    """Take the session after two others."""
    return len(session.new) + len(name) + count


@transactional
def plain(name: str) -> int:
    """Be in a scope."""
    return len(name)


@reattach_args("name")
def reattached(name: str) -> int:
    """Have arguments reattached."""
    return len(name)


class Accounts:
    """A service, with every kind of method."""

    @with_request_session
    def method(self, session: Session, name: str) -> int:
        """Be a method."""
        return len(session.new) + len(name)

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


accounts = Accounts()

first(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
first("ada", "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
first()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
first("ada", total=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
first(name=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bound(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bound()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
accounts.method(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
accounts.method()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
accounts.method("ada", 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
accounts.method(title="ada")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Accounts.class_method(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Accounts.class_method_below(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Accounts.static_method(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Accounts.static_method_below(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
plain(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
reattached(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(last("ada"), str)  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]
assert_type(after_two("ada", 1), str)  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]
assert_type(first("ada"), str)  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]
assert_type(accounts.method("ada"), str)  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]

transactional(idempotent=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
transactional(retry="twice")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
transactional(propagation=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
transactional(isolated=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
manager.transactional(durable="yes")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
manager.transactional(manual_commit="deny")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
with_request_session(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
with_request_session("db", binds="analytics")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
reattach_args(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
reattach_args("user", bind=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


async def wait() -> None:
    """Await the coroutine function above."""
    await coroutine(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await coroutine("ada"), str)  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]
