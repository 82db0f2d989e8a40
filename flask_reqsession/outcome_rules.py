"""What counts as a failure: exception classes first, then the HTTP status, then any exception."""

from __future__ import annotations

import inspect
from asyncio import isfuture
from http import HTTPStatus
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, cast

from werkzeug.exceptions import HTTPException
from werkzeug.sansio.response import Response

from flask_reqsession.colour import name_of
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.options import TransactionOptions
from flask_reqsession.views import Role, Standing, respond

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask_reqsession.option_values import StatusRule

_DEFERRED = frozenset({CoroutineType, AsyncGeneratorType, GeneratorType})
_TEXTS = frozenset({bytes, str})

_ERROR_STATUS = TransactionOptions().rollback_on_status
"""The rule that is in force where none is given; it lets every success pass."""


class Rules:
    """The outcome rules of one scope.

    ``function`` is the function that the scope wraps: where it turns out to be the view of the
    running request, its return value is a response and has a status. A service function's return
    value is its own business.
    """

    __slots__ = (
        "_commits",
        "_function",
        "_has_classes",
        "_judges_success",
        "_role",
        "_rolls_back",
        "_status_fails",
    )

    def __init__(self, options: TransactionOptions, function: Callable[..., object] | None) -> None:
        self._rolls_back = options.rollback_for
        self._commits = options.no_rollback_for
        self._has_classes = bool(options.rollback_for or options.no_rollback_for)
        self._status_fails = _predicate(options.rollback_on_status)
        self._judges_success = options.rollback_on_status is not _ERROR_STATUS
        self._function = function
        self._role = Role(function)

    def fails(self, error: BaseException) -> bool:
        """Whether ``error`` leaving the body rolls back."""
        if self._has_classes:
            rolls_back = _distance(error, self._rolls_back)
            commits = _distance(error, self._commits)
            if rolls_back != commits:
                return rolls_back < commits
        if self._status_fails is not None and isinstance(error, HTTPException):
            try:
                return self._status_fails(_status_of_exception(error))
            except Exception as broken:  # noqa: BLE001 - the user's predicate; the first cause wins
                error.add_note(f"rollback_on_status also failed: {type(broken).__name__}: {broken}")
        return True

    def rejects(self, value: object) -> bool | None:
        """Whether ``value``, returned by the body, rolls back: an error status.

        None: it is to be decided about what :meth:`respond` makes of it.
        :raises ConfigurationError: ``value`` is the work itself, which has not begun.
        """
        if self._function is None or (not self._judges_success and _is_plain(value)):
            return False
        if is_deferred(value):
            self._refuse_deferred(value)
        if self._status_fails is None:
            return False
        standing = self._role.standing()
        if standing is Standing.ELSEWHERE:
            return False
        status = _status_of(value)
        if status is not None and self._status_fails(status):
            return True
        return None if standing is Standing.OUTERMOST and not isinstance(value, Response) else False

    def is_moot(self, value: object) -> bool:
        """Whether a scope that did nothing may end without a look at ``value``.

        Not where that is work which has not begun, or where a response has to be made of it: a
        JSON provider or the app's own ``make_response()`` may be the first to use the session.
        """
        if value is None or type(value) in _TEXTS:
            return True
        if is_deferred(value):
            return False
        if self._function is None or self._status_fails is None or isinstance(value, Response):
            return True
        return self._role.standing() is not Standing.OUTERMOST

    def respond(self, value: object) -> object:
        """Return the response that Flask makes of ``value``, or raise what Flask refuses it by.

        Made before the commit, since what Flask can't answer with becomes an error.
        """
        return respond(value)

    def _refuse_deferred(self, value: object) -> None:
        if inspect.isgenerator(value):
            begun = inspect.getgeneratorstate(value) != inspect.GEN_CREATED
            is_expression = value.gi_code.co_name == "<genexpr>"
            is_streamed = self._role.standing() is not Standing.ELSEWHERE  # Flask's way
            if begun or is_expression or is_streamed:
                return
        elif inspect.iscoroutine(value):
            if inspect.getcoroutinestate(value) != inspect.CORO_CREATED:
                return
            value.close()  # or Python warns that it was never awaited
        raise ConfigurationError(
            f"{name_of(self._function)} returned a {type(value).__name__} that has not begun, so "
            "its body would run after the commit. Decorate the function that it comes from."
        )


def is_deferred(value: object) -> bool:
    """Whether ``value`` is work that may not have begun yet.

    A future runs whether it is awaited or not. ``__class__`` is that of what a proxy stands for.
    """
    if type(value) in _DEFERRED:
        return True
    return hasattr(value.__class__, "__await__") and not isfuture(value)


def _predicate(rule: StatusRule) -> Callable[[int], bool] | None:
    if rule is None or callable(rule):
        return rule
    statuses = frozenset(rule)
    return lambda status: status in statuses


def _distance(error: BaseException, classes: Iterable[type[BaseException]]) -> float:
    """Return how far the nearest of ``classes`` is from the error's own class."""
    mro = type(error).__mro__
    return min((mro.index(each) for each in classes if each in mro), default=float("inf"))


def _status_of_exception(error: HTTPException) -> int:
    if error.response is not None:
        return error.response.status_code
    return HTTPStatus.OK if error.code is None else error.code  # what Werkzeug makes of none


def _is_plain(value: object) -> bool:
    """Whether Flask makes a plain success of ``value``, with nothing that can fail."""
    kind = type(value)
    return kind is bytes or (kind is str and cast("str", value).isascii())


def _status_of(value: object) -> int | None:
    """Return the status that Flask will take from a view's return value, if it says one.

    https://flask.palletsprojects.com/en/stable/quickstart/#about-responses
    """
    if isinstance(value, Response):
        return value.status_code
    if isinstance(value, HTTPException):
        return _status_of_exception(value)
    if not isinstance(value, tuple) or not value:
        return None
    body, *rest = cast("tuple[object, ...]", value)
    if rest and isinstance(rest[0], int | str):
        return _status_number(rest[0])
    return _status_of(body)


def _status_number(status: int | str) -> int | None:
    """Read ``409``, ``"409"`` and ``"409 CONFLICT"``; leave nonsense to Flask."""
    first, _, _ = str(int(status) if isinstance(status, int) else status).partition(" ")
    return int(first) if first.isdigit() else None
