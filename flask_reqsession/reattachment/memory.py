"""What reattachment remembers between calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, Protocol

from werkzeug.exceptions import abort

from flask_reqsession.reattachment.deletions import DeletedRows
from flask_reqsession.reattachment.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from flask_reqsession.reattachment.refreshing import Statements


class Abort(Protocol):
    """What ends a request with the answer of a status code: ``werkzeug.exceptions.abort``."""

    def __call__(self, code: int, /) -> NoReturn:
        """Raise the exception for the code."""
        ...


class Memory:
    """What is known of sessions and mapped classes; one object serves a whole application.

    ``abort`` answers where ``missing="404"``. ``bind_of`` names the database of a live session, or
    is None for one that nobody knows: an instance does not go from one database to another.

    Without a memory that watches the session, a row that its running transaction deleted is known
    only by the deleted instance itself, not by other, detached instances of the row. (Nothing is
    written for these either: an UPDATE that meets no row raises ``StaleDataError``.) It keeps the
    mapped classes it has met alive.

    >>> from sqlalchemy import create_engine
    >>> from sqlalchemy.orm import sessionmaker
    >>> make_session = sessionmaker(create_engine("sqlite://"))
    >>> memory = Memory()
    >>> memory.watch(make_session)
    """

    __slots__ = ("abort", "bind_of", "deleted", "graph", "statements")

    def __init__(self) -> None:
        self.abort: Abort = abort
        self.bind_of: Callable[[Session], str | None] = _unknown
        self.deleted: DeletedRows = DeletedRows()
        self.graph: Graph = Graph()
        self.statements: Statements = {}

    def watch(self, target: Session | type[Session] | sessionmaker[Session]) -> None:
        """Listen to a session, or to every session that a factory or class makes from now on."""
        self.deleted.watch(target)


def _unknown(_session: Session) -> None:
    """Know the bind of no session."""
