"""Fixtures of the tests that go through databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest
from sqlalchemy import Engine, create_engine

from flask_reqsession import DatabaseManager
from flask_reqsession.engines import make_engine
from tests.integration.items import Base


class Manage(Protocol):
    """The type of the fixture ``manage``."""

    def __call__(self, source: object = None, *, async_source: object = None) -> DatabaseManager:
        """Return ``DatabaseManager(source, async_source=async_source)``."""
        ...


class Make(Protocol):
    """The type of the fixture ``make``."""

    def __call__(self, url: str, **options: object) -> Engine:
        """Return ``make_engine(url, options)``."""
        ...


@pytest.fixture
def manage() -> Iterator[Manage]:
    """Give ``DatabaseManager``; what it made is disposed of after the test."""
    made: list[DatabaseManager] = []

    def manage_and_remember(
        source: object = None, *, async_source: object = None
    ) -> DatabaseManager:
        made.append(DatabaseManager(source, async_source=async_source))
        return made[-1]

    yield manage_and_remember
    for databases in made:
        databases.dispose()


@pytest.fixture
def make() -> Iterator[Make]:
    """Give ``make_engine``; what it made is disposed of after the test."""
    engines: list[Engine] = []

    def make_and_remember(url: str, **options: object) -> Engine:
        engines.append(make_engine(url, options))
        return engines[-1]

    yield make_and_remember
    for engine in engines:
        engine.dispose()


@pytest.fixture
def own_engine(sqlite_file_url: str) -> Iterator[Engine]:
    """Give an engine of the user's own, in the driver's legacy mode, with the table of items."""
    engine = create_engine(sqlite_file_url)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()
