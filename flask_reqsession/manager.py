"""The shared object behind everything: who has which session, and when it is closed."""

from __future__ import annotations

import functools
import logging
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack

from flask import abort

from flask_reqsession.atomic_requests import AtomicRequests, is_atomic
from flask_reqsession.contexts import (
    EXTENSION_KEY,
    after_every_request,
    around_every_coroutine,
    around_every_view,
    before_every_request,
    in_request,
    on_every_exception,
)
from flask_reqsession.databases import DatabaseManager
from flask_reqsession.decorators import ReattachArgs, Transactional, WithRequestSession
from flask_reqsession.errors import ConfigurationError, PropagationError
from flask_reqsession.hooks import BeforeCommit, OnCommit, OnCompletion, OnRollback
from flask_reqsession.inspection import describe
from flask_reqsession.keeper import UnitKeeper
from flask_reqsession.metrics import Metrics
from flask_reqsession.options import DEFAULT_BIND, ScopeOptions
from flask_reqsession.plans import Binding
from flask_reqsession.reattachment import ReattachChoices, reattach_options
from flask_reqsession.recording import Recordings
from flask_reqsession.scopes import AsyncSessionScope, SessionScope

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from flask import Flask
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

logger: logging.Logger = logging.getLogger("flask_reqsession")

DEFAULT_NAME = "default"

T = TypeVar("T")


