"""What all parts of the model share while a program runs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flask_reqsession.testing.model.sessions import SessionState
from flask_reqsession.testing.outcomes import Event
from flask_reqsession.testing.steps import Body


@dataclass(eq=False)
class Stage:
    """The database, what was seen, and the session that the running code gets.

    ``play`` runs a body.
    """

    play: Callable[[Body], None]
    committed: set[int] = field(default_factory=set[int])
    events: list[Event] = field(default_factory=list[Event])
    session: SessionState | None = None

    @property
    def current(self) -> SessionState:
        """The session that the running code gets."""
        if self.session is None:
            raise LookupError(
                "A step of this program uses a session, and there is no session outside of every "
                "call, block, request and unit of work. Give the program root='unit', or put the "
                "step into a Call."
            )
        return self.session

    @contextmanager
    def on(self, session: SessionState | None) -> Generator[None]:
        """Let the running code get ``session`` meanwhile."""
        suspended, self.session = self.session, session
        try:
            yield
        finally:
            self.session = suspended

    @contextmanager
    def on_a_session_of_its_own(self) -> Generator[SessionState]:
        """T2, T5: the outer one is suspended; what is not committed at the end is lost."""
        own = SessionState(self.committed)
        with self.on(own):
            yield own
