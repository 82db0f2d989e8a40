"""A shop for each test, which is looked through at its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.manager.async_shop import AsyncShop
from tests.integration.manager.shop import Shop


@pytest.fixture
def shop(sqlite_file_url: str) -> Iterator[Shop]:
    """Give a shop on a SQLite file; at its end no connection may be checked out."""
    shop = Shop(sqlite_file_url)
    yield shop
    shop.close()


@pytest.fixture
def postgresql_shop(postgresql_url: str) -> Iterator[Shop]:
    """Give a shop on PostgreSQL; at its end no connection may be checked out."""
    shop = Shop(postgresql_url)
    yield shop
    shop.close()


@pytest.fixture
def any_shop(database_url: str) -> Iterator[Shop]:
    """Give a shop on each database; at its end no connection may be checked out."""
    shop = Shop(database_url)
    yield shop
    shop.close()


@pytest.fixture
def async_shop(sqlite_file_url: str) -> Iterator[AsyncShop]:
    """Give a shop with async sessions; at its end no connection may be checked out."""
    shop = AsyncShop(sqlite_file_url)
    yield shop
    shop.manager.databases.dispose()
    assert shop.held == 0
