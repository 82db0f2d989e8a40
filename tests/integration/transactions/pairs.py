"""Two databases, sessions on both, and the ways to write to both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Engine, String, event, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from flask_reqsession import RequestScopedSessionManager
from flask_reqsession.engines import make_engine
from tests.servers.connections import rows_of
from tests.servers.processes import Server


class Base(DeclarativeBase):
    """The tables of these pairs, each in a database of its own."""


class Order(Base):
    """What is in the one database."""

    __tablename__ = "shop_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(40), unique=True)


class Entry(Base):
    """What is in the other one."""

    __tablename__ = "entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(40), unique=True)


MODELS: tuple[Any, Any] = (Order, Entry)


@dataclass
class Pair:
    """Two databases, and managers whose sessions use both."""

    urls: list[str]
    engines: list[Engine] = field(default_factory=list[Engine])

    def __post_init__(self) -> None:
        for url, model in zip(self.urls, MODELS, strict=True):
            engine = make_engine(url)
            model.__table__.create(engine)
            self.engines.append(engine)

    def factory(self, **options: Any) -> sessionmaker[Session]:
        """Return a factory of sessions on both databases."""
        return sessionmaker(binds=dict(zip(MODELS, self.engines, strict=True)), **options)

    def manager(self, **options: Any) -> RequestScopedSessionManager:
        """Return a manager of such sessions, in two phases if it is to be so."""
        factory = self.factory(twophase=options.get("twophase", False))
        return RequestScopedSessionManager(factory, **options)

    def kept(self) -> list[list[object]]:
        """Return what a second connection sees in the one database and in the other."""
        return [
            [kept for (kept,) in rows_of(url, f"SELECT text FROM {model.__tablename__}")]  # noqa: S608
            for url, model in zip(self.urls, MODELS, strict=True)
        ]

    @property
    def is_postgresql(self) -> bool:
        """Whether a prepared transaction is known in its own database only."""
        return self.engines[0].dialect.name == "postgresql"

    def prepared(self) -> list[list[object]]:
        """Return the names of the transactions that are prepared in each.

        MariaDB tells them of the whole server: they are said to be in the first.
        """
        if not self.is_postgresql:
            found = rows_of(self.urls[0], "XA RECOVER")
            return [[cast("bytes", row[-1]).decode() for row in found], []]
        query = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"
        return [[gid for (gid,) in rows_of(url, query)] for url in self.urls]

    def recover(self, verb: str, but: str = "", logged: str = "") -> None:
        """End what is prepared as an operator would: by ``verb``; ``but`` what was ``logged``."""
        words = "{} PREPARED '{}'" if self.is_postgresql else "XA {} '{}'"
        for engine, gids in zip(self.engines, self.prepared(), strict=True):
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                for gid in gids:
                    chosen = but if str(gid) in logged else verb
                    connection.exec_driver_sql(words.format(chosen, gid))

    def await_end_of_clients(self) -> None:
        """Wait until MariaDB has noticed that a client is gone: its transactions are free then."""
        others = (
            "SELECT count(*) FROM information_schema.processlist "
            "WHERE db IN (:one, :other) AND id <> connection_id()"
        )
        names = [str(engine.url.database) for engine in self.engines]
        while not self.is_postgresql and rows_of(
            self.urls[0], others, one=names[0], other=names[1]
        ) != [(0,)]:
            ...

    def dispose(self) -> None:
        """Close what is open; nothing may be checked out any more."""
        held = [engine.pool.checkedout() for engine in self.engines]  # type: ignore[attr-defined]
        for engine in self.engines:
            engine.dispose()
        assert held == [0, 0]


@contextmanager
def pair_on(server: Server) -> Iterator[Pair]:
    """Give two new databases of one server, in which nothing stays prepared."""
    with ExitStack() as stack:
        pair = Pair([stack.enter_context(server.database()) for _ in MODELS])
        yield pair
        pair.recover("ROLLBACK")
        pair.dispose()


def write_both(session: Session) -> None:
    """Write to both databases."""
    session.add_all([Order(text="one"), Entry(text="one")])


def write_core(session: Session) -> None:
    """Write to both without the ORM's unit of work."""
    session.execute(insert(Order).values(text="one"))
    session.execute(insert(Entry).values(text="one"))


def write_at_the_last_moment(session: Session) -> None:
    """Write to the second one when the scope has asked for its COMMIT already."""
    session.add(Order(text="one"))
    event.listen(
        session, "before_commit", lambda session: session.add(Entry(text="one")), once=True
    )


def write_nested(session: Session) -> None:
    """Write to the second one in a savepoint."""
    session.add(Order(text="one"))
    with session.begin_nested():
        session.add(Entry(text="one"))


WRITES = [write_both, write_core, write_at_the_last_moment, write_nested]
