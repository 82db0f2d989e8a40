"""The databases that an app's configuration names."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import URL, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from flask_reqsession import ConfigurationError, DatabaseManager
from tests.integration.conftest import Manage
from tests.integration.items import (
    Base,
    count,
    write_and_close,
)
from tests.servers.connections import Rows


def app_with(**config: object) -> Flask:
    """Make an app with ``config``."""
    app = Flask(__name__)
    app.config.update(config)
    return app


@pytest.mark.rule("D1")
def test_the_configuration_of_flask_sqlalchemy_is_read(
    manage: Manage, tmp_path: Path, rows: Rows
) -> None:
    """The default bind and the further ones, as URLs or with options."""
    urls = [f"sqlite:///{tmp_path / name}.sqlite" for name in ("one", "two", "three")]
    databases = manage()
    app = app_with(
        SQLALCHEMY_DATABASE_URI=urls[0],
        SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"timeout": 3}},
        SQLALCHEMY_BINDS={"two": urls[1], "three": {"url": make_url(urls[2]), "echo": False}},
    )
    databases.init_app(app)

    for bind, url in zip(("default", "two", "three"), urls, strict=True):
        Base.metadata.create_all(databases.engine(bind))
        write_and_close(databases, bind)
        assert rows(url, "SELECT count(*) FROM item") == [(1,)]
    assert databases.binds == ("default", "two", "three")
    with databases.engine().connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 3_000
    with databases.engine("two").connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5_000


@pytest.mark.rule("D1", "T50")
def test_the_configuration_of_flask_sqlalchemy_lite_is_read(manage: Manage, tmp_path: Path) -> None:
    """URLs, dicts with a URL or its parts, and the asynchronous twins."""
    path = str(tmp_path / "lite.sqlite")
    databases = manage()
    app = app_with(
        SQLALCHEMY_ENGINES={
            "default": {"url": {"drivername": "sqlite", "database": path}},
            "memory": "sqlite://",
            "events": f"sqlite+aiosqlite:///{path}",
        },
        SQLALCHEMY_ASYNC_ENGINES={"default": URL.create("sqlite+aiosqlite", database=path)},
    )
    databases.init_app(app)
    Base.metadata.create_all(databases.engine())
    write_and_close(databases)

    assert databases.binds == ("default", "memory", "events")
    assert isinstance(databases.engine("memory").pool, StaticPool)
    assert asyncio.run(count(databases)) == asyncio.run(count(databases, "events")) == 1


@pytest.mark.rule("D1")
@pytest.mark.parametrize(
    "form", ["sqlite:///sub/app.sqlite", "sqlite:///file:sub/app.sqlite?uri=true"]
)
def test_a_relative_file_is_in_the_instance_folder(
    manage: Manage, tmp_path: Path, form: str
) -> None:
    """Where both extensions put it for the same configuration; the folder is made."""
    app = Flask(__name__, instance_path=str(tmp_path / "instance"))
    app.config["SQLALCHEMY_DATABASE_URI"] = form
    databases = manage()
    databases.init_app(app)

    Base.metadata.create_all(databases.engine())

    assert (tmp_path / "instance" / "sub" / "app.sqlite").exists()


@pytest.mark.rule("D1")
def test_an_absolute_path_is_left_alone(manage: Manage, tmp_path: Path) -> None:
    """Nothing is made that was not asked for."""
    databases = manage()
    app = app_with(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path / 'missing' / 'app.sqlite'}")
    databases.init_app(app)

    with pytest.raises(OperationalError, match=r"unable to open"):
        databases.engine().connect()
    assert not (tmp_path / "missing").exists()


@pytest.mark.rule("D1")
def test_each_app_has_its_own_databases(manage: Manage, tmp_path: Path, rows: Rows) -> None:
    """One manager for several apps: the current app decides, and no app is a mistake."""
    urls = [f"sqlite:///{tmp_path / name}.sqlite" for name in ("one", "two")]
    apps = [app_with(SQLALCHEMY_DATABASE_URI=url) for url in urls]
    databases = manage()
    databases.init_app(apps[0])
    Base.metadata.create_all(databases.engine())  # the only app needs no context
    databases.init_app(apps[1])
    databases.init_app(apps[1])

    with apps[1].app_context():
        engine = databases.engine()
        Base.metadata.create_all(engine)
        write_and_close(databases)
        databases.init_app(apps[1])
        assert databases.engine() is engine
    with pytest.raises(ConfigurationError, match=r"init_app\(app\).*app_context"):
        databases.source()
    with app_with().app_context(), pytest.raises(ConfigurationError, match=r"init_app"):
        databases.source()

    assert rows(urls[0], "SELECT id FROM item") == []
    assert rows(urls[1], "SELECT id FROM item") == [(1,)]


@pytest.mark.rule("D1")
def test_a_manager_without_source_and_app_says_what_is_missing() -> None:
    """Both ways out are in the message."""
    with pytest.raises(ConfigurationError, match=r"init_app\(app\) first.*DatabaseManager\("):
        DatabaseManager().source()


@pytest.mark.rule("D1")
@pytest.mark.parametrize(
    "config", [{}, {"SQLALCHEMY_DATABASE_URI": ""}, {"SQLALCHEMY_ENGINES": {}}]
)
def test_nothing_configured_is_refused_with_the_keys(config: dict[str, object]) -> None:
    """At ``init_app``, not at the first request."""
    with pytest.raises(ConfigurationError, match=r"DATABASE_URI.*BINDS.*SQLALCHEMY_ENGINES"):
        DatabaseManager().init_app(app_with(**config))


@pytest.mark.rule("D1")
@pytest.mark.parametrize(
    "config",
    [
        {"SQLALCHEMY_DATABASE_URI": "sqlite://", "SQLALCHEMY_ENGINES": {"default": "sqlite://"}},
        {"SQLALCHEMY_DATABASE_URI": "sqlite://", "SQLALCHEMY_BINDS": {None: "sqlite://"}},
        {
            "SQLALCHEMY_ENGINES": {"default": "sqlite+aiosqlite://"},
            "SQLALCHEMY_ASYNC_ENGINES": {"default": "sqlite+aiosqlite://"},
        },
    ],
)
def test_a_bind_that_is_configured_twice_is_refused(config: dict[str, object]) -> None:
    """Nobody could say which database is meant."""
    with pytest.raises(ConfigurationError, match=r"'default' twice"):
        DatabaseManager().init_app(app_with(**config))


@pytest.mark.rule("D1")
def test_options_without_a_url_are_refused_with_the_key() -> None:
    """Also those of ``SQLALCHEMY_ENGINE_OPTIONS`` may bring the URL."""
    with pytest.raises(ConfigurationError, match=r"\['SQLALCHEMY_BINDS'\]\['two'\] has no 'url'"):
        DatabaseManager().init_app(app_with(SQLALCHEMY_BINDS={"two": {"echo": True}}))
    databases = DatabaseManager()
    app = app_with(SQLALCHEMY_ENGINE_OPTIONS={"url": "sqlite://"})
    databases.init_app(app)
    assert databases.binds == ("default",)


@pytest.mark.rule("D1")
def test_a_source_that_was_given_needs_no_configuration(manage: Manage) -> None:
    """It serves every app, and there is nothing to read."""
    databases = manage("sqlite://")
    databases.init_app(app_with(SQLALCHEMY_DATABASE_URI="sqlite:///elsewhere.sqlite"))

    assert databases.engine().url.database is None
