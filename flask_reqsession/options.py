"""What a user may say about a scope: validated once, at decoration, then frozen and shared."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias, TypedDict

from flask_reqsession.errors import ConfigurationError

DEFAULT_BIND = "default"

StatusRule: TypeAlias = Collection[int] | Callable[[int], bool] | None
ErrorClasses: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]


class Propagation(Enum):
    """How a scope relates to one that is already running (the terms are Spring's).

    >>> Propagation("REQUIRES_NEW") is Propagation.REQUIRES_NEW
    True
    """

    REQUIRED = "REQUIRED"
    """Join the running scope, or start a transaction."""
    REQUIRES_NEW = "REQUIRES_NEW"
    """Run on an own session and connection; the running scope is suspended."""
    NESTED = "NESTED"
    """Run in a savepoint of the running scope, or start a transaction."""
    SUPPORTS = "SUPPORTS"
    """Join the running scope, or run without one."""
    MANDATORY = "MANDATORY"
    """Join the running scope, or refuse."""
    NOT_SUPPORTED = "NOT_SUPPORTED"
    """Run without a scope, on an own session; the running scope is suspended."""
    NEVER = "NEVER"
    """Run without a scope, or refuse where one is running."""


class TransactionOutcome(Enum):
    """How a transaction ended."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Retry:
    """Re-run a whole outermost call when the database asks for it.

    ``attempts`` counts all runs, the first included. Serialization failures, deadlocks, locks not
    available and connections lost before COMMIT are retried; ``on`` adds exception classes. The
    wait before attempt *n* + 1 is drawn from 0 to ``min(maximum, initial * 2 ** (n - 1))`` seconds
    ("full jitter"), or is that upper end where ``jitter`` is false. ``before_retry(attempt,
    error)`` is called before each wait, with no connection held.

    :raises ConfigurationError: a value that makes no sense.

    >>> Retry(attempts=5, initial=0.01).maximum
    2.0
    """

    attempts: int = 3
    on: ErrorClasses = ()
    initial: float = 0.05
    maximum: float = 2.0
    jitter: bool = True
    before_retry: Callable[[int, BaseException], object] | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            raise ConfigurationError(_wrong("Retry(attempts=)", self.attempts, "a whole number"))
        if self.attempts < 1:
            raise ConfigurationError(_wrong("Retry(attempts=)", self.attempts, "at least 1"))
        if not 0 <= self.initial <= self.maximum:
            raise ConfigurationError(
                _wrong("Retry(initial=)", self.initial, "between 0 and maximum (seconds)")
            )
        object.__setattr__(self, "on", error_classes("Retry(on=)", self.on))


class ScopeOptions(TypedDict, total=False):
    """The keyword options of a scope, as the user writes them."""

    propagation: Propagation | str
    retry: Retry | int | None
    rollback_for: ErrorClasses
    no_rollback_for: ErrorClasses
    rollback_on_status: StatusRule
    durable: bool
    bind: str
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionOptions:
    """The options of one ``@transactional`` or ``session_scope()``."""

    propagation: Propagation = Propagation.REQUIRED
    retry: Retry | None = None
    rollback_for: tuple[type[BaseException], ...] = ()
    no_rollback_for: tuple[type[BaseException], ...] = ()
    rollback_on_status: StatusRule = field(default=lambda status: status >= _FIRST_ERROR_STATUS)
    durable: bool = False
    bind: str = DEFAULT_BIND
    name: str | None = None

    @property
    def joins_plainly(self) -> bool:
        """Whether joining a running scope needs no check of these options."""
        return (
            self.propagation in {Propagation.REQUIRED, Propagation.SUPPORTS, Propagation.MANDATORY}
            and not self.durable
            and self.retry is None
        )


_FIRST_ERROR_STATUS = 400


def transaction_options(  # noqa: PLR0913 - one keyword for each option of the contract
    *,
    propagation: Propagation | str = Propagation.REQUIRED,
    retry: Retry | int | None = None,
    rollback_for: ErrorClasses = (),
    no_rollback_for: ErrorClasses = (),
    rollback_on_status: StatusRule = TransactionOptions().rollback_on_status,
    durable: bool = False,
    bind: str = DEFAULT_BIND,
    name: str | None = None,
) -> TransactionOptions:
    """Validate what the user wrote and freeze it.

    :raises ConfigurationError: a value that is none of the accepted ones.
    """
    try:
        propagation = Propagation(propagation)
    except ValueError:
        known = ", ".join(each.name for each in Propagation)
        raise ConfigurationError(
            _wrong("propagation", propagation, f"one of Propagation: {known}")
        ) from None
    if isinstance(retry, int):
        retry = Retry(attempts=retry)
    if not isinstance(retry, Retry | None):
        raise ConfigurationError(_wrong("retry", retry, "a number of attempts or Retry(...)"))
    if not isinstance(bind, str):
        raise ConfigurationError(_wrong("bind", bind, "the name of a bind"))
    return TransactionOptions(
        propagation=propagation,
        retry=retry,
        rollback_for=error_classes("rollback_for", rollback_for),
        no_rollback_for=error_classes("no_rollback_for", no_rollback_for),
        rollback_on_status=_status_rule(rollback_on_status),
        durable=durable,
        bind=bind,
        name=name,
    )


def error_classes(option: str, given: ErrorClasses) -> tuple[type[BaseException], ...]:
    """Return ``given`` as a tuple of exception classes.

    :raises ConfigurationError: something in it is not one.
    """
    classes = given if isinstance(given, tuple) else (given,)
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise ConfigurationError(_wrong(option, each, "exception classes"))
    return classes


def _status_rule(rule: StatusRule) -> StatusRule:
    if rule is None or callable(rule):
        return rule
    if isinstance(rule, str) or not isinstance(rule, Collection):
        raise ConfigurationError(
            _wrong("rollback_on_status", rule, "None, a collection of statuses or a predicate")
        )
    return frozenset(rule)


def _wrong(option: str, given: object, wanted: str) -> str:
    return f"{option} is {given!r}, but must be {wanted}. Correct it where the scope is declared."
