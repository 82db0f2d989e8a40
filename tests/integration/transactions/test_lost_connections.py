"""A connection that is closed or invalidated inside a scope takes the scope's transaction along."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import exc
from sqlalchemy.orm import Session

from flask_reqsession import UnexpectedRollbackError
from tests.integration.transactions.worlds import World


def invalidate(session: Session) -> None:
    """Tell the pool that the connection is of no use."""
    session.connection().invalidate()


def close(session: Session) -> None:
    """Close the session's connection under it, as if it were one's own."""
    session.connection().close()


@pytest.mark.rule("T1", "M17")
@pytest.mark.filterwarnings("ignore:transaction already deassociated:sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("lose", [invalidate, close])
async def test_a_connection_that_is_lost_inside_is_no_success(
    everywhere: World, lose: Callable[[Session], None]
) -> None:
    """Whether SQLAlchemy notices or the scope does; the next scope has another connection."""
    with pytest.raises((UnexpectedRollbackError, exc.InvalidRequestError)):
        async with everywhere.scope():
            await everywhere.write("lost")
            await everywhere.do(lose)
    assert everywhere.kept() == []
    async with everywhere.scope():
        await everywhere.write("kept")
    assert everywhere.kept() == ["kept"]
