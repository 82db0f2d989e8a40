"""Decorated calls in both colours: attached, refreshed, run again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from flask import Flask
from sqlalchemy.orm import selectinload
from werkzeug.exceptions import NotFound

from flask_reqsession import DatabaseManager, MissingRowError, RequestScopedSessionManager, Retry
from tests.integration.reattachment.colours import Body, Colour
from tests.integration.reattachment.shop import Account, Folder, Note, Order, Person, Shop
from tests.never import never
from tests.servers.connections import Rows, async_url_of


class TransientError(Exception):
    """Something after which the call is run again."""


RETRY = Retry(attempts=3, on=TransientError, initial=0, maximum=0)


@pytest.mark.rule("R4", "T50")
def test_a_detached_argument_is_attached_in_both_colours(
    colour: Colour, shop: Shop, rows: Rows
) -> None:
    """Its changes are committed with the scope."""
    person = shop.load(Person, 1)

    async def rename(person: Person, name: str) -> Person:
        person.name = name
        return person

    def decorated(body: Body) -> Body:
        return colour.manager.transactional(colour.manager.reattach_args(body))

    assert colour.call(rename, decorated, person, "eve") is person
    assert rows(shop.url, "SELECT name FROM person WHERE id = 1") == [("eve",)]


@pytest.mark.rule("R9", "T50")
def test_arguments_are_refreshed_in_both_colours(colour: Colour, shop: Shop) -> None:
    """The SELECT is awaited where it has to be."""
    gone, person = Person(id=3, name="gone", email=""), shop.load(Person, 1)
    with shop.session.begin() as other:
        other.add(gone)
    with shop.session.begin() as other:
        other.get_one(Person, 1).name = "newer"
        other.delete(other.get_one(Person, 3))

    async def names(*people: Person) -> list[str]:
        return [each.name for each in people]

    def decorated(body: Body) -> Body:
        return colour.manager.reattach_args(refresh=True)(body)

    assert colour.call(names, decorated, person) == ["newer"]
    with pytest.raises(MissingRowError, match="Person 3 cannot be attached as argument "):
        colour.call(names, decorated, gone)


@pytest.mark.rule("R9", "T50", "T11")
def test_arguments_of_async_generators_are_refreshed(shop: Shop) -> None:
    """At the first step, where it may be awaited."""
    manager = RequestScopedSessionManager(DatabaseManager(async_source=async_url_of(shop.url)))
    person = shop.load(Person, 1)

    @manager.transactional
    @manager.reattach_args(refresh=True)
    async def names(person: Person) -> AsyncIterator[str]:
        yield person.name

    async def main() -> list[str]:
        with shop.session.begin() as other:
            other.get_one(Person, 1).name = "newer"
        found = [name async for name in names(person)]
        await manager.databases.async_engine().dispose()
        return found

    assert asyncio.run(main()) == ["newer"]


@pytest.mark.rule("M4", "T50")
def test_an_instance_is_attached_by_hand_to_an_async_session(shop: Shop) -> None:
    """None stays None, and options are those of the decorator."""
    manager = RequestScopedSessionManager(DatabaseManager(async_source=async_url_of(shop.url)))
    person = shop.load(Person, 1)

    async def main() -> list[object]:
        async with manager.async_unit_of_work():
            ensure = manager.ensure_async_session_attachment
            found: list[object] = [await ensure(None), await ensure(person, refresh=True)]
            found.append(person in manager.get_async_request_session())
        await manager.databases.async_engine().dispose()
        return found

    assert asyncio.run(main()) == [None, person, True]


@pytest.mark.rule("M4", "R9")
def test_an_instance_is_attached_by_hand(shop: Shop) -> None:
    """With the options of the decorator."""
    manager = RequestScopedSessionManager(shop.url)
    person = shop.load(Person, 2)
    with shop.session.begin() as other:
        other.delete(other.get_one(Person, 2))

    with manager.unit_of_work():
        assert manager.ensure_session_attachment(None) is None
        assert manager.ensure_session_attachment(person, refresh=True, missing="none") is None
        assert manager.ensure_session_attachment([person]) == [person]
        assert person in manager.session
    manager.databases.dispose()


@pytest.mark.rule("R12", "T20")
@pytest.mark.parametrize("outer", ["transactional", "reattach_args"])
def test_each_attempt_has_the_arguments_as_they_were(
    colour: Colour, shop: Shop, rows: Rows, outer: str
) -> None:
    """Changes, loaded values and hung-on instances; what a failed attempt did is undone."""
    person = shop.load(Person, 1, selectinload(Person.orders))
    person.name = "eve"
    person.orders.pop(0)
    person.orders.append(Order(id=3, total=30))
    seen: list[object] = []

    async def change(person: Person) -> None:
        seen.append((person.name, [order.id for order in person.orders], "email" in vars(person)))
        person.name += "!"
        person.email = "mine"
        person.orders[0].total = len(seen)
        if colour.is_async:
            await colour.manager.get_async_request_session().flush()
        else:
            colour.manager.session.flush()
        if len(seen) < 3:
            raise TransientError

    def decorated(body: Body) -> Body:
        retried = colour.manager.transactional(retry=RETRY)
        if outer == "transactional":
            return retried(colour.manager.reattach_args(body))
        return colour.manager.reattach_args(retried(body))

    colour.call(change, decorated, person)

    assert seen == [("eve", [2, 3], False)] * 3
    assert rows(shop.url, "SELECT name, email FROM person WHERE id = 1") == [("eve!", "mine")]
    assert rows(shop.url, "SELECT id, total, person_id FROM orders ORDER BY id") == [
        (1, 10, None),
        (2, 3, 1),
        (3, 30, 1),
    ]


@pytest.mark.rule("R12", "R8")
def test_a_stale_version_stays_stale_in_every_attempt(shop: Shop, rows: Rows) -> None:
    """A ROLLBACK expires the instance; to load it anew would let an old change pass."""
    manager = RequestScopedSessionManager(shop.url)
    account = shop.load(Account, ("x", 1))
    account.balance = 0
    with shop.session.begin() as other:
        other.get_one(Account, ("x", 1)).balance = 500
    attempts: list[Account] = []

    @manager.transactional(retry=Retry(attempts=2, initial=0, maximum=0))
    @manager.reattach_args
    def save(account: Account) -> None:
        attempts.append(account)

    with pytest.raises(Exception, match=r"UPDATE statement on table 'account'"):
        save(account)

    manager.databases.dispose()
    assert attempts == [account, account]
    assert rows(shop.url, "SELECT balance FROM account") == [(500,)]


@pytest.mark.rule("R12")
def test_collections_that_are_never_loaded_are_remembered(shop: Shop, rows: Rows) -> None:
    """All that they have is their changes."""
    manager = RequestScopedSessionManager(shop.url)
    folder = shop.load(Folder, 2)
    folder.notes.add(Note(id=7))
    attempts: list[int] = []

    @manager.reattach_args
    @manager.transactional(retry=RETRY)
    def save(folder: Folder) -> None:
        attempts.append(len(attempts))
        folder.notes.add(Note(id=8 + len(attempts)))
        manager.session.flush()
        if len(attempts) == 1:
            raise TransientError

    save(folder)

    manager.databases.dispose()
    assert rows(shop.url, "SELECT id FROM note WHERE folder_id = 2 ORDER BY id") == [
        (2,),
        (7,),
        (10,),
    ]


class Gone(NotFound):
    """The app's own answer to what is not there."""

    description = "sold out"


