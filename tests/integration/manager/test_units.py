"""Work outside of requests: units of work, and calls that open one for themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator

import pytest
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

from flask_reqsession import (
    ScopeOwnershipError,
    current_manager,
)
from tests.integration.manager.faults import FaultError
from tests.integration.manager.shop import Shop, connections_held, texts


@pytest.mark.rule("M9")
def test_a_unit_of_work_has_one_session_which_is_closed_at_its_end(shop: Shop) -> None:
    """It commits nothing by itself; the session is dead afterwards (M14)."""
    with shop.manager.unit_of_work():
        session = shop.session
        assert shop.session is session
        assert shop.manager.is_session_active()
        shop.write()
    assert connections_held(shop.engine) == 0
    assert not shop.manager.is_session_active()
    assert shop.kept() == []
    with pytest.raises(InvalidRequestError):
        session.connection()


@pytest.mark.rule("M9", "M17")
def test_a_unit_that_fails_is_closed_and_the_next_one_begins_anew(shop: Shop) -> None:
    """The exception goes on as it is."""
    raised = FaultError("body")
    with pytest.raises(FaultError) as caught, shop.manager.unit_of_work():
        shop.write()
        raise raised
    assert caught.value is raised
    assert not hasattr(raised, "__notes__")
    with shop.manager.unit_of_work():
        assert texts(shop.session) == []


@pytest.mark.rule("M9")
def test_a_nested_unit_joins_and_closes_nothing(shop: Shop) -> None:
    """Inside another unit, and inside a request."""

    def nest() -> str:
        session = shop.session
        with shop.manager.unit_of_work():
            assert shop.session is session
            shop.write()
        assert shop.session is session
        return str(texts(session))

    with shop.manager.unit_of_work():
        assert nest() == "['hello']"
    assert shop.serve(nest).text == "['hello']"
    assert shop.events == ["created", "rollback", "closed"] * 2


@pytest.mark.rule("M9")
def test_a_unit_inside_a_request_is_the_requests_also_if_it_comes_first(shop: Shop) -> None:
    """The session that the unit made is not closed before the request ends."""

    def view() -> str:
        with shop.manager.unit_of_work():
            note = shop.write()
        return str(note in shop.session)

    assert shop.serve(view).text == "True"


@pytest.mark.rule("M9", "M11")
def test_a_request_inside_a_unit_has_its_own_session(shop: Shop) -> None:
    """The test client is used in a test that has a unit of work open."""
    sessions: list[Session] = []
    shop.app.add_url_rule("/", "index", lambda: (sessions.append(shop.session), "ok")[1])
    with shop.manager.unit_of_work():
        sessions.append(shop.session)
        shop.get("/")
        with shop.app.test_request_context():
            sessions.append(shop.session)
        assert shop.session is sessions[0]

    assert len({*sessions}) == 3


@pytest.mark.rule("M9")
def test_a_unit_of_work_can_decorate_a_job(shop: Shop) -> None:
    """A context manager of the standard library's kind is a decorator, too."""

    @shop.manager.unit_of_work()
    def job() -> Session:
        return shop.session

    assert job() is not job()
    assert shop.events == ["created", "closed"] * 2


@pytest.mark.rule("M9")
def test_the_manager_of_a_unit_is_the_current_one(shop: Shop, tmp_path: object) -> None:
    """No app context is needed; a request started inside has the manager of its app."""
    other = Shop(f"sqlite:///{tmp_path}/other.sqlite")
    seen: list[object] = []
    shop.app.add_url_rule("/", "index", lambda: (seen.append(current_manager()), "ok")[1])

    with other.manager.unit_of_work():
        assert current_manager() is other.manager
        shop.get("/")
    with shop.app.test_request_context():
        with other.manager.unit_of_work():
            assert current_manager() is other.manager
            assert current_manager("default") is other.manager
        assert current_manager() is shop.manager
    assert seen == [shop.manager]
    other.close()


@pytest.mark.rule("M9")
def test_a_generator_keeps_its_own_unit_while_its_consumer_opens_another(shop: Shop) -> None:
    """It began outside of everything; what the consumer opens meanwhile is none of its business."""

    @shop.manager.transactional
    def notes() -> Iterator[Session]:
        for _ in range(3):
            yield shop.session

    generator = notes()
    own = next(generator)
    with shop.manager.unit_of_work():
        session = shop.session
        assert session is not own
        assert next(generator) is own
        assert shop.session is session
    assert next(generator) is own
    assert list(generator) == []
    assert connections_held(shop.engine) == 0


@pytest.mark.rule("M9")
def test_units_that_end_in_the_wrong_order_do_not_mix_up_the_others(
    shop: Shop, tmp_path: object
) -> None:
    """A generator's ``with`` block ends when the generator does, wherever that is."""
    other = Shop(f"sqlite:///{tmp_path}/other.sqlite")

    def opens_a_unit() -> Generator[Session]:
        with shop.manager.unit_of_work():
            yield shop.session
            yield shop.session

    generator = opens_a_unit()
    session = next(generator)
    with other.manager.unit_of_work():
        inner = other.session
        assert next(generator) is session
        generator.close()
        assert other.session is inner
        assert not shop.manager.is_session_active()
    assert not other.manager.is_session_active()
    with pytest.raises(RuntimeError):
        _ = shop.session
    other.close()


@pytest.mark.rule("M9", "M13")
def test_async_units_work_in_a_task(shop: Shop) -> None:
    """A sync session in ``async_unit_of_work()`` is closed as well; nested it joins."""

    async def job() -> None:
        async with shop.manager.async_unit_of_work():
            session = shop.session
            session.connection()
            async with shop.manager.async_unit_of_work():
                assert shop.session is session
            assert shop.session is session
        with pytest.raises(FaultError):
            async with shop.manager.async_unit_of_work():
                shop.write()
                raise FaultError("body")

    asyncio.run(job())
    assert shop.events == ["created", "closed", "created", "rollback", "closed"]
    assert ScopeOwnershipError.code == "ownership"
