"""What a request or a failed call leaves behind is freed at once, without the cyclic collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import Note, Shop, texts


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Switch the cyclic collector off, after it has run."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def garbage_of(serve: Callable[[], object], times: int) -> int:
    """Count the objects that ``times`` calls leave to the cyclic collector."""
    with without_collector():
        for _ in range(times):
            serve()
        return gc.collect()


def read(shop: Shop) -> str:
    """Read in a scope."""
    return str(len(texts(shop.session)))


def write(shop: Shop) -> str:
    """Write and roll back."""
    shop.write()
    raise FaultError("view")


@pytest.mark.rule("M17")
@pytest.mark.parametrize("work", [read, write], ids=["read", "raise"])
def test_requests_leave_no_more_garbage_than_flask_does(
    shop: Shop, work: Callable[[Shop], str]
) -> None:
    """Ten requests or a hundred: what Flask itself leaves is taken off."""
    bare = Flask("bare")
    bare.errorhandler(FaultError)(lambda _error: "failed")
    shop.app.errorhandler(FaultError)(lambda _error: "failed")

    def fail() -> str:
        raise FaultError("view")

    bare.add_url_rule("/", "index", fail if work is write else lambda: "0")
    shop.app.add_url_rule("/", "index", shop.manager.transactional(lambda: work(shop)))
    client, bare_client = shop.app.test_client(), bare.test_client()
    serve = lambda: client.get("/").close()  # noqa: E731 - as short as the other
    serve_bare = lambda: bare_client.get("/").close()  # noqa: E731
    for warm_up in (serve, serve_bare):
        garbage_of(warm_up, 2)

    growth = (garbage_of(serve, 60) - garbage_of(serve, 10)) / 50
    growth_of_flask = (garbage_of(serve_bare, 60) - garbage_of(serve_bare, 10)) / 50
    assert growth <= growth_of_flask


class Keeper:
    """Holds a weak reference to the last note."""

    note: weakref.ref[Note]


def fail_with_note(shop: Shop, keeper: Keeper) -> None:
    """Load a note, and raise with it in a local variable."""
    note = shop.session.scalars(select(Note)).one()
    keeper.note = weakref.ref(note)
    raise FaultError("body")


def by_decorator(shop: Shop, keeper: Keeper) -> None:
    """Fail in the outermost decorated call."""
    shop.manager.transactional(fail_with_note)(shop, keeper)


def by_joined_call(shop: Shop, keeper: Keeper) -> None:
    """Fail in a call that has joined."""
    shop.manager.transactional(by_decorator)(shop, keeper)


def by_block(shop: Shop, keeper: Keeper) -> None:
    """Fail in a ``with`` block."""
    with shop.manager.session_scope():
        fail_with_note(shop, keeper)


def by_savepoint(shop: Shop, keeper: Keeper) -> None:
    """Fail in a savepoint."""
    with shop.manager.session_scope():
        shop.manager.transactional(propagation="NESTED")(fail_with_note)(shop, keeper)


def by_unit(shop: Shop, keeper: Keeper) -> None:
    """Fail in a unit of work, with no scope."""
    with shop.manager.unit_of_work():
        fail_with_note(shop, keeper)


def by_request(shop: Shop, keeper: Keeper) -> None:
    """Fail in a view, past Flask."""
    with shop.app.test_request_context():
        shop.manager.transactional(fail_with_note)(shop, keeper)


def by_generator(shop: Shop, keeper: Keeper) -> None:
    """Fail in a step of a generator."""

    @shop.manager.transactional
    def steps() -> Iterator[int]:
        yield 1
        fail_with_note(shop, keeper)

    for _ in steps():
        ...


def by_task(shop: Shop, keeper: Keeper) -> None:
    """Fail in a coroutine with a sync session."""

    @shop.manager.transactional
    async def job() -> None:
        fail_with_note(shop, keeper)

    async def main() -> None:  # a task that fails holds its exception in a cycle of asyncio's own
        with pytest.raises(FaultError):
            await job()
        assert keeper.note() is None

    asyncio.run(main())
    raise FaultError("body")


@pytest.mark.rule("T1", "M18")
@pytest.mark.parametrize(
    "fail",
    [
        by_decorator,
        by_joined_call,
        by_block,
        by_savepoint,
        by_unit,
        by_request,
        by_generator,
        by_task,
    ],
    ids=lambda fail: fail.__name__,
)
def test_after_an_exception_the_objects_of_its_scope_die_at_once(
    shop: Shop, fail: Callable[[Shop, Keeper], None]
) -> None:
    """Nothing of ours holds the traceback in a cycle."""
    shop.keep("loaded")
    keeper = Keeper()

    with without_collector():
        with contextlib.suppress(FaultError):
            fail(shop, keeper)
        alive: Any = keeper.note()
        assert alive is None
