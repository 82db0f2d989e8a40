"""A shop for each test, and the session that instances are attached to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from tests.integration.reattachment.colours import Colour, manager_of
from tests.integration.reattachment.garden import Garden
from tests.integration.reattachment.shop import Shop


@pytest.fixture
def shop(sqlite_file_url: str) -> Iterator[Shop]:
    """Give a shop of its own to each test."""
    shop = Shop(sqlite_file_url)
    yield shop
    shop.engine.dispose()


@pytest.fixture
def session(shop: Shop) -> Iterator[Session]:
    """Give the session that instances are attached to."""
    with shop.session() as session:
        yield session


@pytest.fixture(params=["sync", "async"])
def colour(request: pytest.FixtureRequest, shop: Shop) -> Iterator[Colour]:
    """Give a manager with sessions of one colour."""
    is_async = request.param == "async"
    colour = Colour(manager_of(shop.url, is_async=is_async), is_async)
    yield colour
    if not is_async:
        colour.manager.databases.dispose()


@pytest.fixture
def garden() -> Iterator[Garden]:
    """Give one database to all examples of a test; each fills it anew."""
    garden = Garden()
    yield garden
    garden.engine.dispose()
