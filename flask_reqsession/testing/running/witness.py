"""What is seen while a program runs."""

from __future__ import annotations

import re
from typing import Final

from werkzeug.exceptions import HTTPException

from flask_reqsession.errors import ReqSessionError
from flask_reqsession.testing.outcomes import Event, Raised
from flask_reqsession.testing.running.answers import status_of
from flask_reqsession.testing.steps import TROUBLES

_GAVE_UP: Final = re.compile(r"Gave up after (\d+) attempts? in \d+\.\d{3} seconds\.")


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
        cause = None if error.__cause__ is None else self.described(error.__cause__)
        kind, number, words = type(error).__name__, 0, list[str]()
        if isinstance(error, HTTPException):
            kind, number = f"HTTP {status_of(error)}", self._number(error)
        elif kind in TROUBLES:
            number = error.args[0]
            kind = kind if self._number(error) == number else f"another {kind}"
        elif isinstance(error, ReqSessionError):
            words = re.findall(r"\w+", str(error))
        else:
            cause = None  # another library's own business
        return Raised(
            kind, number, frozenset(self.names.intersection(words)), cause, _attempts(error)
        )

    def _number(self, error: BaseException) -> int:
        return next((number for number, each in self._raised.items() if each is error), 0)


def _attempts(error: BaseException) -> tuple[int, ...]:
    notes: list[str] = getattr(error, "__notes__", [])
    found = [_GAVE_UP.match(note) for note in notes]
    return tuple(int(each[1]) for each in found if each is not None)
