"""The tables: accounts, transfers with their two entries each, standing orders, an audit trail."""

from __future__ import annotations

import enum
from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    String,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

NO_OVERDRAFT = "no_overdraft"
"""The name of the constraint that every driver mentions when it is violated."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime; kept without its zone, since not every database can keep one."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Drop the zone on the way in."""
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Put the zone back on the way out."""
        return value and value.replace(tzinfo=UTC)


def now() -> datetime:
    """Return the time that a new row carries."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """All tables of the bank."""


class Account(Base):
    """Somebody's money, in cents."""

    __tablename__ = "accounts"
    # The service layer refuses an overdraft with a good message; the database has the last word.
    __table_args__ = (CheckConstraint("balance >= 0", name=NO_OVERDRAFT),)

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    balance: Mapped[int] = mapped_column(BigInteger)
    frozen: Mapped[bool] = mapped_column(default=False)
    version: Mapped[int] = mapped_column()

    # Of two transfers that read the same balance, the slower one gets a StaleDataError, which
    # @transactional(retry=...) answers with a fresh attempt: no update is lost, no lock is held.
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy wants a dict

    @property
    def number(self) -> str:
        """Return the number that people read."""
        return f"{self.id:06}"


class Transfer(Base):
    """Money that moved from one account to another."""

    __tablename__ = "transfers"
    __table_args__ = (
        CheckConstraint("amount > 0", name="positive_amount"),
        CheckConstraint("payer_id <> payee_id", name="two_accounts"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    payer_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    payee_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    amount: Mapped[int] = mapped_column(BigInteger)
    memo: Mapped[str] = mapped_column(String(140))
    made_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)

    payer: Mapped[Account] = relationship(foreign_keys=payer_id)
    payee: Mapped[Account] = relationship(foreign_keys=payee_id)
    entries: Mapped[list[Entry]] = relationship(back_populates="transfer")


class Entry(Base):
    """One side of a transfer, on one account; the two sides add up to nothing."""

    __tablename__ = "entries"

    id: Mapped[int] = mapped_column(primary_key=True)
    transfer_id: Mapped[int] = mapped_column(ForeignKey("transfers.id"), index=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    amount: Mapped[int] = mapped_column(BigInteger)
    balance_after: Mapped[int] = mapped_column(BigInteger)

    transfer: Mapped[Transfer] = relationship(back_populates="entries")
    account: Mapped[Account] = relationship()

    @property
    def counterparty(self) -> Account:
        """Return the account on the other side."""
        outgoing = self.amount < 0
        return self.transfer.payee if outgoing else self.transfer.payer


class OrderState(enum.StrEnum):
    """What has become of a standing order."""

    PENDING = enum.auto()
    EXECUTED = enum.auto()
    REFUSED = enum.auto()


class StandingOrder(Base):
    """A transfer that the worker makes later."""

    __tablename__ = "standing_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    payer_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    payee_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    amount: Mapped[int] = mapped_column(BigInteger)
    memo: Mapped[str] = mapped_column(String(140))
    state: Mapped[OrderState] = mapped_column(
        Enum(OrderState, native_enum=False), default=OrderState.PENDING
    )
    reason: Mapped[str] = mapped_column(String(200), default="")


class AuditAction(enum.StrEnum):
    """What the audit trail tells of."""

    OPENED = enum.auto()
    FROZEN = enum.auto()
    THAWED = enum.auto()
    TRANSFER = enum.auto()
    REFUSED = enum.auto()


class AuditRecord(Base):
    """One line of the audit trail: it stands if, and only if, what it tells of stands."""

    __tablename__ = "audit_trail"

    id: Mapped[int] = mapped_column(primary_key=True)
    action: Mapped[AuditAction] = mapped_column(Enum(AuditAction, native_enum=False))
    detail: Mapped[str] = mapped_column(String(300))
    written_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
