"""Ask a driver what has become of its transaction: not all that is done to it is seen.

A statement on the driver's own cursor, and ``commit()`` or ``rollback()`` of its connection, pass
by SQLAlchemy. What can be asked without a round trip is asked before COMMIT: PostgreSQL would
answer it with a silent ROLLBACK, and SQLite with nothing.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_IDLE: Final = 0
_IN_ERROR: Final = 3
"""The numbers are libpq's ``PGTransactionStatusType``; psycopg 2 and 3 have them from there."""


class DriverState(Enum):
    """What the driver says of a transaction that SQLAlchemy takes for open."""

    OPEN = "it is open, or nobody can tell"
    ABORTED = "a statement failed, so COMMIT would roll back"
    OVER = "it has ended"


def may_be_over(connection: Connection, driver: Any) -> bool:  # noqa: ANN401 - of any database
    """Whether :func:`state_of` has to be asked, which takes a microsecond.

    ``driver`` is the connection on whose cursor SQLAlchemy wrote, as far as the cursor tells.
    """
    if connection.dialect.name == "postgresql":
        return True
    try:
        return not getattr(driver, "in_transaction", True)
    except Exception:  # noqa: BLE001 - the driver's own, of a connection that was closed
        return True


def state_of(connection: Connection, driver: Any, *, wrote: bool) -> DriverState:  # noqa: ANN401
    """Return the state of ``connection``; ``wrote``: SQLAlchemy sent it something to commit."""
    if connection.dialect.name != "postgresql":
        begun = getattr(driver, "begins_by_itself", False) and driver.isolation_level is not None
        return DriverState.OVER if begun and not driver.in_transaction else DriverState.OPEN
    driver = connection.connection.driver_connection
    if not hasattr(driver, "info"):  # asyncpg tells no more than this
        is_over = not driver.is_in_transaction()
    elif driver.info.transaction_status == _IN_ERROR:
        return DriverState.ABORTED
    else:
        is_over = driver.info.transaction_status == _IDLE and not driver.autocommit
    return DriverState.OVER if is_over and wrote else DriverState.OPEN
