"""Functions of any shape, and calls of them, for Hypothesis."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from hypothesis import strategies as st

Call = tuple[tuple[Any, ...], dict[str, Any]]
Function = Callable[..., dict[str, Any]]

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Shape:
    """A signature with a parameter for the session somewhere in it."""

    parameters: tuple[Parameter, ...]
    session: Parameter

    @property
    def full(self) -> Function:
        """A function of this signature; it returns its arguments."""
        return self._function(self.parameters)

    @property
    def visible(self) -> Function:
        """The same without the session."""
        return self._function([each for each in self.parameters if each is not self.session])

    @staticmethod
    def _function(parameters: Iterable[Parameter]) -> Function:
        signature = inspect.Signature(list(parameters))
        namespace: dict[str, Any] = {}
        exec(f"def function{signature}: return dict(locals())", namespace)  # noqa: S102 - the point
        function: Function = namespace["function"]
        return function


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Draw a signature with ``session`` anywhere in it, but for ``*args`` and ``**kwargs``."""
    kinds = sorted(
        draw(
            st.lists(st.sampled_from((*POSITIONAL, Parameter.KEYWORD_ONLY)), min_size=1, max_size=5)
        )
    )
    chosen = draw(st.integers(0, len(kinds) - 1))
    names = ["session" if n == chosen else f"p{n}" for n in range(len(kinds))]
    positional = sum(kind in POSITIONAL for kind in kinds)
    required = draw(st.integers(0, positional))
    parameters: list[Parameter] = []
    for n, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        optional = n >= required if n < positional else draw(st.booleans())
        default = draw(values) if optional else Parameter.empty
        parameters.append(Parameter(name, kind, default=default))
    session = parameters[chosen]
    if draw(st.booleans()):
        parameters.insert(positional, Parameter("rest", Parameter.VAR_POSITIONAL))
    if draw(st.booleans()):
        parameters.append(Parameter("extra", Parameter.VAR_KEYWORD))
    return Shape(tuple(parameters), session)


values = st.sampled_from([None, 0, 1, "", "ada"])


@st.composite
def calls(draw: st.DrawFn, function: Function) -> Call:
    """Draw a legal call of ``function``."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    by_position = True
    parameters = inspect.signature(function).parameters.values()
    # What is passed by position only leaves its name to ``**extra``.
    extra = ["x", *(each.name for each in parameters if each.kind is Parameter.POSITIONAL_ONLY)]
    for parameter in parameters:
        kind = parameter.kind
        if kind is Parameter.VAR_POSITIONAL:
            args += draw(st.lists(values, max_size=2)) if by_position else []
        elif kind is Parameter.VAR_KEYWORD:
            kwargs |= draw(st.dictionaries(st.sampled_from(extra), values, max_size=2))
        elif parameter.default is not Parameter.empty and draw(st.booleans()):
            by_position = False
        elif kind in POSITIONAL and by_position and (kind is POSITIONAL[0] or draw(st.booleans())):
            args.append(draw(values))
        elif kind is not Parameter.POSITIONAL_ONLY:
            kwargs[parameter.name] = draw(values)
            by_position = by_position and kind is Parameter.KEYWORD_ONLY
    return tuple(args), kwargs


@st.composite
def any_calls(draw: st.DrawFn, shape: Shape) -> Call:
    """Draw a call that may be wrong."""
    names = [each.name for each in shape.parameters if each.kind.value not in (2, 4)] + ["x"]
    args = draw(st.lists(values, max_size=6))
    return tuple(args), draw(st.dictionaries(st.sampled_from(names), values, max_size=3))


def is_legal(function: Function, call: Call) -> bool:
    """Whether plain Python accepts the call; ``Signature.bind`` is not always right about that."""
    try:
        function(*call[0], **call[1])
    except TypeError:
        return False
    return True
