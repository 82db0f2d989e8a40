"""A forked child leaves what its parent had open to the parent."""

from __future__ import annotations

import contextvars
import gc
import os
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import NoReturn, cast

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from flask_reqsession import ReqSessionError, ScopeOwnershipError
from tests.integration.children import in_child
from tests.integration.manager.shop import Note, Shop, connections_held, texts

BACKEND = text("SELECT pg_backend_pid()")


@pytest.mark.rule("M20")
def test_a_child_of_an_idle_parent_connects_anew(postgresql_shop: Shop) -> None:
    """A preloaded app has warm pools; the parent goes on with its own connection."""
    shop = postgresql_shop

    def backend() -> object:
        with shop.manager.unit_of_work():
            return shop.session.scalar(BACKEND)

    parents = backend()
    assert in_child(backend) != parents
    assert backend() == parents


@pytest.mark.rule("M20", "M13")
def test_a_child_forked_in_a_unit_is_refused_the_session_and_opens_its_own(
    postgresql_shop: Shop,
) -> None:
    """The parent's transaction goes on, and is committed by nobody else."""
    shop = postgresql_shop

    def child() -> object:
        refused = []
        for ask in (lambda: shop.session, shop.manager.transactional(lambda: None)):
            with pytest.raises(ScopeOwnershipError) as caught:
                ask()
            refused.append(str(caught.value))
        with shop.manager.unit_of_work(), shop.manager.session_scope() as session:
            session.add(Note(text="child"))
            backend = session.scalar(BACKEND)
        gc.collect()
        return backend, refused

    with shop.manager.unit_of_work():
        backend = shop.session.scalar(BACKEND)
        note = shop.write("parent")
        childs, refused = cast("tuple[object, list[str]]", in_child(child))
        assert shop.session.scalar(BACKEND) == backend
        assert note in shop.session
        shop.session.commit()

    assert childs != backend
    assert all("the parent process (thread 'MainThread')" in message for message in refused)
    assert sorted(map(str, shop.kept())) == ["child", "parent"]


class Refusal:
    """Catches the refusal that a block ends with."""

    message = "none"

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        """Keep the refusal, and let everything else go on."""
        if isinstance(error, ScopeOwnershipError):
            self.message = str(error)
        return isinstance(error, ScopeOwnershipError)


def tell_and_exit(refusal: Refusal, writer: int) -> NoReturn:
    """Tell the parent what became of the child, after all that could be collected is."""
    gc.collect()
    os.write(writer, f"{os.getpid()}: {refusal.message}".encode())
    os._exit(0)


@pytest.mark.rule("M20", "M17")
@pytest.mark.parametrize("kind", ["unit of work", "request", "scope", "own session"])
def test_a_child_that_leaves_what_it_was_forked_in_sends_nothing(
    postgresql_shop: Shop, kind: str
) -> None:
    """The end of the block runs in both processes; only the parent's counts."""
    shop = postgresql_shop
    blocks: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "unit of work": shop.manager.unit_of_work,
        "request": shop.app.test_request_context,
        "scope": shop.manager.session_scope,
        "own session": lambda: shop.manager.session_scope(propagation="REQUIRES_NEW"),
    }
    refusal = Refusal()
    reader, writer = os.pipe()
    child = -1
    with refusal, blocks[kind]():
        shop.write("parent")
        child = os.fork()
    _ = child or tell_and_exit(refusal, writer)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)

    scoped = kind in {"scope", "own session"}
    assert shop.kept() == (["parent"] if scoped else [])
    assert refusal.message == "none"
    if scoped:  # nobody may believe that the child committed it
        assert f"this is process {child}" in told
    else:
        assert told == f"{child}: none"
    with shop.manager.unit_of_work():
        assert len(texts(shop.session)) == len(shop.kept())


@pytest.mark.rule("M20", "T11")
def test_a_child_does_not_go_on_with_a_generator_of_its_parent(postgresql_shop: Shop) -> None:
    """Neither the next step nor closing it reaches the parent's transaction."""
    shop = postgresql_shop

    @shop.manager.transactional
    def notes() -> Generator[str]:
        yield shop.write("first").text
        yield "second"

    def child() -> str:
        with pytest.raises(ReqSessionError) as caught:
            next(generator)
        generator.close()
        return caught.value.code

    generator = notes()
    assert next(generator) == "first"
    assert in_child(child) in {"ownership", "propagation"}
    assert list(generator) == ["second"]
    assert shop.kept() == ["first"]


@pytest.mark.rule("M20")
def test_a_child_that_uses_the_parents_session_itself_is_refused(postgresql_shop: Shop) -> None:
    """It has the object in hand, in a variable; a statement would reach the parent's server."""
    shop = postgresql_shop

    def child(session: Session) -> list[str]:
        told = []
        for use in (
            lambda: session.scalar(BACKEND),
            lambda: session.execute(text("INSERT INTO note (text) VALUES ('child')")),
            session.commit,
        ):
            with pytest.raises(ScopeOwnershipError) as caught:
                use()
            told.append(caught.value.code)
        return told

    with shop.manager.unit_of_work():
        session = shop.session
        session.scalar(BACKEND)
        assert in_child(lambda: child(session)) == ["ownership"] * 3
        assert texts(session) == []
        shop.write("parent")
        session.commit()
    assert shop.kept() == ["parent"]


@pytest.mark.rule("M20")
def test_a_child_serves_requests_of_its_own(postgresql_shop: Shop) -> None:
    """Forked in the middle of a request, it may serve others."""
    shop = postgresql_shop
    shop.app.add_url_rule("/", "index", lambda: str(shop.session.scalar(BACKEND)))
    with shop.app.test_request_context():
        backend = shop.session.scalar(BACKEND)
        assert in_child(lambda: shop.get("/").text) not in {str(backend), ""}
        assert shop.session.scalar(BACKEND) == backend


@pytest.mark.rule("M20")
def test_a_copied_context_does_not_smuggle_the_session_across(postgresql_shop: Shop) -> None:
    """A context that was copied before the fork is run in the child."""
    shop = postgresql_shop
    with shop.manager.unit_of_work():
        shop.session.connection()
        context = contextvars.copy_context()

        def child() -> str:
            with pytest.raises(ScopeOwnershipError) as caught:
                context.run(lambda: shop.session)
            return caught.value.code

        assert in_child(child) == "ownership"


@pytest.mark.rule("M20", "M7")
def test_a_lock_that_another_thread_held_does_not_block_the_child(shop: Shop) -> None:
    """That thread does not exist in the child, and nobody would release it."""
    held, done = threading.Event(), threading.Event()

    class Slow(str):
        """An event's name that is hashed as long as the test wants, inside the lock."""

        __slots__ = ()

        def __hash__(self) -> int:
            held.set()
            done.wait()
            return super().__hash__()

    counter = threading.Thread(target=lambda: shop.manager.metrics.count(Slow("slow")))
    counter.start()
    held.wait()

    def child() -> object:
        shop.manager.metrics.count("fast")
        return shop.manager.metrics.snapshot()["fast"]

    assert in_child(child) == 1
    done.set()
    counter.join()


def test_nothing_is_held_between_the_tests(shop: Shop) -> None:
    """The children above ended by ``os._exit()``: nothing of theirs is here."""
    assert connections_held(shop.engine) == 0
