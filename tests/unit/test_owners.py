"""Who is running, and whose sessions it may use."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import greenlet
import pytest

from flask_reqsession.owners import (
    borrowing_from,
    current_owner,
    current_strand,
    describe_current,
    effective_owner,
    who_owns,
)


@pytest.mark.rule("M13")
def test_a_thread_is_its_main_greenlet() -> None:
    """It is the same object at every question, and another one in another thread."""
    assert current_owner() is current_strand() is greenlet.getcurrent()
    with ThreadPoolExecutor(1) as other:
        # In a list: greenlet takes a reference that the collector can't see for a leak, and drops
        # it when its thread has ended.
        theirs = [other.submit(current_owner).result() for _ in range(2)]
        assert theirs[0] is theirs[1]
        assert theirs[0] is not current_owner()
    assert describe_current() == "thread 'MainThread'"


@pytest.mark.rule("M13")
def test_a_greenlet_is_itself() -> None:
    """Also within the thread of another one."""
    other = greenlet.greenlet(lambda: (current_owner(), describe_current()))
    assert other.switch() == (other, "a greenlet in thread 'MainThread'")


@pytest.mark.rule("M13")
def test_a_task_is_itself_whatever_greenlet_runs_it() -> None:
    """SQLAlchemy's asyncio extension switches greenlets within one task."""

    async def main() -> None:
        task = asyncio.current_task()
        assert current_owner() is task
        assert greenlet.greenlet(current_owner).switch() is task
        assert describe_current() == "task 'main' in thread 'MainThread'"

    async def named() -> None:
        await asyncio.create_task(main(), name="main")

    asyncio.run(named())


@pytest.mark.rule("M13")
def test_a_callback_of_an_event_loop_is_the_thread() -> None:
    """The loop runs, and no task does."""

    async def main() -> None:
        seen = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: seen.set_result(current_owner()))
        assert await seen is current_strand()

    asyncio.run(main())


@pytest.mark.rule("M13")
def test_a_loan_is_for_the_borrower_alone() -> None:
    """Not for a task that copies its context, nor after its end; it can be lent on."""
    lender = who_owns()

    async def ask() -> object:
        return effective_owner()

    async def main() -> None:
        with borrowing_from(lender):
            assert effective_owner() is lender.owner
            assert who_owns() is lender
            task = asyncio.create_task(ask())
            assert await task is task
            with borrowing_from(who_owns()):
                assert effective_owner() is lender.owner
            assert effective_owner() is lender.owner
        assert effective_owner() is asyncio.current_task()

    asyncio.run(main())
    assert effective_owner() is lender.owner is current_owner()


@pytest.mark.rule("M13")
def test_an_owner_is_named_by_whoever_asks() -> None:
    """From another thread, and after it has ended."""
    owners = [who_owns()]
    thread = threading.Thread(target=lambda: owners.append(who_owns()), name="other")
    thread.start()
    thread.join()
    assert [owner.name for owner in owners] == ["thread 'MainThread'", "thread 'other'"]
