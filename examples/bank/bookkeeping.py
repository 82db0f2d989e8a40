"""Moving money: three decorated calls deep, one transaction.

``transfer`` -> ``post_entries`` -> ``audit.record``: each can be called on its own and is then a
transaction of its own; called by another, it joins that one's, and only the outermost commits.
Nobody passes a session along: whoever needs it, names it as a parameter.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from flask_reqsession import transactional, with_request_session

from .accounts import find_account
from .audit import record
from .errors import FrozenAccountError, InsufficientFundsError
from .models import Account, AuditAction, Entry, Transfer
from .money import format_cents
from .orders import TransferOrder


@transactional
@with_request_session
def transfer(session: Session, order: TransferOrder) -> Transfer:
    """Carry out an order; any :class:`~examples.bank.errors.BankError` leaves nothing behind."""
    movement = Transfer(
        payer=_usable(order.payer_id),
        payee=_usable(order.payee_id),
        amount=order.amount,
        memo=order.memo,
    )
    session.add(movement)
    session.flush()
    post_entries(movement)
    return movement


@transactional
@with_request_session
def post_entries(session: Session, movement: Transfer) -> None:
    """Take the money from the payer and give it to the payee."""
    payer, payee, amount = movement.payer, movement.payee, movement.amount
    if payer.balance < amount:
        raise InsufficientFundsError(
            f"{payer.owner} has {format_cents(payer.balance)}, "
            f"which is not enough to pay {format_cents(amount)}."
        )
    _post(movement, payer, -amount)
    _post(movement, payee, amount)
    session.flush()
    record(
        AuditAction.TRANSFER,
        f"{format_cents(amount)} from {payer.number} to {payee.number}, transfer {movement.id}",
    )


def _post(movement: Transfer, account: Account, amount: int) -> None:
    account.balance += amount
    movement.entries.append(Entry(account=account, amount=amount, balance_after=account.balance))


def _usable(account_id: int) -> Account:
    account = find_account(account_id)
    if account.frozen:
        raise FrozenAccountError(f"The account of {account.owner} is frozen.")
    return account
