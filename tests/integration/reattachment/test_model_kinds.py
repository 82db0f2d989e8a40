"""Models of the rarer kinds: inheritance, composites, mutable values, validators, pickles."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from sqlalchemy import JSON, ForeignKey, create_engine, event
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    composite,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
    validates,
)

from flask_reqsession.errors import ReattachConflictError
from flask_reqsession.reattachment import Memory, ReattachOptions, attach
from tests.servers.connections import Rows

T = TypeVar("T")


class Base(DeclarativeBase):
    """The models of this file."""


@dataclass
class Money:
    """A value of two columns."""

    amount: int
    currency: str


class Thing(Base):
    """The root of a joined inheritance."""

    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("thing.id"))
    parts: Mapped[list[Thing]] = relationship(back_populates="owner", cascade="all, delete-orphan")
    owner: Mapped[Thing | None] = relationship(back_populates="parts", remote_side="Thing.id")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "thing"}  # noqa: RUF012


class Car(Thing):
    """A joined subclass, with everything that is rare about columns."""

    __tablename__ = "car"
    id: Mapped[int] = mapped_column(ForeignKey("thing.id"), primary_key=True)
    wheels: Mapped[int]
    data: Mapped[dict[str, Any] | None] = mapped_column(MutableDict.as_mutable(JSON))
    price: Mapped[Money] = composite(mapped_column("amount"), mapped_column("currency"))
    __mapper_args__ = {"polymorphic_identity": "car"}  # noqa: RUF012


class Bike(Thing):
    """A single-table subclass."""

    __mapper_args__ = {"polymorphic_identity": "bike"}  # noqa: RUF012


class Login(Base):
    """A code that its validator changes each time it runs."""

    __tablename__ = "login"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str]

    @validates("code")
    def scramble(self, _name: str, value: str) -> str:
        """Scramble the code."""
        return value[::-1] + "#"


class Garage:
    """A database with a row of each kind."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_engine(url)
        self.session = sessionmaker(self.engine, expire_on_commit=False)
        self.sql: list[str] = []
        Base.metadata.create_all(self.engine)
        with self.session.begin() as session:
            car = Car(id=1, name="car", wheels=4, data={"a": 1}, price=Money(5, "EUR"))
            car.parts = [Bike(id=2, name="bike"), Thing(id=3, name="thing")]
            session.add_all([car, Login(id=1, code="abc")])
        event.listen(self.engine, "before_cursor_execute", self._note)

    def _note(self, _connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        self.sql.append(" ".join(statement.split()))

    def load(self, model: type[T], key: int, *options: Any) -> T:
        """Return a detached instance."""
        with self.session() as session:
            return session.get_one(model, key, options=options)


@pytest.fixture
def garage(sqlite_file_url: str) -> Iterator[Garage]:
    """Give a garage of its own to each test."""
    garage = Garage(sqlite_file_url)
    yield garage
    garage.engine.dispose()


@pytest.fixture
def session(garage: Garage) -> Iterator[Session]:
    """Give the session that instances are attached to."""
    with garage.session() as session:
        yield session


@pytest.mark.rule("R5")
def test_validators_do_not_run_twice(garage: Garage, session: Session, rows: Rows) -> None:
    """What was validated when the user wrote it is carried over as it is."""
    login = garage.load(Login, 1)
    login.code = "new"
    own = session.get_one(Login, 1)

    assert attach(session, login) is own
    session.commit()

    assert rows(garage.url, "SELECT code FROM login") == [("wen#",)]


@pytest.mark.rule("R5", "R8")
def test_a_carried_over_column_knows_what_it_was(garage: Garage, session: Session) -> None:
    """A further comparison finds the base, and setting it back leaves nothing to write."""
    thing, other = garage.load(Thing, 3), garage.load(Thing, 3)
    thing.name, other.name = "new", "other"
    own = session.get_one(Thing, 3)
    attach(session, thing)
    garage.sql.clear()

    with pytest.raises(ReattachConflictError):
        attach(session, other)
    own.name = "thing"
    session.commit()

    assert garage.sql == []


@pytest.mark.rule("R5")
def test_mutable_values_are_not_shared(garage: Garage, session: Session, rows: Rows) -> None:
    """Each instance tracks its own."""
    car = garage.load(Car, 1)
    assert car.data is not None
    car.data["b"] = 2
    own = session.get_one(Car, 1)

    attach(session, car)
    session.flush()
    assert own.data is not None
    own.data["c"] = 3
    session.commit()

    assert car.data == {"a": 1, "b": 2}
    assert rows(garage.url, "SELECT data FROM car") == [('{"a": 1, "b": 2, "c": 3}',)]


@pytest.mark.rule("R5")
def test_composites_follow_their_columns(garage: Garage, session: Session, rows: Rows) -> None:
    """Nobody sees an old value in a new row."""
    car, own = garage.load(Car, 1), session.get_one(Car, 1)
    car.price = Money(7, "USD")
    assert own.price == Money(5, "EUR")

    attach(session, car)
    assert own.price == Money(7, "USD")
    session.commit()

    assert rows(garage.url, "SELECT amount, currency FROM car") == [(7, "USD")]


@pytest.mark.rule("R4", "R8")
def test_inherited_columns_are_written_alone(garage: Garage, session: Session) -> None:
    """One UPDATE of the table that has the column."""
    car = garage.load(Car, 1)
    car.wheels = 3
    garage.sql.clear()

    assert attach(session, car) is car
    session.commit()

    assert garage.sql == ["UPDATE car SET wheels=? WHERE car.id = ?"]


@pytest.mark.rule("R9")
def test_each_mapped_class_is_refreshed_by_itself(garage: Garage, session: Session) -> None:
    """Joined and single-table subclasses, composites and mutable values."""
    car = garage.load(Car, 1, selectinload(Thing.parts))
    with garage.session.begin() as other:
        newer = other.get_one(Car, 1)
        newer.wheels, newer.data, newer.price = 6, {"z": 1}, Money(9, "CHF")
        other.get_one(Bike, 2).name = "newer"
    garage.sql.clear()
    bike = car.parts[0]
    assert car.price == Money(5, "EUR")

    attach(session, car, options=ReattachOptions(refresh=True))

    assert len(garage.sql) == 3
    assert (car.wheels, car.price, bike.name) == (6, Money(9, "CHF"), "newer")
    assert car.data is not None
    car.data["y"] = 2
    assert car in session.dirty


@pytest.mark.rule("R6")
def test_a_copy_has_values_of_its_own(garage: Garage, session: Session) -> None:
    """Of the same class, with its own mutable value, and no UPDATE."""
    with garage.session() as other:
        foreign = other.get_one(Car, 1, options=[selectinload(Thing.parts)])
        other.commit()

        copy = attach(session, foreign)

        assert type(copy) is Car
        assert copy.data == foreign.data
        assert copy.data is not foreign.data
        assert [type(part) for part in copy.parts] == [Bike, Thing]
        assert not session.dirty
        assert copy.data is not None
        copy.data["x"] = 1
        assert session.is_modified(copy)
        assert not other.is_modified(foreign)


@pytest.mark.rule("R10")
@pytest.mark.parametrize("held", [False, True])
def test_an_orphan_is_deleted_once_it_is_removed(
    garage: Garage, session: Session, rows: Rows, *, held: bool
) -> None:
    """Also where the session's own instance has taken its place."""
    car = garage.load(Car, 1, selectinload(Thing.parts))
    del car.parts[1]
    _own = session.get_one(Thing, 3) if held else None

    attach(session, car)
    session.commit()

    assert set(session) == {car, *car.parts}
    assert rows(garage.url, "SELECT id FROM thing ORDER BY id") == [(1,), (2,)]


@pytest.mark.rule("R10")
def test_a_part_that_moves_is_no_orphan(garage: Garage, session: Session, rows: Rows) -> None:
    """Removed here and added there, with the session's instances on the way."""
    car = garage.load(Car, 1, selectinload(Thing.parts).selectinload(Thing.parts))
    bike, thing = car.parts
    car.parts.remove(thing)
    bike.parts.append(thing)
    own = session.get_one(Thing, 3)

    attach(session, car)
    assert bike.parts == [own]
    session.commit()

    assert rows(garage.url, "SELECT id, owner_id FROM thing ORDER BY id") == [
        (1, None),
        (2, 1),
        (3, 2),
    ]


@pytest.mark.rule("R11")
@pytest.mark.parametrize("held", [False, True])
def test_unpickled_instances_are_like_detached_ones(
    garage: Garage, session: Session, rows: Rows, *, held: bool
) -> None:
    """From a cache or a queue, changes and loaded relationships included."""
    car = garage.load(Car, 1, selectinload(Thing.parts))
    car.name = "new"
    assert car.data is not None
    car.data["b"] = 2
    unpickled: Car = pickle.loads(pickle.dumps(car))  # noqa: S301 - our own
    own = session.get_one(Car, 1) if held else unpickled
    garage.sql.clear()

    assert attach(session, unpickled, memory=Memory()) is own
    assert garage.sql == []
    assert all(part in session for part in unpickled.parts)
    session.commit()

    assert rows(garage.url, "SELECT name, data FROM thing JOIN car USING (id)") == [
        ("new", '{"a": 1, "b": 2}')
    ]
