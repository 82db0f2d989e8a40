"""Arguments that are brought up to date: few statements, and nothing touched if one is gone."""

from __future__ import annotations

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import NotFound

from flask_reqsession.errors import MissingRowError, ReattachConflictError
from tests.integration.reattachment.shop import Account, Folder, Order, Person, Shop
from tests.servers.connections import Rows


@pytest.mark.rule("R9")
def test_a_detached_argument_is_brought_up_to_date(shop: Shop, session: Session) -> None:
    """It is the same object, and clean; what is deferred is not read."""
    person = shop.load(Person, 1)
    shop.write("UPDATE person SET name = 'newer', email = 'newer'")

    assert shop.attach(session, person, refresh=True) is person
    assert shop.sql == ["SELECT person.id, person.name FROM person WHERE person.id IN (?)"]
    assert person.name == "newer"
    assert not session.dirty


@pytest.mark.rule("R9")
def test_ten_items_with_one_relationship_cost_two_statements(shop: Shop, session: Session) -> None:
    """One for each mapped class."""
    with shop.session.begin() as other:
        other.add_all([Order(id=number, total=0, person_id=2) for number in range(10, 20)])
    orders = [shop.load(Order, number, selectinload(Order.person)) for number in range(10, 20)]
    shop.write("UPDATE orders SET total = 5")

    shop.attach(session, orders, refresh=True)

    assert [order.total for order in orders] == [5] * 10
    assert len({order.person for order in orders}) == 1
    assert len(shop.sql) == 2


@pytest.mark.rule("R9")
def test_a_thousand_items_cost_two_statements(shop: Shop, session: Session) -> None:
    """The parameters of one statement are limited."""
    with shop.session.begin() as other:
        other.add_all([Order(id=number, total=0) for number in range(1000, 2000)])
    with shop.session() as other:
        orders = [other.get_one(Order, number) for number in range(1000, 2000)]
    shop.sql.clear()

    assert shop.attach(session, orders, refresh=True) is orders
    assert len(shop.sql) == 2


