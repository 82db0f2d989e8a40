"""A session serves one thread, greenlet or task at a time."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import copy_current_request_context
from sqlalchemy.orm import Session

from flask_reqsession import ScopeOwnershipError
from tests.integration.manager.shop import Note, Shop, connections_held, texts
from tests.integration.manager.threads import assert_refused, in_thread


def every_way(shop: Shop) -> list[Callable[[], object]]:
    """Return each way to a session."""
    manager = shop.manager
    return [
        manager.get_request_session,
        lambda: manager.session,
        manager.release,
        lambda: manager.ensure_session_attachment(Note(id=1)),
        lambda: manager.session_scope().__enter__(),
        manager.transactional(lambda: None),
        manager.with_request_session(lambda session: session),
    ]


@pytest.mark.rule("M13")
@pytest.mark.parametrize("touched", [False, True], ids=["before the view", "after the view"])
def test_a_background_thread_is_refused_the_session_of_the_request(
    shop: Shop, *, touched: bool
) -> None:
    """By a copied context in either of its forms; no matter who would have come first."""

    def view() -> str:
        if touched:
            shop.session.connection()
        for ask in every_way(shop):
            for copied in (
                lambda ask=ask: contextvars.copy_context().run(ask),
                copy_current_request_context(ask),
            ):
                context = contextvars.copy_context()
                answer = in_thread(functools.partial(context.run, copied))
                assert_refused(answer, "thread 'MainThread'", "thread 'worker'", "request")
        assert in_thread(copy_current_request_context(lambda: "fine")) == "fine"
        assert shop.manager.is_session_active() is touched
        return str(texts(shop.session))

    assert shop.serve(view).text == "[]"
    assert shop.events == ["created", "closed"]


@pytest.mark.rule("M13", "M2")
def test_a_teardown_in_a_worker_thread_leaves_the_session_alone(shop: Shop) -> None:
    """Flask runs the teardown functions for a copied context, too, in the worker."""

    def view() -> str:
        note = shop.write("mine")
        in_thread(copy_current_request_context(shop.manager.close_request_session))
        in_thread(copy_current_request_context(lambda: None))
        assert shop.manager.is_session_active()
        return str((note in shop.session, texts(shop.session)))

    assert shop.serve(view).text == "(True, ['mine'])"
    assert shop.events == ["created", "rollback", "closed"]


@pytest.mark.rule("M11", "M2")
def test_a_copied_context_in_the_same_thread_joins_and_closes_nothing(shop: Shop) -> None:
    """An eager executor runs the job at once: its end is not the end of the request."""
    sessions: list[Session] = []

    def view() -> str:
        copy_current_request_context(lambda: sessions.append(shop.session))()
        sessions.append(shop.session)
        copy_current_request_context(lambda: sessions.append(shop.session))()
        return str(texts(shop.session))

    assert shop.serve(view).text == "[]"
    assert sessions[0] is sessions[1] is sessions[2]
    assert shop.events == ["created", "closed"]


@pytest.mark.rule("M13", "M9")
def test_a_background_thread_may_open_a_unit_of_its_own(shop: Shop) -> None:
    """As the error says; it commits by itself while the request goes on."""

    def job() -> bool:
        with shop.manager.unit_of_work(), shop.manager.session_scope() as session:
            session.add(Note(text="job"))
            return shop.manager.session is session

    def view() -> str:
        session = shop.session
        assert in_thread(copy_current_request_context(job)) is True
        assert shop.session is session
        return str(texts(session))

    assert shop.serve(view).text == "['job']"
    assert shop.kept() == ["job"]


@pytest.mark.rule("M13", "M17")
def test_a_background_job_that_outlives_its_request_has_its_own_session(shop: Shop) -> None:
    """The request is over when it begins; its copied context is a new extent, with an end."""
    jobs: list[Callable[[], object]] = []
    sessions: list[Session] = []

    def job() -> str:
        sessions.append(shop.session)
        assert shop.session is sessions[-1]
        return str(texts(shop.session))

    def view() -> str:
        sessions.append(shop.session)
        jobs.append(copy_current_request_context(job))
        jobs.append(copy_current_request_context(job))
        return "ok"

    shop.serve(view)
    assert [in_thread(job) for job in jobs] == ["[]", "[]"]
    assert len({*sessions}) == 3
    assert connections_held(shop.engine) == 0
    assert shop.events == ["created", "closed"] * 3


@pytest.mark.rule("M13", "M12", "M2")
def test_what_a_thread_began_in_an_unserved_request_is_left_to_it(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing claimed the session for the request; its end may come while the thread is at work."""
    used, ended, closed = threading.Event(), threading.Event(), threading.Event()

    def job() -> None:
        session = shop.session
        session.connection()
        used.set()
        ended.wait()
        assert texts(session) == []
        assert shop.session is session
        closed.set()

    with shop.app.test_request_context():
        thread = threading.Thread(target=contextvars.copy_context().run, args=(job,))
        thread.start()
        used.wait()
    ended.set()
    thread.join()
    assert closed.is_set()

    gc.collect()
    assert shop.serve(lambda: str(texts(shop.session))).text == "[]"
    assert connections_held(shop.engine) == 0
    assert len(caplog.records) == 1


