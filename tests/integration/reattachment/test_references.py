"""References whose two sides changed, and the ones whose foreign key is somewhere else."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import Parameter, Signature

import pytest
from sqlalchemy import ForeignKey, create_engine, delete
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    defer,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)
from sqlalchemy.orm.attributes import set_committed_value

from flask_reqsession.errors import MissingRowError, ReattachConflictError
from flask_reqsession.reattachment import ArgumentPlan, ReattachOptions, attach
from tests.integration.reattachment.shop import Folder, Order, Person, Shop
from tests.servers.connections import Rows

ANY = ArgumentPlan("pay", Signature([Parameter("args", Parameter.VAR_POSITIONAL)]))


@pytest.mark.rule("R5", "R8")
def test_the_same_reference_set_on_both_sides_is_no_conflict(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """It is one row, though each side has its own instance of it: nothing is left to write."""
    order = shop.load(Order, 1, selectinload(Order.person))
    order.person = shop.load(Person, 2)
    own = session.get_one(Order, 1)
    own.person = session.get_one(Person, 2)
    session.flush()
    shop.sql.clear()

    assert shop.attach(session, order) is own
    session.commit()

    assert shop.sql == []
    assert rows(shop.url, "SELECT person_id FROM orders WHERE id = 1") == [(2,)]


@pytest.mark.rule("R5")
@pytest.mark.parametrize("loaded", [False, True])
def test_a_reference_that_was_set_without_being_loaded_is_carried_over(
    shop: Shop, session: Session, rows: Rows, *, loaded: bool
) -> None:
    """Its foreign key tells what it started from; where that is deferred too, nothing does."""
    order = shop.load(Order, 1, *[defer(Order.person_id)] * (not loaded))
    order.person = shop.load(Person, 2)
    own = session.get_one(Order, 1, options=[selectinload(Order.person)] * loaded)
    shop.sql.clear()

    assert shop.attach(session, order) is own
    assert shop.sql == []
    session.commit()

    assert rows(shop.url, "SELECT person_id FROM orders WHERE id = 1") == [(2,)]


@pytest.mark.rule("R5")
def test_a_reference_that_was_emptied_is_carried_over(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """The session's instance leads nowhere, and has left the collection on the other side."""
    order = shop.load(Order, 1, selectinload(Order.person))
    order.person = None
    own = session.get_one(Order, 1, options=[selectinload(Order.person)])
    person = session.get_one(Person, 1, options=[selectinload(Person.orders)])

    assert shop.attach(session, order) is own
    assert own not in person.orders
    session.commit()

    assert rows(shop.url, "SELECT person_id FROM orders WHERE id = 1") == [(None,)]


