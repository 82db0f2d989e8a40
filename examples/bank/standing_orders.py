"""Standing orders: taken now, carried out by the worker."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from flask_reqsession import transactional, with_request_session

from .accounts import MAX_ID, find_account
from .audit import record
from .bookkeeping import transfer
from .errors import NotFoundError
from .models import AuditAction, OrderState, StandingOrder
from .orders import TransferOrder
from .patience import PATIENT


@transactional(retry=PATIENT)
@with_request_session
def place(session: Session, order: TransferOrder) -> StandingOrder:
    """Write the order down; whoever calls tells the worker once this has returned."""
    standing = StandingOrder(
        payer_id=find_account(order.payer_id).id,
        payee_id=find_account(order.payee_id).id,
        amount=order.amount,
        memo=order.memo,
    )
    session.add(standing)
    session.flush()
    return standing


@transactional(retry=PATIENT)
@with_request_session
def execute(session: Session, order_id: int) -> None:
    """Make the transfer and mark the order, or neither; an order is carried out once."""
    standing = session.get_one(StandingOrder, order_id, with_for_update=True)
    if standing.state is OrderState.PENDING:
        transfer(
            TransferOrder(
                payer_id=standing.payer_id,
                payee_id=standing.payee_id,
                amount=standing.amount,
                memo=standing.memo,
            )
        )
        standing.state = OrderState.EXECUTED


@transactional(retry=PATIENT)
@with_request_session
def refuse(session: Session, order_id: int, reason: str) -> None:
    """Mark the order as refused, and say why on the audit trail."""
    standing = session.get_one(StandingOrder, order_id)
    standing.state = OrderState.REFUSED
    standing.reason = reason
    record(AuditAction.REFUSED, f"standing order {order_id}: {reason}")


@with_request_session
def find_standing_order(session: Session, order_id: int) -> StandingOrder:
    """Return the standing order, or raise a 404 kind of error."""
    standing = session.get(StandingOrder, order_id) if 0 < order_id <= MAX_ID else None
    if standing is None:
        raise NotFoundError(f"There is no standing order {order_id}.")
    return standing


@with_request_session
def pending_ids(session: Session) -> Sequence[int]:
    """Return the numbers of the orders that wait, the oldest first."""
    waiting = StandingOrder.state == OrderState.PENDING
    return session.scalars(select(StandingOrder.id).where(waiting).order_by(StandingOrder.id)).all()
