"""Models and values that define more than usual: equality, tracking of changes, listeners."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import pytest
from sqlalchemy import ForeignKey, Integer, TypeDecorator, create_engine, event
from sqlalchemy.ext.mutable import Mutable
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)

from flask_reqsession import RequestScopedSessionManager, Retry
from flask_reqsession.reattachment import attach
from tests.never import never
from tests.servers.connections import Rows

T = TypeVar("T")


class Base(DeclarativeBase):
    """The models of this file."""


class Level(Mutable):
    """A value that tells whom it belongs to when it changes, and is copied with all it has."""

    def __init__(self, height: int) -> None:
        self.height = height

    @classmethod
    def coerce(cls, _key: str, value: object) -> Level:
        """Take levels as they are."""
        assert isinstance(value, Level)
        return value

    def raise_by(self, height: int) -> None:
        """Change it."""
        self.height += height
        self.changed()


class Unique(str):
    """A text that is not to be copied."""

    __slots__ = ()

    def __deepcopy__(self, _memo: object) -> Unique:
        """Fail."""
        return never(self)


class LevelType(TypeDecorator[Level]):
    """A column of levels."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Level | None, _dialect: object) -> int | None:
        """Store the height."""
        return None if value is None else value.height

    def process_result_value(self, value: int | None, _dialect: object) -> Level | None:
        """Make a level."""
        return None if value is None else Level(value)


class Box(Base):
    """A box of items, with others on show, a level, and perhaps a lid."""

    __tablename__ = "box"
    id: Mapped[int] = mapped_column(primary_key=True)
    level: Mapped[Level] = mapped_column(Level.as_mutable(LevelType))
    items: Mapped[list[Item]] = relationship(
        back_populates="box", order_by="Item.id", foreign_keys="Item.box_id"
    )
    shown: Mapped[list[Item]] = relationship(order_by="Item.id", foreign_keys="Item.shown_on_id")
    lid: Mapped[Lid | None] = relationship(back_populates="box")


class Item(Base):
    """Equal to every item of its name."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    box_id: Mapped[int | None] = mapped_column(ForeignKey("box.id"))
    box: Mapped[Box | None] = relationship(back_populates="items", foreign_keys=box_id)
    shown_on_id: Mapped[int | None] = mapped_column(ForeignKey("box.id"))

    def __eq__(self, other: object) -> bool:
        """Compare the names."""
        return isinstance(other, Item) and other.name == self.name

    def __hash__(self) -> int:
        """Fit the equality."""
        return hash(self.name)


class Lid(Base):
    """The lid of one box."""

    __tablename__ = "lid"
    id: Mapped[int] = mapped_column(primary_key=True)
    box_id: Mapped[int | None] = mapped_column(ForeignKey("box.id"))
    box: Mapped[Box | None] = relationship(back_populates="lid")


class Store:
    """A database with a box of three items of one name, an item outside, and two lids."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_engine(url)
        self.session = sessionmaker(self.engine, expire_on_commit=False)
        Base.metadata.create_all(self.engine)
        with self.session.begin() as session:
            inside = [Item(id=number, name="ball") for number in (1, 2, 3)]
            outside = Item(id=4, name="ball")
            lids = [Lid(id=1), Lid(id=2)]
            box = Box(id=1, level=Level(5), items=inside, shown=[*inside])
            session.add_all([box, outside, *lids])

    def box(self, session: Session) -> Box:
        """Load the box with all that is in it."""
        items = selectinload(Box.items).selectinload(Item.box)
        options = [items, selectinload(Box.shown), selectinload(Box.lid)]
        return session.get_one(Box, 1, options=options)

    def detached(self) -> Box:
        """Return the box, detached."""
        with self.session() as session:
            return self.box(session)

    def load(self, model: type[T], key: int) -> T:
        """Return a detached instance with its box."""
        with self.session() as session:
            return session.get_one(model, key, options=[selectinload(model.box)])  # type: ignore[attr-defined]


@pytest.fixture
def store(sqlite_file_url: str) -> Iterator[Store]:
    """Give a store of its own to each test."""
    store = Store(sqlite_file_url)
    yield store
    store.engine.dispose()


INSIDE = "SELECT id FROM item WHERE box_id = 1 ORDER BY id"
SHOWN = "SELECT id FROM item WHERE shown_on_id = 1 ORDER BY id"


@pytest.mark.rule("R5")
def test_an_added_member_may_be_equal_to_another_one(store: Store, rows: Rows) -> None:
    """It is added: it is not the same."""
    box = store.detached()
    box.items.append(store.load(Item, 4))
    with store.session() as session:
        own = store.box(session)
        assert attach(session, box) is own
        assert [item.id for item in own.items] == [1, 2, 3, 4]
        assert len({*own.items}) == 1
        session.commit()

    assert rows(store.url, INSIDE) == [(1,), (2,), (3,), (4,)]


