"""Why the bank says no. Each class knows the HTTP status that a view answers with."""

from __future__ import annotations

from typing import ClassVar


class BankError(Exception):
    """Base of the bank's refusals; the message is meant for the customer."""

    status: ClassVar[int] = 400


class InvalidOrderError(BankError):
    """The order makes no sense, whatever the accounts hold."""

    status = 422


class NotFoundError(BankError):
    """There is no such account or standing order."""

    status = 404


class FrozenAccountError(BankError):
    """The account may neither pay nor be paid."""

    status = 403


class InsufficientFundsError(BankError):
    """The payer does not have that much."""

    status = 409
