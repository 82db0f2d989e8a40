"""Execute a program with the real decorators, and tell what was seen.

The interpreter is written once, as coroutines. For ``Session`` nothing in it ever waits, so each
decorated function drives its body to the end by itself.
"""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing, contextmanager
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, cast

from flask import Flask
from sqlalchemy import Connection, Engine, Table, delete, insert, select
from sqlalchemy.exc import DBAPIError, SAWarning, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import QueuePool

from flask_reqsession.current import set_rollback_only
from flask_reqsession.errors import ReqSessionError
from flask_reqsession.hooks import before_commit, on_commit, on_completion, on_rollback
from flask_reqsession.testing.programs import (
    TROUBLES,
    Add,
    Block,
    Body,
    ByHand,
    Call,
    Caught,
    Doom,
    ErrorName,
    Event,
    Execute,
    Fired,
    Generate,
    Options,
    OtherTroubleError,
    Outcome,
    Program,
    Raise,
    Raised,
    Read,
    Register,
    Savepoint,
    Seen,
    Step,
    Try,
    Violate,
)

if TYPE_CHECKING:
    from flask_reqsession.manager import RequestScopedSessionManager
    from flask_reqsession.options import ScopeOptions, TransactionOutcome

T = TypeVar("T")
SessionT = TypeVar("SessionT", Session, AsyncSession)


class _Base(DeclarativeBase):
    """The table of programs stands alone."""


class ProgramRow(_Base):
    """A row that a program writes. Row 0 is there from the beginning."""

    __tablename__ = "reqsession_program_row"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


_TABLE: Final = cast("Table", ProgramRow.__table__)


def run_program(program: Program, manager: RequestScopedSessionManager) -> Outcome:
    """Execute ``program`` on the default bind of ``manager`` and tell what was seen.

    Its rows go to the table ``reqsession_program_row``, which is made where it is missing and
    emptied before. The rows of the outcome are read through a connection of its own.

    >>> from flask_reqsession import RequestScopedSessionManager
    >>> from flask_reqsession.testing.programs import Add, Call, Options, Program
    >>> manager = RequestScopedSessionManager("sqlite://")
    >>> sorted(run_program(Program("bare", (Call("call1", Options(), (Add(2),)),)), manager).rows)
    [2]
    """
    engine = manager.databases.engine()
    _prepared(engine)
    runner = _SyncRunner(manager)
    with _known_warnings():
        error = runner.error_of(program)
    held = _held(engine)
    with engine.connect() as connection:
        rows = _rows(connection)
    return runner.outcome(rows, error, held)


async def arun_program(program: Program, manager: RequestScopedSessionManager) -> Outcome:
    """Do what :func:`run_program` does with coroutine functions and the ``AsyncSession``.

    :raises ValueError: a program that starts in a request. Flask runs an async view in an event
        loop of its own, so it would not run in this one.

    >>> import asyncio
    >>> from flask_reqsession import DatabaseManager, RequestScopedSessionManager
    >>> from flask_reqsession.testing.programs import Add, Call, Options, Program
    >>> databases = DatabaseManager(async_source="sqlite+aiosqlite:///program.db")
    >>> manager = RequestScopedSessionManager(databases)
    >>> program = Program("bare", (Call("call1", Options(), (Add(2),)),))
    >>> sorted(asyncio.run(arun_program(program, manager)).rows)
    [2]
    """
    if program.root == "request":
        raise ValueError("An async program starts in a unit of work or outside: root='unit'.")
    engine = manager.databases.async_engine()
    async with engine.connect() as connection:
        await connection.run_sync(_prepare)
    runner = _AsyncRunner(manager)
    with _known_warnings():
        error = await runner.error_of(program)
    held = _held(engine.sync_engine)
    async with engine.connect() as connection:
        rows = await connection.run_sync(_rows)
    return runner.outcome(rows, error, held)


def _prepared(engine: Engine) -> None:
    with engine.connect() as connection:
        _prepare(connection)


