"""Money is a whole number of cents everywhere, except on the screen and in a form."""

from __future__ import annotations

import re

MAX_CENTS = 10**12
"""The largest amount that one order may move: ten thousand million."""

_AMOUNT = re.compile(r"(\d{1,11})(?:[.,](\d{1,2}))?", re.ASCII)


def parse_cents(text: str) -> int:
    """Read an amount as people type it; :class:`ValueError` for anything else.

    >>> parse_cents("12.5"), parse_cents(" 3,07 "), parse_cents("40")
    (1250, 307, 4000)
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an amount such as 12.50")
    whole, fraction = match.groups(default="")
    return int(whole) * 100 + int(fraction.ljust(2, "0"))


def format_cents(cents: int) -> str:
    """Write an amount with two decimals.

    >>> format_cents(123456789), format_cents(-5)
    ('1,234,567.89', '-0.05')
    """
    whole, fraction = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{whole:,}.{fraction:02}"
