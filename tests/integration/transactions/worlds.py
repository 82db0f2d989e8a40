"""One manager on one database, in either colour, with a record of what was sent.

A test body is written once, as a coroutine function. In the synchronous world nothing in it ever
waits, so it can be run without an event loop, and each decorated body becomes a plain function.
"""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import Any, TypeVar, cast

from flask import Flask
from sqlalchemy import Connection, Engine, String, create_engine, event, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from flask_reqsession import DatabaseManager, RequestScopedSessionManager
from tests.never import never
from tests.servers.connections import async_url_of, rows_of

T = TypeVar("T")
Body = Callable[..., Awaitable[Any]]


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]
    return never("The body of a synchronous test waited for something.")


class AtOnce(AbstractAsyncContextManager[Any, None]):
    """A ``with`` block that is written as ``async with``."""

    def __init__(self, inner: AbstractContextManager[Any]) -> None:
        self._inner = inner

    async def __aenter__(self) -> Any:
        return self._inner.__enter__()

    async def __aexit__(self, *raised: object) -> None:
        kind, error, traceback = cast("tuple[Any, Any, Any]", raised)
        self._inner.__exit__(kind, error, traceback)


class Base(DeclarativeBase):
    """The tables of these tests."""


class Note(Base):
    """Something that was written."""

    __tablename__ = "note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(40), unique=True)


class Conversation:
    """What an engine was asked to do: the first word of each statement, and each end."""

    def __init__(self, engine: Engine) -> None:
        self.sent: list[str] = []
        self.checkouts = 0
        self.held = 0
        event.listen(engine, "checkout", self._checkout)
        event.listen(engine, "checkin", self._checkin)
        event.listen(engine, "before_cursor_execute", self._execute)
        event.listen(engine, "commit", lambda _connection: self.sent.append("COMMIT"))
        event.listen(engine, "rollback", lambda _connection: self.sent.append("ROLLBACK"))

    def clear(self) -> None:
        """Forget what was said so far."""
        self.sent.clear()
        self.checkouts = 0

    def _checkout(self, *_event: object) -> None:
        self.checkouts += 1
        self.held += 1

    def _checkin(self, *_event: object) -> None:
        self.held -= 1

    def _execute(
        self, _connection: object, _cursor: object, statement: str, *_more: object
    ) -> None:
        words = statement.split()
        self.sent.append("ROLLBACK TO" if words[:2] == ["ROLLBACK", "TO"] else words[0])