def _prepare(connection: Connection) -> None:
    """Empty the table, and make it only where that fails: looking first costs more than all."""
    try:
        connection.execute(delete(ProgramRow))
    except DBAPIError:
        connection.rollback()
        _Base.metadata.create_all(connection)
    connection.execute(insert(ProgramRow).values(number=0))
    connection.commit()


def _rows(connection: Connection) -> frozenset[int]:
    return frozenset(connection.scalars(select(ProgramRow.number))) - {0}


@contextmanager
def _known_warnings() -> Generator[None]:
    """Let SQLAlchemy not warn of what a program does on purpose: it adds rows after a failure."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Session's state has been changed", SAWarning)
        yield


def _held(engine: Engine) -> int:
    pool = engine.pool
    return pool.checkedout() if isinstance(pool, QueuePool) else 0


def _unclosed(manager: RequestScopedSessionManager) -> int:
    counts = manager.metrics.snapshot()
    made: int = counts.get("sessions_created", 0)
    closed: int = counts.get("sessions_closed", 0)
    return made - closed


# -- one interpreter for both colours -----------------------------------------------------------


class _Runner(ABC, Generic[SessionT]):
    """Executes the steps of one program and remembers what it sees."""

    def __init__(self, manager: RequestScopedSessionManager) -> None:
        self._manager = manager
        self._events: list[Event] = []
        self._names: set[str] = set()
        self._raised: dict[int, BaseException] = {}
        self._unclosed = _unclosed(manager)
        self._usable = True
        self._written: dict[Session, set[int]] = {}

    def outcome(self, rows: frozenset[int], error: BaseException | None, held: int) -> Outcome:
        """Tell what was seen."""
        raised = None if error is None else self._described(error)
        unclosed = _unclosed(self._manager) - self._unclosed
        return Outcome(rows, raised, tuple(self._events), self._usable, held, unclosed)

    # -- what differs ---------------------------------------------------------------------------

    @abstractmethod
    async def _do(self, session: SessionT, work: Callable[[Session], T]) -> T:
        """Do ``work`` with ``session``."""

    @abstractmethod
    async def _call(self, call: Call) -> None:
        """Decorate a function with the body of ``call``, and call it."""

    @abstractmethod
    def _hook(self, step: Register) -> Callable[..., object]:
        """Make the function that runs the hook's body with the session."""

    @abstractmethod
    def _generator(self, step: Generate) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        """Decorate a generator function with the bodies of ``step``; close what it gives."""

    @abstractmethod
    def _block(self, options: ScopeOptions) -> AbstractAsyncContextManager[SessionT]:
        """Open a ``session_scope()``."""

    @abstractmethod
    def _savepoint(self, session: SessionT) -> AbstractAsyncContextManager[object]:
        """Open SQLAlchemy's ``begin_nested()``."""

    # -- the steps ------------------------------------------------------------------------------

    async def _start(self, session: SessionT, body: Body) -> None:
        """Run the body of the whole program; look afterwards whether the session can be used."""
        try:
            await self._body(session, body)
        finally:
            try:
                await self._do(session, self._visible)
            except SQLAlchemyError:
                self._usable = False

    async def _body(self, session: SessionT | None, body: Body) -> None:
        for step in body:
            match step:
                case Call(name):
                    self._names.add(name)
                    await self._call(step)
                case Block(name, options, inner):
                    self._names.add(name)
                    async with self._block({**_given(options), "name": name}) as given:
                        await self._body(given, inner)
                case Generate():
                    await self._generate(session, step)
                case Try():
                    await self._try(session, step)
                case Raise(error, number):
                    raise self._remembered(TROUBLES[error](number), number)
                case _:
                    await self._use(_required(session), step)

    def _register(self, step: Register) -> None:
        if step.kind == "before_commit":
            before_commit(self._hook(step))
        else:
            _ROBUST[step.kind](self._hook(step), robust=step.is_robust)

    async def _fire(
        self, session: SessionT, step: Register, outcome: TransactionOutcome | None
    ) -> None:
        self._events.append(Fired(step.name, "" if outcome is None else outcome.value))
        await self._body(session, step.body)

    async def _generate(self, session: SessionT | None, step: Generate) -> None:
        self._names.add(step.name)
        async with self._generator(step) as steps:
            await anext(steps)
            await self._body(session, step.between)
            if not step.is_closed:
                await anext(steps, None)

    async def _try(self, session: SessionT | None, step: Try) -> None:
        try:
            await self._body(session, step.body)
        except BaseException as error:
            self._events.append(Caught(step.number, self._described(error)))
            if step.answer == "reraise":
                raise
            if step.answer == "convert":
                converted = OtherTroubleError(step.number)
                raise self._remembered(converted, step.number) from error

    async def _use(self, session: SessionT, step: Step) -> None:
        match step:
            case Savepoint(body):
                async with self._savepoint(session):
                    await self._body(session, body)
            case Register():
                self._names.add(step.name)
                self._register(step)
            case Doom():
                set_rollback_only()
            case Read():
                self._events.append(Seen(await self._do(session, self._visible)))
            case _:
                await self._do(session, lambda sync_session: self._write(sync_session, step))

    def _write(self, session: Session, step: Step) -> None:
        match step:
            case Add(row):
                session.add(ProgramRow(number=row))
                self._written.setdefault(session, set()).add(row)
            case Execute(row):
                session.execute(insert(_TABLE).values(number=row))
                self._written.setdefault(session, set()).add(row)
            case ByHand(work):
                session.commit() if work == "commit" else session.rollback()
            case Violate():
                session.add(ProgramRow(number=0))
                session.flush()
            case _:
                session.flush()

    def _visible(self, session: Session) -> frozenset[int]:
        """Return the rows that are there, of those written through this very session.

        What others have committed meanwhile is seen on some databases and not on others.
        """
        found = frozenset(session.scalars(select(ProgramRow.number)))
        return found & self._written.get(session, set())

    # -- exceptions -----------------------------------------------------------------------------

    def _remembered(self, error: BaseException, number: int) -> BaseException:
        self._raised[number] = error
        return error

    def _described(self, error: BaseException) -> Raised:
        kind = type(error).__name__
        cause = None if error.__cause__ is None else self._described(error.__cause__)
        if kind in TROUBLES:
            number: int = error.args[0]
            is_same = self._raised.get(number) is error
            return Raised(kind if is_same else f"another {kind}", number, cause=cause)
        if isinstance(error, ReqSessionError):
            words = frozenset[str](re.findall(r"\w+", str(error)))
            return Raised(kind, 0, words & self._names, cause)
        return Raised(kind)


