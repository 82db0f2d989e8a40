"""A server that ends its connections."""

from __future__ import annotations

from sqlalchemy import NullPool, create_engine, text

from tests.integration.manager.shop import Shop


def end_backend(shop: Shop) -> None:
    """Let the server end the session's connection, as an administrator or a failover does."""
    end_backend_of(shop.url, shop.session.scalar(text("SELECT pg_backend_pid()")))


def end_backend_of(url: str, pid: object) -> None:
    """Let the server end the process ``pid``, and wait until it is gone."""
    admin = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
