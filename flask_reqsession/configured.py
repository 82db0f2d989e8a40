"""The databases that an app's configuration names, in the shapes that users already write (D1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from flask import Flask
from sqlalchemy import URL

from flask_reqsession import sqlite
from flask_reqsession.adapters import Binds, Offer, made, replicas_among
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.savepoints import SavepointGuard
from flask_reqsession.urls import parse_url

URI: Final = "SQLALCHEMY_DATABASE_URI"
BINDS: Final = "SQLALCHEMY_BINDS"
ENGINES: Final = "SQLALCHEMY_ENGINES"
ASYNC_ENGINES: Final = "SQLALCHEMY_ASYNC_ENGINES"
OPTIONS: Final = "SQLALCHEMY_ENGINE_OPTIONS"
ECHO: Final = "SQLALCHEMY_ECHO"


def configured_binds(app: Flask, guard: SavepointGuard) -> Binds:
    """Make the engines that ``app.config`` names.

    Flask-SQLAlchemy's ``SQLALCHEMY_DATABASE_URI`` and ``SQLALCHEMY_BINDS`` are read, and
    Flask-SQLAlchemy-Lite's ``SQLALCHEMY_ENGINES`` and ``SQLALCHEMY_ASYNC_ENGINES``.
    ``SQLALCHEMY_ENGINE_OPTIONS`` belong to the default bind. As with both extensions, a relative
    path of a SQLite file begins at ``app.instance_path``.

    :raises ConfigurationError: nothing is configured, or a bind is configured twice.
    """
    binds, entries = Binds(), _entries(app.config)
    replicas = replicas_among([bind for _, bind, _ in entries])
    for key, bind, configured in entries:
        wants_async = key == ASYNC_ENGINES
        taken = binds.asynchronous if wants_async else {**binds.sync, **binds.asynchronous}
        if bind in taken:
            raise ConfigurationError(
                f"app.config configures bind {bind!r} twice, the second time in {key!r}. Keep "
                f"either {URI!r} and {BINDS!r}, or {ENGINES!r}."
            )
        options = _options(app.config, key, bind, configured)
        url = _below_instance_path(app, parse_url(options.pop("url")))
        offer = Offer(url, bind, guard, wants_async=wants_async, replicas=replicas.get(bind))
        binds.add(bind, made(offer, options))
    binds.locate(replicas)
    if not binds.names():
        raise ConfigurationError(
            f"No database is configured. Set app.config[{URI!r}] (further ones in {BINDS!r}) or "
            f"app.config[{ENGINES!r}] before init_app(), or give DatabaseManager(...) a source."
        )
    return binds


def _entries(config: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """Return what is configured: the key, the bind, and its URL or options."""
    default = config.get(URI) or _dict(config, OPTIONS).get("url")
    entries: list[tuple[str, str, Any]] = [] if default is None else [(URI, "default", default)]
    for key in (BINDS, ENGINES, ASYNC_ENGINES):
        for bind, configured in _dict(config, key).items():
            entries.append((key, bind or "default", configured))
    return entries


def _dict(config: Mapping[str, Any], key: str) -> dict[Any, Any]:
    found: dict[Any, Any] | None = config.get(key)
    return found or {}


def _options(
    config: Mapping[str, Any],
    key: str,
    bind: str,
    configured: Any,  # noqa: ANN401 - a URL or a dict
) -> dict[str, Any]:
    options: dict[str, Any] = {"echo": config.get(ECHO, False)}
    if bind == "default":
        options |= _dict(config, OPTIONS)
    options |= {"url": configured} if isinstance(configured, str | URL) else configured
    if "url" not in options:
        raise ConfigurationError(
            f"app.config[{key!r}][{bind!r}] has no 'url'. Write the URL itself, or a dict of it "
            "and the options of sqlalchemy.create_engine()."
        )
    if not isinstance(options["url"], str | URL):
        options["url"] = URL.create(**options["url"])
    return options


def _below_instance_path(app: Flask, url: URL) -> URL:
    if url.get_backend_name() != "sqlite" or sqlite.is_memory(url):
        return url
    database = str(url.database)
    path = Path(database.removeprefix("file:"))
    if path.is_absolute():
        return url
    path = Path(app.instance_path) / path
    path.parent.mkdir(parents=True, exist_ok=True)
    return url.set(database=f"file:{path}" if database.startswith("file:") else str(path))