class RequestScopedSessionManager:
    """Give each request one session, and decide when it commits and when it is closed.

    ``db_manager`` is a :class:`~flask_reqsession.DatabaseManager` or anything that one accepts;
    with none, :meth:`init_app` reads the app's configuration. One manager may serve several
    apps. Two managers of one app need distinct names; the one without a name is the default.

    With ``atomic_requests`` every view runs as if it were decorated with ``@transactional``, unless
    it is decorated itself or with :func:`~flask_reqsession.non_transactional`. The configuration
    ``REQSESSION_ATOMIC_REQUESTS`` of an app wins over it.

    With ``strict`` a request that ends with uncommitted changes outside of any scope, and without
    an exception, warns :class:`~flask_reqsession.UncommittedChangesWarning`. None: where the app is
    in debug or testing mode.

    One session that writes through two engines is refused at COMMIT with ``MultipleBindsError``.
    ``twophase=True``: its COMMIT is a two-phase one, so that both commit or neither.
    ``multiple_binds="allow"``: one commits after the other, and the second may fail alone.

    :raises ConfigurationError: ``db_manager`` is no source of sessions, or an option is wrong.

    >>> from flask import Flask
    >>> from sqlalchemy import text
    >>> app = Flask("shop")
    >>> manager = RequestScopedSessionManager("sqlite://", app)
    >>> @app.get("/")
    ... @manager.transactional
    ... @manager.with_request_session
    ... def index(session):
    ...     return {"answer": session.scalar(text("SELECT 42"))}
    >>> app.test_client().get("/").json
    {'answer': 42}
    """

    def __init__(  # noqa: PLR0913 - each is a choice of the user's
        self,
        db_manager: object = None,
        app: Flask | None = None,
        *,
        name: str = DEFAULT_NAME,
        atomic_requests: bool = False,
        strict: bool | None = None,
        twophase: bool = False,
        multiple_binds: Literal["raise", "allow"] = "raise",
    ) -> None:
        if twophase not in {True, False} or multiple_binds not in {"raise", "allow"}:
            raise ConfigurationError(
                f"twophase is {twophase!r} and multiple_binds {multiple_binds!r}, but they must be "
                "True or False, and 'raise' or 'allow'."
            )
        databases = db_manager
        if not isinstance(databases, DatabaseManager):
            databases = DatabaseManager(databases)
        self.name = name
        self.atomic_requests = atomic_requests
        self.strict = strict
        self.metrics: Metrics = Metrics()
        self.databases = databases
        self.keeper: UnitKeeper = UnitKeeper(databases, Recordings(self), self)
        self.keeper.observer.twophase = twophase
        self.keeper.observer.allows_many_writers = multiple_binds == "allow"
        self.keeper.observer.memory.abort = abort
        binding = Binding(self.keeper)
        self.transactional: Transactional = Transactional(binding)
        self.with_request_session: WithRequestSession = WithRequestSession(binding)
        self.reattach_args: ReattachArgs = ReattachArgs(binding)
        self.before_commit: BeforeCommit = BeforeCommit(binding)
        self.on_commit: OnCommit = OnCommit(binding)
        self.on_completion: OnCompletion = OnCompletion(binding)
        self.on_rollback: OnRollback = OnRollback(binding)
        self._adopt()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Serve ``app``: close the session at the end of every request.

        Twice for the same app is once. :raises ConfigurationError: the app already has another
        manager of this name, or no database is configured.
        """
        key = EXTENSION_KEY if self.name == DEFAULT_NAME else f"{EXTENSION_KEY}:{self.name}"
        present = app.extensions.get(key)
        if present is self:
            return
        if present is not None:
            raise ConfigurationError(
                f"The app {app.name!r} already has a RequestScopedSessionManager named "
                f"{self.name!r}. Use that one (current_manager()), or give this one a name: "
                'RequestScopedSessionManager(..., name="analytics").'
            )
        self.databases.init_app(app)
        self._adopt()
        self.keeper.serve(app)
        is_atomic(app, otherwise=self.atomic_requests)  # or it is refused at the first request
        before_every_request(app, self.keeper.begin_request, functools.partial(self._prepare, app))
        after_every_request(app, self.keeper.end_request)
        around_every_coroutine(app, self.keeper.end_coroutine)
        app.extensions[key] = self

    def _prepare(self, app: Flask) -> None:
        """Do what waits for the app to be complete, before its first request."""
        if is_atomic(app, otherwise=self.atomic_requests):
            around_every_view(app, AtomicRequests(app, self))
        if self.strict is not False:
            on_every_exception(app, self.keeper.see_exception)

    def is_strict(self, app: Flask) -> bool:
        """Whether requests of ``app`` warn of uncommitted changes."""
        if self.strict is not None:
            return self.strict
        # What app.debug and app.testing are, at a third of the price; Flask says dict, not of what.
        return app.config["DEBUG"] or app.config["TESTING"]  # type: ignore[no-any-return]  # pyright: ignore[reportUnknownVariableType]

    def _adopt(self) -> None:
        """Let ``db.session`` of the user's extension be the request session (rule D2)."""
        self.databases.adopt(self._session_if_running, self._async_session_if_running)

    def _session_if_running(self, bind: str) -> Session | None:
        here = self.keeper.find()
        return None if here is None else self.keeper.port(here.unit, bind).open()

    def _async_session_if_running(self, bind: str) -> AsyncSession | None:
        here = self.keeper.find()
        return None if here is None else self.keeper.async_port(here.unit, bind).open_async()

    # -- the session ----------------------------------------------------------------------------

    def get_request_session(self, bind: str = DEFAULT_BIND) -> Session:
        """Return the session of the running request or unit of work, made at first use.

        It is closed at the end of that request or unit. :raises NoActiveScopeError: there is none.
        :raises ScopeOwnershipError: it belongs to another thread, greenlet or task.

        >>> manager = RequestScopedSessionManager("sqlite://")
        >>> with manager.unit_of_work():
        ...     manager.get_request_session() is manager.session
        True
        """
        here = self.keeper.here("get_request_session()")
        return self.keeper.port(here.unit, bind).open()

    @property
    def session(self) -> Session:
        """The current session, as :meth:`get_request_session` returns it: never a proxy."""
        return self.get_request_session()

    def get_async_request_session(self, bind: str = DEFAULT_BIND) -> AsyncSession:
        """Return the async session of the running request or unit of work, made at first use.

        In a Flask view it is closed when the view ends, in the event loop that it belongs to.
        Raises what :meth:`get_request_session` raises.
        """
        here = self.keeper.here("get_async_request_session()")
        return self.keeper.async_port(here.unit, bind).open_async()

    def close_request_session(self) -> None:
        """Roll back what is uncommitted, close the session, and forget it. Safe to call twice.

        Only the owner's call does anything: a teardown that Flask runs in a worker thread leaves
        the session alone. Outside a request and a unit of work it logs a warning.
        """
        unit = self.keeper.peek()
        if unit is None:
            if not in_request():
                logger.warning(
                    "close_request_session() was called outside a request and a unit of work: "
                    "there is nothing to close."
                )
        elif unit.is_mine:
            unit.close_sessions()

    def release(self, bind: str = DEFAULT_BIND) -> None:
        """Give the connection back in mid-request, before a slow call; nothing loaded expires.

        The next statement takes a connection again, in a new transaction. :raises
        PropagationError: inside a transaction scope, or with uncommitted changes. What was written
        on the driver's own cursor is not seen, and is committed.
        """
        here = self.keeper.here("release()")
        port = self.keeper.port(here.unit, bind)
        if port.is_guarded:
            raise PropagationError(
                f"release() was called inside the scope {port.guarded_scope.name}, which holds its "
                "connection until it ends. Call it before the scope begins or after it ended."
            )
        if port.has_uncommitted_changes:
            raise PropagationError(
                "release() was called with uncommitted changes, which it would have to commit or "
                "lose. Write inside @transactional or session_scope(), and release after it."
            )
        port.release()

    def ensure_session_attachment(
        self, obj: T, *, bind: str = DEFAULT_BIND, **options: Unpack[ReattachChoices]
    ) -> T:
        """Return ``obj`` attached to the request session; None stays None.

        The rules and options are those of :func:`~flask_reqsession.reattach_args`, with the same
        errors. With ``missing="none"`` it returns None for an instance whose row is gone.
        """
        if obj is None:
            return obj
        chosen = reattach_options(**options)
        here = self.keeper.here("ensure_session_attachment()")
        return self.keeper.port(here.unit, bind).attach(obj, chosen)

    async def ensure_async_session_attachment(
        self, obj: T, *, bind: str = DEFAULT_BIND, **options: Unpack[ReattachChoices]
    ) -> T:
        """Do what :meth:`ensure_session_attachment` does, with the request's ``AsyncSession``."""
        if obj is None:
            return obj
        chosen = reattach_options(**options)
        here = self.keeper.here("ensure_async_session_attachment()")
        port = self.keeper.async_port(here.unit, bind)
        return await port.open_async().run_sync(lambda _session: port.attach(obj, chosen))

    # -- scopes and units of work ---------------------------------------------------------------

    def session_scope(self, **options: Unpack[ScopeOptions]) -> SessionScope:
        """Open a transaction scope as a context manager that yields the session.

        It commits at the end, rolls back and re-raises on any exception, and joins a running
        scope. The options are those of :func:`~flask_reqsession.transactional`.

        >>> from sqlalchemy import text
        >>> manager = RequestScopedSessionManager("sqlite://")
        >>> with manager.session_scope() as session:
        ...     session.scalar(text("SELECT 1"))
        1
        """
        return SessionScope(self.keeper, options)

    def async_session_scope(self, **options: Unpack[ScopeOptions]) -> AsyncSessionScope:
        """Do what :meth:`session_scope` does, for ``async with`` and an ``AsyncSession``."""
        return AsyncSessionScope(self.keeper, options)

    @contextmanager
    def unit_of_work(self) -> Generator[None]:
        """Play the request's part outside a request: a CLI command, a job, a SocketIO handler.

        One session for its whole extent, closed at the end; nothing is committed by itself.
        Inside a request or another unit of the same owner it joins, and closes nothing.

        >>> manager = RequestScopedSessionManager("sqlite://")
        >>> with manager.unit_of_work():
        ...     manager.is_session_active()
        False
        """
        if self.keeper.joins():
            yield
            return
        opened = self.keeper.open("unit of work")
        self.keeper.enter(opened)
        try:
            yield
        except BaseException as error:
            self.keeper.leave(opened)
            opened.unit.end(error)
            raise
        self.keeper.leave(opened)
        opened.unit.end()

    @asynccontextmanager
    async def async_unit_of_work(self) -> AsyncGenerator[None]:
        """Do what :meth:`unit_of_work` does, for ``async with``: async sessions are closed, too."""
        if self.keeper.joins():
            yield
            return
        opened = self.keeper.open("unit of work")
        self.keeper.enter(opened)
        try:
            yield
        except BaseException as error:
            self.keeper.leave(opened)
            await opened.unit.aend(error)
            raise
        self.keeper.leave(opened)
        await opened.unit.aend()

    # -- seeing what is there -------------------------------------------------------------------

    def is_session_active(self, bind: str = DEFAULT_BIND) -> bool:
        """Whether a session exists for this request or unit of work. Makes none, never raises."""
        unit = self.keeper.peek()
        port = None if unit is None else unit.port_to_show(bind)
        return port is not None and port.session is not None

    def get_session_info(self, bind: str = DEFAULT_BIND) -> dict[str, Any]:
        """Describe the session of this request or unit of work, JSON-serialisable.

        Makes none, never raises, and shows no password, no URL and no row value.
        """
        return describe(self.keeper, bind)

    # -- events, for subclasses -----------------------------------------------------------------

    def _record_session_creation(self, duration: float) -> None:
        """Count a session that was made; ``duration`` in seconds."""
        self.metrics.count("sessions_created", duration)

    def _record_session_closure(self, duration: float) -> None:
        """Count a session that was closed; ``duration`` in seconds."""
        self.metrics.count("sessions_closed", duration)

    def _record_session_commit(self) -> None:
        """Count a scope that was committed."""
        self.metrics.count("commits")

    def _record_session_rollback(self) -> None:
        """Count a scope, or a session with uncommitted writes, that was rolled back."""
        self.metrics.count("rollbacks")

    def _record_session_reattachment(self, object_type: str, duration: float) -> None:
        """Count an instance of ``object_type`` that was attached; ``duration`` in seconds."""
        self.metrics.count(f"reattached_{object_type}", duration)

    def _record_session_error(self, error_type: str, error_message: str) -> None:
        """Count a failing database operation; the message carries no parameters."""
        self.metrics.count(f"errors_{error_type}")
        logger.debug("A database operation failed: %s: %s", error_type, error_message)
