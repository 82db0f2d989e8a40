"""Engines that are right by default (rule D3); an option that is given wins over its default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import URL, Engine, engine_from_config
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, async_engine_from_config
from sqlalchemy.pool import NullPool, StaticPool

from flask_reqsession import sqlite
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.urls import parse_url, shown

MAXIMUM_AGE: Final = 3600
"""Seconds after which a connection to MySQL or MariaDB is replaced: both drop idle ones."""

_POOL_OPTIONS: Final = frozenset(
    {"max_overflow", "pool", "pool_size", "pool_timeout", "pool_use_lifo", "poolclass"}
)
_DRIVER_OPTIONS: Final = frozenset({"async_creator", "creator", "module", "pool"})


def make_engine(url: str | URL, options: Mapping[str, Any] | None = None) -> Engine:
    """Make an engine whose transactions are transactions.

    ``options`` are those of :func:`sqlalchemy.create_engine`; they may be strings, as from an
    environment variable.

    >>> engine = make_engine("sqlite://")
    >>> with engine.connect() as connection:
    ...     connection.exec_driver_sql("PRAGMA foreign_keys").scalar()
    1
    >>> engine.dispose()
    """
    parsed = parse_url(url)
    given = _with_backend_defaults(parsed, options or {})
    engine = engine_from_config({**given, "url": _with_character_set(parsed, given)}, prefix="")
    _equip(engine, options or {})
    return engine


def make_async_engine(url: str | URL, options: Mapping[str, Any] | None = None) -> AsyncEngine:
    """Make an asynchronous engine whose transactions are transactions.

    :raises ConfigurationError: the driver of ``url`` is not asynchronous.

    >>> make_async_engine("sqlite+aiosqlite:///app.db").pool.status()
    'NullPool'
    """
    parsed = parse_url(url)
    given = _with_backend_defaults(parsed, options or {})
    if not _POOL_OPTIONS & given.keys():
        # Flask runs each async view in an event loop of its own, and a connection belongs to the
        # loop that opened it: what a pool kept, the next request could not use.
        given["poolclass"] = NullPool
    try:
        engine = async_engine_from_config(
            {**given, "url": _with_character_set(parsed, given)}, prefix=""
        )
    except InvalidRequestError as error:
        raise ConfigurationError(
            f"The driver of {shown(parsed)} is not asynchronous. Name one that is: "
            "sqlite+aiosqlite, postgresql+asyncpg, mysql+asyncmy."
        ) from error
    _equip(engine.sync_engine, options or {})
    return engine


def begins_by_itself(url: URL, options: Mapping[str, Any]) -> bool:
    """Whether transactions of an engine made with ``options`` are known to be real ones.

    Not on SQLite where the user brings the driver's connection: it is then checked like that of
    any other engine (rule D5).
    """
    if url.get_backend_name() != "sqlite":
        return True
    return (
        url.get_driver_name() in sqlite.DRIVERS
        and "factory" not in options.get("connect_args", {})
        and not _DRIVER_OPTIONS & options.keys()
    )


def _with_backend_defaults(url: URL, options: Mapping[str, Any]) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return _with_sqlite_defaults(url, options)
    defaults: dict[str, Any] = {}
    if "pool" not in options:
        defaults["pool_pre_ping"] = True
        if _is_mysql(url):
            defaults["pool_recycle"] = MAXIMUM_AGE
    return {**defaults, **options}


def _with_sqlite_defaults(url: URL, options: Mapping[str, Any]) -> dict[str, Any]:
    connect_args: dict[str, Any] = {}
    if "timeout" not in url.query:
        connect_args["timeout"] = sqlite.BUSY_TIMEOUT
    if url.get_driver_name() in sqlite.DRIVERS:
        connect_args["factory"] = sqlite.TransactionalConnection
    defaults: dict[str, Any] = {}
    if sqlite.is_memory(url) and "pool" not in options:
        connect_args["check_same_thread"] = False
        defaults["poolclass"] = StaticPool
    if _takes_turns(url, options):
        defaults["pool_reset_on_return"] = None  # sqlite.use_in_turns() resets instead
    connect_args |= options.get("connect_args", {})
    return {**defaults, **options, "connect_args": connect_args}


def _with_character_set(url: URL, options: Mapping[str, Any]) -> URL:
    """Ask MySQL and MariaDB for all of Unicode; their ``utf8`` has no emoji."""
    given = "charset" in url.query or "charset" in options.get("connect_args", {})
    if given or not _is_mysql(url) or url.get_driver_name() == "mariadbconnector":
        return url  # MariaDB's connector speaks utf8mb4 and knows no such argument
    return url.update_query_dict({"charset": "utf8mb4"})


def _is_mysql(url: URL) -> bool:
    return url.get_backend_name() in {"mysql", "mariadb"}


def _takes_turns(url: URL, options: Mapping[str, Any]) -> bool:
    own = {"pool", "poolclass", "pool_reset_on_return"} & options.keys()
    return sqlite.is_memory(url) and not own


def _equip(engine: Engine, options: Mapping[str, Any]) -> None:
    """Register what SQLite needs."""
    if engine.dialect.name != "sqlite":
        return
    sqlite.prepare(engine, begins_by_itself=begins_by_itself(engine.url, options))
    if _takes_turns(engine.url, options):
        sqlite.use_in_turns(engine)
