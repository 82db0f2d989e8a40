"""Views that go wrong on purpose; only the demonstration and the tests register them.

Each does what an ordinary programming mistake or a power cut does, after the money has moved.
"""

from __future__ import annotations

import contextlib

from flask import Blueprint, request
from flask.typing import ResponseReturnValue
from sqlalchemy import update
from sqlalchemy.orm import Session

from examples.bank.bookkeeping import transfer
from examples.bank.errors import BankError
from examples.bank.models import Account
from examples.bank.money import MAX_CENTS
from examples.bank.orders import TransferOrder, order_from_json
from flask_reqsession import transactional, with_request_session

mishaps = Blueprint("mishaps", __name__, url_prefix="/api/mishaps")


@mishaps.post("/crash")
@transactional
def crash() -> ResponseReturnValue:
    """Die when everything has been written and nothing has been committed."""
    movement = transfer(order_from_json(request.get_json()))
    raise RuntimeError(f"the power went out during transfer {movement.id}")


@mishaps.post("/swallow")
@transactional
def swallow() -> ResponseReturnValue:
    """Make two transfers, and pretend that the second has not failed."""
    order = order_from_json(request.get_json())
    transfer(order)
    with contextlib.suppress(BankError):
        transfer(TransferOrder(payer_id=order.payer_id, payee_id=order.payee_id, amount=MAX_CENTS))
    return {"made": 2}, 201


@mishaps.post("/overdraw")
@transactional
@with_request_session
def overdraw(session: Session) -> ResponseReturnValue:
    """Forget to look at the balance."""
    order = order_from_json(request.get_json())
    lower = update(Account).values(balance=Account.balance - order.amount)
    session.execute(lower.where(Account.id == order.payer_id))
    return {"made": 1}, 201
