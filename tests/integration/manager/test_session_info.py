"""What ``get_session_info()`` tells, and that asking changes nothing."""

from __future__ import annotations

import contextvars
import json
from collections.abc import Generator
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from flask_reqsession import set_rollback_only
from tests.integration.manager.shop import Note, Shop, texts
from tests.integration.manager.threads import in_thread

NOTHING: dict[str, Any] = {
    "has_request_context": False,
    "has_session": False,
    "session_active": False,
    "session_dirty": False,
    "session_new": False,
    "session_deleted": False,
    "in_transaction": False,
    "depth": 0,
    "propagation": None,
    "isolation": None,
    "read_only": False,
    "rollback_only": False,
    "age_seconds": None,
    "owner": None,
    "pending_hooks": 0,
    "pool": [],
}


def info(shop: Shop) -> dict[str, Any]:
    """Ask, by way of JSON."""
    told: dict[str, Any] = json.loads(json.dumps(shop.manager.get_session_info()))
    return told


def differences(told: dict[str, Any]) -> dict[str, Any]:
    """Return what is not as it is outside of everything, the age as whether it is sensible."""
    changed = {key: value for key, value in told.items() if value != NOTHING[key]}
    if "age_seconds" in changed:
        changed["age_seconds"] = 0 <= changed["age_seconds"] < 5
    return changed


@pytest.mark.rule("M6")
def test_outside_of_everything_every_key_is_there(shop: Shop) -> None:
    """And nothing is made by asking."""
    assert info(shop) == NOTHING
    with shop.manager.unit_of_work():
        assert differences(info(shop)) == {"owner": "thread 'MainThread'"}
    assert shop.events == []


@pytest.mark.rule("M6")
def test_each_key_follows_the_session(shop: Shop) -> None:
    """New, dirty and deleted objects, a transaction, a pool."""
    shop.keep("one", "two")
    exists = {
        "has_session": True,
        "session_active": True,
        "age_seconds": True,
        "owner": "thread 'MainThread'",
    }
    with shop.manager.unit_of_work():
        session = shop.session
        assert differences(info(shop)) == exists
        one, two = session.scalars(select(Note).order_by(Note.id))
        begun = differences(info(shop))
        (pool,) = begun.pop("pool")
        assert begun == {**exists, "in_transaction": True}
        assert pool.startswith("Pool size: 5")
        one.text = "changed"
        session.delete(two)
        session.add(Note(text="new"))
        changed = differences(info(shop))
        assert {key for key in changed if key not in begun} == {
            *("session_dirty", "session_new", "session_deleted", "pool")
        }
        assert shop.kept() == ["one", "two"]


@pytest.mark.rule("M6")
def test_a_request_says_so(shop: Shop) -> None:
    """With or without a session."""

    def view() -> dict[str, Any]:
        before = differences(info(shop))
        texts(shop.session)
        return {"before": before, "after": info(shop)["has_request_context"]}

    assert shop.serve(view).json == {
        "before": {"has_request_context": True, "owner": "thread 'MainThread'"},
        "after": True,
    }


@pytest.mark.rule("M6")
def test_a_scope_is_described(shop: Shop) -> None:
    """How deep, how it was entered, and whether it is lost already."""

    def scope_of(told: dict[str, Any]) -> tuple[object, ...]:
        return told["depth"], told["propagation"], told["rollback_only"]

    with shop.manager.session_scope():
        assert scope_of(info(shop)) == (1, "REQUIRED", False)
        with shop.manager.session_scope(propagation="NESTED"):
            assert scope_of(info(shop)) == (2, "NESTED", False)
        with shop.manager.session_scope(propagation="REQUIRES_NEW"):
            assert scope_of(info(shop)) == (1, "REQUIRES_NEW", False)
        set_rollback_only()
        assert scope_of(info(shop)) == (1, "REQUIRED", True)


@pytest.mark.rule("M6", "T11")
def test_a_paused_generator_is_described_to_its_consumer(shop: Shop) -> None:
    """Its scope is not current, but it is what holds the transaction."""

    @shop.manager.transactional
    def notes() -> Generator[str]:
        yield shop.write().text

    with shop.manager.unit_of_work():
        generator = notes()
        next(generator)
        assert info(shop)["depth"] == 1
        generator.close()
        assert info(shop)["depth"] == 0


@pytest.mark.rule("M6")
def test_a_session_that_needs_a_rollback_is_not_active(shop: Shop) -> None:
    """A flush failed in it, outside of every scope."""
    with shop.manager.unit_of_work():
        shop.write()
        with pytest.raises(DBAPIError):
            shop.write()
        assert info(shop)["session_active"] is False
        shop.session.rollback()
        assert info(shop)["session_active"] is True


@pytest.mark.rule("M6", "M13")
def test_the_session_of_another_thread_is_not_looked_into(shop: Shop) -> None:
    """It may change at any moment; that it exists, since when and whose it is, can be told."""
    with shop.manager.unit_of_work():
        shop.session.add(Note(text="new"))
        context = contextvars.copy_context()
        told = in_thread(lambda: context.run(shop.manager.get_session_info))
    assert isinstance(told, dict)
    assert differences(told) == {
        "has_session": True,
        "age_seconds": True,
        "owner": "thread 'MainThread'",
    }


@pytest.mark.rule("M6", "O5")
def test_no_value_and_no_credential_is_in_it(postgresql_shop: Shop) -> None:
    """Neither what was written nor where the database is."""
    shop = postgresql_shop
    with shop.manager.session_scope():
        shop.write("secret")
        told = json.dumps(info(shop))
    assert "secret" not in told
    assert str(shop.engine.url.database) not in told
