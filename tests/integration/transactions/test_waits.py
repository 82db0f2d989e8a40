"""Between two attempts nothing is held: no connection, no event loop, no object of the last one."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from flask_reqsession import (
    DatabaseManager,
    RequestScopedSessionManager,
    Retry,
    RetryNotAllowedError,
)
from tests.integration.items import connections_in_use
from tests.integration.transactions.worlds import Note, SyncWorld, World
from tests.servers.connections import rows_of

AT_ONCE: Any = {"initial": 0.0, "maximum": 0.0}
AGES: Any = {"initial": 60.0, "maximum": 60.0, "jitter": False}


class Signal:
    """An interrupt from the keyboard, once the main thread waits."""

    def __init__(self, look: Callable[[], object]) -> None:
        self.seen: list[object] = []
        self._look = look
        self._previous = signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, _number: int, _frame: object) -> None:
        self.seen.append(self._look())
        raise KeyboardInterrupt

    def send_soon(self, _attempt: int, _error: BaseException) -> None:
        """Be ``before_retry``: the wait comes next."""
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    def close(self) -> None:
        """Let Python handle interrupts again."""
        signal.signal(signal.SIGINT, self._previous)


@pytest.fixture
def pooled(postgresql_url: str) -> Iterator[tuple[SyncWorld, QueuePool]]:
    """Give a world on an engine with a pool that counts."""
    world = SyncWorld(postgresql_url)
    pool = world.engine.pool
    assert isinstance(pool, QueuePool)
    yield world, pool
    world.manager.databases.dispose()


@pytest.mark.rule("T20", "T1")
def test_an_interrupt_during_the_wait_ends_the_attempts_and_meets_no_connection(
    pooled: tuple[SyncWorld, QueuePool],
) -> None:
    """Ctrl-C while the call waits for its next attempt is not swallowed."""
    world, pool = pooled
    interrupt = Signal(pool.checkedout)
    attempts: list[int] = []

    @world.manager.transactional(
        retry=Retry(on=ValueError, before_retry=interrupt.send_soon, **AGES)
    )
    def pay() -> None:
        attempts.append(1)
        world.put("rent")
        assert pool.checkedout() == 1
        raise ValueError

    with world.manager.unit_of_work():
        with pytest.raises(KeyboardInterrupt) as caught:
            pay()
        assert isinstance(caught.value.__context__, ValueError)
    interrupt.close()
    assert interrupt.seen == [0]
    assert attempts == [1]
    assert not world.manager.is_session_active()
    assert world.kept() == []


@pytest.mark.rule("T20", "T50")
async def test_a_coroutine_leaves_its_event_loop_free_while_it_waits(
    awaiting_world: World,
) -> None:
    """With either kind of session; whoever runs meanwhile finds no connection held."""
    world = awaiting_world
    attempts, waiting, over = [0], asyncio.Event(), asyncio.Event()

    def before_retry(_attempt: int, _error: BaseException) -> None:
        waiting.set()

    @world.transactional(
        retry=Retry(on=ValueError, before_retry=before_retry, initial=0.05, jitter=False)
    )
    async def pay() -> None:
        attempts[0] += 1
        await world.write(f"note {attempts[0]}")
        if attempts[0] == 1:
            raise ValueError
        assert over.is_set(), "the event loop was blocked"

    async def look() -> int:
        await waiting.wait()
        held = world.conversation.held
        over.set()
        return held

    _, held = await asyncio.gather(pay(), look())
    assert held == 0
    assert world.kept() == ["note 2"]


@pytest.mark.rule("T20")
async def test_what_before_retry_reads_with_the_session_is_let_go_before_the_wait(
    world: World,
) -> None:
    """It has a connection for as long as it runs."""
    attempts: list[int] = []
    held: list[int] = []

    def before_retry(_attempt: int, _error: BaseException) -> None:
        world.session.info["peek"] = True
        if isinstance(world, SyncWorld):
            world.session.scalars(select(Note)).all()
            held.append(world.conversation.held)

    @world.transactional(retry=Retry(on=ValueError, before_retry=before_retry, **AT_ONCE))
    async def pay() -> None:
        attempts.append(1)
        held.append(world.conversation.held)
        await world.write("rent")
        if len(attempts) == 1:
            raise ValueError

    async with world.unit():
        await pay()
    assert held == ([0, 1, 0] if isinstance(world, SyncWorld) else [0, 0])
    assert world.kept() == ["rent"]


@pytest.mark.rule("T20", "T22")
async def test_before_retry_may_not_write_with_the_session(world: World) -> None:
    """The next attempt would take it over, and could not be run again without it."""
    attempts: list[int] = []

    def before_retry(_attempt: int, _error: BaseException) -> None:
        world.session.add(Note(text="of the callback"))

    @world.transactional(retry=Retry(on=ValueError, before_retry=before_retry, **AT_ONCE))
    async def pay() -> None:
        attempts.append(1)
        raise ValueError

    async with world.unit():
        with pytest.raises(RetryNotAllowedError, match="before_retry") as caught:
            await pay()
        assert isinstance(caught.value.__context__, ValueError)
    assert attempts == [1]
    assert world.kept() == []


@pytest.mark.rule("T20")
async def test_an_attempt_finds_nothing_of_the_one_before(world: World) -> None:
    """What it loaded is gone from memory, what it added, changed and deleted is forgotten."""
    async with world.scope():
        await world.write("one")
        await world.write("two")
    loaded: list[weakref.ref[Note]] = []

    def work(session: Session) -> None:
        assert (list(session.new), list(session.dirty), list(session.deleted)) == ([], [], [])
        assert len(session.identity_map) == 0
        first, second = session.scalars(select(Note).order_by(Note.id))
        assert (first.text, second.text) == ("one", "two")
        loaded.append(weakref.ref(first))
        first.text = "changed"
        session.delete(second)
        session.flush()
        session.add(Note(text="three"))

    @world.transactional(retry=Retry(on=ValueError, **AT_ONCE))
    async def pay() -> None:
        if loaded:
            gc.collect()  # SQLAlchemy leaves cycles behind
            assert loaded[0]() is None
        await world.do(work)
        if len(loaded) == 1:
            raise ValueError

    async with world.unit():
        await pay()
    assert world.kept() == ["changed", "three"]


@pytest.mark.rule("T20", "R12")
def test_arguments_are_reattached_to_each_attempt(sync_world: SyncWorld) -> None:
    """A detached instance: no attempt sees what the one before has made of it."""
    manager = sync_world.manager
    with manager.session_scope() as session:
        session.add(Note(text="one"))
    with manager.unit_of_work():
        note = manager.session.scalars(select(Note)).one()
    seen: list[tuple[bool, str]] = []

    @manager.transactional(retry=Retry(on=ValueError, **AT_ONCE))
    @manager.reattach_args
    def pay(note: Note) -> None:
        seen.append((note in manager.session, note.text))
        note.text = f"attempt {len(seen)}"
        manager.session.flush()
        if len(seen) == 1:
            raise ValueError

    pay(note)
    assert seen == [(True, "one")] * 2
    assert sync_world.kept() == ["attempt 2"]


@pytest.mark.rule("T20", "T14")
async def test_a_committed_call_is_not_run_again_though_its_exception_is_named(
    world: World,
) -> None:
    """The work would be there twice."""
    attempts: list[int] = []

    @world.transactional(retry=Retry(on=ValueError, **AT_ONCE), no_rollback_for=ValueError)
    async def pay() -> None:
        attempts.append(1)
        await world.write(f"note {len(attempts)}")
        raise ValueError

    with pytest.raises(ValueError, match="^$"):
        await pay()
    assert world.kept() == ["note 1"]


@dataclass
class Rates:
    """A manager of two binds, and what of the second one is held when a call waits."""

    databases: DatabaseManager
    held: list[int] = field(default_factory=list[int])

    @property
    def session(self) -> Session:
        """The session of the second bind."""
        return self.manager.get_request_session(bind="rates")

    def __post_init__(self) -> None:
        self.manager = RequestScopedSessionManager(self.databases)

    def count(self, *_event: object) -> None:
        """Count the connections that are held."""
        self.held.append(connections_in_use(self.databases.engine("rates")))


@pytest.fixture
def rates(sync_world: SyncWorld, tmp_path: Path) -> Iterator[Rates]:
    """Give the manager, in a unit of work."""
    databases = DatabaseManager({"default": sync_world.url, "rates": f"sqlite:///{tmp_path}/r.db"})
    rates = Rates(databases)
    with rates.manager.unit_of_work():
        rates.session.execute(text("CREATE TABLE rate (n INTEGER)"))
        rates.session.commit()
        yield rates
    databases.dispose()


def wait_once(rates: Rates, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ``work`` in two attempts, and count what is held in the wait between them."""
    monkeypatch.setattr(time, "sleep", rates.count)

    @rates.manager.transactional(retry=Retry(on=KeyError))
    def pay() -> None:
        work()
        if not rates.held:
            raise KeyError

    pay()
    monkeypatch.undo()


