"""What a whole request costs: the calls of our Python functions, since clocks are not exact.

The numbers are ceilings without slack: lower one when the code has become cheaper.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from sqlalchemy.orm import Session

from tests.call_counts import calls_in
from tests.integration.manager.shop import Note, Shop


def empty(_session: Session) -> str:
    """Do nothing with the session."""
    return "ok"


def read(session: Session) -> str:
    """Read one row."""
    return str(session.get(Note, 1))


def insert(session: Session) -> str:
    """Insert a row and commit."""
    session.add(Note(text=str(uuid4())))
    return "ok"


def fail(session: Session) -> str:
    """Insert a row, flush, and fail."""
    session.add(Note(text="lost"))
    session.flush()
    raise LookupError


def in_requests(shop: Shop, view: Callable[[], str]) -> int:
    """Count the calls in one request of ``view``, when everything is cached."""
    shop.app.add_url_rule("/", "index", view)
    shop.app.register_error_handler(LookupError, lambda _error: ("not found", 404))
    shop.get("/")
    shop.get("/")
    return calls_in(lambda: shop.get("/")).ours


def test_a_request_without_a_session_costs_this_many_calls(shop: Shop) -> None:
    """The session has an owner from the beginning, and none is made."""
    assert in_requests(shop, lambda: "ok") <= 15


@pytest.mark.rule("M1", "M2", "M17")
@pytest.mark.parametrize(("work", "ours"), [(empty, 51), (read, 77), (insert, 80), (fail, 86)])
def test_a_request_with_a_scope_costs_this_many_calls(
    shop: Shop, work: Callable[[Session], str], ours: int
) -> None:
    """With the decorators bound to the manager: injected, committed or rolled back, and closed."""
    view = shop.manager.transactional(shop.manager.with_request_session(work))
    assert in_requests(shop, view) <= ours


def test_three_services_cost_three_calls_more(shop: Shop) -> None:
    """Each joins the scope of the view, and has the session injected."""
    tx, inject = shop.manager.transactional, shop.manager.with_request_session
    third = tx(inject(read))

    @tx
    @inject
    def second(session: Session) -> str:
        assert session.is_active
        return third()

    @tx
    @inject
    def first(session: Session) -> str:
        assert session.is_active
        return second()

    assert in_requests(shop, tx(first)) <= 77 + 3
