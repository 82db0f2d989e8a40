"""The table to which programs write."""

from __future__ import annotations

from typing import Final, cast

from sqlalchemy import Connection, Table, delete, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class _Base(DeclarativeBase):
    """The table of programs stands alone."""


class ProgramRow(_Base):
    """A row that a program writes. Row 0 is there from the beginning."""

    __tablename__ = "reqsession_program_row"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


TABLE: Final = cast("Table", ProgramRow.__table__)


def prepare(connection: Connection) -> None:
    """Empty the table, and make it only where that fails: looking first costs more than all."""
    try:
        connection.execute(delete(ProgramRow))
    except DBAPIError:
        connection.rollback()
        _Base.metadata.create_all(connection)
    connection.execute(insert(ProgramRow).values(number=0))
    connection.commit()


def rows_in(connection: Connection) -> frozenset[int]:
    """Return the rows that ``connection`` sees, but for the one that is always there."""
    return frozenset(connection.scalars(select(ProgramRow.number))) - {0}
