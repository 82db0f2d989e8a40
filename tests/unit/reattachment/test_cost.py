"""What reattachment costs: counted in Python calls, since clocks are not exact.

The numbers are ceilings without slack: lower one when the code has become cheaper.
"""

from __future__ import annotations

from inspect import signature

import pytest
from sqlalchemy import StaticPool, create_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    make_transient_to_detached,
    mapped_column,
)

from flask_reqsession.reattachment import ArgumentPlan, Memory, ReattachOptions, attach
from tests.call_counts import calls_in


class Base(DeclarativeBase):
    """The models of this file; no table is ever made."""


class Item(Base):
    """A model without relationships."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)


def detached(number: int) -> Item:
    """Return a detached item."""
    item = Item(id=number)
    make_transient_to_detached(item)
    return item


@pytest.mark.rule("R3", "R13")
def test_an_attached_instance_costs_one_call() -> None:
    """The look at its state."""
    session, memory = Session(), Memory()
    item = attach(session, detached(1), memory=memory)

    assert calls_in(lambda: attach(session, item, memory=memory)).ours == 1


@pytest.mark.rule("R4", "R13")
def test_a_detached_instance_costs_a_constant_number_of_calls() -> None:
    """A thousand of them, too: nothing is looked at twice."""
    memory = Memory()

    def cost(number: int) -> int:
        items = [detached(each) for each in range(number)]
        return calls_in(lambda: attach(Session(), items, memory=memory)).ours

    cost(1)  # the class is looked at once
    one, two, many = cost(1), cost(2), cost(1002)
    assert many - two == 1000 * (two - one)
    assert two - one <= PER_INSTANCE


@pytest.mark.rule("R4", "R13")
def test_a_single_detached_instance_needs_no_record_of_the_call() -> None:
    """Whether it is passed to a function or attached by itself."""
    memory = Memory()
    plan = ArgumentPlan("look", signature(lambda item: item))
    attach(Session(), detached(1), memory=memory)  # the class is looked at once
    item, other = detached(1), detached(2)

    assert calls_in(lambda: attach(Session(), item, memory=memory)).ours <= OF_ONE
    assert calls_in(lambda: plan.apply(Session(), (other,), {}, memory=memory)).ours <= OF_ONE


@pytest.mark.rule("R9", "R13")
def test_the_statement_of_a_refresh_is_made_once() -> None:
    """Whatever the instances are; SQLAlchemy's own cache knows it again, too."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    memory, options = Memory(), ReattachOptions(refresh=True)
    with Session(engine) as session, session.begin():
        session.add_all(Item(id=number) for number in (1, 2))

    def cost(number: int) -> int:
        with Session(engine) as session:
            item = detached(number)
            return calls_in(lambda: attach(session, item, memory=memory, options=options)).ours

    first, again, other = cost(1), cost(1), cost(2)
    engine.dispose()
    assert first > again == other
    assert again <= OF_A_REFRESH


OF_A_REFRESH = 78
OF_ONE = 4
PER_INSTANCE = 1
