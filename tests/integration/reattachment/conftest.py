"""A shop for each test, and the session that instances are attached to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

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


@pytest.fixture
def garden() -> Iterator[Garden]:
    """Give one database to all examples of a test; each fills it anew."""
    garden = Garden()
    yield garden
    garden.engine.dispose()
