"""Let code commit and roll back by itself inside a scope that has the last word (rule T17)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flask_reqsession.option_values import DEFER

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, SessionTransaction

    from flask_reqsession.ports.port import Port

_REPLACED: Final = ("commit", "rollback", "begin")


class Deferral:
    """Stands in for ``commit``, ``rollback`` and ``begin`` of one session while a body runs.

    SQLAlchemy's event before a commit can only refuse it, by raising. So the three methods are
    replaced on the one session object, whoever made it and whatever its class is, and given back
    when the body ends. What does not pass through them is refused as in any other scope.
    """

    def __init__(self, port: Port) -> None:
        self._port = port
        self._session: Session | None = None

    def attach(self, session: Session) -> None:
        """Take over the methods of ``session``, the one of the port."""
        self.detach()
        self._commit, self._rollback, self._begin = session.commit, session.rollback, session.begin
        self._session = session
        for name in _REPLACED:
            setattr(session, name, getattr(self, name))

    def detach(self) -> None:
        """Give the methods back."""
        if self._session is not None:
            for name in _REPLACED:
                delattr(self._session, name)
        self._session = None

    @property
    def _applies(self) -> bool:
        scope = self._port.scope
        return self._port.is_guarded and scope is not None and scope.manual_commit == DEFER

    def commit(self) -> None:
        """Flush, where the scope commits later."""
        if self._applies and self._session is not None:
            self._session.flush()
        else:
            self._commit()

    def rollback(self) -> None:
        """Roll the scope back, and let it keep nothing of what follows either."""
        if self._applies:
            self._port.roll_back_by_hand()
        else:
            self._rollback()

    def begin(self, nested: bool = False) -> SessionTransaction:  # noqa: FBT001, FBT002 - as theirs
        """Begin a savepoint, which can be committed and rolled back by itself."""
        return self._begin(nested=nested or self._applies)
