"""Draw random programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, get_args

from hypothesis import strategies as st

from flask_reqsession.testing.programs import Program, Root
from flask_reqsession.testing.strategies.drawing import Drawing
from flask_reqsession.testing.strategies.places import Limits, Place, Traffic

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

__all__ = ["ROOTS", "scope_programs"]

ROOTS: Final[tuple[Root, ...]] = get_args(Root)
"""Where a program may start."""


def scope_programs(
    *,
    roots: Sequence[Root] = ROOTS,
    second_session: bool = True,
    second_writer: bool = True,
    steps: int = 25,
) -> SearchStrategy[Program]:
    """Draw programs of at most ``steps`` steps: trees of nested calls, writes and exceptions.

    ``second_session``: whether a scope may run on a connection of its own while another one is in
    use. False for a memory database of SQLite. ``second_writer``: whether it may write meanwhile.
    False for SQLite, which has one writer at a time. ``roots``: where a program may start.

    >>> from hypothesis import find
    >>> from flask_reqsession.testing.model import predict
    >>> program = find(scope_programs(roots=["unit"]), lambda program: predict(program).rows)
    >>> print(repr(program).splitlines()[0])
    with manager.unit_of_work():
    """
    limits = Limits(tuple(roots), second_session, second_writer and second_session, steps)
    return _programs(limits)


@st.composite
def _programs(draw: DrawFn, limits: Limits) -> Program:
    root = draw(st.sampled_from(limits.roots))
    drawing = Drawing(draw, limits)
    if root == "request":
        return drawing.request()
    return Program(root, drawing.body(Place(has_session=root != "bare"), Traffic()))
