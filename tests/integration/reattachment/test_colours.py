"""The rules that may need SQL to decide, where it can be awaited and where it must be."""

from __future__ import annotations

import pytest
from sqlalchemy import inspect
from sqlalchemy.orm import selectinload
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession import ForeignInstanceError, MissingRowError, ReattachConflictError
from tests.integration.reattachment.colours import Colour, Desk
from tests.integration.reattachment.shop import Account, Order, Person, Shop
from tests.servers.connections import Rows


@pytest.mark.rule("R5", "R8", "T50")
def test_what_is_not_loaded_is_read_for_a_comparison(
    colour: Colour, shop: Shop, rows: Rows
) -> None:
    """A deferred column, and a collection."""
    desk = Desk(colour)
    options = [selectinload(Person.orders)]
    person = shop.load(Person, 1, *options)
    assert inspect(person).session is None
    with shop.session() as other:
        other.add(person)
        assert person.email == "ada@example.org"
    person.email = "mine"
    person.orders.pop(0)

    async def body() -> bool:
        own = await desk.do("get", Person, 1)
        return bool(await desk.attach(person) is own)

    assert desk.run(body)
    assert rows(shop.url, "SELECT email FROM person WHERE id = 1") == [("mine",)]
    assert rows(shop.url, "SELECT id FROM orders WHERE person_id = 1") == [(2,)]


@pytest.mark.rule("R5", "R15", "T50")
def test_refusals_leave_everything_as_it_was(colour: Colour, shop: Shop, rows: Rows) -> None:
    """A conflict, an old version: nothing of the call is attached."""
    desk = Desk(colour)
    person, order = shop.load(Person, 1), shop.load(Order, 1)
    account = shop.load(Account, ("x", 1))
    person.name, order.total, account.balance = "mine", 99, 0

    async def body() -> None:
        own = await desk.do("get", Person, 1)
        own.name = "session's"
        with pytest.raises(ReattachConflictError, match="name was changed"):
            await desk.attach([order, person])
        held = await desk.do("get", Account, ("x", 1))
        held.balance = 1
        await desk.do("flush")
        with pytest.raises(StaleDataError):
            await desk.attach([order, account])

    desk.run(body)
    assert inspect(order).session is None
    assert rows(shop.url, "SELECT name FROM person WHERE id = 1") == [("session's",)]
    assert rows(shop.url, "SELECT total FROM orders WHERE id = 1") == [(10,)]
    assert rows(shop.url, "SELECT balance, version FROM account") == [(1, 2)]


@pytest.mark.rule("R7", "T50")
def test_a_row_that_the_transaction_deleted_does_not_come_back(
    colour: Colour, shop: Shop, rows: Rows
) -> None:
    """Neither as the instance that was deleted, nor as another one of the row."""
    desk = Desk(colour)
    detached = shop.load(Order, 1)

    async def body() -> None:
        own = await desk.do("get", Order, 1)
        await desk.do("delete", own)
        await desk.do("flush")
        for gone in (own, detached):
            with pytest.raises(MissingRowError):
                await desk.attach(gone)

    desk.run(body)
    assert rows(shop.url, "SELECT id FROM orders ORDER BY id") == [(2,)]


@pytest.mark.rule("R6", "R10", "T50")
def test_instances_of_another_session_stay_there(colour: Colour, shop: Shop) -> None:
    """Copies of a whole graph; what has changes there is refused."""
    desk = Desk(colour)
    with shop.session() as other:
        person = other.get_one(Person, 1, options=[selectinload(Person.orders)])
        shop.sql.clear()

        async def body() -> list[object]:
            copy = await desk.attach(person)
            assert copy is not person
            return [copy.name, [order.total for order in copy.orders]]

        assert desk.run(body) == ["ada", [10, 20]]
        assert person in other
        person.orders[0].total = 1

        async def refused() -> None:
            with pytest.raises(ForeignInstanceError, match="Order 1 "):
                await desk.attach(person)

        desk.run(refused)