class World(ABC):
    """A manager on the database at ``url``; what the tests do, in one of the colours."""

    manager: RequestScopedSessionManager
    engine: Engine

    def __init__(self, url: str) -> None:
        self.url = url
        engine = create_engine(url)
        Base.metadata.create_all(engine)
        engine.dispose()

    def observe(self, engine: Engine) -> None:
        """Keep the engine and record its conversation."""
        self.engine = engine
        self.conversation = Conversation(engine)

    # -- what differs ---------------------------------------------------------------------------

    @abstractmethod
    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run the body of a test."""

    @abstractmethod
    def coloured(self, body: Body, decorator: Callable[[Any], Any]) -> Body:
        """Decorate ``body`` in this colour; the result is awaited in both."""

    @abstractmethod
    def hook(self, body: Body) -> Callable[..., Any]:
        """Return ``body`` as what can be registered as a hook."""

    @abstractmethod
    def scope(self, **options: Any) -> AbstractAsyncContextManager[Any]:
        """Open a ``session_scope()``."""

    @abstractmethod
    def unit(self) -> AbstractAsyncContextManager[None]:
        """Open a unit of work."""

    @abstractmethod
    async def do(self, work: Callable[[Session], T]) -> T:
        """Do ``work`` with the current session."""

    @property
    @abstractmethod
    def session(self) -> Session:
        """The current session; of an ``AsyncSession`` the one inside."""

    @property
    @abstractmethod
    def given_session(self) -> object:
        """The current session as users of this colour get it."""

    # -- what the tests say ---------------------------------------------------------------------

    def transactional(self, **options: Any) -> Callable[[Body], Body]:
        """Return ``@transactional(**options)`` for bodies."""
        return lambda body: self.coloured(body, self.manager.transactional(**options))

    async def write(self, text: str) -> Note:
        """Insert a note; it is sent at once."""
        note = Note(text=text)

        def insert(session: Session) -> None:
            session.add(note)
            session.flush()

        await self.do(insert)
        return note

    async def read(self) -> list[str]:
        """Return the texts that the current session sees."""
        return await self.do(lambda session: list(session.scalars(select(Note.text))))

    async def write_core(self, text: str) -> None:
        """Insert a note without the ORM: its failure leaves the session as it is."""
        await self.execute(f"INSERT INTO note (text) VALUES ('{text}')")  # noqa: S608 - the test's

    async def execute(self, sql: str) -> None:
        """Execute plain SQL in the current session."""
        await self.do(lambda session: session.execute(text(sql)))

    @contextmanager
    def second_connection(self) -> Iterator[Connection]:
        """Give a connection that nothing else uses; it commits at the end."""
        engine = create_engine(self.url)
        with engine.begin() as connection:
            yield connection
        engine.dispose()

    def kept(self) -> list[object]:
        """Return the texts that a second connection sees."""
        return [kept for (kept,) in rows_of(self.url, "SELECT text FROM note ORDER BY id")]

    def app_of(self, view: Callable[..., Any]) -> Flask:
        """Serve one view at ``/``; its errors reach the test."""
        app = Flask("shop")
        app.testing = True
        self.manager.init_app(app)
        app.add_url_rule("/", "view", view)
        return app

    @property
    def sent(self) -> list[str]:
        """What was sent to the database since the last look."""
        sent = list(self.conversation.sent)
        self.conversation.clear()
        return sent


class SyncWorld(World):
    """The world of ``Session``."""

    def __init__(self, url: str, **engine_options: Any) -> None:
        super().__init__(url)
        self.manager = RequestScopedSessionManager(DatabaseManager(url, **engine_options))
        self.observe(self.manager.databases.engine())

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``main`` without an event loop."""
        try:
            return at_once(main())
        finally:
            self.manager.databases.dispose()

    def coloured(self, body: Body, decorator: Callable[[Any], Any]) -> Body:
        """Make ``body`` a function, and what comes of it awaitable again."""
        decorated = decorator(self._function(body))

        async def call(*args: Any, **kwargs: Any) -> Any:
            return decorated(*args, **kwargs)

        return call

    @staticmethod
    def _function(body: Body) -> Callable[..., Any]:
        @functools.wraps(body)
        def function(*args: Any, **kwargs: Any) -> Any:
            return at_once(body(*args, **kwargs))  # type: ignore[arg-type]  # a coroutine

        return function

    def hook(self, body: Body) -> Callable[..., Any]:
        """Return a function."""
        return self._function(body)

    def scope(self, **options: Any) -> AbstractAsyncContextManager[Any]:
        """Open a ``session_scope()``."""
        return AtOnce(self.manager.session_scope(**options))

    def unit(self) -> AbstractAsyncContextManager[None]:
        """Open a unit of work."""
        return AtOnce(self.manager.unit_of_work())

    async def do(self, work: Callable[[Session], T]) -> T:
        """Do ``work`` with the current session."""
        return work(self.manager.session)

    @property
    def session(self) -> Session:
        """The current session."""
        return self.manager.session

    @property
    def given_session(self) -> object:
        """The current session."""
        return self.manager.session

    def put(self, text: str) -> Note:
        """Insert a note; it is sent at once."""
        note = Note(text=text)
        self.manager.session.add(note)
        self.manager.session.flush()
        return note


class AsyncWorld(World):
    """The world of ``AsyncSession``."""

    def __init__(self, url: str, async_url: str) -> None:
        super().__init__(url)
        self.manager = RequestScopedSessionManager(DatabaseManager(async_source=async_url))
        self.async_engine = self.manager.databases.async_engine()
        self.observe(self.async_engine.sync_engine)

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``main`` in an event loop of its own."""

        async def disposing() -> T:
            try:
                return await main()
            finally:
                await self.async_engine.dispose()

        return asyncio.run(disposing())

    def coloured(self, body: Body, decorator: Callable[[Any], Any]) -> Body:
        """Decorate the coroutine function."""
        decorated: Body = decorator(body)
        return decorated

    def hook(self, body: Body) -> Callable[..., Any]:
        """Return the coroutine function."""
        return body

    def scope(self, **options: Any) -> AbstractAsyncContextManager[Any]:
        """Open an ``async_session_scope()``."""
        return self.manager.async_session_scope(**options)

    def unit(self) -> AbstractAsyncContextManager[None]:
        """Open an asynchronous unit of work."""
        return self.manager.async_unit_of_work()

    async def do(self, work: Callable[[Session], T]) -> T:
        """Do ``work`` with the current session, in SQLAlchemy's greenlet."""
        return await self.manager.get_async_request_session().run_sync(work)

    @property
    def session(self) -> Session:
        """The session inside the current ``AsyncSession``."""
        return self.manager.get_async_request_session().sync_session

    @property
    def given_session(self) -> object:
        """The current ``AsyncSession``."""
        return self.manager.get_async_request_session()


class BothWorld(AsyncWorld):
    """The world of coroutines that have an AsyncSession, beside functions that have a Session."""

    def __init__(self, url: str) -> None:
        super().__init__(url, async_url_of(url))
        source = self.async_engine
        self.manager = RequestScopedSessionManager(DatabaseManager(url, async_source=source))


class AwaitedWorld(SyncWorld):
    """The world of coroutines whose manager has synchronous sessions only."""

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``main`` in an event loop of its own."""
        try:
            return asyncio.run(main())
        finally:
            self.manager.databases.dispose()

    def coloured(self, body: Body, decorator: Callable[[Any], Any]) -> Body:
        """Decorate the coroutine function."""
        decorated: Body = decorator(body)
        return decorated