@pytest.mark.rule("M13")
def test_an_executor_is_refused_too(shop: Shop) -> None:
    """Flask-Executor and the like copy the context for the pool's threads."""

    def view() -> str:
        shop.session.connection()
        with ThreadPoolExecutor(1, thread_name_prefix="pool") as executor:
            context = contextvars.copy_context()
            answer = executor.submit(context.run, lambda: shop.session).exception()
        assert_refused(answer, "thread 'MainThread'", "thread 'pool_0'")
        return "ok"

    assert shop.serve(view).text == "ok"


@pytest.mark.rule("M13")
def test_threads_share_no_unit_of_work(shop: Shop) -> None:
    """Each thread opens its own; one that copied the context is refused the other's."""
    with shop.manager.unit_of_work():
        session = shop.session
        context = contextvars.copy_context()
        assert_refused(
            in_thread(lambda: context.run(lambda: shop.session)),
            "thread 'MainThread'",
            "thread 'worker'",
            "unit of work",
        )

        def own() -> object:
            with shop.manager.unit_of_work():
                return shop.session

        assert in_thread(lambda: contextvars.copy_context().run(own)) is not session
        assert in_thread(lambda: context.run(own)) is not session
        assert shop.session is session


@pytest.mark.rule("M13")
def test_another_task_is_refused(shop: Shop) -> None:
    """Tasks copy the context of their maker; both are named."""

    async def main() -> None:
        with shop.manager.unit_of_work():
            session = shop.session

            async def ask() -> object:
                return shop.session

            assert await ask() is session
            answers = await asyncio.gather(
                asyncio.create_task(ask(), name="other"), return_exceptions=True
            )
            assert_refused(answers[0], "task 'main'", "task 'other'")
            answers = await asyncio.gather(
                asyncio.to_thread(asyncio.run, ask()), return_exceptions=True
            )
            assert_refused(answers[0], "task 'main'")

    async def named() -> None:
        await asyncio.create_task(main(), name="main")

    asyncio.run(named())


@pytest.mark.rule("M13")
def test_an_event_loop_in_a_view_is_another_task(shop: Shop) -> None:
    """``asyncio.run()`` by hand is none of Flask's own async views."""

    async def ask() -> object:
        return shop.session

    def view() -> str:
        shop.session.connection()
        with pytest.raises(ScopeOwnershipError, match="task"):
            asyncio.run(ask())
        return "ok"

    assert shop.serve(view).text == "ok"


@pytest.mark.rule("M13")
def test_a_manager_of_another_app_does_not_take_the_request_for_its_own(
    shop: Shop, tmp_path: object
) -> None:
    """It serves requests of its own apps; a call in another one's has a unit of its own (M10)."""
    other = Shop(f"sqlite:///{tmp_path}/other.sqlite")

    def view() -> str:
        with pytest.raises(RuntimeError, match="unit_of_work"):
            _ = other.session
        assert other.manager.transactional(lambda: other.write("kept").text)() == "kept"
        assert not other.manager.is_session_active()
        with other.manager.unit_of_work():
            assert other.session is other.session
        return "ok"

    assert shop.serve(view).text == "ok"
    assert other.kept() == ["kept"]
    assert other.events == ["created", "commit", "closed", "created", "closed"]
    other.close()
