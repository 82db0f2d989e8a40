"""What a customer asks for, checked before it comes near a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import InvalidOrderError
from .money import MAX_CENTS, format_cents, parse_cents

MAX_MEMO = 140


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOrder:
    """A wish to move ``amount`` cents from one account to another.

    Raises :class:`~examples.bank.errors.InvalidOrderError` when no bank could carry it out.
    """

    payer_id: int
    payee_id: int
    amount: int
    memo: str = ""

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 < self.amount <= MAX_CENTS:
            raise InvalidOrderError(
                f"The amount must be more than nothing and at most {format_cents(MAX_CENTS)}."
            )
        if self.payer_id == self.payee_id:
            raise InvalidOrderError("Payer and payee are the same account.")
        if len(self.memo) > MAX_MEMO or not self.memo.isprintable():
            raise InvalidOrderError(f"The memo must be one line of at most {MAX_MEMO} characters.")


def order_from_form(form: Mapping[str, str]) -> TransferOrder:
    """Read the HTML form, whose amount is written as people write it: ``12.50``."""
    try:
        return TransferOrder(
            payer_id=int(form["payer"]),
            payee_id=int(form["payee"]),
            amount=parse_cents(form["amount"]),
            memo=form.get("memo", "").strip(),
        )
    except (KeyError, ValueError) as error:
        raise InvalidOrderError("Choose two accounts and type an amount such as 12.50.") from error


def order_from_json(payload: object) -> TransferOrder:
    """Read ``{"payer": 1, "payee": 2, "amount": 1250, "memo": "rent"}``, the amount in cents."""
    fields = payload if isinstance(payload, dict) else {}
    memo = fields.get("memo", "")
    if not isinstance(memo, str):
        raise InvalidOrderError("The memo must be text.")
    return TransferOrder(
        payer_id=_whole_number(fields.get("payer"), "payer"),
        payee_id=_whole_number(fields.get("payee"), "payee"),
        amount=_whole_number(fields.get("amount"), "amount, in cents"),
        memo=memo.strip(),
    )


def _whole_number(value: object, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidOrderError(f"Send a whole number as {name}.")
    return value
