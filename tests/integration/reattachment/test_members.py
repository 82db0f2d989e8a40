"""Members that came into collections or left them, where no reference leads back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session, selectinload
from sqlalchemy.orm.attributes import set_committed_value

from flask_reqsession import MissingRowError, RequestScopedSessionManager, Retry
from tests.integration.reattachment.shop import Folder, Note, Order, Person, Shop
from tests.never import never
from tests.servers.connections import Rows

LINKS = "SELECT a, b FROM link ORDER BY a, b"


class TransientError(Exception):
    """Something after which the call is run again."""


def link(shop: Shop, *pairs: tuple[int, int]) -> None:
    """Link folders behind everybody's back, the third of them included."""
    with shop.session.begin() as other:
        other.add(Folder(id=3))
        other.flush()
        for a, b in pairs:
            other.execute(text(f"INSERT INTO link (a, b) VALUES ({a}, {b})"))  # noqa: S608


def load(shop: Shop) -> Folder:
    """Return the first folder, detached, with its links."""
    return shop.load(Folder, 1, selectinload(Folder.linked))


def own_of(session: Session) -> Folder:
    """Return the session's instance of it, with its links."""
    return session.get_one(Folder, 1, options=[selectinload(Folder.linked)])


@contextmanager
def unheard() -> Iterator[None]:
    """Fail if a listener of the user's hears of a member."""

    def hear(*_event: object) -> None:
        never()

    for name in ("append", "remove"):
        event.listen(Folder.linked, name, hear)
    try:
        yield
    finally:
        for name in ("append", "remove"):
            event.remove(Folder.linked, name, hear)


@pytest.mark.rule("R5")
def test_links_are_carried_over_one_by_one(shop: Shop, session: Session, rows: Rows) -> None:
    """Added and removed ones; the association of a removed one is deleted."""
    link(shop, (1, 2))
    folder = load(shop)
    del folder.linked[0]
    folder.linked.append(shop.load(Folder, 3))
    own = own_of(session)

    assert shop.attach(session, folder) is own
    assert [each.id for each in own.linked] == [3]
    session.commit()

    assert rows(shop.url, LINKS) == [(1, 3)]


