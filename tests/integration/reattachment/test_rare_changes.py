"""Changes that are met seldom: deleted attributes, queued members, unsaved ones, fresh rows."""

from __future__ import annotations

from typing import Literal

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.orm.exc import StaleDataError

from tests.integration.reattachment.shop import Account, Folder, Order, Person, Shop
from tests.servers.connections import Rows


@pytest.mark.rule("R5", "R10")
@pytest.mark.parametrize("held", [Order, Person])
def test_a_reference_that_was_deleted_is_a_change(
    shop: Shop, session: Session, rows: Rows, held: type[Order | Person]
) -> None:
    """Whether the session has the argument's row, or the one that it led to."""
    order = shop.load(Order, 1, selectinload(Order.person))
    del order.person
    own = session.get_one(held, 1)

    passed = shop.attach(session, order)
    session.commit()

    assert passed is (own if held is Order else order)
    assert rows(shop.url, "SELECT person_id FROM orders WHERE id = 1") == [(None,)]


@pytest.mark.rule("R4", "R10")
def test_members_that_wait_for_a_collection_stay_beside_a_replacement(
    shop: Shop, session: Session
) -> None:
    """Only those are forgotten that are replaced themselves."""
    order, bob = shop.load(Order, 1, selectinload(Order.person)), shop.load(Person, 2)
    order.person = bob
    _own = session.get_one(Person, 1)

    shop.attach(session, order)

    with session.no_autoflush:
        assert bob.orders == [order]


@pytest.mark.rule("R7")
def test_an_unsaved_instance_behind_no_cascade_is_not_added(shop: Shop, session: Session) -> None:
    """Nor is it by SQLAlchemy, on an instance of the session."""
    folder = shop.load(Folder, 1, selectinload(Folder.owner))
    folder.owner = Person(id=9, name="new", email="")
    own = session.get_one(Folder, 1)

    assert shop.attach(session, folder) is own
    assert own.owner is folder.owner
    assert not session.new


@pytest.mark.rule("R7", "R9")
def test_an_unsaved_member_has_no_row_to_be_read(shop: Shop, session: Session, rows: Rows) -> None:
    """It is inserted with the instance that is refreshed."""
    person = shop.load(Person, 1, selectinload(Person.orders))
    person.orders.append(Order(id=9, total=90))

    assert shop.attach(session, person, refresh=True) is person
    session.commit()

    assert rows(shop.url, "SELECT person_id FROM orders WHERE id = 9") == [(1,)]


@pytest.mark.rule("R7", "R9")
def test_an_unsaved_member_of_a_missing_row_is_not_inserted(shop: Shop, session: Session) -> None:
    """It was hung onto something that is left out."""
    person, order = shop.load(Person, 2, selectinload(Person.orders)), shop.load(Order, 1)
    person.orders.append(Order(id=9, total=90))
    with shop.session.begin() as other:
        other.delete(other.get_one(Person, 2))

    passed = shop.attach(session, [person, order], refresh=True, missing="none")

    assert passed == [order]
    assert [*session] == [order]


@pytest.mark.rule("R9", "R15")
@pytest.mark.parametrize("missing", ["raise", "none", "404"])
def test_only_the_rows_of_arguments_are_missed(
    shop: Shop, session: Session, missing: Literal["raise", "none", "404"]
) -> None:
    """A related row that is gone is no answer."""
    person = shop.load(Person, 1, selectinload(Person.orders))
    with shop.session.begin() as other:
        other.delete(other.get_one(Order, 2))

    assert shop.attach(session, person, refresh=True, missing=missing) is person
    assert [order.id for order in person.orders] == [1]


@pytest.mark.rule("R6", "R9")
def test_a_copy_of_a_missing_row_enters_no_session(shop: Shop, session: Session) -> None:
    """It does not even pass through one."""
    with shop.session() as other:
        foreign = other.get_one(Person, 2)
        other.commit()
        with shop.session.begin() as third:
            third.delete(third.get_one(Person, 2))

        entered: list[object] = []
        event.listen(session, "detached_to_persistent", lambda _, each: entered.append(each))
        own = other.get_one(Person, 1)
        passed = shop.attach(session, [own, foreign], refresh=True, missing="none")

    assert entered == passed
    assert [person.id for person in passed] == [1]


@pytest.mark.rule("R9", "R8")
def test_a_refresh_keeps_the_sessions_own_change(shop: Shop, session: Session) -> None:
    """And its version, which the flush compares."""
    person, account = session.get_one(Person, 1), session.get_one(Account, ("x", 1))
    session.commit()
    with shop.session.begin() as other:
        other.get_one(Person, 1).name = "theirs"
        other.get_one(Account, ("x", 1)).balance = 500
    person.name, account.balance = "mine", 0

    shop.attach(session, [person, account], refresh=True)

    assert (person.name, account.balance, account.version) == ("mine", 0, 1)
    with pytest.raises(StaleDataError):
        session.commit()
