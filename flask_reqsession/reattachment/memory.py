"""What reattachment remembers between calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_reqsession.reattachment.deletions import DeletedRows
from flask_reqsession.reattachment.graph import Graph

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker


class Memory:
    """What is known of sessions and mapped classes; one object serves a whole application.

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

    __slots__ = ("deleted", "graph")

    def __init__(self) -> None:
        self.deleted: DeletedRows = DeletedRows()
        self.graph: Graph = Graph()

    def watch(self, target: Session | type[Session] | sessionmaker[Session]) -> None:
        """Listen to a session, or to every session that a factory or class makes from now on."""
        self.deleted.watch(target)
