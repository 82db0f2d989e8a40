"""Refuse a scope where each statement commits itself, and nothing can be rolled back (rule D5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flask_reqsession.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

OPTION: Final = "isolation_level"


def connects_in_autocommit(engine: Engine) -> bool:
    """Whether ``engine`` was made with ``isolation_level="AUTOCOMMIT"``.

    SQLAlchemy has no public name for that: it is no execution option, its own
    ``get_isolation_level()`` asks the database, which answers without it, and
    ``detect_autocommit_setting()`` came after 2.0.40.
    """
    level = engine.dialect._on_connect_isolation_level  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return _is_autocommit(level)


def commits_each_statement(connection: Connection) -> bool:
    """Whether ``connection``, on which a transaction was begun, is in no transaction."""
    level = connection.get_execution_options().get(OPTION)
    if not (connects_in_autocommit(connection.engine) if level is None else _is_autocommit(level)):
        return False
    if connection.dialect.name != "sqlite":
        return True
    driver: Any = connection.connection.driver_connection
    return not driver.in_transaction  # else a listener to "begin" has sent BEGIN: that counts


def refusal(connection: Connection, name: str) -> ConfigurationError:
    """Return what the scope ``name`` gets whose session uses ``connection``."""
    return ConfigurationError(
        f"{name} can't be a transaction on the {connection.dialect.name} database "
        f"{connection.engine.url.database!r}: the connection of its session has "
        "isolation_level='AUTOCOMMIT', which commits each statement by itself, so nothing could be "
        "rolled back. No statement of the scope was sent. Remove the option from the engine or "
        "from session.connection(execution_options=...), or give the manager an engine without "
        "it. For single statements such as VACUUM use a connection of "
        "engine.execution_options(isolation_level='AUTOCOMMIT') outside of the scope."
    )


def _is_autocommit(level: str | None) -> bool:
    return level is not None and level.upper() == "AUTOCOMMIT"
