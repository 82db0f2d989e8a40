"""The policy of running a call again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from flask_reqsession.causes import caused_after
from flask_reqsession.effects import (
    LET_GO,
    LET_GO_IF_IDLE,
    EitherPerformer,
    Elsewhere,
    Failed,
    Flow,
    Ok,
    Sleep,
)


class RetryPolicy(Protocol):
    """When and how to run a call again."""

    attempts: int

    def allows(self, error: BaseException) -> bool:
        """Whether ``error`` is one that another attempt may not meet."""
        ...

    def delay(self, attempt: int) -> float:
        """Seconds to wait after ``attempt`` failed."""
        ...

    def announce(self, attempt: int, error: BaseException) -> None:
        """Tell the user that ``attempt`` failed with ``error`` and another one follows."""
        ...

    def give_up(self, attempt: int, error: BaseException) -> None:
        """Note on ``error``, with which ``attempt`` failed for good, what the caller must know."""
        ...


def retried_flow(
    attempt_flow: Callable[[], Flow],
    policy: RetryPolicy,
    is_kept: Callable[[], bool],
    others: Callable[[], Iterable[EitherPerformer]],
) -> Flow:
    """Run ``attempt_flow`` anew, each time on a fresh scope, as ``policy`` allows.

    ``is_kept`` tells of the last attempt whether it was committed: an exception that left it all
    the same is no reason to do the work twice. ``others`` are the unit's other sessions.
    """
    attempt = 0
    while True:
        attempt += 1
        outcome = yield from attempt_flow()
        if isinstance(outcome, Ok) or is_kept():
            return outcome
        if attempt == policy.attempts or not policy.allows(outcome.error):
            policy.give_up(attempt, outcome.error)
            return outcome
        waited = yield from _pause(policy, attempt, outcome.error, others)
        if isinstance(waited, Failed):
            return caused_after(waited, outcome)
        del outcome  # its traceback holds what the attempt had loaded


def _pause(
    policy: RetryPolicy,
    attempt: int,
    error: BaseException,
    others: Callable[[], Iterable[EitherPerformer]],
) -> Flow:
    """Wait between two attempts, with no connection held: neither ours nor the callback's."""
    try:
        policy.announce(attempt, error)
    except BaseException as refusal:  # noqa: BLE001 - the user's callback ends the attempts
        return Failed(refusal)
    left = yield LET_GO
    for other in others():
        if isinstance(left, Ok):
            left = yield Elsewhere(other, LET_GO_IF_IDLE)
    return left if isinstance(left, Failed) else (yield Sleep(policy.delay(attempt)))
