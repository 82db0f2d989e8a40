"""One interpreter of programs for both colours.

It is written as coroutines. For ``Session`` nothing in it ever waits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from flask import Flask
from sqlalchemy import insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from flask_reqsession.current import set_rollback_only
from flask_reqsession.hooks import before_commit, on_commit, on_completion, on_rollback
from flask_reqsession.testing.outcomes import Caught, Fired, Outcome, Seen
from flask_reqsession.testing.programs import Program
from flask_reqsession.testing.running.answers import http_error
from flask_reqsession.testing.running.arguments import given
from flask_reqsession.testing.running.table import TABLE, ProgramRow
from flask_reqsession.testing.running.witness import Witness
from flask_reqsession.testing.steps import (
    TROUBLES,
    Abort,
    Add,
    Block,
    Body,
    ByHand,
    Call,
    Doom,
    Execute,
    Flake,
    FlakyError,
    Generate,
    Options,
    OtherTroubleError,
    Raise,
    Read,
    Register,
    Savepoint,
    Step,
    Try,
    Violate,
)

if TYPE_CHECKING:
    from flask_reqsession.manager import RequestScopedSessionManager
    from flask_reqsession.options import ScopeOptions, TransactionOutcome

T = TypeVar("T")
SessionT = TypeVar("SessionT", Session, AsyncSession)


class Runner(ABC, Generic[SessionT]):
    """Executes the steps of one program and remembers what it sees."""

    def __init__(self, manager: RequestScopedSessionManager) -> None:
        self._manager = manager
        self._witness = Witness()
        self._unclosed = _unclosed(manager)
        self._usable = True
        self._service_answer: object = None
        self._status: int | None = None
        self._closed: list[SessionT] = []
        self._runs: defaultdict[int, count[int]] = defaultdict(count)
        self._written: dict[Session, set[int]] = {}

    def outcome(self, rows: frozenset[int], error: BaseException | None, held: int) -> Outcome:
        """Tell what was seen."""
        raised = None if error is None else self._witness.described(error)
        unclosed = _unclosed(self._manager) - self._unclosed
        events = tuple(self._witness.events)
        return Outcome(rows, raised, events, self._usable, held, unclosed, self._status)

    # -- what differs ---------------------------------------------------------------------------

    @property
    @abstractmethod
    def _current(self) -> SessionT:
        """The session that the manager gives."""

    @abstractmethod
    def _view(self, program: Program) -> Callable[..., object]:
        """Make the function that runs the whole program in a request."""

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

    # -- the whole ------------------------------------------------------------------------------

    def _serve(self, program: Program) -> None:
        """Run the program in a view; what Flask does not answer comes through."""
        app = Flask(__name__)
        app.config["PROPAGATE_EXCEPTIONS"] = True
        self._manager.init_app(app)
        view = self._decorated(self._view(program), "view", program.view.options)
        app.add_url_rule("/", view_func=view)
        # An error status, if it were a view's: what a service returns must not roll back.
        self._service_answer = "no page", HTTPStatus.NOT_FOUND
        self._status = app.test_client().get("/").status_code

    def _decorated(
        self, function: Callable[..., object], name: str, options: Options | None
    ) -> Callable[..., Any]:
        function.__name__ = function.__qualname__ = name
        injected = self._manager.with_request_session(function)
        if options is None:
            return injected
        self._witness.names.add(name)
        return self._manager.transactional(**given(options))(injected)

    async def _start(self, session: SessionT, body: Body) -> None:
        """Run the body of the whole program; look afterwards whether the session can be used."""
        try:
            await self._body(session, body)
        finally:
            try:
                await self._do(self._live(session), self._visible)
            except SQLAlchemyError:
                self._usable = False

    async def _body(self, session: SessionT | None, body: Body) -> None:
        for step in body:
            match step:
                case Call(name):
                    self._witness.names.add(name)
                    await self._call(step)
                case Block(name, options, inner):
                    self._witness.names.add(name)
                    async with self._block({**given(options), "name": name}) as own:
                        await self._body(own, inner)
                case Generate():
                    await self._generate(session, step)
                case Try():
                    await self._try(session, step)
                case Raise() | Flake() | Abort():
                    self._raise(step)
                case _:
                    await self._use(self._live(_required(session)), step)

    def _live(self, session: SessionT) -> SessionT:
        """Return what the manager gives in the place of a session that was closed by hand."""
        return self._current if session in self._closed else session

    def _raise(self, step: Raise | Flake | Abort) -> None:
        error: BaseException
        match step:
            case Abort(status):
                error = http_error(status)
            case Flake(times):
                if next(self._runs[step.number]) >= times:
                    return
                error = FlakyError(step.number)
            case _:
                error = TROUBLES[step.error](step.number)
        raise self._witness.remembered(error, step.number)

    def _register(self, step: Register) -> None:
        if step.kind == "before_commit":
            before_commit(self._hook(step))
        else:
            _ROBUST[step.kind](self._hook(step), robust=step.is_robust)

    async def _fire(
        self, session: SessionT, step: Register, outcome: TransactionOutcome | None
    ) -> None:
        self._witness.events.append(Fired(step.name, "" if outcome is None else outcome.value))
        await self._body(session, step.body)

    async def _generate(self, session: SessionT | None, step: Generate) -> None:
        self._witness.names.add(step.name)
        async with self._generator(step) as steps:
            await anext(steps)
            await self._body(session, step.between)
            if not step.is_closed:
                await anext(steps, None)

    async def _try(self, session: SessionT | None, step: Try) -> None:
        try:
            await self._body(session, step.body)
        except BaseException as error:
            self._witness.events.append(Caught(step.number, self._witness.described(error)))
            if step.answer == "reraise":
                raise
            if step.answer == "convert":
                converted = OtherTroubleError(step.number)
                raise self._witness.remembered(converted, step.number) from error

    async def _use(self, session: SessionT, step: Step) -> None:
        match step:
            case Savepoint(body):
                async with self._savepoint(session):
                    await self._body(session, body)
            case Register():
                self._witness.names.add(step.name)
                self._register(step)
            case Doom():
                set_rollback_only()
            case Read():
                self._witness.events.append(Seen(await self._do(session, self._visible)))
            case ByHand("close"):
                self._closed.append(session)
                await self._do(session, self._close)
            case _:
                await self._do(session, lambda sync_session: self._write(sync_session, step))

    def _write(self, session: Session, step: Step) -> None:
        match step:
            case Add(row):
                session.add(ProgramRow(number=self._numbered(session, row)))
            case Execute(row):
                session.execute(insert(TABLE).values(number=self._numbered(session, row)))
            case ByHand(work):
                session.commit() if work == "commit" else session.rollback()
            case Violate():
                session.add(ProgramRow(number=0))
                session.flush()
            case _:
                session.flush()

    def _numbered(self, session: Session, row: int) -> int:
        """Return another number each time that the step is run, and remember who wrote it."""
        number = row + 1000 * next(self._runs[row])
        self._written.setdefault(session, set()).add(number)
        return number

    def _close(self, session: Session) -> None:
        self._written.pop(session, None)
        session.close()

    def _visible(self, session: Session) -> frozenset[int]:
        """Return the rows that are there, of those written through this very session.

        What others have committed meanwhile is seen on some databases and not on others.
        """
        found = frozenset(session.scalars(select(ProgramRow.number)))
        return found & self._written.get(session, set())


_ROBUST: Final[Mapping[str, Callable[..., None]]] = MappingProxyType(
    {"on_commit": on_commit, "on_rollback": on_rollback, "on_completion": on_completion}
)
"""What registers hooks that may be robust; one of ``before_commit`` never is."""


def _required(session: SessionT | None) -> SessionT:
    if session is None:
        raise ValueError(
            "A step of this program uses a session outside of every call, block, request and unit "
            "of work. Give the program root='unit', or put the step into a Call."
        )
    return session


def _unclosed(manager: RequestScopedSessionManager) -> int:
    counts = manager.metrics.snapshot()
    made: int = counts.get("sessions_created", 0)
    closed: int = counts.get("sessions_closed", 0)
    return made - closed