@pytest.mark.rule("R5")
def test_a_removed_member_may_be_equal_to_another_one(store: Store, rows: Rows) -> None:
    """The others stay, whether they lead back or not."""
    box = store.detached()
    del box.items[1]
    del box.shown[1]
    with store.session() as session:
        own = store.box(session)
        assert attach(session, box) is own
        assert [item.id for item in own.items] == [1, 3]
        assert [item.id for item in own.shown] == [1, 3]
        session.commit()

    assert rows(store.url, INSIDE) == [(1,), (3,)]
    assert rows(store.url, SHOWN) == [(1,), (3,)]


@pytest.mark.rule("R5")
def test_a_member_of_a_new_parent_may_be_equal_to_another_one(store: Store, rows: Rows) -> None:
    """It is in the collection on the other side of its reference."""
    item = store.load(Item, 4)
    item.box = store.detached()
    with store.session() as session:
        box, own = store.box(session), session.get_one(Item, 4)
        assert attach(session, item) is own
        assert [each.id for each in box.items] == [1, 2, 3, 4]
        session.commit()

    assert rows(store.url, INSIDE) == [(1,), (2,), (3,), (4,)]


@pytest.mark.rule("R10")
def test_a_removed_and_replaced_member_may_be_equal_to_another_one(
    store: Store, rows: Rows
) -> None:
    """Only the reference to it is changed in a box that is attached itself."""
    box = store.detached()
    del box.items[1]
    with store.session() as session:
        own = session.get_one(Item, 2)
        assert attach(session, box) is box
        assert [item.id for item in box.items] == [1, 3]
        session.commit()
        assert own.box_id is None

    assert rows(store.url, INSIDE) == [(1,), (3,)]


@pytest.mark.rule("R5", "R6")
@pytest.mark.parametrize("foreign", [False, True])
def test_a_mutable_value_tells_nobody_but_its_own_instance(store: Store, *, foreign: bool) -> None:
    """However it is copied: the argument does not become a changed one."""
    with store.session() as other, store.session() as session:
        box = other.get_one(Box, 1)
        if not foreign:
            own = session.get_one(Box, 1)
            other.expunge(box)
            box.level.raise_by(1)
            attach(session, box)
            other.add(box)
            other.flush()
        else:
            own = attach(session, box)
        before = box.level.height

        own.level.raise_by(10)

        assert session.is_modified(own)
        assert not other.is_modified(box)
        assert (own.level.height, box.level.height) == (before + 10, before)


@pytest.mark.rule("R5")
def test_a_reference_is_written_once_for_both_of_its_sides(store: Store, rows: Rows) -> None:
    """Listeners hear of it once, whichever arguments have the change."""
    box, lid = store.detached(), store.load(Lid, 2)
    box.lid = lid
    heard: list[object] = []

    def hear(target: object, *_rest: object) -> None:
        heard.append(target)

    with store.session() as session:
        own = store.box(session), session.get_one(Lid, 2, options=[selectinload(Lid.box)])
        event.listen(Box.lid, "set", hear)
        event.listen(Lid.box, "set", hear)
        assert attach(session, (box, lid)) == own
        event.remove(Box.lid, "set", hear)
        event.remove(Lid.box, "set", hear)
        session.commit()

    assert (len(heard), {*heard}) == (2, {*own})
    assert rows(store.url, "SELECT id, box_id FROM lid ORDER BY id") == [(1, None), (2, 1)]


@pytest.mark.rule("R12")
def test_each_attempt_has_mutable_values_as_they_were(store: Store, rows: Rows) -> None:
    """Whatever a failed attempt did inside of them; what nobody follows is the very same value."""
    manager = RequestScopedSessionManager(store.url)
    box, item = store.detached(), store.load(Item, 4)
    box.level.raise_by(1)
    item.name = name = Unique("cube")
    seen: list[tuple[int, bool]] = []

    @manager.transactional(retry=Retry(attempts=3, on=LookupError, initial=0, maximum=0))
    @manager.reattach_args
    def climb(box: Box, item: Item) -> None:
        seen.append((box.level.height, item.name is name))
        box.level.raise_by(10)
        manager.session.flush()
        if len(seen) < 3:
            raise LookupError

    climb(box, item)

    manager.databases.dispose()
    assert seen == [(6, True)] * 3
    assert rows(store.url, "SELECT level FROM box") == [(16,)]
