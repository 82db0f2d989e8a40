"""The databases of an app, whatever the user has of them already (section 3 of the contract)."""

from __future__ import annotations

import asyncio
import functools
import os
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool

from flask_reqsession import sqlite
from flask_reqsession.adapters import Binds, binds_of
from flask_reqsession.adoption import tearing_down
from flask_reqsession.configured import configured_binds
from flask_reqsession.contexts import current_flask_app, mark_app_teardown
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.replicas import PRIMARY_BIND
from flask_reqsession.savepoints import SavepointGuard
from flask_reqsession.sources import AsyncSessionSource, SessionSource
from flask_reqsession.verification import (
    EngineReport,
    VerificationReport,
    verify_async_engine,
    verify_engine,
)
from flask_reqsession.weak_calls import call_weakly

T = TypeVar("T")


class DatabaseManager:
    """Owns engines and session factories, and adapts those that the user has.

    ``source`` is a database URL, an ``Engine``, a ``sessionmaker``, a ``scoped_session``, the
    asynchronous twin of one of these, the ``SQLAlchemy`` of Flask-SQLAlchemy or of
    Flask-SQLAlchemy-Lite, any object with ``get_session()`` and optionally
    ``close_session(session)``, or a dict of those by the names of binds. ``async_source`` is the
    asynchronous twin of a synchronous ``source``: one database, two engines. Without either,
    :meth:`init_app` reads ``app.config``.

    What it made itself lives until :meth:`dispose`; everything else stays the user's. In a forked
    child each engine leaves its connections to the parent.

    :raises ConfigurationError: ``source`` or ``async_source`` is none of these.

    >>> databases = DatabaseManager({"default": "sqlite://", "analytics": "sqlite://"})
    >>> databases.binds
    ('default', 'analytics')
    >>> databases.verify().ok
    True
    >>> databases.dispose()
    """

    def __init__(self, source: object = None, *, async_source: object = None) -> None:
        self._guard = SavepointGuard()
        self._given: Binds | None = None
        if source is not None or async_source is not None:
            self._given = binds_of(source, async_source, self._guard)
        self._apps: weakref.WeakKeyDictionary[Flask, Binds] = weakref.WeakKeyDictionary()
        self._pools_of_parents: list[Pool] = []
        os.register_at_fork(
            after_in_child=call_weakly(self._leave_connections_to_parent, otherwise=None)
        )

    def init_app(self, app: Flask) -> None:
        """Serve ``app``. Without a source, make the engines that its configuration names.

        It may be called for several apps, each with a configuration of its own, and again for the
        same app. :func:`~flask_reqsession.configured.configured_binds` says which keys are read.

        :raises ConfigurationError: there is no source, and nothing is configured.
        """
        if app not in self._apps:
            binds = self._apps[app] = self._given or configured_binds(app, self._guard)
            if binds.are_removed_with_app:
                mark_app_teardown(app, tearing_down)

    # -- sessions -------------------------------------------------------------------------------

    @property
    def binds(self) -> tuple[str, ...]:
        """The names of the binds."""
        return self._binds().names()

    def source(self, bind: str = "default") -> SessionSource:
        """Return where the sessions of ``bind`` come from.

        :raises ConfigurationError: there is no such bind, or it is an asynchronous one.
        """
        binds = self._given or self._binds()  # each session asks: one call less for most
        source = binds.sync.get(bind)
        if source is None:
            raise _refusal(
                binds,
                bind,
                "has an asynchronous source only. Use an AsyncSession in an async view, with the "
                "decorators on the coroutine function itself, not on a plain function that returns "
                "its coroutine; or give a synchronous source too: DatabaseManager(source, "
                "async_source=...).",
            )
        return source

    def async_source(self, bind: str = "default") -> AsyncSessionSource:
        """Return where the asynchronous sessions of ``bind`` come from.

        :raises ConfigurationError: there is no such bind, or it is a synchronous one.
        """
        binds = self._binds()
        source = binds.asynchronous.get(bind)
        if source is None:
            raise _refusal(
                binds,
                bind,
                "has no asynchronous source. Give one beside the other: "
                "DatabaseManager(source, async_source='postgresql+asyncpg://...').",
            )
        return source

    def has_sync(self, bind: str = "default") -> bool:
        """Whether ``bind`` has synchronous sessions."""
        return bind in self._binds().sync

    def has_async(self, bind: str = "default") -> bool:
        """Whether ``bind`` has asynchronous sessions."""
        return bind in self._binds().asynchronous

    def adopt(
        self,
        current: Callable[[str], Session | None],
        async_current: Callable[[str], AsyncSession | None] | None = None,
    ) -> None:
        """Let ``db.session`` and the like hand out ``current(bind)``, unless that is None.

        It is not asked in the contexts of apps that this manager does not serve, and it is kept as
        a weak reference if it is a bound method. Engines that ``app.config`` names have no such
        door.
        """
        given = self._given or Binds()
        for bind, source in given.sync.items():
            source.adopt(functools.partial(current, bind), self._serves_current_app)
        if async_current is not None:
            for bind, async_source in given.asynchronous.items():
                async_current_of_bind = functools.partial(async_current, bind)
                async_source.adopt(async_current_of_bind, self._serves_current_app)

    def _serves_current_app(self) -> bool:
        """Whether the current app is served; true where there is none, or none was named."""
        app = current_flask_app() if self._apps else None
        return app is None or app in self._apps

    def _binds(self) -> Binds:
        if self._given is not None:
            return self._given
        app = current_flask_app()
        if app is None and len(self._apps) == 1:
            return next(iter(self._apps.values()))
        binds = None if app is None else self._apps.get(app)
        if binds is None:
            raise ConfigurationError(
                "DatabaseManager() without a source uses what the current app's configuration "
                "names. Call init_app(app) first; where it serves several apps, push "
                "app.app_context(). Or give it a source: DatabaseManager('sqlite:///app.db')."
            )
        return binds

    # -- engines --------------------------------------------------------------------------------

    def engine(self, bind: str = "default") -> Engine:
        """Return the engine of ``bind``: the default one, where its sessions use several.

        >>> databases = DatabaseManager("sqlite://")
        >>> databases.engine().dialect.name
        'sqlite'
        >>> databases.dispose()
        """
        return self.source(bind).default_engine()

    def async_engine(self, bind: str = "default") -> AsyncEngine:
        """Return the asynchronous engine of ``bind``."""
        return self.async_source(bind).default_engine()

    def dispose(self) -> None:
        """Close the pooled connections of the engines that were made here.

        An engine that is used afterwards connects anew; a database in memory is empty then.
        """
        for binds in self._all_binds():
            for source in binds.sync.values():
                for engine in source.engines() if source.owns_engines else ():
                    engine.dispose()
            for async_source in binds.asynchronous.values():
                for async_engine in async_source.engines() if async_source.owns_engines else ():
                    _in_a_loop(async_engine.dispose)

    def verify(self) -> VerificationReport:
        """Prove on the engines of every bind that BEGIN, SAVEPOINT and ROLLBACK do what they say.

        Each experiment works on a table that is made for it and dropped. What goes wrong is in the
        report's ``problems``, with the fix; nothing is raised. Call it at start-up or in a test,
        not in a request.
        """
        binds = self._binds()
        reports: list[EngineReport] = []
        for bind, source in binds.sync.items():
            engines = self._engines(source) or (source.default_engine(),)
            reports += [verify_engine(bind, engine) for engine in engines]
        for bind, async_source in binds.asynchronous.items():
            for async_engine in self._engines(async_source):
                verify = functools.partial(verify_async_engine, bind, async_engine)
                reports.append(_in_a_loop(verify))
        return VerificationReport(tuple(reports))

    def _engines(self, source: SessionSource | AsyncSessionSource) -> tuple[Any, ...]:
        """Return what ``source`` can tell of its engines, in every app if they differ."""
        engines = dict.fromkeys(source.engines())
        for app in list(self._apps) if source.needs_app else ():
            with app.app_context():
                engines |= dict.fromkeys(source.engines())
        return tuple(engines)

    def _all_binds(self) -> list[Binds]:
        return list(self._apps.values()) if self._given is None else [self._given]

    def _leave_connections_to_parent(self) -> None:
        """Give each engine an empty pool; this process was forked (rule M20)."""
        engines = dict.fromkeys(self._guard.engines)
        for binds in self._all_binds():
            for source in binds.sync.values():
                engines |= dict.fromkeys(self._engines(source))
            for async_source in binds.asynchronous.values():
                engines |= {engine.sync_engine: None for engine in self._engines(async_source)}
        for engine in engines:
            if sqlite.is_copied_by_fork(engine):
                continue
            # Garbage collection would close the parent's connections here, and with SQLite break
            # the parent's locks.
            self._pools_of_parents.append(engine.pool)
            engine.dispose(close=False)


def _refusal(binds: Binds, bind: str, what_it_has: str) -> ConfigurationError:
    if bind in binds.names():
        return ConfigurationError(f"Bind {bind!r} {what_it_has}")
    known = ", ".join(repr(name) for name in binds.names())
    if bind == PRIMARY_BIND:
        return ConfigurationError(
            f"There is no bind {bind!r}, which is meant where none is named; the known ones are "
            f"{known}. Name one of them with bind=..., or give one the name {bind!r}: "
            "DatabaseManager({" + repr(bind) + ": ...})."
        )
    return ConfigurationError(
        f"There is no bind {bind!r}; the known ones are {known}. Name one of them, or add it: "
        "DatabaseManager({'default': ..., " + repr(bind) + ": ...})."
    )


def _in_a_loop(work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work`` in an event loop of its own, also where one is running already."""

    async def run() -> T:
        return await work()

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, run()).result()
