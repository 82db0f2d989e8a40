"""A database with a few rows, in models with every usual kind of relationship."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from sqlalchemy import Column, ForeignKey, Table, create_engine, event, text
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    WriteOnlyMapped,
    make_transient_to_detached,
    mapped_column,
    relationship,
    sessionmaker,
)
from sqlalchemy.orm.interfaces import ORMOption

from flask_reqsession.reattachment import Memory, ReattachOptions, attach

T = TypeVar("T", bound=object)


class Base(DeclarativeBase):
    """The models of this file."""


class Person(Base):
    """Somebody with orders."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str] = mapped_column(deferred=True)
    orders: Mapped[list[Order]] = relationship(back_populates="person", order_by="Order.id")


class Order(Base):
    """What a person ordered."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int]
    person_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    person: Mapped[Person | None] = relationship(back_populates="orders")


class Account(Base):
    """A row with a version, and a composite key."""

    __tablename__ = "account"
    bank: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy declares it


links = Table(
    "link",
    Base.metadata,
    Column("a", ForeignKey("folder.id"), primary_key=True),
    Column("b", ForeignKey("folder.id"), primary_key=True),
)


class Folder(Base):
    """A node of graphs with the rarer kinds of relationships."""

    __tablename__ = "folder"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    owner: Mapped[Person | None] = relationship(cascade="")
    linked: Mapped[list[Folder]] = relationship(
        secondary=links, primaryjoin="Folder.id == link.c.a", secondaryjoin="Folder.id == link.c.b"
    )
    shown: Mapped[list[Folder]] = relationship(
        secondary=links,
        primaryjoin="Folder.id == link.c.b",
        secondaryjoin="Folder.id == link.c.a",
        viewonly=True,
    )
    notes: WriteOnlyMapped[Note] = relationship(back_populates="folder")
    remarks: DynamicMapped[Note] = relationship(viewonly=True)


class Note(Base):
    """Something in a collection that is never loaded whole."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    folder_id: Mapped[int | None] = mapped_column(ForeignKey("folder.id"))
    folder: Mapped[Folder | None] = relationship(back_populates="notes")


class Shop:
    """A database with a few rows, the SQL that it was sent, and a factory of sessions."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_engine(url)
        self.sql: list[str] = []
        self.memory = Memory()
        self.session = sessionmaker(self.engine, expire_on_commit=False)
        self.memory.watch(self.session)
        Base.metadata.create_all(self.engine)
        with self.session.begin() as session:
            session.add_all(
                [
                    Person(id=1, name="ada", email="ada@example.org"),
                    Person(id=2, name="bob", email="bob@example.org"),
                    Order(id=1, total=10, person_id=1),
                    Order(id=2, total=20, person_id=1),
                    Account(bank="x", number=1, balance=100),
                    Folder(id=1),
                ]
            )
            session.flush()
            session.add_all([Folder(id=2), Note(id=1, folder_id=1), Note(id=2, folder_id=2)])
        event.listen(self.engine, "before_cursor_execute", self._note)

    def _note(self, _connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        # SQLAlchemy 2.0 labels the columns of a lazy load, 2.1 does not.
        self.sql.append(re.sub(r" AS \w+", "", " ".join(statement.split())))

    def load(self, model: type[T], key: object, *options: ORMOption) -> T:
        """Return a detached instance; its SQL is forgotten."""
        with self.session() as session:
            instance = session.get_one(model, key, options=options)
        self.sql.clear()
        return instance

    def write(self, sql: str) -> None:
        """Change the database behind everybody's back; forget the SQL until now."""
        with self.session.begin() as other:
            other.execute(text(sql))
        self.sql.clear()

    def attach(self, session: Session, instance: T, **options: Any) -> T:
        """Attach with the shop's memory."""
        chosen = ReattachOptions(**options)
        return attach(session, instance, memory=self.memory, options=chosen)


def as_detached(instance: T) -> T:
    """Make a new instance look as if it had been saved and its session closed."""
    make_transient_to_detached(instance)
    return instance
