"""What a user may choose about reattachment: validated once, then frozen and shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, TypedDict, Unpack

from flask_reqsession.errors import ConfigurationError

Missing: TypeAlias = Literal["raise", "none", "404"]
Conflict: TypeAlias = Literal["raise", "session", "argument"]
Foreign: TypeAlias = Literal["copy", "raise"]

_ACCEPTED: Final[dict[str, tuple[object, ...]]] = {
    "refresh": (True, False),
    "missing": ("raise", "none", "404"),
    "conflict": ("raise", "session", "argument"),
    "foreign": ("copy", "raise"),
}


class ReattachChoices(TypedDict, total=False):
    """The keyword options of reattachment, as the user writes them."""

    refresh: bool
    missing: Missing
    conflict: Conflict
    foreign: Foreign


@dataclass(frozen=True, slots=True, kw_only=True)
class ReattachOptions:
    """The options of one ``reattach_args`` or ``ensure_session_attachment``.

    - ``refresh``: bring arguments, and what they have loaded, up to date;
    - ``missing``: what happens to an argument whose row is gone;
    - ``conflict``: whose value counts where argument and session changed an attribute differently;
    - ``foreign``: what happens to an instance of another live session.

    >>> ReattachOptions(missing="maybe")
    Traceback (most recent call last):
    flask_reqsession.errors.ConfigurationError: missing is 'maybe', but must be one of: 'raise', \
'none', '404'. Correct it where reattachment is asked for.
    """

    refresh: bool = False
    missing: Missing = "raise"
    conflict: Conflict = "raise"
    foreign: Foreign = "copy"

    def __post_init__(self) -> None:
        """Refuse values that are none of the accepted ones."""
        for name, accepted in _ACCEPTED.items():
            given = getattr(self, name)
            if type(given) is not type(accepted[0]) or given not in accepted:
                known = ", ".join(repr(value) for value in accepted)
                raise ConfigurationError(
                    f"{name} is {given!r}, but must be one of: {known}. "
                    "Correct it where reattachment is asked for."
                )


DEFAULTS: Final = ReattachOptions()


def reattach_options(**given: Unpack[ReattachChoices]) -> ReattachOptions:
    """Validate what the user wrote and freeze it.

    :raises ConfigurationError: an unknown option, or a value that is none of the accepted ones.
    """
    if not given:
        return DEFAULTS
    for name in given:
        if name not in _ACCEPTED:
            known = ", ".join(_ACCEPTED)
            raise ConfigurationError(
                f"Reattachment has no option {name!r}. Its options are: {known}. Correct the name."
            )
    return ReattachOptions(**given)
