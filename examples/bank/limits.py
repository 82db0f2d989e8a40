"""What a customer may spend in one day."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import abort
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from flask_reqsession import with_request_session

from .models import Transfer
from .money import format_cents

DAILY_LIMIT = 1_000_00


@with_request_session
def require_daily_limit(session: Session, movement: Transfer) -> None:
    """Answer 403 when the payer has spent too much today, this transfer included.

    It asks after the transfer was posted, so that two at once cannot both slip under the limit;
    the abort rolls the transfer back.
    """
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    spent = session.scalar(
        select(func.sum(Transfer.amount)).where(
            Transfer.payer_id == movement.payer_id, Transfer.made_at >= midnight
        )
    )
    if (spent or 0) > DAILY_LIMIT:
        abort(403, f"More than {format_cents(DAILY_LIMIT)} a day needs a visit to the branch.")
