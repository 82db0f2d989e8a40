"""Call a hook: the user's function, in a transaction of its own where it has none."""

from __future__ import annotations

import functools
import inspect
import logging
from typing import TYPE_CHECKING, Any

from flask_reqsession.colour import Colour, colour_of, name_of
from flask_reqsession.current import scope_in
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.execution import AsyncExecution, Execution
from flask_reqsession.options import Propagation, TransactionOptions
from flask_reqsession.outcome_rules import Rules
from flask_reqsession.pending import HookKind
from flask_reqsession.propagation import ScopeSpec
from flask_reqsession.wrapper import plan_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask_reqsession.keeper import UnitKeeper
    from flask_reqsession.options import TransactionOutcome

logger: logging.Logger = logging.getLogger("flask_reqsession")

_NEEDING_A_SCOPE = frozenset({Propagation.SUPPORTS, Propagation.MANDATORY})


class HookCall:
    """One call of a user's function: what to call, and on the sessions of which bind."""

    __slots__ = ("_args", "_function", "_keeper", "_kind", "_kwargs", "bind", "is_async", "name")

    def __init__(
        self,
        kind: HookKind,
        keeper: UnitKeeper,
        bind: str,
        function: Callable[..., object],
        /,
        *args: object,
        **kwargs: object,
    ) -> None:
        self._args = args
        self._function = function
        self._keeper = keeper
        self._kind = kind
        self._kwargs = kwargs
        self.bind: str = bind
        self.is_async: bool = colour_of(function) is Colour.ASYNC
        self.name: str = name_of(_inside(function))

    def run(self, outcome: TransactionOutcome | None = None) -> None:
        """Call the function.

        :raises ConfigurationError: it left its work to a coroutine or generator.
        """
        call = functools.partial(self.call, outcome)
        if self._needs_scope():
            Execution(self._keeper, self._spec()).run(call)
        else:
            call()

    async def arun(self, outcome: TransactionOutcome | None = None) -> None:
        """Call the function, and await it if it is a coroutine function or returns a coroutine."""
        call = functools.partial(self._acall, outcome)
        if self._needs_scope():
            await AsyncExecution(self._keeper, self._spec()).run(call)
        else:
            await call()

    async def run_awaited(self, outcome: TransactionOutcome | None = None) -> None:
        """Do what :meth:`arun` does, on a synchronous session."""
        call = functools.partial(self._acall, outcome)
        if self._needs_scope():
            await Execution(self._keeper, self._spec()).run_awaited(call)
        else:
            await call()

    def report(self, error: BaseException) -> None:
        """Log and count that the function failed; its arguments and the message stay secret."""
        what = f"{self._kind.value}({self.name})"
        logger.error("The hook %s failed: %s", what, type(error).__name__)
        self._keeper.manager.metrics.count("hooks_failed")

    def call(self, outcome: TransactionOutcome | None = None) -> None:
        """Call the function as it is, in whatever runs."""
        result = self._result(outcome)
        if inspect.iscoroutine(result):
            result.close()  # or Python warns that it was never awaited
        if inspect.iscoroutine(result) or inspect.isgenerator(result):
            raise ConfigurationError(
                f"The hook {self._kind.value}({self.name}) returned a {type(result).__name__}, and "
                "nobody will run it here. Register a function that does its work when it is "
                "called, or, for a coroutine, register it in an async scope."
            )

    async def _acall(self, outcome: TransactionOutcome | None) -> None:
        result: Any = self._result(outcome)
        if self.is_async or inspect.iscoroutine(result):
            await result

    def _result(self, outcome: TransactionOutcome | None) -> object:
        if self._kind is HookKind.ON_COMPLETION:
            return self._function(outcome, *self._args, **self._kwargs)
        return self._function(*self._args, **self._kwargs)

    def _needs_scope(self) -> bool:
        """Whether a scope has to be opened around the function.

        Not where it opens one itself, which may have to be outermost: for ``retry=``, say.
        """
        if self._kind is HookKind.BEFORE_COMMIT:
            return False
        plan = plan_of(_inside(self._function))
        if plan is None or plan.spec.options is None:
            return True
        if plan.spec.options.propagation in _NEEDING_A_SCOPE:
            return True
        here = self._keeper.find()
        return here is not None and scope_in(here.unit, self.bind) is not None

    def _spec(self) -> ScopeSpec:
        # NESTED: what waited for the end of a savepoint runs while the transaction goes on.
        options = TransactionOptions(
            propagation=Propagation.NESTED, rollback_on_status=None, bind=self.bind
        )
        name = f"the hook {self._kind.value}({self.name})"
        return ScopeSpec(name=name, bind=self.bind, options=options, rules=Rules(options, None))


def _inside(function: object) -> object:
    """Return what is called by a partial, and the function of a method."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__func__", function)
