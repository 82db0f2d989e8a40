"""Model instances attached to a session: the SQL conversation, and the rows that come of it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from inspect import Parameter, Signature

import pytest
from sqlalchemy import (
    delete,
    event,
    func,
    select,
    text,
)
from sqlalchemy.orm import (
    Session,
    object_session,
    selectinload,
)
from sqlalchemy.orm.attributes import (
    init_collection,
    instance_state,
    set_committed_value,
)
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import NotFound

from flask_reqsession.errors import (
    MissingRowError,
)
from flask_reqsession.reattachment import ArgumentPlan, ReattachOptions, attach
from tests.integration.reattachment.shop import (
    Account,
    Folder,
    Note,
    Order,
    Person,
    Shop,
    as_detached,
)
from tests.servers.connections import Rows


@pytest.mark.rule("R3")
def test_an_attached_instance_is_returned_without_sql(shop: Shop, session: Session) -> None:
    """What the session has already, persistent or pending, stays the same object."""
    persistent = session.get_one(Person, 1)
    pending = Person(id=9, name="new", email="")
    session.add(pending)
    shop.sql.clear()

    assert shop.attach(session, persistent) is persistent
    assert shop.attach(session, pending) is pending
    assert attach(session, pending) is pending
    assert shop.sql == []


@pytest.mark.rule("R4", "R14")
def test_a_detached_instance_is_attached_as_it_is(shop: Shop, session: Session, rows: Rows) -> None:
    """No SQL; loaded values stay, others load lazily, changes made meanwhile are flushed."""
    person = shop.load(Person, 1)
    person.name = "eve"
    info, options = dict(session.info), instance_state(person).load_options

    assert shop.attach(session, person) is person
    assert person in session
    assert (person.id, person.name) == (1, "eve")
    assert shop.sql == []

    with session.no_autoflush:
        assert person.email == "ada@example.org"
    session.commit()
    assert shop.sql == [
        "SELECT person.email FROM person WHERE person.id = ?",
        "UPDATE person SET name=? WHERE person.id = ?",
    ]
    assert rows(shop.url, "SELECT name, email FROM person WHERE id = 1") == [
        ("eve", "ada@example.org")
    ]
    assert (session.info, instance_state(person).load_options) == (info, options)


@pytest.mark.rule("R4")
def test_what_an_instance_has_loaded_comes_along(shop: Shop, session: Session) -> None:
    """Loaded related instances are attached with it; what they lack loads lazily."""
    person = shop.load(Person, 1, selectinload(Person.orders))
    order = person.orders[0]

    shop.attach(session, person)

    assert order in session
    assert order.person is person
    assert shop.sql == []


@pytest.mark.rule("R4")
def test_relationships_without_a_cascade_come_along(shop: Shop, session: Session) -> None:
    """View-only and cascade-less relationships lead to attached instances, too."""
    folder = shop.load(Folder, 2)
    shown, owner = shop.load(Folder, 1), shop.load(Person, 1)
    set_committed_value(folder, "shown", [shown])
    set_committed_value(folder, "owner", owner)

    shop.attach(session, folder)

    assert {folder, shown, owner} == set(session)
    assert shop.sql == []


@pytest.mark.rule("R4", "R13")
def test_a_graph_may_be_deep_and_cyclic(shop: Shop, session: Session) -> None:
    """A ring that is longer than Python's stack is deep is attached without SQL."""
    ring = [as_detached(Folder(id=number)) for number in range(5000)]
    for folder, following in zip(ring, [*ring[1:], ring[0]], strict=True):
        set_committed_value(folder, "linked", [following])

    shop.attach(session, ring[0])

    assert set(ring) == set(session)
    assert shop.sql == []


@pytest.mark.rule("R4")
def test_changes_of_collections_are_flushed(shop: Shop, session: Session, rows: Rows) -> None:
    """What was removed from a loaded collection comes along, and so does the removal."""
    person = shop.load(Person, 1, selectinload(Person.orders))
    removed = person.orders.pop(0)

    shop.attach(session, person)

    assert removed in session
    session.commit()
    assert shop.sql == ["UPDATE orders SET person_id=? WHERE orders.id = ?"]
    assert rows(shop.url, "SELECT id, person_id FROM orders ORDER BY id") == [(1, None), (2, 1)]


