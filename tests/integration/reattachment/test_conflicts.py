"""What happens where the session has an instance of the row already."""

from __future__ import annotations

from inspect import Parameter, Signature

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, defer, object_session, selectinload
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession.errors import ReattachConflictError
from flask_reqsession.reattachment import ArgumentPlan
from tests.integration.reattachment.shop import Account, Folder, Note, Order, Person, Shop
from tests.servers.connections import Rows

ANY = ArgumentPlan("pay", Signature([Parameter("args", Parameter.VAR_POSITIONAL)]))


@pytest.mark.rule("R5", "R8")
def test_changes_are_carried_over(shop: Shop, session: Session, rows: Rows) -> None:
    """Only what was changed: the session's own changes stay, and one UPDATE has them all."""
    person = shop.load(Person, 1)
    person.name = "eve"
    own = session.get_one(Person, 1)
    own.email = "own"
    shop.sql.clear()

    assert shop.attach(session, person) is own
    assert (own.name, own.email) == ("eve", "own")
    assert object_session(person) is None
    session.commit()

    assert shop.sql == ["UPDATE person SET name=?, email=? WHERE person.id = ?"]
    assert rows(shop.url, "SELECT name, email FROM person WHERE id = 1") == [("eve", "own")]


@pytest.mark.rule("R5")
def test_the_same_change_on_both_sides_is_no_conflict(shop: Shop, session: Session) -> None:
    """Flushed or not: there is nothing left to carry over."""
    person = shop.load(Person, 1)
    own = session.get_one(Person, 1)
    person.name = own.name = "eve"
    assert shop.attach(session, person) is own
    session.flush()
    shop.sql.clear()

    assert shop.attach(session, person) is own
    session.commit()
    assert shop.sql == []


@pytest.mark.rule("R5", "R15")
@pytest.mark.parametrize("flushed", [False, True])
def test_different_changes_are_a_conflict(shop: Shop, session: Session, *, flushed: bool) -> None:
    """The message names class, identity and attributes, and shows no value."""
    person, other = shop.load(Person, 1), shop.load(Person, 2)
    person.name, person.email = "secret", "secret"
    own = session.get_one(Person, 1)
    own.name = "own"
    if flushed:
        session.flush()

    with pytest.raises(ReattachConflictError) as caught:
        ANY.apply(session, (other, person), {}, memory=shop.memory)

    assert str(caught.value) == (
        "Person 1 cannot be attached as argument '*args' of pay(): name was changed in it, and to "
        "something else in this session, which holds another instance of the row. Load it anew "
        'and repeat the change, or say whose value counts: conflict="argument" or '
        'conflict="session".'
    )
    assert list(session) == [own]
    assert own.name == "own"
    assert "email" not in own.__dict__


@pytest.mark.rule("R5")
@pytest.mark.parametrize(("conflict", "name"), [("session", "own"), ("argument", "eve")])
def test_a_conflict_may_be_decided_beforehand(
    shop: Shop, session: Session, rows: Rows, conflict: str, name: str
) -> None:
    """By whose value counts; what is no conflict is carried over in any case."""
    person = shop.load(Person, 1)
    person.name, person.email = "eve", "eve@"
    own = session.get_one(Person, 1)
    own.name = "own"

    assert shop.attach(session, person, conflict=conflict) is own
    session.commit()

    assert rows(shop.url, "SELECT name, email FROM person WHERE id = 1") == [(name, "eve@")]


@pytest.mark.rule("R5")
def test_what_the_session_has_not_loaded_is_read_for_the_comparison(
    shop: Shop, session: Session
) -> None:
    """An expired attribute may have been changed by this very transaction."""
    person = shop.load(Person, 1)
    person.name = "eve"
    own = session.get_one(Person, 1)
    own.name = "own"
    session.flush()
    session.expire(own)
    shop.sql.clear()

    with pytest.raises(ReattachConflictError, match="name was changed"):
        shop.attach(session, person)

    assert len(shop.sql) == 1


