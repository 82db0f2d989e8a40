"""What depends on the database: one body for all of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    DateTime,
    Enum,
    ForeignKeyConstraint,
    LargeBinary,
    Numeric,
    String,
    create_engine,
    event,
    text,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession.errors import MissingRowError, ReattachConflictError
from flask_reqsession.reattachment import Memory, ReattachOptions, attach
from tests.servers.connections import Rows

# Several are documented, one is typed.
DEFERRING: Any = ("postgresql", "sqlite")
NOON = dt.datetime(2026, 1, 2, 12, 0)  # noqa: DTZ001 - as the column stores it


class Base(DeclarativeBase):
    """The tables of this file."""


class Seat(Base):
    """A row with a key of two columns, and a version."""

    __tablename__ = "seat"
    hall: Mapped[str] = mapped_column(String(20), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    guest: Mapped[str | None] = mapped_column(String(20))
    version: Mapped[int] = mapped_column()
    tickets: Mapped[list[Ticket]] = relationship(back_populates="seat")
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy declares it


class Ticket(Base):
    """A row with one column of each type that a driver gives back in its own way."""

    __tablename__ = "ticket"
    id: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    valid: Mapped[dt.datetime] = mapped_column(DateTime)
    kind: Mapped[str] = mapped_column(Enum("adult", "child", name="kind"))
    extras: Mapped[dict[str, Any]] = mapped_column(JSON)
    code: Mapped[bytes] = mapped_column(LargeBinary(20))
    seller_id: Mapped[int | None]
    hall: Mapped[str | None] = mapped_column(String(20))
    number: Mapped[int | None]
    seat: Mapped[Seat | None] = relationship(back_populates="tickets")
    __table_args__ = (
        ForeignKeyConstraint(["hall", "number"], ["seat.hall", "seat.number"]),
        # MariaDB has none that waits for the COMMIT.
        ForeignKeyConstraint(
            ["seller_id"], ["ticket.id"], deferrable=True, initially="DEFERRED"
        ).ddl_if(dialect=DEFERRING),
    )


def ticket(identity: int, /, **values: Any) -> Ticket:
    """Return a new ticket."""
    return Ticket(
        id=identity,
        **{
            "price": Decimal("9.50"),
            "valid": NOON,
            "kind": "adult",
            "extras": {"meal": [1, 2]},
            "code": b"\x00\xff",
            **values,
        },
    )


class Hall:
    """Sessions on a database, and the SQL that it was sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_engine(url)
        Base.metadata.create_all(self.engine)
        self.session = sessionmaker(self.engine, expire_on_commit=False)
        self.memory = Memory()
        self.memory.watch(self.session)
        self.sql: list[str] = []
        event.listen(self.engine, "before_cursor_execute", self._note)
        self.save(ticket(1))

    def _note(self, _connection: object, _cursor: object, sql: str, *_rest: object) -> None:
        self.sql.append(sql.split(maxsplit=1)[0])

    def save(self, *instances: object) -> None:
        """Insert rows."""
        with self.session.begin() as session:
            session.add_all(instances)

    def write(self, sql: str) -> None:
        """Change the database behind everybody's back; forget the SQL until now."""
        with self.session.begin() as session:
            session.execute(text(sql))
        self.sql.clear()

    def attach(self, session: Session, instance: Any, **options: Any) -> Any:
        """Attach an instance."""
        return attach(session, instance, memory=self.memory, options=ReattachOptions(**options))


@pytest.fixture
def hall(database_url: str) -> Iterator[Hall]:
    """Give an empty hall, and one ticket."""
    hall = Hall(database_url)
    yield hall
    hall.engine.dispose()


@pytest.mark.rule("R9")
def test_many_rows_with_composite_keys_are_refreshed_in_chunks(hall: Hall) -> None:
    """With a statement for each 500 of them, and those that are gone are found."""
    hall.save(*(Seat(hall=f"h{n % 3}", number=n) for n in range(1100)))
    with hall.session() as other:
        seats = other.query(Seat).order_by(Seat.number).all()
    hall.write("UPDATE seat SET guest = 'ada' WHERE number >= 600")
    hall.write("DELETE FROM seat WHERE number = 1099")

    with hall.session() as session:
        with pytest.raises(MissingRowError, match=r"^Seat \('h1', 1099\) cannot be attached"):
            hall.attach(session, seats, refresh=True)
        assert list(session) == []
        hall.sql.clear()
        found = hall.attach(session, seats, refresh=True, missing="none")
        assert hall.sql == ["SELECT"] * 3
        assert [seat.guest for seat in found] == [None] * 600 + ["ada"] * 499
        assert not session.dirty


