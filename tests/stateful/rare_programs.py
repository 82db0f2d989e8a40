"""Programs that random ones seldom are, each for a rule whose breach may show nowhere else."""

from __future__ import annotations

from typing import Final

from flask_reqsession.testing import Program
from flask_reqsession.testing.programs import Reply, View
from flask_reqsession.testing.steps import (
    Abort,
    Add,
    ByHand,
    Call,
    Execute,
    Flake,
    Generate,
    Options,
    Raise,
    Read,
    Register,
    Step,
    Try,
    Violate,
)


def _outer(*body: Step) -> Program:
    return Program("unit", (Call("outer", Options(), (Add(1), *body)),))


def _swallow(*body: Step) -> Try:
    return Try(body, "swallow", 90)


_KEPT: Final = Options(no_rollback_for=("TroubleError",))
_HOOKS: Final = (
    Register("on_commit", "hook81", (Add(82),)),
    Register("on_rollback", "hook83", (Add(84),)),
    Register("on_completion", "hook85", (Add(86),)),
)
_RETRIED: Final = Options(retry=2)
_FAILING: Final = Raise("TroubleError", 91)
_NESTED: Final = Options("NESTED")

RARE: Final = {
    "a joined call may fail and doom nothing": _outer(
        _swallow(Call("inner", _KEPT, (Add(2), _FAILING)))
    ),
    "a savepoint that its consumer wrote into takes the outer along": _outer(
        _swallow(Generate("nested", _NESTED, (Add(2),), (Add(3),), (_FAILING,), is_closed=False))
    ),
    "a refused commit names the call that it left": _outer(
        _swallow(Call("inner", Options(), (ByHand("commit"),)))
    ),
    "a close by hand in a savepoint dooms the transaction": _outer(
        Call("nested", _NESTED, (Execute(2), _swallow(ByHand("close"))))
    ),
    "a close in a hook that has nothing to lose": _outer(
        Register("on_commit", "hook81", (ByHand("close"),)),
        Register("on_completion", "hook82", (Read(),)),
    ),
    "a retry after a failed flush": Program(
        "unit",
        (Add(1), _swallow(Violate()), Call("call1", _RETRIED, (Add(2), Flake(1, 92)))),
    ),
    "no retry after loose writes": Program(
        "unit", (Execute(1), Call("call1", _RETRIED, (Add(2),)))
    ),
    "hooks of the last attempt only": Program(
        "bare",
        (
            Call(
                "call1",
                _RETRIED,
                (
                    Add(1),
                    Register("on_rollback", "hook2", (Add(3),)),
                    Register("on_completion", "hook4", (Add(5),)),
                    Flake(2, 92),
                ),
            ),
        ),
    ),
    "no attempt after a commit": Program(
        "unit",
        (Call("call1", Options(retry=2, no_rollback_for=("FlakyError",)), (Add(1), Flake(1, 92))),),
    ),
    "a savepoint takes along the hooks of those in it": _outer(
        _swallow(
            Call("nested", _NESTED, (Call("inner", _NESTED, _HOOKS), _FAILING)),
        )
    ),
    "a raised redirect leaves a joined service": Program(
        "request",
        (Add(1), Call("inner", Options(), (Add(2), Abort(302, 92)))),
        View(Options()),
    ),
    "a view without a scope leaves a broken session": Program(
        "request", (_swallow(Violate()),), View(Options("NEVER"))
    ),
    "a view that returns None": Program("request", (Add(1),), View(Options(), Reply("nothing"))),
    "a view that returns an exception": Program(
        "request", (Add(1),), View(Options(), Reply("error", 404))
    ),
    "an exception that is returned tells of a rollback": Program(
        "request",
        (_swallow(Call("inner", Options(), (Add(1), _FAILING))),),
        View(Options(), Reply("error", 404)),
    ),
}
"""By what they show."""
