"""What a second connection sees, and the same database by an asynchronous driver."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Protocol

from sqlalchemy import NullPool, create_engine, make_url, text

_ASYNC_DRIVERS: Final = MappingProxyType(
    {
        "sqlite": "sqlite+aiosqlite",
        "postgresql+psycopg": "postgresql+asyncpg",
        "mariadb+pymysql": "mariadb+asyncmy",
    },
)
_SYNC_DRIVERS: Final = MappingProxyType({new: old for old, new in _ASYNC_DRIVERS.items()})


class Rows(Protocol):
    """The type of the fixture ``rows``."""

    def __call__(self, url: str, sql: str, **parameters: object) -> list[tuple[object, ...]]:
        """Return what the query ``sql`` finds on ``url``, seen by nobody's session."""
        ...


def rows_of(url: str, sql: str, **parameters: object) -> list[tuple[object, ...]]:
    """Read through a connection of its own: it sees what was committed, and nothing else.

    An asynchronous URL is read by its synchronous driver. A memory database of SQLite has no
    second connection, so it is refused.
    """
    target = make_url(url)
    if target.get_backend_name() == "sqlite" and target.database in {None, "", ":memory:"}:
        msg = "A memory database has no second connection; use the fixture sqlite_file_url."
        raise ValueError(msg)
    target = target.set(drivername=_SYNC_DRIVERS.get(target.drivername, target.drivername))
    with create_engine(target, poolclass=NullPool).connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql), parameters)]


def async_url_of(url: str) -> str:
    """Return the URL of the same database for its asynchronous driver."""
    target = make_url(url)
    return target.set(drivername=_ASYNC_DRIVERS[target.drivername]).render_as_string(
        hide_password=False
    )
