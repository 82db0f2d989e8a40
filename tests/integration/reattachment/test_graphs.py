"""Whole graphs of related instances, some of which the session, or another one, has already."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Column, ForeignKey, Integer, Table, text
from sqlalchemy.orm import Session, object_session, registry, relationship, selectinload
from sqlalchemy.orm.attributes import set_committed_value

from flask_reqsession.errors import ForeignInstanceError, MissingRowError
from tests.integration.reattachment.shop import Folder, Note, Order, Person, Shop, as_detached
from tests.servers.connections import Rows


@pytest.mark.rule("R10")
def test_the_sessions_instance_takes_the_place_of_a_related_one(
    shop: Shop, session: Session
) -> None:
    """One row has one instance in a session, wherever in the graph another one was."""
    person = shop.load(Person, 1, selectinload(Person.orders))
    first, stale = person.orders
    own = session.get_one(Order, 2)
    shop.sql.clear()

    assert shop.attach(session, person) is person
    assert person.orders == [first, own]
    assert set(session) == {person, first, own}
    assert object_session(stale) is None
    assert shop.sql == []
    assert not session.dirty


@pytest.mark.rule("R10")
def test_what_a_replaced_argument_has_loaded_comes_along(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """It leads to the session's instance now, and its changes are kept."""
    person = shop.load(Person, 1, selectinload(Person.orders).selectinload(Order.person))
    order = person.orders[1]
    order.total = 99
    own = session.get_one(Person, 1)
    shop.sql.clear()

    assert shop.attach(session, person) is own
    assert order in session
    assert order.person is own
    assert shop.sql == []
    session.commit()

    assert shop.sql == ["UPDATE orders SET total=? WHERE orders.id = ?"]
    assert rows(shop.url, "SELECT total FROM orders WHERE id = 2") == [(99,)]


@pytest.mark.rule("R10")
def test_a_stale_copy_beside_its_replacement_disappears(shop: Shop, session: Session) -> None:
    """A collection may hold both the session's instance and another one of the row."""
    person = shop.load(Person, 1)
    own = session.get_one(Order, 1)
    set_committed_value(person, "orders", [shop.load(Order, 1), own])

    shop.attach(session, person)

    assert person.orders == [own]


@pytest.mark.rule("R10")
@pytest.mark.parametrize("name", ["linked", "shown"])
def test_collections_of_every_kind_lead_to_the_sessions_instances(
    shop: Shop, session: Session, name: str
) -> None:
    """Many-to-many, self-referring and view-only ones."""
    folder, own = shop.load(Folder, 1), session.get_one(Folder, 2)
    set_committed_value(folder, name, [shop.load(Folder, 2)])

    shop.attach(session, folder)

    assert getattr(folder, name) == [own]
    assert not session.dirty
    assert set(session) == {folder, own}


@pytest.mark.rule("R10")
def test_a_reference_without_a_cascade_leads_to_the_sessions_instance(
    shop: Shop, session: Session
) -> None:
    """It is no change, either."""
    folder, own = shop.load(Folder, 1), session.get_one(Person, 2)
    set_committed_value(folder, "owner", shop.load(Person, 2))

    shop.attach(session, folder)

    assert folder.owner is own
    assert not session.dirty