@pytest.mark.rule("R5")
def test_what_both_sides_removed_and_added_is_done_once(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """A second removal finds nothing, a second addition adds nothing."""
    link(shop, (1, 2))
    folder = load(shop)
    del folder.linked[0]
    folder.linked.append(shop.load(Folder, 3))
    own = own_of(session)
    del own.linked[0]
    own.linked.append(session.get_one(Folder, 3))

    assert shop.attach(session, folder) is own
    assert [each.id for each in own.linked] == [3]
    session.commit()

    assert rows(shop.url, LINKS) == [(1, 3)]


@pytest.mark.rule("R9")
def test_an_added_argument_whose_row_is_gone_may_be_left_out(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """The choice that lets the argument be missing holds for the collection, too."""
    link(shop)
    folder, gone = load(shop), shop.load(Folder, 2)
    folder.linked += [gone, shop.load(Folder, 3)]
    own = own_of(session)
    with shop.session.begin() as other:
        other.execute(text("DELETE FROM folder WHERE id = 2"))

    found = shop.attach(session, [folder, gone], refresh=True, missing="none")

    assert found == [own]
    session.commit()
    assert rows(shop.url, LINKS) == [(1, 3)]


@pytest.mark.rule("R9", "R7", "R15")
@pytest.mark.parametrize("held", [False, True])
def test_an_added_member_that_a_refresh_misses_is_refused(
    shop: Shop, session: Session, *, held: bool
) -> None:
    """The user's addition would be lost silently; what was there before may be gone."""
    link(shop, (1, 2))
    folder = load(shop)
    folder.linked.append(shop.load(Folder, 3))
    own = own_of(session) if held else None
    with shop.session.begin() as other:
        other.execute(text("DELETE FROM folder WHERE id > 1"))

    with pytest.raises(MissingRowError, match=r"^Folder 3 "):
        shop.attach(session, folder, refresh=True)

    assert folder not in session
    assert own is None or [each.id for each in own.linked] == [2]


@pytest.mark.rule("R9", "R10")
def test_changed_members_without_a_row_are_left_out_of_an_attached_collection(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """Whether they were added or removed: as arguments they may be missing."""
    link(shop, (1, 2))
    folder, added = load(shop), shop.load(Folder, 3)
    removed = folder.linked.pop()
    folder.linked.append(added)
    with shop.session.begin() as other:
        other.execute(text("DELETE FROM link"))
        other.execute(text("DELETE FROM folder WHERE id > 1"))

    with unheard():
        found = shop.attach(session, [folder, added, removed], refresh=True, missing="none")

    assert found == [folder]
    assert folder.linked == []
    session.commit()
    assert rows(shop.url, LINKS) == []


@pytest.mark.rule("R10")
def test_replaced_members_keep_their_places(shop: Shop, session: Session, rows: Rows) -> None:
    """An added one stays where the user put it, with the session's instance in its place."""
    link(shop, (1, 2))
    folder = load(shop)
    folder.linked.insert(0, shop.load(Folder, 3))
    own = session.get_one(Folder, 3)

    assert shop.attach(session, folder) is folder
    assert [each.id for each in folder.linked] == [3, 2]
    assert folder.linked[0] is own
    session.commit()

    assert rows(shop.url, LINKS) == [(1, 2), (1, 3)]


@pytest.mark.rule("R10")
def test_a_member_that_was_exchanged_for_its_own_row_is_no_change(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """One instance of the row was removed and another one added: the association stays."""
    link(shop, (1, 2))
    folder = load(shop)
    folder.linked[:] = [shop.load(Folder, 2)]
    own = session.get_one(Folder, 2)
    shop.sql.clear()

    assert shop.attach(session, folder) is folder
    assert folder.linked == [own]
    session.commit()

    assert shop.sql == []
    assert rows(shop.url, LINKS) == [(1, 2)]


@pytest.mark.rule("R10", "R5")
def test_what_is_in_the_collection_already_is_not_added_or_removed_again(
    shop: Shop, session: Session, rows: Rows
) -> None:
    """One instance of the row changed its place, the other one stays: no listener hears of it."""
    link(shop, (1, 2), (1, 3))
    folder = load(shop)
    own = [session.get_one(Folder, 2), session.get_one(Folder, 3)]
    set_committed_value(folder, "linked", [shop.load(Folder, 2), *own])
    del folder.linked[0]
    folder.linked.append(shop.load(Folder, 3))
    with unheard():
        shop.attach(session, folder)
    session.commit()

    assert folder.linked == own
    assert rows(shop.url, LINKS) == [(1, 2), (1, 3)]


@pytest.mark.rule("R9", "R8")
def test_changed_members_survive_a_refresh(shop: Shop, session: Session, rows: Rows) -> None:
    """The row itself is up to date, the change of the collection is written."""
    folder = load(shop)
    folder.linked.append(shop.load(Folder, 2))
    with shop.session.begin() as other:
        other.get_one(Folder, 1).name = "newer"

    shop.attach(session, folder, refresh=True)
    assert folder.name == "newer"
    session.commit()

    assert rows(shop.url, LINKS) == [(1, 2)]


@pytest.mark.rule("R9", "R7")
def test_only_what_is_gone_is_left_out(shop: Shop, session: Session, rows: Rows) -> None:
    """The session's own instances still stand for the others."""
    orders = [shop.load(Order, 1), shop.load(Order, 2)]
    orders[1].total = 99
    own = [session.get_one(Order, 1), session.get_one(Order, 2)]
    with shop.session.begin() as other:
        other.execute(text("DELETE FROM orders WHERE id = 1"))

    assert shop.attach(session, orders, refresh=True, missing="none") == [own[1]]
    session.commit()

    assert rows(shop.url, "SELECT id, total FROM orders") == [(2, 99)]


@pytest.mark.rule("R12")
def test_each_attempt_has_the_collections_as_they_were(shop: Shop, rows: Rows) -> None:
    """Unchanged ones, and removals from one that is never loaded."""
    manager = RequestScopedSessionManager(shop.url)
    folder = shop.load(Folder, 2)
    folder.notes.remove(shop.load(Note, 2))
    person = shop.load(Person, 1, selectinload(Person.orders))
    seen: list[list[int]] = []

    @manager.transactional(retry=Retry(attempts=2, on=TransientError, initial=0, maximum=0))
    @manager.reattach_args
    def save(folder: Folder, person: Person) -> None:
        seen.append([order.id for order in person.orders])
        person.orders.pop()
        manager.session.flush()
        if len(seen) == 1:
            raise TransientError

    save(folder, person)

    manager.databases.dispose()
    assert seen == [[1, 2], [1, 2]]
    assert rows(shop.url, "SELECT id FROM note WHERE folder_id = 2") == []
    assert rows(shop.url, "SELECT id FROM orders WHERE person_id = 1") == [(1,)]
