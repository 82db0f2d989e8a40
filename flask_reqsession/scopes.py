"""``session_scope()``: a transaction scope as a ``with`` block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from flask_reqsession.effects import Failed, Ok, Outcome
from flask_reqsession.errors import ConfigurationError, RetryNotAllowedError
from flask_reqsession.execution import AsyncExecution, Execution
from flask_reqsession.options import transaction_options
from flask_reqsession.specs import spec_of

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from flask_reqsession.keeper import UnitKeeper
    from flask_reqsession.options import ScopeOptions
    from flask_reqsession.propagation import ScopeSpec

ExecutionT = TypeVar("ExecutionT", Execution, AsyncExecution)


def _block_spec(options: ScopeOptions) -> ScopeSpec:
    checked = transaction_options(**options)
    if checked.retry is not None:
        raise RetryNotAllowedError(
            "session_scope(retry=...) can't work: a with block cannot be run twice. Move the block "
            "into a function and decorate that with @transactional(retry=...)."
        )
    return spec_of(checked, None)


class _Block(Generic[ExecutionT]):
    """What both colours of a ``with`` block share: it is entered once."""

    def __init__(self, keeper: UnitKeeper, options: ScopeOptions) -> None:
        self._keeper = keeper
        self._spec = _block_spec(options)
        self._execution: ExecutionT | None = None

    def _begin(self, execution: ExecutionT) -> ExecutionT:
        if self._execution is not None:
            raise ConfigurationError(
                "A session_scope() was entered twice. It is one transaction: call session_scope() "
                "anew for each with block, also for one inside another."
            )
        self._execution = execution
        return execution

    def _begun(self) -> ExecutionT:
        if self._execution is None:
            raise RuntimeError("A session_scope() was left that had not been entered.")
        return self._execution


class SessionScope(_Block[Execution]):
    """A ``with`` block that is a transaction scope and yields the ``Session``."""

    def __enter__(self) -> Session:
        """Enter the scope.

        :raises PropagationError: the options do not allow it here.
        """
        execution = self._begin(Execution(self._keeper, self._spec))
        try:
            ended = execution.start()
            if ended is None:
                session = execution.port.open()
                execution.open_block()
                return session
        except BaseException as error:  # noqa: BLE001 - it goes on below
            ended = execution.interrupted(error)
        try:
            raise _refusal(ended)
        finally:
            del ended

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Commit, or roll back and let the exception go on."""
        try:
            ended = self._begun().leave(_as_outcome(error))
        except BaseException as signal:  # noqa: BLE001 - it goes on below
            ended = self._begun().interrupted(signal)
        try:
            _raise_if_new(ended, error)
        finally:
            del ended, error


class AsyncSessionScope(_Block[AsyncExecution]):
    """The async twin of :class:`SessionScope`; yields the ``AsyncSession``."""

    async def __aenter__(self) -> AsyncSession:
        """Enter the scope.

        :raises PropagationError: the options do not allow it here.
        """
        execution = self._begin(AsyncExecution(self._keeper, self._spec))
        try:
            ended = await execution.start()
            if ended is None:
                session = execution.port.open_async()
                execution.open_block()
                return session
        except BaseException as error:  # noqa: BLE001 - it goes on below
            ended = await execution.interrupted(error)
        try:
            raise _refusal(ended)
        finally:
            del ended

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Commit, or roll back and let the exception go on."""
        try:
            ended = await self._begun().leave(_as_outcome(error))
        except BaseException as signal:  # noqa: BLE001 - it goes on below
            ended = await self._begun().interrupted(signal)
        try:
            _raise_if_new(ended, error)
        finally:
            del ended, error


def _as_outcome(error: BaseException | None) -> Outcome:
    return Ok() if error is None else Failed(error)


def _refusal(ended: Outcome | None) -> BaseException:
    """Return why a scope could not be entered."""
    return ended.error if isinstance(ended, Failed) else RuntimeError("There was no reason.")


def _raise_if_new(ended: Outcome | None, error: BaseException | None) -> None:
    """Raise what the scope ended with, unless it is what the block raised and goes on by itself."""
    try:
        if isinstance(ended, Failed) and ended.error is not error:
            raise ended.error
    finally:
        del ended, error
