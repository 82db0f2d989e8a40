"""What waits for the end of a transaction: the hooks that were registered in it.

All hooks of a transaction are kept with it, and each remembers the savepoint in which it was
registered. So a RELEASE has nothing to do, and the order of registration needs no care.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask_reqsession.options import TransactionOutcome
    from flask_reqsession.scope import Scope


class HookKind(Enum):
    """What a hook waits for. The value is the name of the function that registers it."""

    BEFORE_COMMIT = "before_commit"
    ON_COMMIT = "on_commit"
    ON_ROLLBACK = "on_rollback"
    ON_COMPLETION = "on_completion"


class Task(Protocol):
    """The user's function and its arguments, as far as policy knows them."""

    def run(self, outcome: TransactionOutcome | None) -> object:
        """Call the function; a hook that waits for ``outcome`` is told."""
        ...

    async def arun(self, outcome: TransactionOutcome | None) -> object:
        """Do what :meth:`run` does in an event loop, and await what is to be awaited."""
        ...

    async def run_awaited(self, outcome: TransactionOutcome | None) -> object:
        """Do what :meth:`arun` does where the session is a synchronous one."""
        ...

    def report(self, error: BaseException) -> None:
        """Log and count that the function failed with ``error``."""
        ...


class Hook:
    """One registration.

    ``scope`` is the scope in which it was made; a ``robust`` one lets no exception of its own
    out. ``outcome`` is set early where the savepoint is rolled back and the transaction goes on.
    """

    __slots__ = ("kind", "name", "outcome", "robust", "scope", "task")

    def __init__(
        self, kind: HookKind, name: str, task: Task, scope: Scope, *, robust: bool = True
    ) -> None:
        self.kind: HookKind = kind
        self.name: str = name
        self.outcome: TransactionOutcome | None = None
        self.robust: bool = robust
        self.scope: Scope = scope
        self.task: Task = task


class PendingHooks:
    """The hooks of one transaction that have neither run nor been dropped."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[HookKind, deque[Hook]] = {kind: deque() for kind in HookKind}

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._waiting.values())

    def add(self, hook: Hook) -> None:
        """Let ``hook`` wait, behind those of its kind that came before it."""
        self._waiting[hook.kind].append(hook)

    def count(self, kind: HookKind) -> int:
        """Return how many hooks of ``kind`` wait."""
        return len(self._waiting[kind])

    def take(self, kind: HookKind) -> Iterator[Hook]:
        """Yield the hooks of ``kind``, those that are added meanwhile included."""
        waiting = self._waiting[kind]
        while waiting:
            yield waiting.popleft()

    def clear(self) -> None:
        """Drop what waits for something that has not happened."""
        for waiting in self._waiting.values():
            waiting.clear()

    def split(self, savepoint: Scope, outcome: TransactionOutcome) -> PendingHooks | None:
        """Take out what ends with ``savepoint``, which was rolled back: ``outcome``.

        Return the hooks that are due now, if there are any. What waits for the completion of the
        transaction goes on to wait, and will be told ``outcome``.
        """
        due = PendingHooks()
        for kind, waiting in self._waiting.items():
            for _ in range(len(waiting)):
                hook = waiting.popleft()
                if all(scope is not savepoint for scope in hook.scope.lineage()):
                    waiting.append(hook)
                elif kind is HookKind.ON_COMPLETION:
                    hook.outcome = outcome
                    waiting.append(hook)
                elif kind is HookKind.ON_ROLLBACK:
                    due.add(hook)
        return due if len(due) else None