_ROBUST: Final[Mapping[str, Callable[..., None]]] = MappingProxyType(
    {"on_commit": on_commit, "on_rollback": on_rollback, "on_completion": on_completion}
)


def _given(options: Options) -> ScopeOptions:
    return {
        "propagation": options.propagation,
        "durable": options.durable,
        "rollback_for": _classes(options.rollback_for),
        "no_rollback_for": _classes(options.no_rollback_for),
    }


def _classes(names: tuple[ErrorName, ...]) -> tuple[type[BaseException], ...]:
    return tuple(TROUBLES.get(name, Exception) for name in names)


def _required(session: SessionT | None) -> SessionT:
    if session is None:
        raise ValueError(
            "A step of this program uses a session outside of every call, block, request and unit "
            "of work. Give the program root='unit', or put the step into a Call."
        )
    return session


class _SyncRunner(_Runner[Session]):
    def error_of(self, program: Program) -> BaseException | None:
        """Run ``program``; return what reached its caller."""
        try:
            if program.root == "request":
                self._serve(program.body)
            elif program.root == "unit":
                with self._manager.unit_of_work():
                    at_once(self._start(self._manager.session, program.body))
            else:
                at_once(self._body(None, program.body))
        except BaseException as error:  # noqa: BLE001 - described
            return error
        return None

    def _serve(self, body: Body) -> None:
        """Run the program in a view; what it raises comes through."""
        app = Flask(__name__)
        app.config["PROPAGATE_EXCEPTIONS"] = True
        self._manager.init_app(app)

        @app.get("/")
        @self._manager.with_request_session
        def view(session: Session) -> str:
            at_once(self._start(session, body))
            return "done"

        app.test_client().get("/")

    async def _do(self, session: Session, work: Callable[[Session], T]) -> T:
        return work(session)

    async def _call(self, call: Call) -> None:
        def function(session: Session) -> None:
            at_once(self._body(session, call.body))

        function.__name__ = function.__qualname__ = call.name
        injected = self._manager.with_request_session(function)
        self._manager.transactional(**_given(call.options))(injected)()

    def _hook(self, step: Register) -> Callable[..., object]:
        def hook(session: Session, outcome: TransactionOutcome | None = None) -> None:
            at_once(self._fire(session, step, outcome))

        hook.__name__ = hook.__qualname__ = step.name
        return self._manager.with_request_session(hook)

    def _generator(self, step: Generate) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        def function(session: Session) -> Generator[None]:
            at_once(self._body(session, step.first))
            yield
            at_once(self._body(session, step.rest))

        function.__name__ = function.__qualname__ = step.name
        injected = self._manager.with_request_session(function)
        return _Steps(self._manager.transactional(**_given(step.options))(injected)())

    def _block(self, options: ScopeOptions) -> AbstractAsyncContextManager[Session]:
        return AtOnce(self._manager.session_scope(**options))

    def _savepoint(self, session: Session) -> AbstractAsyncContextManager[object]:
        return AtOnce(session.begin_nested())


