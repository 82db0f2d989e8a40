"""The statement of an account, written while it is being sent."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from flask_reqsession import reattach_args, transactional, with_request_session

from .models import Account, Entry, Transfer
from .money import format_cents

HEADER = ("date", "transfer", "counterparty", "memo", "amount", "balance")


@reattach_args
@transactional
@with_request_session
def statement_lines(session: Session, account: Account) -> Iterator[str]:
    """Yield the lines of a CSV file, the oldest entry first.

    The view is long over when the server asks for the first line, and so is its session: this
    generator has one of its own, and ``account``, which the view loaded, is brought along.
    """
    yield _line(HEADER)
    movement = joinedload(Entry.transfer)
    query = (
        select(Entry)
        .where(Entry.account_id == account.id)
        .order_by(Entry.id)
        .options(movement.joinedload(Transfer.payer), movement.joinedload(Transfer.payee))
        .execution_options(yield_per=100)
    )
    for entry in session.scalars(query):
        yield _line(
            (
                entry.transfer.made_at.date().isoformat(),
                entry.transfer_id,
                entry.counterparty.owner,
                entry.transfer.memo,
                format_cents(entry.amount).replace(",", ""),
                format_cents(entry.balance_after).replace(",", ""),
            )
        )


def _line(values: tuple[object, ...]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()
