"""The Python examples of a page in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK = re.compile(
    r"^(?:<!--\s*not run:(?P<reason>[^>]*?)-->\n+)?"
    r"```(?P<language>python|pycon)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One example of a page."""

    language: str
    code: str
    line: int
    reason: str | None


def blocks_of(page: str) -> Iterator[Block]:
    """Find the Python examples of a page in Markdown, in order."""
    for found in BLOCK.finditer(page):
        line = page.count("\n", 0, found.start("code"))
        yield Block(found["language"], found["code"], line, found["reason"])