@pytest.mark.rule("R4")
def test_changes_that_wait_for_a_collection_are_flushed(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """Setting the other side of a collection that is not loaded brings that side along."""
    person, order = shop.load(Person, 2), shop.load(Order, 1)
    set_committed_value(order, "person", None)
    order.person = person

    shop.attach(session, person)

    assert order in session
    assert shop.sql == []
    session.commit()
    assert shop.sql == ["UPDATE orders SET person_id=? WHERE orders.id = ?"]
    assert rows(shop.url, "SELECT person_id FROM orders WHERE id = 1") == [(2,)]


@pytest.mark.rule("R4")
def test_a_collection_may_be_loaded_with_changes_that_wait_for_it(
    shop: Shop, session: Session
) -> None:
    """SQLAlchemy does not expect that, but it is no reason not to attach."""
    person, order = shop.load(Person, 2), shop.load(Order, 1)
    set_committed_value(order, "person", None)
    order.person = person
    init_collection(person, "orders")

    assert shop.attach(session, person) in session


@pytest.mark.rule("R4", "R7")
def test_additions_to_a_write_only_collection_are_flushed(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """They come along, and the mark that they leave behind does no harm the next time."""
    folder = shop.load(Folder, 1)
    folder.notes.add(Note(id=3))

    shop.attach(session, folder)
    session.commit()
    assert shop.sql == ["INSERT INTO note (id, folder_id) VALUES (?, ?)"]
    assert rows(shop.url, "SELECT folder_id FROM note WHERE id = 3") == [(1,)]

    session.close()
    assert shop.attach(session, folder) in session


@pytest.mark.rule("R4")
def test_nothing_is_flushed_while_instances_are_attached(shop: Shop, session: Session) -> None:
    """A listener that queries between two instances of a graph makes nobody else's flush."""
    person = shop.load(Person, 1, selectinload(Person.orders))
    session.add(Person(id=9, name="new", email=""))
    event.listen(
        session, "detached_to_persistent", lambda *_: session.scalar(select(func.count(Order.id)))
    )

    shop.attach(session, person)

    assert shop.sql == ["SELECT count(orders.id) FROM orders"] * 3
    assert session.autoflush


def test_the_sessions_own_instance_replaces_an_unchanged_one(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """It keeps its changes; the argument stays where it was, with all that it has loaded."""
    person = shop.load(Person, 1, selectinload(Person.orders).selectinload(Order.person))
    own = session.get_one(Person, 1)
    own.name = "own"
    shop.sql.clear()

    assert shop.attach(session, person) is own
    assert shop.sql == []
    assert object_session(person) is None
    session.commit()
    assert rows(shop.url, "SELECT name FROM person WHERE id = 1") == [("own",)]


def test_changes_that_are_never_written_do_not_hinder_a_replacement(
    shop: Shop, session: Session
) -> None:
    """A view-only relationship is no change of the row."""
    folder, own = shop.load(Folder, 1, selectinload(Folder.shown)), session.get_one(Folder, 1)
    folder.shown.append(shop.load(Folder, 2))

    assert shop.attach(session, folder) is own


def test_changes_that_are_arguments_themselves_are_not_left_behind(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """A replaced argument may lead to a changed instance that the call is given, too."""
    person = shop.load(Person, 1, selectinload(Person.orders))
    order = person.orders[1]
    order.total = 99
    own = session.get_one(Person, 1)
    plan = ArgumentPlan("pay", Signature([Parameter("args", Parameter.VAR_POSITIONAL)]))

    assert plan.apply(session, (person, order), {}) == ((own, order), {})
    session.commit()

    assert rows(shop.url, "SELECT total FROM orders WHERE id = 2") == [(99,)]


@pytest.mark.rule("R4")
def test_an_instance_of_a_session_that_nobody_holds_is_detached(
    shop: Shop, session: Session
) -> None:
    """A session that was dropped without being closed owns nothing."""
    dropped = shop.session()
    person = dropped.get_one(Person, 1)
    dropped.commit()
    del dropped
    gc.collect()

    assert shop.attach(session, person) in session


@pytest.mark.rule("R7")
def test_an_unsaved_instance_passes_unattached(shop: Shop, session: Session) -> None:
    """It is not inserted, whatever it refers to."""
    order = Order(id=9, total=1, person=shop.load(Person, 1))

    assert shop.attach(session, order) is order
    session.commit()

    assert list(session) == []
    assert shop.sql == []


@pytest.mark.rule("R7")
def test_only_sqlalchemys_cascade_inserts(shop: Shop, session: Session, rows: Rows) -> None:
    """What the user hung onto an attached instance is saved, with what that refers to.

    A relationship without a cascade saves nothing.
    """
    person, other = shop.load(Person, 1, selectinload(Person.orders)), shop.load(Order, 2)
    added = Order(id=3, total=30)
    person.orders.append(added)
    folder = shop.load(Folder, 1)
    set_committed_value(folder, "shown", [unsaved := Folder(id=9)])
    set_committed_value(unsaved, "linked", [shop.load(Folder, 1)])
    shop.sql.clear()
    del other

    shop.attach(session, person)
    shop.attach(session, folder)
    session.commit()

    assert shop.sql == ["INSERT INTO orders (id, total, person_id) VALUES (?, ?, ?)"]
    assert rows(shop.url, "SELECT id, person_id FROM orders ORDER BY id") == [
        (1, 1),
        (2, 1),
        (3, 1),
    ]
    assert rows(shop.url, "SELECT id FROM folder ORDER BY id") == [(1,), (2,)]


@pytest.mark.rule("R7")
def test_unsaved_instances_may_refer_to_each_other(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """A ring of them is followed once around, and saved."""
    folder, unsaved = shop.load(Folder, 1, selectinload(Folder.linked)), Folder(id=9)
    unsaved.linked.append(unsaved)
    folder.linked.append(unsaved)

    shop.attach(session, folder)
    session.commit()

    assert rows(shop.url, "SELECT a, b FROM link ORDER BY a") == [(1, 9), (9, 9)]


@pytest.mark.rule("R7", "R8")
@pytest.mark.parametrize("changed", [False, True])
def test_a_row_that_was_deleted_meanwhile_stays_deleted(
    shop: Shop, session: Session, rows: Rows, *, changed: bool
) -> None:
    """Nothing is written for an unchanged instance, and a changed one fails in the flush."""
    person = shop.load(Person, 2)
    with shop.session.begin() as other:
        other.execute(delete(Person).where(Person.id == 2))
    shop.sql.clear()

    shop.attach(session, person)
    if changed:
        person.name = "eve"
        with pytest.raises(StaleDataError):
            session.commit()
        session.rollback()
    session.commit()

    assert shop.sql == ["UPDATE person SET name=? WHERE person.id = ?"] * changed
    assert rows(shop.url, "SELECT id FROM person") == [(1,)]


@pytest.mark.rule("R7")
@pytest.mark.parametrize("committed", [False, True])
def test_a_deleted_instance_is_refused(shop: Shop, session: Session, *, committed: bool) -> None:
    """The very instance that was deleted, by this transaction or an earlier one."""
    plan = ArgumentPlan("pay", Signature([Parameter("user", Parameter.KEYWORD_ONLY)]))
    person = session.get_one(Person, 2)
    session.delete(person)
    session.flush()
    if committed:
        session.commit()

    for memory in (None, shop.memory):
        with pytest.raises(MissingRowError, match=r"^Person 2 cannot be attached as argument"):
            plan.apply(session, (), {"user": person}, memory=memory)
        with pytest.raises(MissingRowError) as caught:
            attach(session, person, memory=memory)

        assert str(caught.value) == (
            "Person 2 cannot be attached: its row was deleted. Do not pass it on after the delete; "
            "to have such a row again, add a new Person."
        )


def _delete(session: Session) -> None:
    session.delete(session.get_one(Person, 2))


def _delete_and_flush(session: Session) -> None:
    _delete(session)
    session.flush()


def _delete_by_statement(session: Session) -> None:
    _person = session.get_one(Person, 2)
    session.execute(delete(Person).where(Person.id == 2))


def _delete_in_released_savepoint(session: Session) -> None:
    with session.begin_nested(), session.begin_nested():
        _delete(session)


def _delete_before_savepoint(session: Session) -> None:
    _delete_and_flush(session)
    session.begin_nested()


def _delete_again(session: Session) -> None:
    _delete_and_flush(session)
    session.add(person := Person(id=2, name="again", email=""))
    session.flush()
    session.delete(person)
    session.flush()


def _delete_before_savepoint_rolled_back(session: Session) -> None:
    _delete_and_flush(session)
    session.begin_nested().rollback()


def _insert_again_in_savepoint_rolled_back(session: Session) -> None:
    _delete_and_flush(session)
    savepoint = session.begin_nested()
    session.add(Person(id=2, name="again", email=""))
    session.flush()
    savepoint.rollback()


@pytest.mark.rule("R7")
@pytest.mark.parametrize(
    "act",
    [
        _delete,
        _delete_and_flush,
        _delete_by_statement,
        _delete_in_released_savepoint,
        _delete_before_savepoint,
        _delete_before_savepoint_rolled_back,
        _insert_again_in_savepoint_rolled_back,
        _delete_again,
    ],
)
def test_a_row_that_this_transaction_deleted_is_refused(
    shop: Shop, session: Session, act: Callable[[Session], None]
) -> None:
    """Another, detached instance of the row is not attached."""
    person = shop.load(Person, 2)
    act(session)
    shop.sql.clear()

    with pytest.raises(MissingRowError, match=r"^Person 2 cannot be attached: its row was deleted"):
        shop.attach(session, person)

    assert object_session(person) is None
    assert shop.sql == []


@pytest.mark.rule("R7")
def test_a_related_row_that_this_transaction_deleted_is_refused(
    shop: Shop, session: Session
) -> None:
    """The message says how it was reached."""
    order = shop.load(Order, 1, selectinload(Order.person))
    session.execute(text("UPDATE orders SET person_id = NULL"))
    session.delete(session.get_one(Person, 1))
    session.flush()

    with pytest.raises(MissingRowError, match=r"^Person 1 \(loaded by Order.person\) cannot be "):
        shop.attach(session, order)

    assert order not in session


def _roll_back(session: Session) -> None:
    _delete_and_flush(session)
    session.rollback()


def _roll_back_to_savepoint(session: Session) -> None:
    savepoint = session.begin_nested()
    _delete_and_flush(session)
    savepoint.rollback()


def _insert_again(session: Session) -> None:
    _delete_and_flush(session)
    session.add(Person(id=2, name="again", email=""))
    session.flush()
    session.expunge_all()


def _insert_again_in_savepoint(session: Session) -> None:
    _delete_and_flush(session)
    session.begin_nested()
    session.add(Person(id=2, name="again", email=""))
    session.flush()
    session.expunge_all()


def _delete_another(session: Session) -> None:
    session.delete(session.get_one(Person, 1))
    session.execute(text("UPDATE orders SET person_id = NULL"))
    session.flush()
    session.begin_nested().commit()
    session.begin_nested()


@pytest.mark.rule("R7")
@pytest.mark.parametrize(
    "act",
    [
        _roll_back,
        _roll_back_to_savepoint,
        _insert_again,
        _insert_again_in_savepoint,
        _delete_another,
    ],
)
def test_a_row_that_is_there_is_not_taken_for_deleted(
    shop: Shop, session: Session, act: Callable[[Session], None]
) -> None:
    """A DELETE that was rolled back, or followed by an INSERT, does not count."""
    person = shop.load(Person, 2)
    act(session)

    assert shop.attach(session, person) is person


@pytest.mark.rule("R7")
def test_nothing_is_remembered_of_a_session_that_is_gone(shop: Shop) -> None:
    """Not even that it deleted something, however its transaction ended."""
    with shop.session() as session:
        _delete_and_flush(session)
    assert shop.memory.deleted.sessions == {session.hash_key}

    del session
    gc.collect()

    assert shop.memory.deleted.sessions == set()


@pytest.mark.rule("R7", "R13")
def test_a_session_is_watched_once_however_many_rows_it_deletes(
    shop: Shop, session: Session
) -> None:
    """A session that lives long does not grow by what it has deleted."""
    watchers: list[int] = []
    for number in (1, 2):
        session.delete(session.get_one(Order, number))
        session.flush()
        watchers.append(weakref.getweakrefcount(session))

    assert shop.memory.deleted.sessions == {session.hash_key}
    assert watchers[0] == watchers[1]


@pytest.mark.rule("R7")
def test_without_a_memory_a_deleted_row_is_not_resurrected_either(
    shop: Shop, session: Session
) -> None:
    """The UPDATE of another instance meets no row, and the flush fails."""
    person = shop.load(Person, 2)
    person.name = "eve"
    _delete_and_flush(session)
    shop.sql.clear()

    attach(session, person)

    with pytest.raises(StaleDataError):
        session.flush()
    assert shop.sql == ["UPDATE person SET name=? WHERE person.id = ?"]


@pytest.mark.rule("R8")
def test_a_stale_instance_overwrites_nothing(shop: Shop, session: Session, rows: Rows) -> None:
    """Unchanged, it causes no UPDATE; changed, one of the changed column only."""
    unchanged, changed = shop.load(Person, 1), shop.load(Person, 2)
    with shop.session.begin() as other:
        other.execute(text("UPDATE person SET name = 'newer', email = 'newer'"))
    shop.sql.clear()

    shop.attach(session, unchanged)
    shop.attach(session, changed)
    changed.email = "mine"
    unchanged.name = unchanged.name
    session.commit()

    assert shop.sql == ["UPDATE person SET email=? WHERE person.id = ?"]
    assert rows(shop.url, "SELECT name, email FROM person ORDER BY id") == [
        ("newer", "newer"),
        ("newer", "mine"),
    ]


@pytest.mark.rule("R8")
@pytest.mark.parametrize("changed", [False, True])
def test_a_stale_version_is_refused_if_it_was_changed(
    shop: Shop, session: Session, rows: Rows, *, changed: bool
) -> None:
    """SQLAlchemy's version counter sees the version that the instance was loaded with."""
    account = shop.load(Account, ("x", 1))
    account.balance -= 10 * changed
    with shop.session.begin() as other:
        other.get_one(Account, ("x", 1)).balance = 500
    shop.sql.clear()

    shop.attach(session, account)
    if changed:
        with pytest.raises(StaleDataError):
            session.commit()
    else:
        session.commit()

    assert shop.sql == [VERSIONED_UPDATE] * changed
    assert rows(shop.url, "SELECT balance, version FROM account") == [(500, 2)]


VERSIONED_UPDATE = (
    "UPDATE account SET balance=?, version=? "
    "WHERE account.bank = ? AND account.number = ? AND account.version = ?"
)


@pytest.mark.rule("R8")
def test_a_current_version_is_counted_up(shop: Shop, session: Session, rows: Rows) -> None:
    """A changed instance of a versioned row is written as in its own session."""
    account = shop.load(Account, ("x", 1))
    account.balance = 90

    shop.attach(session, account)
    session.commit()

    assert shop.sql == [VERSIONED_UPDATE]
    assert rows(shop.url, "SELECT balance, version FROM account") == [(90, 2)]


@pytest.mark.rule("R7", "R9")
def test_a_deleted_row_may_be_left_out(shop: Shop, session: Session) -> None:
    """As None, or as the answer 404, where it is known without SQL."""
    person, other = shop.load(Person, 2), shop.load(Person, 1)
    _delete_and_flush(session)
    shop.sql.clear()
    reported: list[object] = []

    with pytest.raises(NotFound):
        shop.attach(session, [other, person], missing="404")
    assert other not in session
    assert shop.attach(session, person, missing="none") is None
    assert attach(
        session,
        [other, person],
        memory=shop.memory,
        options=ReattachOptions(missing="none"),
        reattached=reported.append,
    ) == [other]
    assert reported == [other]
    assert shop.sql == []