@pytest.mark.rule("R5")
def test_a_reference_without_another_side_is_carried_over(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """Nothing leads back from the new instance."""
    folder = shop.load(Folder, 1, selectinload(Folder.owner))
    folder.owner = shop.load(Person, 2)
    own = session.get_one(Folder, 1)

    assert shop.attach(session, folder) is own
    session.commit()

    assert rows(shop.url, "SELECT owner_id FROM folder WHERE id = 1") == [(2,)]


@pytest.mark.rule("R7", "R15")
def test_a_change_to_a_row_that_this_transaction_deleted_is_refused(
    shop: Shop, session: Session
) -> None:
    """Otherwise the reference would silently lead nowhere, as nobody wished."""
    with shop.session.begin() as other:
        other.get_one(Folder, 1).owner_id = 1
    folder = shop.load(Folder, 1, selectinload(Folder.owner))
    folder.owner = shop.load(Person, 2)
    own = session.get_one(Folder, 1)
    session.delete(session.get_one(Person, 2))
    session.flush()

    with pytest.raises(MissingRowError, match=r"^Person 2 \(loaded by Folder.owner\)"):
        shop.attach(session, folder)

    assert own.owner_id == 1
    assert not session.dirty


@pytest.mark.rule("R7")
def test_a_change_away_from_a_row_that_this_transaction_deleted_is_carried_over(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """What is no longer wanted may be gone."""
    with shop.session.begin() as other:
        other.get_one(Folder, 1).owner_id = 2
    folder = shop.load(Folder, 1, selectinload(Folder.owner))
    folder.owner = shop.load(Person, 1)
    own = session.get_one(Folder, 1)
    session.delete(session.get_one(Person, 2))
    session.flush()

    assert shop.attach(session, folder) is own
    session.commit()

    assert rows(shop.url, "SELECT owner_id FROM folder WHERE id = 1") == [(1,)]


@pytest.mark.rule("R9", "R7", "R15")
@pytest.mark.parametrize("held", [False, True])
def test_a_change_to_a_row_that_a_refresh_misses_is_refused(
    shop: Shop, session: Session, *, held: bool
) -> None:
    """The change is the user's, even where the instance at its other end has none."""
    folder = shop.load(Folder, 1, selectinload(Folder.owner))
    folder.name, folder.owner = "new", shop.load(Person, 2)
    own = session.get_one(Folder, 1) if held else None
    with shop.session.begin() as other:
        other.execute(delete(Person).where(Person.id == 2))

    with pytest.raises(MissingRowError, match=r"^Person 2 "):
        shop.attach(session, folder, refresh=True)

    assert set(session) == {own} - {None}
    assert not session.dirty


@pytest.mark.rule("R6", "R10")
def test_a_copy_leads_to_the_copy_of_what_the_original_leads_to(
    shop: Shop, session: Session
) -> None:
    """And nowhere where that leads nowhere; no SQL, and no change."""
    with shop.session() as other:
        order = other.get_one(Order, 1, options=[selectinload(Order.person)])
        folder = other.get_one(Folder, 1, options=[selectinload(Folder.owner)])
        shop.sql.clear()

        copies = shop.attach(session, (order, folder))

        person = copies[0].person
        assert copies[1].owner is None
        assert shop.sql == []
        assert person is not None
        assert person in session
        assert (person.name, order.person in other) == ("ada", True)
    assert not session.dirty


class Base(DeclarativeBase):
    """The models of this file."""


class Driver(Base):
    """Somebody with one licence, whose foreign key is there."""

    __tablename__ = "driver"
    id: Mapped[int] = mapped_column(primary_key=True)
    licence: Mapped[Licence | None] = relationship(back_populates="driver")


class Licence(Base):
    """It belongs to one driver at most."""

    __tablename__ = "licence"
    id: Mapped[int] = mapped_column(primary_key=True)
    driver_id: Mapped[int | None] = mapped_column(ForeignKey("driver.id"), unique=True)
    driver: Mapped[Driver | None] = relationship(back_populates="licence")


class Office:
    """A database with one driver, who has the first of two licences."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_engine(url)
        self.session = sessionmaker(self.engine, expire_on_commit=False)
        Base.metadata.create_all(self.engine)
        with self.session.begin() as session:
            session.add_all([Driver(id=1, licence=Licence(id=1)), Licence(id=2)])

    def renewed(self) -> Driver:
        """Return the driver, detached, with the second licence instead of the first."""
        with self.session() as session:
            driver = session.get_one(Driver, 1, options=[selectinload(Driver.licence)])
            licence = session.get_one(Licence, 2, options=[selectinload(Licence.driver)])
        driver.licence = licence
        return driver


@pytest.fixture
def office(sqlite_file_url: str) -> Iterator[Office]:
    """Give an office of its own to each test."""
    office = Office(sqlite_file_url)
    yield office
    office.engine.dispose()


HELD = "SELECT id, driver_id FROM licence ORDER BY id"


@pytest.mark.rule("R5")
@pytest.mark.parametrize("loaded", [False, True])
def test_a_one_to_one_reference_is_carried_over(
    office: Office, rows: Rows, *, loaded: bool
) -> None:
    """Its foreign key is on the other side, so it is read where the session has not loaded it."""
    driver = office.renewed()
    with office.session() as session:
        own = session.get_one(Driver, 1, options=[selectinload(Driver.licence)] * loaded)
        assert attach(session, driver) is own
        session.commit()

    assert rows(office.url, HELD) == [(1, None), (2, 1)]


@pytest.mark.rule("R5", "R15")
def test_a_one_to_one_reference_that_was_changed_on_both_sides_is_a_conflict(
    office: Office,
) -> None:
    """Neither side is lost silently, though the driver's own row did not change at all."""
    driver = office.renewed()
    with office.session() as session:
        own = session.get_one(Driver, 1)
        own.licence = None
        session.flush()
        session.expire(own, ["licence"])

        with pytest.raises(ReattachConflictError, match=r"^Driver 1 .* licence was changed"):
            attach(session, driver)

        assert own.licence is None


@pytest.mark.rule("R5")
def test_a_one_to_one_reference_of_a_second_argument_is_carried_over(
    office: Office, rows: Rows
) -> None:
    """The first argument is about to be attached: what it has not loaded it has not changed."""
    with office.session() as other:
        first = other.get_one(Driver, 1)
    second = office.renewed()
    with office.session() as session:
        assert ANY.apply(session, (first, second), {}) == ((first, first), {})
        session.commit()

    assert rows(office.url, HELD) == [(1, None), (2, 1)]


@pytest.mark.rule("R9", "R8")
def test_a_changed_one_to_one_reference_survives_a_refresh(office: Office, rows: Rows) -> None:
    """The driver's own row says nothing about it."""
    driver = office.renewed()
    with office.session() as session:
        attach(session, driver, options=ReattachOptions(refresh=True))
        session.commit()

    assert rows(office.url, HELD) == [(1, None), (2, 1)]


@pytest.mark.rule("R10")
def test_what_the_session_is_about_to_delete_stays_deleted(shop: Shop, session: Session) -> None:
    """A detached instance that leads to it, where no cascade does, takes no deletion back."""
    folder, own = shop.load(Folder, 1), session.get_one(Person, 1)
    set_committed_value(folder, "owner", own)
    session.delete(own)

    assert shop.attach(session, folder) is folder

    assert own in session.deleted
