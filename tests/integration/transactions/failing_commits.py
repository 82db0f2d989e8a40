"""What makes a COMMIT fail: a constraint that is checked only then, and a connection that ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.transactions.worlds import SyncWorld, World


async def write_what_commit_refuses(world: World) -> None:
    """Write a row whose parent is missing: every statement succeeds."""
    await world.write("x")
    await world.execute("INSERT INTO line (id, note_id) VALUES (1, 4711)")


def killing(world: World) -> Callable[[object], None]:
    """Return a listener that lets a second connection end the session's connection."""

    def kill(session: Any) -> None:
        own = session.connection().exec_driver_sql("SELECT pg_backend_pid()").scalar()
        killer = SyncWorld(world.url)
        with killer.engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_terminate_backend({own}, 5000)")
        killer.manager.databases.dispose()

    return kill
