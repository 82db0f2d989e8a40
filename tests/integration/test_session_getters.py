"""An object with ``get_session()``, and sessions that are handed out twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from werkzeug.local import LocalProxy

from flask_reqsession import ConfigurationError, DatabaseManager, PoolDemandError
from tests.integration.items import (
    OwnSession,
    any_callable,
    write_and_close,
)
from tests.servers.connections import Rows


class Getter:
    """An object as older code has it."""

    def __init__(self, make: Callable[[], object]) -> None:
        self.get_session = make
        self.closed: list[Session] = []

    def close_session(self, session: Session) -> None:
        """Close it, and remember that."""
        self.closed.append(session)
        session.close()


class GetterOnly:
    """The same without ``close_session``."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def get_session(self) -> Session:
        """Return a new session."""
        return Session(self.engine)


@pytest.mark.rule("D1")
def test_an_object_with_get_session_opens_and_closes(own_engine: Engine) -> None:
    """Its own ``close_session`` is how its sessions are closed."""
    getter = Getter(sessionmaker(own_engine))
    databases = DatabaseManager(getter)

    session = write_and_close(databases)

    assert getter.closed == [session]
    assert databases.source().event_target is None


@pytest.mark.rule("D1")
def test_an_object_without_close_session_is_enough(
    own_engine: Engine, sqlite_file_url: str, rows: Rows
) -> None:
    """Its sessions are closed by their own method."""
    session = write_and_close(DatabaseManager(GetterOnly(own_engine)))

    assert not session.in_transaction()
    assert rows(sqlite_file_url, "SELECT count(*) FROM item") == [(1,)]


@pytest.mark.rule("D1", "M8")
@pytest.mark.parametrize("proxy", ["scoped_session", "LocalProxy"])
def test_a_proxy_is_unwrapped(own_engine: Engine, proxy: str) -> None:
    """What the package hands out is a real session."""
    scoped = scoped_session(sessionmaker(own_engine, class_=OwnSession))
    getter = Getter((lambda: scoped) if proxy == "scoped_session" else (lambda: LocalProxy(scoped)))
    source = DatabaseManager(getter).source()

    session = source.open()

    assert isinstance(session, OwnSession)
    assert type(session) is type(scoped())
    source.close(session)


@pytest.mark.rule("D1")
def test_what_is_no_session_is_refused(own_engine: Engine) -> None:
    """A context manager that would give one is a common mistake."""
    databases = DatabaseManager(Getter(lambda: sessionmaker(own_engine).begin()))

    with pytest.raises(ConfigurationError, match=r"Getter\.get_session\(\).*context manager"):
        databases.source().open()


@pytest.mark.rule("T5")
@pytest.mark.parametrize("kind", ["get_session", "scoped_session", "no factory"])
def test_a_session_that_is_in_use_is_not_given_twice(own_engine: Engine, kind: str) -> None:
    """Two owners would end each other's transaction; after its end it may serve again."""
    session = Session(own_engine)
    own = scoped_session(sessionmaker(own_engine))
    own.session_factory = any_callable(None)  # all it has left is its registry
    kinds: dict[str, Callable[[], object]] = {
        "get_session": lambda: Getter(lambda: session),
        "scoped_session": lambda: scoped_session(any_callable(lambda: session)),
        "no factory": lambda: own,
    }
    source = DatabaseManager(kinds[kind]()).source()
    source.adopt(lambda: None)

    first = source.open()
    with pytest.raises(PoolDemandError, match=r"'default'.*still in use"):
        source.open()
    source.close(first)

    assert source.open() is first
    assert source.single_session is (kind == "no factory")
    assert source.engines() == ()
    source.close(first)


@pytest.mark.rule("T5")
def test_the_only_session_can_be_had_before_the_door_is_adopted(own_engine: Engine) -> None:
    """The registry is asked, whoever stands in front of it."""
    own = scoped_session(sessionmaker(own_engine))
    own.session_factory = any_callable(None)  # all it has left is its registry
    source = DatabaseManager(own).source()

    session = source.open()

    assert session is own.registry()
    source.close(session)


def test_the_engine_of_a_getter_is_asked_of_a_session(own_engine: Engine) -> None:
    """Nothing is left open; a session that is in use stays so."""
    getter = Getter(sessionmaker(own_engine))
    databases = DatabaseManager(getter)
    assert databases.engine() is own_engine
    assert len(getter.closed) == 1

    one = Session(own_engine)
    same = Getter(lambda: one)
    databases = DatabaseManager(same)
    session = databases.source().open()
    assert databases.engine() is own_engine
    assert same.closed == []
    databases.source().close(session)