class _AsyncRunner(_Runner[AsyncSession]):
    async def error_of(self, program: Program) -> BaseException | None:
        """Run ``program``; return what reached its caller."""
        try:
            if program.root == "unit":
                async with self._manager.async_unit_of_work():
                    session = self._manager.get_async_request_session()
                    await self._start(session, program.body)
            else:
                await self._body(None, program.body)
        except BaseException as error:  # noqa: BLE001 - described
            return error
        return None

    async def _do(self, session: AsyncSession, work: Callable[[Session], T]) -> T:
        return await session.run_sync(work)

    async def _call(self, call: Call) -> None:
        async def function(session: AsyncSession) -> None:
            await self._body(session, call.body)

        function.__name__ = function.__qualname__ = call.name
        injected = self._manager.with_request_session(function)
        await self._manager.transactional(**_given(call.options))(injected)()

    def _hook(self, step: Register) -> Callable[..., object]:
        async def hook(session: AsyncSession, outcome: TransactionOutcome | None = None) -> None:
            await self._fire(session, step, outcome)

        hook.__name__ = hook.__qualname__ = step.name
        return self._manager.with_request_session(hook)

    def _generator(self, step: Generate) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        async def function(session: AsyncSession) -> AsyncGenerator[None]:
            await self._body(session, step.first)
            yield
            await self._body(session, step.rest)

        function.__name__ = function.__qualname__ = step.name
        injected = self._manager.with_request_session(function)
        return aclosing(self._manager.transactional(**_given(step.options))(injected)())

    def _block(self, options: ScopeOptions) -> AbstractAsyncContextManager[AsyncSession]:
        return self._manager.async_session_scope(**options)

    def _savepoint(self, session: AsyncSession) -> AbstractAsyncContextManager[object]:
        return session.begin_nested()


# -- coroutines that never wait -----------------------------------------------------------------


def at_once(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits.

    :raises RuntimeError: it does wait.

    >>> async def greet():
    ...     print("hello")
    >>> at_once(greet())
    hello
    """
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    raise RuntimeError("A coroutine waited that was to be run without an event loop.")


class AtOnce(AbstractAsyncContextManager[T, None]):
    """A ``with`` block that is written as ``async with``."""

    def __init__(self, inner: AbstractContextManager[T, bool | None]) -> None:
        self._inner = inner

    async def __aenter__(self) -> T:
        return self._inner.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inner.__exit__(kind, error, traceback)


class _Steps(AbstractAsyncContextManager["_Steps", None], AsyncIterator[None]):
    """A generator that is written as an async one, and closed at the end of the block."""

    def __init__(self, generator: Generator[None]) -> None:
        self._generator = generator

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        self._generator.close()

    async def __anext__(self) -> None:
        try:
            next(self._generator)
        except StopIteration:
            raise StopAsyncIteration from None