@pytest.mark.rule("R8", "R9")
def test_a_change_of_an_old_version_is_stale(hall: Hall, rows: Rows) -> None:
    """Found by the fresh row, or else by the number of rows that the UPDATE has met."""
    hall.save(Seat(hall="h", number=1))
    with hall.session() as other:
        seat = other.get_one(Seat, ("h", 1))
    seat.guest = "mine"
    hall.write("UPDATE seat SET guest = 'theirs', version = 2")

    with hall.session() as session:
        with pytest.raises(StaleDataError, match="cannot be attached"):
            hall.attach(session, seat, refresh=True)
        assert hall.attach(session, seat) is seat
        with pytest.raises(StaleDataError, match="UPDATE statement"):
            session.commit()
    assert rows(hall.url, "SELECT guest, version FROM seat") == [("theirs", 2)]


@pytest.mark.rule("R7")
def test_a_changed_row_that_is_gone_is_not_resurrected(hall: Hall, rows: Rows) -> None:
    """Without a version, too: the UPDATE meets no row."""
    with hall.session() as other:
        own = other.get_one(Ticket, 1)
    own.kind = "child"
    hall.write("DELETE FROM ticket")

    with hall.session() as session:
        hall.attach(session, own)
        with pytest.raises(StaleDataError):
            session.commit()
    assert rows(hall.url, "SELECT id FROM ticket") == []


@pytest.mark.rule("R5", "R8")
@pytest.mark.parametrize(
    ("name", "value", "same"),
    [
        ("price", Decimal("9.5"), True),
        ("price", Decimal("9.500"), True),
        ("price", Decimal("9.51"), False),
        ("valid", dt.datetime(2026, 1, 2, 12, 0), True),  # noqa: DTZ001 - as it is stored
        ("valid", dt.datetime(2026, 1, 2, 12, 1), False),  # noqa: DTZ001 - as it is stored
        ("kind", "adult", True),
        ("kind", "child", False),
        ("extras", {"meal": [1, 2]}, True),
        ("extras", {"meal": [2, 1]}, False),
        ("code", b"\x00\xff", True),
        ("code", b"\x00\xfe", False),
    ],
)
@pytest.mark.parametrize("refresh", [False, True])
def test_values_are_compared_as_the_database_gives_them_back(
    hall: Hall, name: str, value: object, *, same: bool, refresh: bool
) -> None:
    """Written in another form they are no conflict, and no change of the session's."""
    with hall.session() as other:
        mine = other.get_one(Ticket, 1)
    setattr(mine, name, value)
    with hall.session() as session:
        own = session.get_one(Ticket, 1)
        hall.sql.clear()
        assert hall.attach(session, mine, refresh=refresh) is own
        assert hall.sql == ["SELECT"] * refresh
        session.commit()
        assert hall.sql[refresh:] == ([] if same else ["UPDATE"])
    with hall.session() as other:
        assert getattr(other.get_one(Ticket, 1), name) == value


@pytest.mark.rule("R5", "R9")
def test_somebody_elses_value_in_another_form_is_no_conflict(hall: Hall) -> None:
    """Nor is the value that the row had from the start."""
    with hall.session() as other:
        mine = other.get_one(Ticket, 1)
    mine.price, mine.extras = Decimal("12.5"), {"meal": [3]}
    hall.write("UPDATE ticket SET price = 12.50")

    with hall.session() as session:
        hall.attach(session, mine, refresh=True)
        session.commit()
        assert hall.sql == ["SELECT", "UPDATE"]
    mine.price = Decimal(1)
    hall.write("UPDATE ticket SET price = 13")
    with hall.session() as session, pytest.raises(ReattachConflictError, match="price was changed"):
        hall.attach(session, mine, refresh=True)


@pytest.mark.rule("R9")
def test_collections_over_a_key_of_two_columns_are_loaded_anew(hall: Hall) -> None:
    """One foreign key does not tell who is in them."""
    hall.save(Seat(hall="h", number=1), ticket(2, hall="h", number=1))
    with hall.session() as other:
        seat = other.get_one(Seat, ("h", 1), options=[selectinload(Seat.tickets)])
    hall.write("UPDATE ticket SET hall = 'h', number = 1")

    with hall.session() as session:
        hall.attach(session, seat, refresh=True)
        assert hall.sql == ["SELECT"] * 2
        assert {each.id for each in seat.tickets} == {1, 2}


@pytest.mark.rule("R7", "R10")
def test_a_deferred_constraint_is_checked_at_commit(hall: Hall, rows: Rows) -> None:
    """An attached instance may refer to a row that comes later in the same transaction."""
    with hall.session() as other:
        mine = other.get_one(Ticket, 1)
    mine.seller_id = 2
    with hall.session() as session:
        hall.attach(session, mine)
        session.flush()
        session.add(ticket(2))
        session.commit()
    assert rows(hall.url, "SELECT seller_id FROM ticket ORDER BY id") == [(2,), (None,)]
