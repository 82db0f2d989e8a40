"""Which arguments are looked at, what passes untouched, and pickles: the same in both colours."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from sqlalchemy import event, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, selectinload
from werkzeug.local import LocalProxy

from flask_reqsession import DatabaseManager, RequestScopedSessionManager, reattach_args
from tests.integration.reattachment.colours import Colour, Desk
from tests.integration.reattachment.shop import Order, Person, Shop
from tests.servers.connections import Rows, async_url_of


class Pair(NamedTuple):
    """A named tuple."""

    person: Person
    note: str = ""


@dataclass(frozen=True)
class Party:
    """A dataclass."""

    host: Person
    guests: list[Person]


CURRENT: ContextVar[Person] = ContextVar("CURRENT")


def current(person: Person) -> LocalProxy[Person]:
    """Return a proxy for a person, as ``current_user`` is one."""
    CURRENT.set(person)
    return LocalProxy(CURRENT)


KINDS: dict[str, Callable[[Person], Any]] = {
    "alone": lambda person: person,
    "list": lambda person: [person, 5],
    "tuple": lambda person: (person, 5),
    "named": lambda person: Pair(person, "x"),
    "set": lambda person: {person, 5},
    "frozen set": lambda person: frozenset({person, 5}),
    "dict": lambda person: {"a": person, "b": 5},
    "dataclass": lambda person: Party(person, [person]),
    "nested": lambda person: [{"a": ([person], Party(person, []))}],
}


async def take(*args: Any, **kwargs: Any) -> Any:
    """Give back what was passed."""
    return args, kwargs


@contextmanager
def sql_of(colour: Colour) -> Iterator[list[str]]:
    """Note the statements that the manager's engine is given."""
    databases = colour.manager.databases
    engine = databases.async_engine().sync_engine if colour.is_async else databases.engine()
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


@pytest.mark.rule("R2", "T50")
@pytest.mark.parametrize("kind", KINDS)
def test_containers_are_rebuilt_around_a_replacement_in_both_colours(
    colour: Colour, shop: Shop, kind: str
) -> None:
    """Positional and by keyword; the caller's own are not touched."""
    desk, detached = Desk(colour), shop.load(Person, 1)
    around = KINDS[kind]
    given = around(detached)

    async def body() -> None:
        own = await desk.do("get", Person, 1)
        passed = await desk.call(take, given, named=given)
        assert passed == ((around(own),), {"named": around(own)})
        assert type(passed[0][0]) is type(given)
        assert given == around(detached)

    desk.run(body)


@pytest.mark.rule("R2", "R3", "R4", "T50")
@pytest.mark.parametrize("kind", KINDS)
def test_what_stays_the_same_is_passed_itself_in_both_colours(
    colour: Colour, shop: Shop, kind: str
) -> None:
    """Containers of attached and of free instances, without a statement."""
    desk, free = Desk(colour), shop.load(Person, 2)

    async def body() -> None:
        with sql_of(colour) as sent:
            own = await desk.do("get", Person, 1)
            attached, attaching = KINDS[kind](own), KINDS[kind](free)
            (first, second), named = await desk.call(take, attached, attaching, again=attached)
        assert len(sent) == 1  # the get's
        assert first is named["again"] is attached
        assert second is attaching
        assert own in desk.session
        assert free in desk.session

    desk.run(body)


@pytest.mark.rule("R2", "T50")
def test_cycles_and_proxies_are_followed_in_both_colours(colour: Colour, shop: Shop) -> None:
    """However a container leads to itself, and ``current_user`` wherever it is."""
    desk, detached = Desk(colour), shop.load(Person, 1)

    async def body() -> None:
        own = await desk.do("get", Person, 1)
        proxy = current(detached)
        loop: list[Any] = [proxy]
        loop.append({"loop": (loop,)})
        (passed, direct), _ = await desk.call(take, loop, proxy)
        assert direct is own
        assert passed[0] is own
        assert passed is not loop
        assert passed[1]["loop"][0] is passed
        assert loop[0] is proxy

    desk.run(body)


@pytest.mark.rule("R2", "R7", "T50")
def test_what_is_no_saved_instance_passes_untouched_in_both_colours(
    colour: Colour, shop: Shop
) -> None:
    """Plain values and unsaved instances, alone and in a list."""
    desk, unsaved = Desk(colour), Person(id=9, name="new", email="")
    plain: list[Any] = [unsaved, Person, "x", None]

    async def body() -> None:
        (passed, alone), _ = await desk.call(take, plain, unsaved)
        assert passed is plain
        assert alone is unsaved

    desk.run(body)
    assert inspect(unsaved).transient


class Own(DeclarativeBase):
    """The model of this file."""


class Guest(Own):
    """A person with a method that is decorated."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

    @reattach_args
    async def rename(self, name: str, guests: tuple[Guest, ...] = ()) -> Guest:
        """Change the name, and those of others, too."""
        for each in (self, *guests):
            each.name = name
        return self


@pytest.mark.rule("R2", "R4", "R5", "T50")
def test_self_of_an_async_method_is_an_argument(shop: Shop, rows: Rows) -> None:
    """Replaced by the session's own instance, or attached, with the rest of the call."""
    manager = RequestScopedSessionManager(DatabaseManager(async_source=async_url_of(shop.url)))
    ada, bob = shop.load(Guest, 1), shop.load(Guest, 2)

    async def main() -> None:
        async with manager.async_session_scope() as session:
            own = await session.get(Guest, 1)
            assert await ada.rename("eve", (bob,)) is own
            assert bob in session
        await manager.databases.async_engine().dispose()

    asyncio.run(main())
    assert ada.name == "ada"
    assert rows(shop.url, "SELECT name FROM person ORDER BY id") == [("eve",), ("eve",)]


@pytest.mark.rule("R11", "T50")
@pytest.mark.parametrize("held", [False, True])
def test_what_was_pickled_is_like_a_detached_instance_in_both_colours(
    colour: Colour, shop: Shop, rows: Rows, *, held: bool
) -> None:
    """With its changes, what it has loaded, and its new members."""
    desk = Desk(colour)
    person = shop.load(Person, 1, selectinload(Person.orders))
    person.name = "eve"
    person.orders[0].total = 11
    person.orders.append(Order(id=7, total=70))
    unpickled: Person = pickle.loads(pickle.dumps(person))  # noqa: S301 - our own

    async def body() -> None:
        own = await desk.do("get", Person, 1) if held else unpickled
        ((passed,), _) = await desk.call(take, unpickled)
        assert passed is own
        assert passed.name == "eve"
        assert [order.total for order in passed.orders] == [11, 20, 70]
        assert all(order in desk.session for order in passed.orders)
        assert person not in desk.session

    desk.run(body)
    assert rows(shop.url, "SELECT name FROM person WHERE id = 1") == [("eve",)]
    assert rows(shop.url, "SELECT id, total, person_id FROM orders ORDER BY id") == [
        (1, 11, 1),
        (2, 20, 1),
        (7, 70, 1),
    ]
