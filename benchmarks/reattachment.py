"""Measure reattachment beside what SQLAlchemy offers, for 1, 10 and 1,000 instances.

    python -m benchmarks.reattachment

Each instance has one related instance loaded. All ways are measured in turn, in rounds; each is
divided by ``session.add()`` of the same instances, and the refresh by ``session.merge_all()``,
within the round.
"""

from __future__ import annotations

import argparse
import gc
import statistics
from collections.abc import Callable, Sequence
from inspect import signature
from time import perf_counter
from typing import TypeAlias

from sqlalchemy import ForeignKey, StaticPool, create_engine, event, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)

from flask_reqsession.reattachment import ArgumentPlan, Memory, ReattachOptions

Way: TypeAlias = Callable[[Session, list["Item"]], object]

REPEATS = {1: 60, 10: 12, 1000: 1}
BY_MERGE_ALL = ("merge_all()", "refresh=True")


class Base(DeclarativeBase):
    """The two tables."""


class Owner(Base):
    """Somebody."""

    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Item(Base):
    """Something of somebody's."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner_id: Mapped[int] = mapped_column(ForeignKey("owner.id"))
    owner: Mapped[Owner] = relationship()


def look(items: Sequence[Item]) -> object:
    """Be what is decorated."""
    return items


class Bench:
    """A database, the ways to bring instances into a session, and the SQL they send."""

    def __init__(self) -> None:
        engine = create_engine("sqlite://", poolclass=StaticPool)
        Base.metadata.create_all(engine)
        self.make = sessionmaker(engine, expire_on_commit=False)
        self.memory = Memory()
        self.memory.watch(self.make)
        self.statements = 0
        with self.make.begin() as session:
            session.add_all(Owner(id=n, name="o") for n in range(1, 101))
            session.add_all(Item(id=n, name="i", owner_id=n % 100 + 1) for n in range(1, 1001))
        event.listen(engine, "before_cursor_execute", self._count)
        self.plan = ArgumentPlan("look", signature(look))
        self.fresh = ArgumentPlan("look", signature(look), (), ReattachOptions(refresh=True))

    def _count(self, *_event: object) -> None:
        self.statements += 1

    def load(self, number: int) -> list[Item]:
        """Return detached instances, each with its owner."""
        with self.make() as session:
            statement = select(Item).options(selectinload(Item.owner)).limit(number)
            return list(session.scalars(statement))

    def ways(self) -> dict[str, Way]:
        """Return what is compared; ours as a decorated function does it with one list."""
        return {
            "add()": lambda session, items: [session.add(item) for item in items],
            "attached": lambda session, items: self.plan.apply(
                session, (items,), {}, memory=self.memory
            ),
            "detached": lambda session, items: self.plan.apply(
                session, (items,), {}, memory=self.memory
            ),
            "merge(load=False)": lambda s, items: [s.merge(item, load=False) for item in items],
            "merge()": lambda session, items: [session.merge(item) for item in items],
            "merge_all()": lambda session, items: session.merge_all(items),
            "refresh=True": lambda session, items: self.fresh.apply(
                session, (items,), {}, memory=self.memory
            ),
        }

    def sample(self, name: str, way: Way, items: list[Item]) -> float:
        """Return the seconds that one call takes."""
        taken = 0.0
        for _ in range(REPEATS[len(items)]):
            with self.make() as session:
                session.connection()  # the transaction's own cost is not compared
                if name == "attached":
                    session.add_all(items)
                self.statements = 0
                started = perf_counter()
                kept = way(session, items)
                taken += perf_counter() - started
                session.expunge_all()
                del kept
        return taken / REPEATS[len(items)]


def measure(bench: Bench, number: int, rounds: int) -> None:
    """Print a line for each way."""
    items, ways = bench.load(number), bench.ways()
    times: dict[str, list[float]] = {name: [] for name in ways}
    sql: dict[str, int] = {}
    names = list(ways)
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            times[name].append(bench.sample(name, ways[name], items))
            sql[name] = bench.statements
    for name, taken in times.items():
        base = "merge_all()" if name in BY_MERGE_ALL else "add()"
        ratio = statistics.median(a / b for a, b in zip(taken, times[base], strict=True))
        middle = statistics.median(taken) * 1e6
        print(
            f"{number:>5} {name:<18} {middle:10.1f} us {ratio:7.2f} x {base:<12} {sql[name]:>5} SQL"
        )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    bench = Bench()
    gc.collect()
    gc.freeze()
    for number, repeats in REPEATS.items():
        measure(bench, number, max(5, rounds // 4) if repeats == 1 else rounds)


if __name__ == "__main__":
    main()