@pytest.mark.rule("R9")
@pytest.mark.parametrize("own", [False, True])
def test_a_missing_row_is_answered_by_the_app(shop: Shop, *, own: bool) -> None:
    """As ``flask.abort(404)`` would, with the app's own exceptions; outside of an app, too."""
    app = Flask("shop")
    if own:
        app.aborter.mapping[404] = Gone
    manager = RequestScopedSessionManager(shop.url, app)
    person = shop.load(Person, 2)
    with shop.session.begin() as other:
        other.delete(other.get_one(Person, 2))

    @app.get("/")
    @manager.transactional
    @manager.reattach_args(refresh=True, missing="404")
    def index(person: Person = person) -> str:
        return never(person.name)

    response = app.test_client().get("/")
    assert response.status_code == 404
    assert ("sold out" in response.text) == own
    with manager.unit_of_work(), pytest.raises(NotFound) as raised:
        index()
    assert type(raised.value) is NotFound
    manager.databases.dispose()


@pytest.mark.rule("R9", "T50")
def test_what_a_refresh_expires_can_be_read_in_both_colours(colour: Colour, shop: Shop) -> None:
    """Where a lazy load can't be awaited it is loaded before the call."""
    options = [selectinload(Folder.linked), selectinload(Folder.owner)]
    folder = shop.load(Folder, 1, *options)
    person = shop.load(Person, 1, selectinload(Person.orders))
    with shop.session.begin() as other:
        changed = other.get_one(Folder, 1)
        changed.owner_id = 2
        changed.linked = [other.get_one(Folder, 2)]
        other.add(Order(id=7, total=0, person_id=1))

    async def read(folder: Folder, person: Person) -> list[object]:
        owner = folder.owner
        assert owner is not None
        orders = [order.id for order in person.orders]
        return [owner.name, [each.id for each in folder.linked], orders]

    def decorated(body: Body) -> Body:
        return colour.manager.reattach_args(refresh=True)(body)

    assert colour.call(read, decorated, folder, person) == ["bob", [2], [1, 2, 7]]


