"""The bank on a database of its own, and a look behind its back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, QueuePool

from examples.bank import create_app
from examples.bank.demo.mishaps import mishaps
from examples.bank.demo.witness import SecondConnection, Seen
from examples.bank.tables import Customers, create_tables, seed
from flask_reqsession import RequestScopedSessionManager

Change: TypeAlias = Callable[[], Seen]
"""The type of the fixture ``change``."""

NOTHING = Seen(0, 0, 0, 0, 0, 0)
PAID = Seen(-2500, 2500, 0, 1, 2, 1)
"""What has changed when Ada has paid 25.00 to Grace."""


@pytest.fixture
def bank(sqlite_file_url: str) -> Iterator[Flask]:
    """Give the bank with its tables, as it runs in production: errors become answers."""
    app = create_app(sqlite_file_url)
    app.register_blueprint(mishaps)
    with app.app_context():
        create_tables()
    yield app
    pool = engine_of(app).pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedout() == 0
    pool.dispose()


@pytest.fixture
def customers(bank: Flask) -> Customers:
    """Open the accounts of Ada (2,500.00), Grace (800.00) and Frida (120.00, frozen)."""
    with bank.app_context():
        return seed()


@pytest.fixture
def client(bank: Flask) -> FlaskClient:
    """Give the test client."""
    return bank.test_client()


@pytest.fixture
def change(sqlite_file_url: str, customers: Customers) -> Change:
    """Give the function that tells what a second connection has seen changing in this test."""
    second_connection = SecondConnection(sqlite_file_url, customers)
    before = second_connection.look()
    return lambda: second_connection.look().since(before)


def engine_of(app: Flask) -> Engine:
    """Return the engine of the app's sessions."""
    manager: RequestScopedSessionManager = app.extensions["reqsession"]
    with app.app_context(), manager.unit_of_work():
        return manager.session.get_bind().engine
