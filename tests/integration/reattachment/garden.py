"""Nodes in trees, with tags: a small world whose rows and links one can list."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sqlalchemy import (
    Column,
    Connection,
    ForeignKey,
    StaticPool,
    Table,
    create_engine,
    delete,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)
from sqlalchemy.orm.attributes import instance_dict
from sqlalchemy.orm.interfaces import ORMOption


class Base(DeclarativeBase):
    """The tables of the garden."""


links = Table(
    "node_tag",
    Base.metadata,
    Column("node_id", ForeignKey("node.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class Node(Base):
    """A node with a version, a parent, children and tags."""

    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    a: Mapped[int]
    b: Mapped[int]
    version: Mapped[int] = mapped_column()
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    parent: Mapped[Node | None] = relationship(remote_side="Node.id", back_populates="children")
    children: Mapped[list[Node]] = relationship(back_populates="parent", order_by="Node.id")
    tags: Mapped[list[Tag]] = relationship(
        secondary=links, back_populates="nodes", order_by="Tag.id"
    )
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy declares it


class Tag(Base):
    """A tag on any number of nodes."""

    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    a: Mapped[int]
    nodes: Mapped[list[Node]] = relationship(
        secondary=links, back_populates="tags", order_by="Node.id"
    )


NODES = (1, 2, 3)
TAGS = (11, 12)
ALL = (*NODES, *TAGS)


def loaded_whole() -> list[ORMOption]:
    """Return the options that load all relationships of nodes."""
    return [
        selectinload(Node.parent),
        selectinload(Node.children),
        selectinload(Node.tags).selectinload(Tag.nodes),
    ]


@dataclass
class Rows:
    """The rows of the database, in plain data."""

    a: dict[int, int] = field(default_factory=dict[int, int])
    """By the number of a node or tag."""
    parents: dict[int, int | None] = field(default_factory=dict[int, "int | None"])
    versions: dict[int, int] = field(default_factory=dict[int, int])
    links: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])

    def copy(self) -> Rows:
        """Return rows of their own."""
        return Rows(dict(self.a), dict(self.parents), dict(self.versions), set(self.links))

    def remove(self, number: int) -> None:
        """Delete a row as the ORM does: children lose their parent, links go."""
        del self.a[number]
        self.parents.pop(number, None)
        self.versions.pop(number, None)
        for child, parent in self.parents.items():
            if parent == number:
                self.parents[child] = None
        self.links = {link for link in self.links if number not in link}

    def children(self, number: int) -> list[int]:
        """Return the children of a node."""
        return sorted(child for child, parent in self.parents.items() if parent == number)

    def linked(self, number: int) -> list[int]:
        """Return the tags of a node, or the nodes of a tag."""
        return sorted(sum(link) - number for link in self.links if number in link)


Memories: TypeAlias = "list[tuple[dict[str, Any], dict[str, Any]]]"
"""What instances have in memory: the living thing, and what it was."""


def memories_of(instances: Iterable[object]) -> Memories:
    """Remember what instances have loaded and set, each with the members of its collections."""
    living: list[dict[str, Any]] = [instance_dict(each) for each in instances]
    return [(each, {name: _copied(value) for name, value in each.items()}) for each in living]


def changes_since(memories: Memories) -> list[object]:
    """Return what is not as it was; what was loaded since does not count."""
    return [
        (name, value, living.get(name))
        for living, before in memories
        for name, value in before.items()
        if _copied(living.get(name)) != value
    ]


def _copied(value: object) -> object:
    return [*value] if isinstance(value, list) else value


def model_of(number: int) -> type[Node | Tag]:
    """Return the class of a number."""
    return Node if number in NODES else Tag


class Garden:
    """The database, refilled for each example, and the SQL that it was sent."""

    def __init__(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool)
        Base.metadata.create_all(self.engine)
        self.sql: list[str] = []
        self.make = sessionmaker(self.engine, expire_on_commit=False)
        event.listen(self.engine, "before_cursor_execute", self._note)

    def _note(self, _connection: object, _cursor: object, sql: str, *_rest: object) -> None:
        self.sql.append(sql)

    def fill(self, parents: list[int], linked: set[tuple[int, int]]) -> Rows:
        """Empty the tables, insert all nodes and tags, and return the rows."""
        rows = Rows(
            dict.fromkeys(ALL, 0),
            {n: p if 0 < p < n else None for n, p in zip(NODES, parents, strict=True)},
            dict.fromkeys(NODES, 1),
            set(linked),
        )
        with self.engine.begin() as connection:
            for table in ("node_tag", "node", "tag"):
                connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - three known names
            for n in NODES:
                values: Any = {"id": n, "a": 0, "b": 0, "version": 1, "parent_id": rows.parents[n]}
                connection.execute(insert(Node).values(values))
            for tag in TAGS:
                connection.execute(insert(Tag).values(id=tag, a=0))
            for node, tag in linked:
                connection.execute(links.insert().values(node_id=node, tag_id=tag))
        return rows

    def load(self, session: Session) -> dict[int, Any]:
        """Return all nodes and tags with all that is related."""
        found = session.scalars(select(Node).options(*loaded_whole())).all()
        tags = session.scalars(select(Tag).options(selectinload(Tag.nodes))).all()
        every: list[Any] = [*found, *tags]
        return {each.id: each for each in every}

    def change(
        self,
        rows: Rows,
        steps: list[tuple[str, int, int, int]],
        connection: Connection | None = None,
    ) -> None:
        """Change the database and ``rows`` behind everybody's back."""
        if connection is None:
            with self.engine.begin() as own:
                self.change(rows, steps, own)
            return
        for kind, number, value, tag in steps:
            if number not in rows.a:
                continue
            model: Any = model_of(number)
            if kind == "delete":
                _delete(connection, rows, number)
            elif kind == "a":
                connection.execute(update(model).where(model.id == number).values(a=value))
                rows.a[number] = value
                if model is Node:
                    _count(connection, rows, number)
            elif kind == "move" and model is Node:
                parent = value if 0 < value < number and value in rows.a else None
                connection.execute(update(Node).where(Node.id == number).values(parent_id=parent))
                rows.parents[number] = parent
                _count(connection, rows, number)
            elif kind == "link" and model is Node and tag in rows.a:
                _toggle(connection, rows, (number, tag))

    def rows(self) -> Rows:
        """Return what is committed."""
        with self.engine.connect() as connection:
            nodes = connection.execute(select(Node.id, Node.a, Node.version, Node.parent_id)).all()
            tags = connection.execute(select(Tag.id, Tag.a)).all()
            linked = connection.execute(select(links)).all()
        return Rows(
            {row[0]: row[1] for row in nodes} | {row[0]: row[1] for row in tags},
            {number: parent for number, _, _, parent in nodes},
            {number: version for number, _, version, _ in nodes},
            {(node, tag) for node, tag in linked},
        )

    def columns_written(self) -> set[str]:
        """Return the columns that UPDATEs have set, without the count of versions."""
        found = set[str]()
        for sql in self.sql:
            if (match := re.match(r"UPDATE (\w+) SET (.*) WHERE", sql)) is not None:
                found |= {f"{match[1]}.{name}" for name in re.findall(r"(\w+)=\?", match[2])}
        return found - {"node.version"}


def _toggle(connection: Connection, rows: Rows, link: tuple[int, int]) -> None:
    node, tag = link
    if link in rows.links:
        here = (links.c.node_id == node) & (links.c.tag_id == tag)
        connection.execute(links.delete().where(here))
    else:
        connection.execute(links.insert().values(node_id=node, tag_id=tag))
    rows.links ^= {link}


def _count(connection: Connection, rows: Rows, number: int) -> None:
    rows.versions[number] += 1
    version = rows.versions[number]
    connection.execute(update(Node).where(Node.id == number).values(version=version))


def _delete(connection: Connection, rows: Rows, number: int) -> None:
    model: Any = model_of(number)
    connection.execute(update(Node).where(Node.parent_id == number).values(parent_id=None))
    column = links.c.node_id if model is Node else links.c.tag_id
    connection.execute(links.delete().where(column == number))
    connection.execute(delete(model).where(model.id == number))
    rows.remove(number)
