"""Two witnesses: what the app sends to the database, and what somebody else finds there."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, func, select

from examples.bank.models import Account, AuditRecord, Entry, Transfer
from examples.bank.tables import Customers


class Seen(NamedTuple):
    """What a second connection finds: balances in cents, and numbers of rows."""

    ada: int
    grace: int
    frida: int
    transfers: int
    entries: int
    audit: int

    def since(self, earlier: Seen) -> Seen:
        """Return the differences."""
        return Seen(*(now - then for now, then in zip(self, earlier, strict=True)))


class SecondConnection:
    """Reads the database behind the application's back, each time on a new connection."""

    def __init__(self, database_url: str, customers: Customers) -> None:
        self._engine = create_engine(database_url, poolclass=NullPool)
        self._customers = customers

    def look(self) -> Seen:
        """Return what is committed now."""
        with self._engine.connect() as connection:
            balances = [
                connection.execute(select(Account.balance).where(Account.id == number)).scalar_one()
                for number in self._customers
            ]
            counts = [
                connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (Transfer, Entry, AuditRecord)
            ]
        return Seen(*balances, *counts)


class Conversation:
    """Overhears which statements an engine sends."""

    def __init__(self, engine: Engine) -> None:
        self._verbs: list[str] = []
        event.listen(engine, "before_cursor_execute", self._hear)
        event.listen(engine, "commit", self._hear_commit)
        event.listen(engine, "rollback", self._hear_rollback)

    def take(self) -> str:
        """Return, and forget, the transactions that wrote: ``1 INSERT ROLLBACK; 2 UPDATE COMMIT``.

        One that only read is ended by a ROLLBACK as well, which says nothing.
        """
        transactions: list[str] = []
        written: Counter[str] = Counter()
        for verb in self._verbs:
            if verb in {"INSERT", "UPDATE", "DELETE"}:
                written[verb] += 1
            elif verb in {"COMMIT", "ROLLBACK"} and written:
                counts = [f"{times} {name}" for name, times in written.items()]
                transactions.append(" ".join([*counts, verb]))
                written.clear()
        self._verbs.clear()
        return "; ".join(transactions)

    def _hear(
        self, _connection: Connection, _cursor: object, statement: str, *_rest: object
    ) -> None:
        self._verbs.append(statement.split(None, 1)[0].upper())

    def _hear_commit(self, _connection: Connection) -> None:
        self._verbs.append("COMMIT")

    def _hear_rollback(self, _connection: Connection) -> None:
        self._verbs.append("ROLLBACK")
