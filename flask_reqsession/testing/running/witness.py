"""What is seen while a program runs."""

from __future__ import annotations

import re

from flask_reqsession.errors import ReqSessionError
from flask_reqsession.testing.outcomes import Event, Raised
from flask_reqsession.testing.steps import TROUBLES


class Witness:
    """Keeps the events of one program, and knows its exceptions again.

    ``names`` are those of the calls, blocks, generators and hooks that were met.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.names: set[str] = set()
        self._raised: dict[int, BaseException] = {}

    def remembered(self, error: BaseException, number: int) -> BaseException:
        """Return ``error``, which step ``number`` raises."""
        self._raised[number] = error
        return error

    def described(self, error: BaseException) -> Raised:
        """Tell what ``error`` is, as somebody caught it."""
        kind = type(error).__name__
        cause = None if error.__cause__ is None else self.described(error.__cause__)
        if kind in TROUBLES:
            number: int = error.args[0]
            is_same = self._raised.get(number) is error
            return Raised(kind if is_same else f"another {kind}", number, cause=cause)
        if isinstance(error, ReqSessionError):
            words = frozenset[str](re.findall(r"\w+", str(error)))
            return Raised(kind, 0, words & self.names, cause)
        return Raised(kind)