@pytest.mark.rule("T20", "M16")
def test_what_was_read_elsewhere_is_let_go_before_the_wait(
    rates: Rates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session of another bind holds no connection either, and keeps what it has loaded."""
    wait_once(rates, lambda: rates.session.execute(text("SELECT 1")), monkeypatch)
    assert rates.held == [0]


@pytest.mark.rule("T20", "M16")
def test_what_was_written_elsewhere_is_kept_for_its_owner(
    rates: Rates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no part of what is run again: neither committed nor rolled back by the wait."""
    rates.session.execute(text("INSERT INTO rate VALUES (1)"))
    wait_once(rates, lambda: None, monkeypatch)
    assert rates.held == [1]
    rates.session.commit()
    assert rows_of(str(rates.databases.engine("rates").url), "SELECT n FROM rate") == [(1,)]


@pytest.mark.rule("T20", "M16")
def test_a_scope_elsewhere_keeps_its_transaction(
    rates: Rates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has read belongs to what it will write."""
    with rates.manager.session_scope(bind="rates") as session:
        session.execute(text("SELECT 1"))
        wait_once(rates, lambda: None, monkeypatch)
    assert rates.held == [1]


@pytest.mark.rule("T20", "T11", "M16")
def test_a_generator_elsewhere_keeps_its_transaction_between_its_steps(
    rates: Rates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on in the snapshot that it has begun to read."""

    @rates.manager.transactional(bind="rates")
    def read() -> Generator[None, None, None]:
        rates.session.execute(text("SELECT 1"))
        yield

    with closing(read()) as steps:
        next(steps)
        wait_once(rates, lambda: None, monkeypatch)
    assert rates.held == [1]


@pytest.mark.rule("T20", "T50")
def test_a_function_leaves_sessions_alone_that_it_could_not_await(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is run again all the same, and the coroutine around it goes on with its AsyncSession."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/rates.db")
    databases = DatabaseManager({"default": f"sqlite:///{tmp_path}/default.db", "rates": engine})
    manager, held = RequestScopedSessionManager(databases), list[int]()
    monkeypatch.setattr(
        time, "sleep", lambda _: held.append(connections_in_use(engine.sync_engine))
    )

    @manager.transactional(retry=Retry(on=KeyError))
    def pay() -> None:
        if not held:
            raise KeyError

    async def main() -> None:
        async with manager.async_unit_of_work():
            await read_rates(manager, asynchronous=True)
            pay()
            await read_rates(manager, asynchronous=True)
        await engine.dispose()

    asyncio.run(main())
    databases.dispose()
    assert held == [1]


async def read_rates(manager: RequestScopedSessionManager, asynchronous: bool) -> None:
    """Read in the second bind."""
    if asynchronous:
        await manager.get_async_request_session(bind="rates").execute(text("SELECT 1"))
    else:
        manager.get_request_session(bind="rates").execute(text("SELECT 1"))


@pytest.mark.rule("T20", "T50")
@pytest.mark.parametrize("asynchronous", [True, False], ids=["AsyncSession", "Session"])
def test_a_coroutine_holds_nothing_elsewhere_while_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asynchronous: bool
) -> None:
    """Whichever session it has, that of another bind is let go in the way of its own."""
    make: Any = create_async_engine if asynchronous else create_engine
    driver = "sqlite+aiosqlite" if asynchronous else "sqlite"
    engines = {name: make(f"{driver}:///{tmp_path}/{name}.db") for name in ("default", "rates")}
    databases = DatabaseManager(engines)
    manager, held, sleep = RequestScopedSessionManager(databases), list[int](), asyncio.sleep

    def count() -> int:
        return connections_in_use(getattr(engines["rates"], "sync_engine", engines["rates"]))

    async def wait(_seconds: float) -> None:
        held.append(count())
        await sleep(0)

    @manager.transactional(retry=Retry(on=KeyError))
    async def pay() -> None:
        await read_rates(manager, asynchronous)
        assert count() == 1
        if not held:
            raise KeyError

    async def main() -> None:
        async with manager.async_unit_of_work():
            await pay()
        for engine in engines.values():
            disposed = engine.dispose()
            if asynchronous:
                await disposed

    monkeypatch.setattr(asyncio, "sleep", wait)
    asyncio.run(main())
    assert held == [0]