@pytest.mark.rule("R12", "R5")
def test_an_argument_that_only_a_later_attempt_attaches_keeps_its_changes(
    shop: Shop, rows: Rows
) -> None:
    """The first attempt had the session's instance, which is gone by then."""
    manager = RequestScopedSessionManager(shop.url)
    person = shop.load(Person, 1)
    person.name = "eve"
    held: list[Person] = []
    seen: list[tuple[bool, str]] = []

    @manager.transactional(retry=RETRY)
    @manager.reattach_args
    def save(given: Person) -> None:
        seen.append((given is person, given.name))
        held.clear()
        manager.session.flush()
        if len(seen) < 3:
            raise TransientError

    with manager.unit_of_work():
        held.append(manager.session.get_one(Person, 1))
        manager.session.rollback()
        save(person)

    manager.databases.dispose()
    assert seen == [(False, "eve"), (True, "eve"), (True, "eve")]
    assert rows(shop.url, "SELECT name FROM person WHERE id = 1") == [("eve",)]


@pytest.mark.rule("R12", "R7")
def test_an_unsaved_member_is_new_in_every_attempt(shop: Shop, rows: Rows) -> None:
    """Without the key that a failed attempt gave to it, or anything else of that."""
    manager = RequestScopedSessionManager(shop.url)
    person = shop.load(Person, 2, selectinload(Person.orders))
    person.orders.append(order := Order())
    seen: list[tuple[object, ...]] = []

    @manager.transactional(retry=RETRY)
    @manager.reattach_args
    def save(person: Person) -> None:
        seen.append((sorted(vars(order)), order.id, order.total))
        order.total = len(seen)
        manager.session.flush()
        if len(seen) < 3:
            manager.session.add(Order(total=0))
            manager.session.flush()
            order.total = -1
            raise TransientError

    save(person)

    manager.databases.dispose()
    assert seen == [(["_sa_instance_state", "person"], None, None)] * 3
    assert rows(shop.url, "SELECT total FROM orders WHERE person_id = 2") == [(3,)]
