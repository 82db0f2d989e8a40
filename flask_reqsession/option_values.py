"""Check single values that a user gave for an option; each refusal says what is wanted."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, Literal, TypeAlias, cast

from flask_reqsession.errors import ConfigurationError
from flask_reqsession.modes import ISOLATION_LEVELS

StatusRule: TypeAlias = Collection[int] | Callable[[int], bool] | None
ErrorClasses: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]
ManualCommit: TypeAlias = Literal["raise", "defer", "allow"]

RAISE: Final = "raise"
DEFER: Final = "defer"
ALLOW: Final = "allow"


def error_classes(option: str, given: object) -> tuple[type[BaseException], ...]:
    """Return ``given`` as a tuple of exception classes.

    :raises ConfigurationError: something in it is not one.
    """
    classes = cast("tuple[object, ...]", given if isinstance(given, tuple) else (given,))
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise ConfigurationError(
                wrong(option, each, "an exception class, or a tuple of them")  # pyright: ignore[reportUnknownArgumentType]
            )
    return cast("tuple[type[BaseException], ...]", classes)


def status_rule(option: str, given: object) -> StatusRule:
    """Return what says which statuses roll back."""
    if given is None or callable(given):
        return cast("StatusRule", given)
    if isinstance(given, Collection) and not isinstance(given, str | bytes):
        statuses = cast("Collection[object]", given)
        if all(isinstance(status, int) for status in statuses):
            return frozenset(cast("Collection[int]", statuses))
    raise ConfigurationError(
        wrong(option, given, "None, a collection of statuses such as {409}, or a predicate")  # pyright: ignore[reportUnknownArgumentType]
    )


def isolation(option: str, given: object) -> str | None:
    """Return an isolation level; None: the engine's own."""
    if given is None or (isinstance(given, str) and given in ISOLATION_LEVELS):
        return given
    levels = ", ".join(ISOLATION_LEVELS)
    wanted = f"one of {levels}, or None for the engine's own level"
    if given == "AUTOCOMMIT":
        wanted += "; AUTOCOMMIT would be no transaction at all"
    raise ConfigurationError(wrong(option, given, wanted))


def timeout(option: str, given: object) -> float | None:
    """Return a limit in seconds; None: there is none."""
    if given is None:
        return None
    seconds(option, given)
    if not given:
        raise ConfigurationError(wrong(option, given, "more than 0 seconds, or None for no limit"))
    return float(cast("float", given))


def optional_flag(option: str, given: object) -> bool | None:
    """Return True, False or None."""
    return None if given is None else flag(option, given)


def seconds(option: str, given: object) -> None:
    """Refuse what is no number of seconds."""
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not (is_number and 0 <= cast("float", given) < float("inf")):
        raise ConfigurationError(wrong(option, given, "a number of seconds, not less than 0"))


def flag(option: str, given: object) -> bool:
    """Return True or False."""
    if isinstance(given, bool):
        return given
    raise ConfigurationError(wrong(option, given, "True or False"))


def manual_commit(option: str, given: object) -> object:
    """Return what a commit by hand does; None: as the running scope has it."""
    if given in (None, RAISE, DEFER, ALLOW):
        return given
    raise ConfigurationError(
        wrong(option, given, "'raise', 'defer', 'allow', or None to do as the running scope does")
    )


def text(option: str, given: object) -> str:
    """Return a string."""
    if isinstance(given, str):
        return given
    raise ConfigurationError(wrong(option, given, "a string"))


def optional_text(option: str, given: object) -> str | None:
    """Return a string or None."""
    return None if given is None else text(option, given)


def wrong(option: str, given: object, wanted: str) -> str:
    """Say what ``option`` has to be instead of ``given``."""
    return f"{option} is {given!r}, but must be {wanted}. Correct it where the scope is declared."