@pytest.mark.rule("R10")
def test_an_added_member_is_replaced_and_still_added(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """On both sides of the relationship, once."""
    person, order = shop.load(Person, 2, selectinload(Person.orders)), shop.load(Order, 1)
    person.orders.append(order)
    own = session.get_one(Order, 1)
    shop.sql.clear()

    shop.attach(session, person)
    assert person.orders == [own]
    assert own.person is person
    session.commit()

    assert shop.sql == ["UPDATE orders SET person_id=? WHERE orders.id = ?"]
    assert rows(shop.url, "SELECT person_id FROM orders WHERE id = 1") == [(2,)]


@pytest.mark.rule("R10")
def test_a_removed_member_is_replaced_and_still_removed(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """The session's instance leaves the collection."""
    person = shop.load(Person, 1, selectinload(Person.orders))
    person.orders.pop(0)
    own = session.get_one(Order, 1)
    shop.sql.clear()

    shop.attach(session, person)
    session.commit()

    assert own.person_id is None
    assert shop.sql == ["UPDATE orders SET person_id=? WHERE orders.id = ?"]
    assert rows(shop.url, "SELECT id FROM orders WHERE person_id = 1") == [(2,)]


@pytest.mark.rule("R10")
def test_an_association_is_inserted_once(shop: Shop, session: Session, rows: Rows) -> None:
    """A many-to-many member that is replaced and added makes one row."""
    folder, other = shop.load(Folder, 1, selectinload(Folder.linked)), shop.load(Folder, 2)
    folder.linked.append(other)
    own = session.get_one(Folder, 2)

    shop.attach(session, folder)
    assert folder.linked == [own]
    session.commit()

    assert rows(shop.url, "SELECT a, b FROM link") == [(1, 2)]


@pytest.mark.rule("R10")
@pytest.mark.parametrize("loaded", [False, True])
def test_a_reference_to_a_replaced_instance_follows(
    shop: Shop, session: Session, rows: Rows, *, loaded: bool
) -> None:
    """Set while detached, to an instance that the session has, too."""
    order = shop.load(Order, 1, *[selectinload(Order.person)] * loaded)
    other = shop.load(Person, 2, selectinload(Person.orders))
    order.person = other
    own = session.get_one(Person, 2, options=[selectinload(Person.orders)])

    shop.attach(session, order)
    assert order.person is own
    assert own.orders == [order]
    session.commit()

    assert rows(shop.url, "SELECT person_id FROM orders WHERE id = 1") == [(2,)]


@pytest.mark.rule("R10")
def test_a_reference_away_from_a_replaced_instance_stays(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """The new one has its member once, in its place."""
    order = shop.load(Order, 1, selectinload(Order.person))
    other = shop.load(Person, 2, selectinload(Person.orders))
    order.person = other
    own = session.get_one(Person, 1)

    shop.attach(session, order)
    assert order.person is other
    assert other.orders == [order]
    assert own in session
    session.commit()

    assert rows(shop.url, "SELECT person_id FROM orders WHERE id = 1") == [(2,)]


@pytest.mark.rule("R10")
def test_a_replaced_instance_does_not_wait_for_a_collection(shop: Shop, session: Session) -> None:
    """What a back-reference queued is not shown beside its replacement."""
    session.execute(text("UPDATE orders SET person_id = NULL"))
    session.commit()
    person, order = shop.load(Person, 2), shop.load(Order, 1)
    order.person = person
    own = session.get_one(Order, 1)

    shop.attach(session, person)

    assert own.person is person
    with session.no_autoflush:
        assert person.orders == [own]


@pytest.mark.rule("R10")
def test_changes_of_a_collection_that_is_never_loaded_are_replaced(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """A write-only collection has no members in memory, only changes."""
    folder, added, removed = shop.load(Folder, 2), shop.load(Note, 1), shop.load(Note, 2)
    folder.notes.add(added)
    folder.notes.remove(removed)
    own = [session.get_one(Note, 1), session.get_one(Note, 2)]

    shop.attach(session, folder)
    session.commit()

    assert [note.folder_id for note in own] == [2, None]
    assert rows(shop.url, "SELECT folder_id FROM note ORDER BY id") == [(2,), (None,)]


@pytest.mark.rule("R5")
def test_changes_of_a_collection_that_is_never_loaded_are_carried_over(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """Additions and removals alike."""
    folder = shop.load(Folder, 2)
    folder.notes.add(shop.load(Note, 1))
    folder.notes.remove(shop.load(Note, 2))
    own = session.get_one(Folder, 2)
    shop.sql.clear()

    assert shop.attach(session, folder) is own
    assert shop.sql == []
    session.commit()

    assert rows(shop.url, "SELECT folder_id FROM note ORDER BY id") == [(2,), (None,)]


@pytest.mark.rule("R10", "R7")
def test_the_graph_behind_an_unsaved_instance_is_relinked_too(shop: Shop, session: Session) -> None:
    """SQLAlchemy's cascade goes through it."""
    folder, own = shop.load(Folder, 1), session.get_one(Folder, 2)
    unsaved = Folder(id=9)
    set_committed_value(unsaved, "linked", [unsaved, shop.load(Folder, 2)])
    set_committed_value(folder, "linked", [unsaved, unsaved])

    shop.attach(session, folder)

    assert unsaved.linked == [unsaved, own]
    assert unsaved in session.new


@pytest.mark.rule("R10")
def test_a_relationship_may_be_added_late(shop: Shop, session: Session) -> None:
    """Models that are imported later add relationships to classes that were met already."""
    models = registry()
    old, new = type("Old", (), {}), type("New", (), {})
    number = Column("id", Integer, primary_key=True)
    models.map_imperatively(old, Table("old", models.metadata, number))
    shop.attach(session, as_detached(old(id=1)))
    reference: Column[int] = Column("old_id", ForeignKey("old.id"), primary_key=True)
    models.map_imperatively(
        new,
        Table("new", models.metadata, reference),
        properties={"old": relationship(old, backref="news")},
    )
    shop.attach(session, own := as_detached(new(old_id=2)))
    argument = as_detached(old(id=2))
    set_committed_value(argument, "news", [as_detached(new(old_id=2))])

    shop.attach(session, argument)

    assert argument.news == [own]


@pytest.mark.rule("R6")
def test_an_instance_of_another_session_is_copied(shop: Shop, session: Session) -> None:
    """With what it has loaded, no SQL; the argument and its graph stay where they are."""
    with shop.session() as other:
        foreign = other.get_one(Person, 1, options=[selectinload(Person.orders)])
        order = foreign.orders[0]
        shop.sql.clear()

        copy = shop.attach(session, foreign)

        assert shop.sql == []
        assert copy is not foreign
        assert copy in session
        assert foreign in other
        assert (copy.id, copy.name, [each.id for each in copy.orders]) == (1, "ada", [1, 2])
        assert copy.orders[0] is not order
        assert all(each in session for each in copy.orders)
        assert foreign.orders[0] is order
        assert not session.dirty
        assert copy.email == "ada@example.org"
    assert shop.sql == ["SELECT person.email FROM person WHERE person.id = ?"]


@pytest.mark.rule("R6")
def test_the_sessions_own_instance_stands_for_a_foreign_one(shop: Shop, session: Session) -> None:
    """It keeps its values, and an expired identity is no hindrance."""
    own = session.get_one(Person, 1)
    own.name = "own"
    with shop.session() as other:
        foreign, expired = other.get_one(Person, 1), other.get_one(Person, 2)
        other.expire_all()
        shop.sql.clear()

        assert shop.attach(session, foreign) is own
        assert shop.attach(session, expired).id == 2
    assert shop.sql == []
    assert own.name == "own"


def _change(_session: Session, person: Person) -> None:
    person.name = "eve"


def _mark_deleted(session: Session, person: Person) -> None:
    session.delete(person)


@pytest.mark.rule("R6", "R15")
@pytest.mark.parametrize("act", [_change, _mark_deleted])
def test_unflushed_changes_in_another_session_are_refused(
    shop: Shop, session: Session, act: Callable[[Session, Person], None]
) -> None:
    """They would be missing in this one; the instance may be an argument or related to one."""
    order = shop.load(Order, 1)
    with shop.session() as other:
        foreign = other.get_one(Person, 1)
        act(other, foreign)
        set_committed_value(order, "person", foreign)

        with pytest.raises(ForeignInstanceError) as caught:
            shop.attach(session, foreign)
        with pytest.raises(ForeignInstanceError, match=r"^Person 1 \(loaded by Order.person\) "):
            shop.attach(session, order)

        assert foreign in other
    assert str(caught.value) == (
        "Person 1 cannot be attached: it belongs to another session that is still open, and has "
        "changes there that were not flushed. Flush or commit them there first, or make the "
        "changes on this session's own instance of the row."
    )
    assert list(session) == []


@pytest.mark.rule("R6")
def test_foreign_instances_may_be_refused(shop: Shop, session: Session) -> None:
    """By option, whatever their state is."""
    with shop.session() as other:
        foreign = other.get_one(Person, 1)

        with pytest.raises(ForeignInstanceError) as caught:
            shop.attach(session, foreign, foreign="raise")

    assert str(caught.value) == (
        "Person 1 cannot be attached: it belongs to another session that is still open. Close "
        "that session, or expunge the instance from it, or pass this session's own instance "
        "of the row."
    )


@pytest.mark.rule("R6")
def test_what_another_session_is_about_to_insert_is_refused(shop: Shop, session: Session) -> None:
    """It has no identity to be known by."""
    order = shop.load(Order, 1)
    with shop.session() as other:
        set_committed_value(order, "person", person := Person(name="new", email=""))
        other.add(person)

        with pytest.raises(ForeignInstanceError, match=r"^Person \(not saved\) \(loaded by "):
            shop.attach(session, order)


@pytest.mark.rule("R10")
def test_a_detached_instance_leads_to_a_copy_of_a_foreign_one(shop: Shop, session: Session) -> None:
    """The reference follows; nobody is moved from one session to another."""
    order = shop.load(Order, 1)
    with shop.session() as other:
        set_committed_value(order, "person", foreign := other.get_one(Person, 1))

        shop.attach(session, order)

        assert order.person is not foreign
        assert order.person in session
        assert foreign in other


@pytest.mark.rule("R10", "R7")
def test_a_row_that_was_deleted_stays_behind_with_a_replaced_parent(
    shop: Shop, session: Session
) -> None:
    """The session's instance knows better what it has; an attached one must not lead there."""
    replaced = shop.load(Person, 1, selectinload(Person.orders))
    stale = replaced.orders[0]
    own = session.get_one(Person, 1)
    session.delete(session.get_one(Order, 1))
    session.flush()

    assert shop.attach(session, replaced) is own
    assert object_session(stale) is None
    assert replaced.orders[1] in session

    session.expunge(own)
    with pytest.raises(MissingRowError, match=r"^Order 1 \(loaded by Person.orders\)"):
        shop.attach(session, replaced)