@pytest.mark.rule("R9")
def test_an_attached_argument_is_brought_up_to_date(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """The session's own changes stay; nothing is flushed by that."""
    person = session.get_one(Person, 1)
    person.email = "mine"
    shop.write("UPDATE person SET name = 'newer', email = 'newer'")

    shop.attach(session, person, refresh=True)
    assert (person.name, person.email) == ("newer", "mine")
    assert len(shop.sql) == 1
    session.commit()

    assert rows(shop.url, "SELECT name, email FROM person WHERE id = 1") == [("newer", "mine")]


@pytest.mark.rule("R9")
def test_composite_keys_are_refreshed(shop: Shop, session: Session) -> None:
    """By all of their columns."""
    account = shop.load(Account, ("x", 1))
    shop.write("UPDATE account SET balance = 7, version = 9")

    shop.attach(session, account, refresh=True)
    assert (account.balance, account.version) == (7, 9)


@pytest.mark.rule("R9")
def test_related_instances_follow_the_fresh_rows(shop: Shop, session: Session) -> None:
    """A reference whose key changed, and every collection, is loaded anew when it is read."""
    order = shop.load(Order, 1, selectinload(Order.person).selectinload(Person.orders))
    person = order.person
    assert person is not None
    shop.write("UPDATE orders SET person_id = 2 WHERE id = 1")

    shop.attach(session, order, refresh=True)

    assert len(shop.sql) == 2
    assert order.person is not None
    assert order.person.id == 2
    assert [each.id for each in person.orders] == [2]


@pytest.mark.rule("R9")
def test_a_current_reference_is_not_loaded_again(shop: Shop, session: Session) -> None:
    """Nor is one that leads nowhere."""
    order = shop.load(Order, 1, selectinload(Order.person))
    folder = shop.load(Folder, 1, selectinload(Folder.owner))
    shop.attach(session, [order, folder], refresh=True)
    shop.sql.clear()

    assert order.person is not None
    assert order.person.name == "ada"
    assert folder.owner is None
    assert shop.sql == []


@pytest.mark.rule("R9", "R8")
def test_changes_survive_a_refresh(shop: Shop, session: Session, rows: Rows) -> None:
    """What was not changed is up to date, and only what was is written."""
    person = shop.load(Person, 1)
    person.email = "mine"
    shop.write("UPDATE person SET name = 'newer'")

    shop.attach(session, person, refresh=True)
    assert (person.name, person.email) == ("newer", "mine")
    shop.sql.clear()
    session.commit()

    assert shop.sql == ["UPDATE person SET email=? WHERE person.id = ?"]


@pytest.mark.rule("R9", "R5")
@pytest.mark.parametrize(
    ("conflict", "name"), [("session", "newer"), ("argument", "mine"), ("raise", "newer")]
)
def test_a_change_that_somebody_else_made_too_is_a_conflict(
    shop: Shop, session: Session, rows: Rows, conflict: str, name: str
) -> None:
    """The fresh row is the session's side."""
    person = shop.load(Person, 1)
    person.name = "mine"
    shop.write("UPDATE person SET name = 'newer'")

    if conflict == "raise":
        with pytest.raises(ReattachConflictError, match="name was changed"):
            shop.attach(session, person, refresh=True)
        assert person not in session
    else:
        shop.attach(session, person, refresh=True, conflict=conflict)
    session.commit()

    assert rows(shop.url, "SELECT name FROM person WHERE id = 1") == [(name,)]


@pytest.mark.rule("R9", "R5")
@pytest.mark.parametrize(
    ("conflict", "person_id"), [("session", None), ("argument", 2), ("raise", None)]
)
def test_a_reference_that_somebody_else_changed_too_is_a_conflict(
    shop: Shop, session: Session, rows: Rows, conflict: str, person_id: int | None
) -> None:
    """By its foreign key."""
    order = shop.load(Order, 1, selectinload(Order.person))
    order.person = shop.load(Person, 2)
    shop.write("UPDATE orders SET person_id = NULL")

    if conflict == "raise":
        with pytest.raises(ReattachConflictError, match="person was changed"):
            shop.attach(session, order, refresh=True)
    else:
        shop.attach(session, order, refresh=True, conflict=conflict)
    session.commit()

    assert rows(shop.url, "SELECT person_id FROM orders WHERE id = 1") == [(person_id,)]


@pytest.mark.rule("R9", "R5")
def test_the_same_change_by_somebody_else_is_none(shop: Shop, session: Session) -> None:
    """Nothing is left to be written; a value that was set without being loaded is."""
    person, blind = shop.load(Person, 1), shop.load(Person, 2)
    person.name = "newer"
    blind.email = "mine"
    shop.write("UPDATE person SET name = 'newer'")

    shop.attach(session, [person, blind], refresh=True)
    shop.sql.clear()
    session.commit()

    assert shop.sql == ["UPDATE person SET email=? WHERE person.id = ?"]


@pytest.mark.rule("R9", "R8")
def test_a_changed_argument_of_an_old_version_is_stale(shop: Shop, session: Session) -> None:
    """A fresh version must not let an old change pass."""
    account = shop.load(Account, ("x", 1))
    account.balance = 0
    shop.write("UPDATE account SET version = 2")

    with pytest.raises(StaleDataError):
        shop.attach(session, account, refresh=True)
    assert account not in session


@pytest.mark.rule("R9", "R5")
def test_a_replaced_argument_is_compared_with_the_fresh_row(shop: Shop, session: Session) -> None:
    """What the session had loaded is out of date itself."""
    person, own = shop.load(Person, 1), session.get_one(Person, 1)
    person.name = "mine"
    shop.write("UPDATE person SET name = 'newer'")

    with pytest.raises(ReattachConflictError):
        shop.attach(session, person, refresh=True)
    assert own.name == "ada"
    assert shop.attach(session, person, refresh=True, conflict="argument") is own
    assert own.name == "mine"


@pytest.mark.rule("R6", "R9")
def test_a_copy_is_brought_up_to_date(shop: Shop, session: Session) -> None:
    """The original stays what it was."""
    with shop.session() as other:
        foreign = other.get_one(Person, 1)
        other.commit()
        shop.write("UPDATE person SET name = 'newer'")

        assert shop.attach(session, foreign, refresh=True).name == "newer"
        assert foreign.name == "ada"


@pytest.mark.rule("R9", "R15")
def test_a_missing_row_is_refused(shop: Shop, session: Session) -> None:
    """Before anything is attached."""
    gone, there = shop.load(Person, 2), shop.load(Person, 1)
    shop.write("DELETE FROM person WHERE id = 2")

    with pytest.raises(MissingRowError, match=r"^Person 2 cannot be attached: its row was deleted"):
        shop.attach(session, [there, gone], refresh=True)
    with pytest.raises(NotFound):
        shop.attach(session, [there, gone], refresh=True, missing="404")

    assert list(session) == []


@pytest.mark.rule("R9", "R7")
@pytest.mark.parametrize("held", [False, True])
def test_a_missing_row_may_be_left_out(
    shop: Shop, session: Session, rows: Rows, *, held: bool
) -> None:
    """Out of containers; it is None as an argument, and not brought back."""
    gone, there = shop.load(Person, 2), shop.load(Person, 1)
    gone.name = "changed"
    own = session.get(Person, 2) if held else None
    shop.write("DELETE FROM person WHERE id = 2")

    assert shop.attach(session, gone, refresh=True, missing="none") is None
    given = {"a": [gone, there], "b": (gone,), "c": gone}
    assert shop.attach(session, given, refresh=True, missing="none") == {"a": [there], "b": ()}
    assert given["a"] == [gone, there]
    session.commit()

    assert set(session) - {own} == {there}
    assert rows(shop.url, "SELECT id FROM person") == [(1,)]


@pytest.mark.rule("R9", "R10")
def test_a_missing_related_row_is_no_longer_led_to(shop: Shop, session: Session) -> None:
    """It is no argument, and the collection is loaded anew."""
    person = shop.load(Person, 1, selectinload(Person.orders).selectinload(Order.person))
    gone = person.orders[0]
    shop.write("DELETE FROM orders WHERE id = 1")

    shop.attach(session, person, refresh=True)

    assert gone not in session
    assert [order.id for order in person.orders] == [2]


@pytest.mark.rule("R9", "R7")
@pytest.mark.parametrize("held", [False, True])
def test_a_missing_related_row_with_changes_is_refused(
    shop: Shop, session: Session, *, held: bool
) -> None:
    """They would be lost."""
    person = shop.load(Person, 1, selectinload(Person.orders))
    person.orders[0].total = 99
    own = session.get(Order, 1) if held else None
    shop.write("DELETE FROM orders WHERE id = 1")

    with pytest.raises(MissingRowError, match=r"^Order 1 "):
        shop.attach(session, person, refresh=True)
    assert set(session) == {own} - {None}


@pytest.mark.rule("R9")
def test_a_copy_of_a_missing_row_is_left_out(shop: Shop, session: Session) -> None:
    """Another session may still hold it."""
    with shop.session() as other:
        foreign = other.get_one(Person, 2)
        other.commit()
        with shop.session.begin() as deleting:
            deleting.execute(delete(Person).where(Person.id == 2))

        assert shop.attach(session, foreign, refresh=True, missing="none") is None
    assert list(session) == []
