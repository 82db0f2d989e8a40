"""Children that do not lead back to their parent, moved by an argument and by the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from sqlalchemy import ForeignKey, create_engine, event, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)

from flask_reqsession.errors import ReattachConflictError
from flask_reqsession.reattachment import ReattachOptions, attach
from tests.servers.connections import Rows


class Base(DeclarativeBase):
    """The models of this file."""


class Shelf(Base):
    """A shelf of books."""

    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list[Book]] = relationship(order_by="Book.id")


class Book(Base):
    """It does not know its shelf, but for the foreign key."""

    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))


class Library:
    """A database with three shelves, and a book on the second one."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = create_engine(url)
        self.session = sessionmaker(self.engine, expire_on_commit=False)
        self.sql: list[str] = []
        Base.metadata.create_all(self.engine)
        with self.session.begin() as session:
            session.add_all([Shelf(id=1), Shelf(id=2, books=[Book(id=1)]), Shelf(id=3)])
        event.listen(self.engine, "before_cursor_execute", self._note)

    def _note(self, _connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        self.sql.append(statement)

    def shelf(self, session: Session, number: int) -> Shelf:
        """Load a shelf with its books."""
        return session.get_one(Shelf, number, options=[selectinload(Shelf.books)])

    def moved(self) -> Shelf:
        """Return the first shelf, detached, with the book from the second one."""
        with self.session() as session:
            first, second = self.shelf(session, 1), self.shelf(session, 2)
        first.books.append(second.books.pop())
        return first

    def on(self, rows: Rows) -> object:
        """Return the shelf that the book is on."""
        return rows(self.url, "SELECT shelf_id FROM book")[0][0]


@pytest.fixture
def library(sqlite_file_url: str) -> Iterator[Library]:
    """Give a library of its own to each test."""
    library = Library(sqlite_file_url)
    yield library
    library.engine.dispose()


def to_the_third(library: Library, session: Session) -> list[Any]:
    """Move the book to another shelf."""
    second, third = library.shelf(session, 2), library.shelf(session, 3)
    third.books.append(second.books.pop())
    return [second, third]


def to_a_new_one(library: Library, session: Session) -> list[Any]:
    """Move the book to a shelf that was not saved."""
    new = Shelf(id=4, books=[session.get_one(Book, 1)])
    session.add(new)
    return [new]


def to_nowhere(library: Library, session: Session) -> list[Any]:
    """Take the book off its shelf."""
    second = library.shelf(session, 2)
    return [second, second.books.pop()]


MOVES: list[tuple[Callable[[Library, Session], list[Any]], int | None]] = [
    (to_the_third, 3),
    (to_a_new_one, 4),
    (to_nowhere, None),
]


@pytest.mark.rule("R5", "R15")
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize(("move", "shelf"), MOVES)
@pytest.mark.parametrize("conflict", ["raise", "session", "argument"])
def test_a_child_that_both_sides_have_moved_is_a_conflict(  # noqa: PLR0913 - a table of cases
    library: Library,
    rows: Rows,
    *,
    held: bool,
    flushed: bool,
    move: Callable[[Library, Session], list[Any]],
    shelf: int | None,
    conflict: Literal["raise", "session", "argument"],
) -> None:
    """Flushed or not, whether the session has the argument's row or not; no SQL finds it."""
    argument = library.moved()
    with library.session() as session:
        kept: list[Any] = [library.shelf(session, 1)] if held else []
        kept += move(library, session)
        if flushed:
            session.flush()
        library.sql.clear()
        options = ReattachOptions(conflict=conflict)
        if conflict == "raise":
            with pytest.raises(ReattachConflictError, match=r"^Shelf 1 .* books was changed"):
                attach(session, argument, options=options)
            assert argument not in session
        else:
            passed = attach(session, argument, options=options)
            assert len(passed.books) == (conflict == "argument")
        assert library.sql == []
        session.commit()
        del kept

    assert library.on(rows) == (1 if conflict == "argument" else shelf)


@pytest.mark.rule("R5")
@pytest.mark.parametrize("flushed", [False, True])
def test_a_child_that_both_sides_have_moved_alike_is_no_conflict(
    library: Library, rows: Rows, *, flushed: bool
) -> None:
    """Nor is one that only the argument moved."""
    argument, again = library.moved(), library.moved()
    with library.session() as session:
        own = library.shelf(session, 1)
        other = library.shelf(session, 3)
        other.books.append(Book(id=2))
        assert attach(session, argument) is own
        if flushed:
            session.flush()
        assert attach(session, again) is own
        assert [book.id for book in own.books] == [1]
        session.commit()

    assert rows(library.url, "SELECT id, shelf_id FROM book ORDER BY id") == [(1, 1), (2, 3)]


@pytest.mark.rule("R5")
def test_a_childs_own_key_is_no_other_side(library: Library, rows: Rows) -> None:
    """It came with the collection, which SQLAlchemy prefers to a key that was set by hand."""
    argument = library.moved()
    argument.books[0].shelf_id = 3
    with library.session() as session:
        own = library.shelf(session, 1)
        assert attach(session, argument) is own
        session.commit()

    assert library.on(rows) == 1


@pytest.mark.rule("R5", "R9")
@pytest.mark.parametrize("there", [1, 3])
def test_a_child_that_somebody_else_has_moved_is_a_conflict_of_a_refresh(
    library: Library, rows: Rows, there: int
) -> None:
    """Unless it was to the same place."""
    argument = library.moved()
    with library.engine.begin() as connection:
        connection.execute(text(f"UPDATE book SET shelf_id = {there}"))  # noqa: S608 - a number
    with library.session() as session:
        options = ReattachOptions(refresh=True)
        if there == 1:
            assert attach(session, argument, options=options) is argument
        else:
            with pytest.raises(ReattachConflictError, match=r"^Shelf 1 .* books was changed"):
                attach(session, argument, options=options)
        session.commit()

    assert library.on(rows) == there


@pytest.mark.rule("R9", "R15")
def test_a_moved_child_whose_row_is_gone_may_be_left_out(library: Library) -> None:
    """It is an argument itself; nothing is left that could be in two places."""
    argument = library.moved()
    (book,) = argument.books
    with library.engine.begin() as connection:
        connection.execute(text("DELETE FROM book"))
    with library.session() as session:
        options = ReattachOptions(refresh=True, missing="none")
        assert attach(session, [argument, book], options=options) == [argument]
        assert argument.books == []
        session.commit()