@pytest.mark.rule("R5")
def test_two_detached_instances_of_a_row_become_one(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """The first argument is attached, and gets the changes of the second; no SQL."""
    first, second = shop.load(Person, 1), shop.load(Person, 1)
    first.name, second.email = "eve", "eve@"
    shop.sql.clear()

    assert ANY.apply(session, (first, second), {}) == ((first, first), {})
    assert shop.sql == []
    session.commit()

    assert rows(shop.url, "SELECT name, email FROM person WHERE id = 1") == [("eve", "eve@")]


@pytest.mark.rule("R5")
def test_a_changed_argument_of_an_old_version_is_stale(shop: Shop, session: Session) -> None:
    """The version is compared before anything is carried over; unchanged, it is replaced."""
    changed, unchanged = shop.load(Account, ("x", 1)), shop.load(Account, ("x", 1))
    changed.balance = 0
    own = session.get_one(Account, ("x", 1))
    own.balance = 50
    session.flush()

    with pytest.raises(StaleDataError, match=r"^Account \('x', 1\) cannot be attached: it was ch"):
        shop.attach(session, changed, conflict="argument")

    assert own.balance == 50
    assert shop.attach(session, unchanged) is own


@pytest.mark.rule("R5")
def test_a_changed_argument_of_the_same_version_is_carried_over(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """The version counts on."""
    account = shop.load(Account, ("x", 1))
    account.balance = 0
    own = session.get_one(Account, ("x", 1))

    assert shop.attach(session, account) is own
    session.commit()

    assert rows(shop.url, "SELECT balance, version FROM account") == [(0, 2)]


@pytest.mark.rule("R5")
def test_collections_merge_member_by_member(shop: Shop, session: Session, rows: Rows) -> None:
    """What either side added or removed counts."""
    person = shop.load(Person, 1, selectinload(Person.orders))
    person.orders.pop(0)
    person.orders.append(Order(id=3, total=30))
    own = session.get_one(Person, 1, options=[selectinload(Person.orders)])
    own.orders.append(Order(id=4, total=40))
    shop.sql.clear()

    assert shop.attach(session, person) is own
    assert [order.id for order in own.orders] == [2, 4, 3]
    assert shop.sql == []
    session.commit()

    assert rows(shop.url, "SELECT id, person_id FROM orders ORDER BY id") == [
        (1, None),
        (2, 1),
        (3, 1),
        (4, 1),
    ]


@pytest.mark.rule("R5")
@pytest.mark.parametrize("loaded", [False, True])
def test_a_changed_reference_is_carried_over(
    shop: Shop, session: Session, rows: Rows, *, loaded: bool
) -> None:
    """Whether the session has loaded it or only its foreign key; no SQL."""
    order = shop.load(Order, 1, selectinload(Order.person))
    order.person = shop.load(Person, 2)
    own = session.get_one(Order, 1, options=[selectinload(Order.person)] * loaded)
    shop.sql.clear()

    assert shop.attach(session, order) is own
    assert shop.sql == []
    assert own.person is order.person
    session.commit()

    assert shop.sql == ["UPDATE orders SET person_id=? WHERE orders.id = ?"]
    assert rows(shop.url, "SELECT person_id FROM orders WHERE id = 1") == [(2,)]


@pytest.mark.rule("R5")
@pytest.mark.parametrize("loaded", [False, True])
def test_a_reference_that_was_changed_on_both_sides_is_a_conflict(
    shop: Shop, session: Session, *, loaded: bool
) -> None:
    """Against what the session has loaded, or against the foreign key that it flushed."""
    order = shop.load(Order, 1, selectinload(Order.person))
    order.person = shop.load(Person, 2)
    own = session.get_one(Order, 1)
    own.person = None
    if not loaded:
        session.flush()
        session.expire(own, ["person"])

    with pytest.raises(ReattachConflictError, match=r"Order 1 .* person was changed"):
        shop.attach(session, order)


@pytest.mark.rule("R5")
def test_a_removal_does_not_follow_a_child_that_moved(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """What the session gave to another parent is left there, if its value is to count."""
    person = shop.load(Person, 1, selectinload(Person.orders))
    person.orders.pop(0)
    own = session.get_one(Person, 1, options=[selectinload(Person.orders)])
    moved = session.get_one(Order, 1)
    session.execute(text("UPDATE orders SET person_id = 2 WHERE id = 1"))
    session.refresh(moved, ["person_id"])

    assert shop.attach(session, person, conflict="session") is own
    session.commit()

    assert rows(shop.url, "SELECT person_id FROM orders WHERE id = 1") == [(2,)]


@pytest.mark.rule("R5", "R15")
@pytest.mark.parametrize("loaded", [False, True])
def test_two_arguments_of_one_row_may_contradict_each_other(
    shop: Shop, session: Session, *, loaded: bool
) -> None:
    """Neither change is lost silently, whether it was loaded before or set blindly."""
    first, second = shop.load(Person, 1), shop.load(Person, 1)
    name = "name" if loaded else "email"
    setattr(first, name, "first")
    setattr(second, name, "second")
    own = session.get_one(Person, 1)

    with pytest.raises(ReattachConflictError, match=f"{name} was changed"):
        shop.attach(session, [first, second])

    assert own.name == "ada"
    assert not session.dirty


@pytest.mark.rule("R5", "R15")
def test_two_references_of_one_row_may_contradict_each_other(shop: Shop, session: Session) -> None:
    """As values may."""
    first, second = shop.load(Order, 1), shop.load(Order, 1)
    first.person, second.person = shop.load(Person, 2), None
    _own = session.get_one(Order, 1)

    with pytest.raises(ReattachConflictError, match="person was changed"):
        shop.attach(session, [first, second])


@pytest.mark.rule("R5")
@pytest.mark.parametrize("held", [[], [1], [2], [1, 2]])
@pytest.mark.parametrize("decision", [("session", None), ("argument", 2)])
def test_whose_reference_counts_holds_for_both_sides_of_a_relationship(
    shop: Shop, session: Session, rows: Rows, held: list[int], decision: tuple[str, int | None]
) -> None:
    """The collection that the child came into has no say of its own."""
    conflict, wanted = decision
    option = selectinload(Person.orders).selectinload(Order.person)
    with shop.session() as other:
        people = {number: other.get_one(Person, number, options=[option]) for number in (1, 2)}
    people[1].orders[0].person = people[2]
    kept = [session.get_one(Person, number) for number in held]
    own = session.get_one(Order, 1)
    own.person = None

    shop.attach(session, people, conflict=conflict)
    session.commit()

    assert len(kept) == len(held)
    assert rows(shop.url, "SELECT person_id FROM orders WHERE id = 1") == [(wanted,)]


@pytest.mark.rule("R5")
def test_whose_reference_counts_holds_for_a_collection_that_is_never_loaded(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """What a back-reference noted there gives way, too."""
    note, folder = shop.load(Note, 1, selectinload(Note.folder)), shop.load(Folder, 2)
    note.folder = folder
    own = session.get_one(Note, 1)
    own.folder = None

    shop.attach(session, folder, conflict="session")
    session.commit()

    assert rows(shop.url, "SELECT folder_id FROM note WHERE id = 1") == [(None,)]


@pytest.mark.rule("R5", "R8")
def test_a_carried_value_that_the_row_has_already_is_not_written(
    shop: Shop, session: Session
) -> None:
    """It takes the session's change back, and nothing is left to be written."""
    person = shop.load(Person, 1)
    person.name = "eve"
    with shop.session.begin() as other:
        other.get_one(Person, 1).name = "eve"
    own = session.get_one(Person, 1)
    own.name = "bob"

    assert shop.attach(session, person, conflict="argument") is own
    shop.sql.clear()
    session.commit()

    assert (own.name, shop.sql) == ("eve", [])


@pytest.mark.rule("R5", "R8")
def test_a_version_that_the_session_has_not_loaded_is_read(shop: Shop, session: Session) -> None:
    """Else an old change could pass."""
    account = shop.load(Account, ("x", 1))
    account.balance = 0
    own = session.get_one(Account, ("x", 1))
    session.expire(own, ["version"])
    with shop.session.begin() as other:
        other.get_one(Account, ("x", 1)).balance = 500

    with pytest.raises(StaleDataError):
        shop.attach(session, account)


@pytest.mark.rule("R5")
def test_a_version_that_the_argument_has_not_loaded_says_nothing(
    shop: Shop, session: Session
) -> None:
    """The change is carried over to the session's own version."""
    account = shop.load(Account, ("x", 1), defer(Account.version, raiseload=True))
    account.balance = 0
    own = session.get_one(Account, ("x", 1))

    assert shop.attach(session, account) is own
    session.commit()
    assert (own.balance, own.version) == (0, 2)


@pytest.mark.rule("R5")
def test_the_same_foreign_key_without_the_reference_is_no_conflict(
    shop: Shop, session: Session
) -> None:
    """The foreign key tells, where the session has not loaded the reference."""
    order = shop.load(Order, 1, selectinload(Order.person))
    order.person = shop.load(Person, 2)
    own = session.get_one(Order, 1)
    own.person_id = 2
    session.flush()

    assert shop.attach(session, order) is own
    assert own.person is not None
    assert own.person.id == 2


@pytest.mark.rule("R5")
def test_a_removal_is_carried_over_where_the_holders_key_has_expired(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """Nothing tells then that the child has moved."""
    person = shop.load(Person, 1, selectinload(Person.orders))
    person.orders.pop(0)
    own = session.get_one(Person, 1, options=[selectinload(Person.orders)])
    session.expire(own, ["id"])

    assert shop.attach(session, person) is own
    session.commit()

    assert rows(shop.url, "SELECT id FROM orders WHERE person_id = 1") == [(2,)]
