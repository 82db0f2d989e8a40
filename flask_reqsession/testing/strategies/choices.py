"""What is drawn, where, and how often."""

from __future__ import annotations

from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, get_args

from hypothesis import strategies as st

from flask_reqsession.testing.programs import Reply
from flask_reqsession.testing.steps import (
    Abort,
    Add,
    Answer,
    Block,
    ByHand,
    Call,
    Doom,
    Execute,
    Flake,
    Flush,
    Generate,
    HandWork,
    HookName,
    Options,
    PropagationName,
    Raise,
    Read,
    Register,
    Savepoint,
    Step,
    TroubleName,
    Try,
    Violate,
)
from flask_reqsession.testing.strategies.places import Place

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

DEEPEST: Final = 4
LENGTHS: Final = st.sampled_from((0, 1, 2, 3, 4, 2, 3))
TROUBLES: Final[SearchStrategy[TroubleName]] = st.sampled_from(get_args(TroubleName))
HAND_WORK: Final[SearchStrategy[HandWork]] = st.sampled_from(get_args(HandWork))
HOOKS: Final[SearchStrategy[HookName]] = st.sampled_from((*get_args(HookName), "on_completion"))
IS_ROBUST: Final = st.sampled_from((True, True, False))
IS_CLOSED: Final = st.booleans()
IS_DECORATED: Final = st.sampled_from((True, True, False))
TIMES: Final = st.sampled_from((1, 2, 3))
STATUSES: Final = st.sampled_from((409, 404, 503, 302, 204))
REPLIES: Final = st.sampled_from(
    (
        Reply(),
        Reply(),
        Reply("json"),
        Reply("tuple", 409),
        Reply("tuple", 201),
        Reply("response", 503),
        Reply("response", 204),
        Reply("redirect", 302),
        Reply("error", 404),
        Reply("nothing"),
    )
)
ANSWERS: Final[SearchStrategy[Answer]] = st.sampled_from((*get_args(Answer), "swallow", "swallow"))
_ALL: Final[tuple[PropagationName, ...]] = get_args(PropagationName)
_ALONE: Final[tuple[PropagationName, ...]] = (
    *_ALL,
    "REQUIRED",
    "REQUIRED",
    "REQUIRED",
    "REQUIRED",
    "NESTED",
)
_INSIDE: Final[tuple[PropagationName, ...]] = (*_ALONE, "NESTED", "MANDATORY")
PROPAGATIONS: Final = MappingProxyType(
    {False: st.sampled_from(_ALONE), True: st.sampled_from(_INSIDE)}
)
"""By whether a scope is running: there the ones that join are worth more."""
RULES: Final = st.sampled_from(
    (
        *(Options() for _ in range(10)),
        Options(no_rollback_for=("TroubleError",)),
        Options(no_rollback_for=("Exception",)),
        Options(no_rollback_for=("Halt",)),
        Options(rollback_for=("WorseTroubleError",), no_rollback_for=("TroubleError",)),
        Options(rollback_for=("TroubleError",), no_rollback_for=("Exception",)),
        Options(rollback_for=("TroubleError",), no_rollback_for=("WorseTroubleError",)),
        Options(rollback_for=("Exception",), no_rollback_for=("TroubleError",)),
        Options(durable=True),
        Options(retry=1),
        Options(retry=2),
        Options(retry=3),
        Options(retry=2, no_rollback_for=("FlakyError",)),
        Options(rollback_on_status=None),
        Options(rollback_on_status=(404, 302)),
        Options(rollback_on_status=(204,), no_rollback_for=("TroubleError",)),
        Options(rollback_for=("HTTPException",)),
        Options(no_rollback_for=("HTTPException",)),
        Options(rollback_for=("Conflict",), no_rollback_for=("HTTPException",)),
    )
)

# -- which steps where --------------------------------------------------------------------------

_CHOICES: Final = (  # hypothesis shrinks to what stands in front
    (Add, 4, {"session", "writing"}),
    (Execute, 2, {"session", "writing"}),
    (Call, 4, {"depth"}),
    (Call, 4, {"depth", "tried"}),
    (Try, 7, {"depth"}),
    (Block, 2, {"depth"}),
    (Generate, 2, {"depth"}),
    (Register, 7, {"scope", "depth"}),
    (Raise, 1, set[str]()),
    (Raise, 5, {"tried"}),
    (Flake, 4, {"repeated"}),
    (Abort, 1, {"tried"}),
    (Read, 2, {"session"}),
    (Flush, 1, {"session"}),
    (Doom, 1, {"scope"}),
    (Doom, 1, {"session", "tried"}),
    (Savepoint, 1, {"scope", "depth"}),
    (Violate, 1, {"session", "writing", "tried"}),
    (ByHand, 2, {"session", "no savepoint", "tried"}),
)
"""The steps, how often each is drawn, and what it needs."""


def kinds_in(place: Place) -> SearchStrategy[type[Step]]:
    """Return the kinds of steps that can stand in ``place``."""
    there = {
        "session": place.has_session,
        "writing": place.may_write,
        "depth": place.depth < DEEPEST,
        "scope": place.in_scope,
        "tried": place.is_tried,
        "repeated": place.is_repeated,
        "no savepoint": not place.in_savepoint,
    }
    return _KINDS[frozenset(each for each, is_there in there.items() if is_there)]


def _choice(there: frozenset[str]) -> SearchStrategy[type[Step]]:
    fitting = ((kind, weight) for kind, weight, needed in _CHOICES if needed <= there)
    return st.sampled_from([kind for kind, weight in fitting for _ in range(weight)])


_NEEDED: Final = frozenset[str]().union(*(needed for _, _, needed in _CHOICES))
_KINDS: Final = MappingProxyType(
    {
        there: _choice(there)
        for count in range(len(_NEEDED) + 1)
        for there in map(frozenset[str], combinations(_NEEDED, count))
    }
)
