"""The pairs that are compared: by hand, and with the package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from werkzeug.test import EnvironBuilder, run_wsgi_app

from flask_reqsession import DatabaseManager, RequestScopedSessionManager


class Base(DeclarativeBase):
    """The benchmark's tables."""


class Item(Base):
    """A row to read."""

    __tablename__ = "benchmark_item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Entry(Base):
    """A row to write."""

    __tablename__ = "benchmark_entry"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]


class AppError(Exception):
    """What the failing views raise; the app makes a 409 of it."""


@dataclass(frozen=True)
class Pair:
    """One scenario: the same work, by hand and with the package."""

    name: str
    by_hand: Callable[[], object]
    package: Callable[[], object]


def empty(_session: Session) -> str:
    """Leave the session alone."""
    return "ok"


def read(session: Session) -> str:
    """Read one row by its primary key."""
    return session.get_one(Item, 1).name


def insert(session: Session) -> str:
    """Add one row."""
    session.add(Entry(label="x"))
    return "ok"


def fail(session: Session) -> str:
    """Write one row, then fail."""
    insert(session)
    session.flush()
    raise AppError


class Bench:
    """One app whose views are written by hand, and one that uses the package."""

    def __init__(self, url: str) -> None:
        self.manager = RequestScopedSessionManager(DatabaseManager(url))
        self.engine: Engine = self.manager.databases.engine()
        Base.metadata.drop_all(self.engine)
        Base.metadata.create_all(self.engine)
        self.make_session = sessionmaker(self.engine)
        with self.make_session.begin() as session:
            session.add(Item(id=1, name="item"))
        self.by_hand = self._app("by_hand")
        self.package = self._app("package")
        self.manager.init_app(self.package)

    @staticmethod
    def _app(name: str) -> Flask:
        app = Flask(name)

        @app.errorhandler(AppError)
        def conflict(_error: AppError) -> tuple[str, int]:
            return "rolled back", 409

        return app

    def close(self) -> None:
        """Drop the tables."""
        Base.metadata.drop_all(self.engine)
        self.manager.databases.dispose()

    def add_view(self, body: Callable[[Session], str]) -> None:
        """Give both apps a view with ``body``."""
        name, decorate = body.__name__, self.manager.transactional

        def view_by_hand() -> str:
            with self.make_session.begin() as session:
                return body(session)

        def view(session: Session) -> str:
            return body(session)

        path, injected = f"/{name}", self.manager.with_request_session(view)
        self.by_hand.add_url_rule(path, name, view_by_hand)
        self.package.add_url_rule(path, name, decorate(injected))

    def add_services(self) -> None:
        """Give both apps an insert through three functions, plain and decorated."""
        manager = self.manager

        @manager.transactional
        @manager.with_request_session
        def third(session: Session) -> str:
            return insert(session)

        @manager.transactional
        def second() -> str:
            return third()

        @manager.transactional
        def first() -> str:
            return second()

        def plain_second(session: Session) -> str:
            return insert(session)

        def plain_first() -> str:
            with self.make_session.begin() as session:
                return plain_second(session)

        self.by_hand.add_url_rule("/services", "services", plain_first)
        self.package.add_url_rule("/services", "services", first)

    def part_pairs(self) -> Iterator[Pair]:
        """Compare what happens inside a running scope, which stays open meanwhile."""
        manager = self.manager

        def work(number: int, session: Session | None = None) -> int:  # noqa: ARG001 - injected
            return number

        def look(item: Item) -> object:
            return item

        joined = manager.transactional(manager.with_request_session(work))
        reattached = manager.transactional(manager.reattach_args(look))
        with manager.session_scope() as session:
            item = session.get_one(Item, 1)

            def add_by_hand() -> None:
                session.expunge(item)
                session.add(item)

            def attach() -> None:
                session.expunge(item)
                manager.ensure_session_attachment(item)

            yield Pair("joined", lambda: work(1), lambda: joined(1))
            yield Pair("attached", lambda: look(item), lambda: reattached(item))
            yield Pair("detached", add_by_hand, attach)


def caller(app: Flask, path: str) -> Callable[[], object]:
    """Return a function that does one whole request, without the test client.

    :raises SystemExit: the view does not answer as its scenario says.
    """
    environ = EnvironBuilder(path=path).get_environ()

    def call() -> tuple[object, str, object]:
        return run_wsgi_app(app.wsgi_app, environ.copy(), buffered=True)

    _, status, _ = call()
    if status != ("409 CONFLICT" if path == "/fail" else "200 OK"):
        raise SystemExit(f"{app.name}{path} answered {status}")
    return call


def pairs_of(url: str) -> Iterator[Pair]:
    """Set the database up and give the pairs, one after the other."""
    bench = Bench(url)
    for body in (empty, read, insert, fail):
        bench.add_view(body)
    bench.add_services()
    for name in ("empty", "read", "insert", "fail", "services"):
        yield Pair(name, caller(bench.by_hand, f"/{name}"), caller(bench.package, f"/{name}"))
    yield from bench.part_pairs()
    bench.close()
