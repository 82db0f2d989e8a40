"""Pass events to the manager's ``_record_*`` methods, which the user may have overridden."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import exc
from sqlalchemy.orm.exc import StaleDataError

from flask_reqsession.codes import spelled

if TYPE_CHECKING:
    from flask_reqsession.manager import RequestScopedSessionManager

logger: logging.Logger = logging.getLogger("flask_reqsession")


class Recordings:
    """Call the method for each event, once. One that fails is logged and disturbs nothing."""

    def __init__(self, manager: RequestScopedSessionManager) -> None:
        # Event listeners, which last as long as what they listen to, hold this object.
        self._manager = weakref.ref(manager)
        # Not methods that call another one: each request passes here twice at least.
        self.created: Callable[[float], None] = partial(self._call, "_record_session_creation")
        self.closed: Callable[[float], None] = partial(self._call, "_record_session_closure")
        self.committed: Callable[[], None] = partial(self._call, "_record_session_commit")
        self.rolled_back: Callable[[], None] = partial(self._call, "_record_session_rollback")
        self.reattached: Callable[[str, float], None] = partial(
            self._call, "_record_session_reattachment"
        )

    def failed(self, error: BaseException) -> None:
        """Record that a database operation failed."""
        self._call("_record_session_error", type(error).__name__, _message(error))

    def _call(self, method: str, *values: object) -> None:
        manager = self._manager()
        if manager is None:
            return
        try:
            getattr(manager, method)(*values)
        except Exception as error:  # noqa: BLE001 - the user's override must not disturb the request
            logger.error(  # noqa: TRY400 - a traceback could carry row values
                "%s() of the manager failed: %s", method, type(error).__name__
            )


def _message(error: BaseException) -> str:
    """Describe ``error`` without the statement, its parameters and the row values in its text."""
    if isinstance(error, exc.TimeoutError | StaleDataError):
        return str(error)  # it speaks of a pool's size, or of a number of rows
    original = error.orig if isinstance(error, exc.StatementError) else error
    name, code = type(original).__name__, spelled(original)
    return name if code is None else f"{name} ({code})"
