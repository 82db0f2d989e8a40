"""Opening, finding and freezing accounts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from flask_reqsession import transactional, with_request_session

from .audit import record
from .errors import InvalidOrderError, NotFoundError
from .models import Account, AuditAction, Entry, Transfer
from .money import MAX_CENTS, format_cents

MAX_ID = 2**31 - 1
MAX_OWNER = 80


@transactional
@with_request_session
def open_account(session: Session, owner: str, balance: int = 0) -> Account:
    """Open an account that holds ``balance`` cents."""
    if not (0 < len(owner) <= MAX_OWNER and owner.isprintable() and 0 <= balance <= MAX_CENTS):
        raise InvalidOrderError(
            "An account needs an owner's name, and a balance that is not negative."
        )
    account = Account(owner=owner, balance=balance)
    session.add(account)
    session.flush()
    record(AuditAction.OPENED, f"{account.number} for {owner}, holding {format_cents(balance)}")
    return account


@transactional
@with_request_session
def set_frozen(session: Session, account_id: int, *, frozen: bool) -> Account:
    """Freeze an account, or thaw it; doing so twice changes nothing the second time."""
    account = find_account(account_id)
    if account.frozen != frozen:
        account.frozen = frozen
        session.flush()
        record(AuditAction.FROZEN if frozen else AuditAction.THAWED, account.number)
    return account


@with_request_session
def find_account(session: Session, account_id: int) -> Account:
    """Return the account, or raise :class:`~examples.bank.errors.NotFoundError`."""
    # A number beyond the column's range is an error in some drivers; here it is just unknown.
    account = session.get(Account, account_id) if 0 < account_id <= MAX_ID else None
    if account is None:
        raise NotFoundError(f"There is no account {account_id}.")
    return account


@with_request_session
def all_accounts(session: Session) -> Sequence[Account]:
    """Return every account in the order of opening."""
    return session.scalars(select(Account).order_by(Account.id)).all()


@with_request_session
def latest_entries(session: Session, account: Account, limit: int = 50) -> Sequence[Entry]:
    """Return the newest entries of an account with their transfers, in one SELECT."""
    movement = joinedload(Entry.transfer)
    query = (
        select(Entry)
        .where(Entry.account_id == account.id)
        .order_by(Entry.id.desc())
        .limit(limit)
        .options(movement.joinedload(Transfer.payer), movement.joinedload(Transfer.payee))
    )
    return session.scalars(query).all()
