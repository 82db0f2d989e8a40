"""What a decorated function does before its body: decided at decoration, frozen, shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask_reqsession.contexts import app_context
from flask_reqsession.errors import ConfigurationError
from flask_reqsession.execution import AsyncExecution, Execution
from flask_reqsession.injection import Quick
from flask_reqsession.keeper import UnitKeeper
from flask_reqsession.ports import AsyncSessionPort
from flask_reqsession.selection import current_keeper

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask_reqsession.colour import Colour
    from flask_reqsession.execution import AnyExecution
    from flask_reqsession.injection import Arguments, Injection
    from flask_reqsession.manager import RequestScopedSessionManager
    from flask_reqsession.ports import Port
    from flask_reqsession.propagation import ScopeSpec
    from flask_reqsession.reattachment import ArgumentPlan, Recall


@dataclass(frozen=True, slots=True)
class Binding:
    """Which manager a decorator works with: a given one, or the current one, by name or not."""

    keeper: UnitKeeper | None = None
    manager_name: str | None = None

    def chosen(self, manager: RequestScopedSessionManager | str | None) -> Binding:
        """Return the binding to ``manager``, an object or a name; this one if there is none.

        :raises ConfigurationError: it is neither.
        """
        if manager is None:
            return self
        if isinstance(manager, str):
            return Binding(manager_name=manager)
        keeper = getattr(manager, "keeper", None)
        if not isinstance(keeper, UnitKeeper):
            raise ConfigurationError(
                f"manager is {manager!r}, but must be a RequestScopedSessionManager or the name of "
                "one. Correct it where the function is decorated."
            )
        return Binding(keeper=keeper)


@dataclass(frozen=True, slots=True)
class CallPlan:
    """All that the decorators on one function ask for; each of them fills in a part.

    Stacked decorators share one plan and so one wrapper: the scope opens first, then the session
    is injected and the arguments are reattached, whatever the order in the source.

    ``awaits_bind``: no decorator has named a bind so far, so it will be that of a scope.
    """

    function: Callable[..., Any]
    colour: Colour
    spec: ScopeSpec
    injection: Injection | None = None
    reattachment: ArgumentPlan | None = None
    binding: Binding = Binding()
    awaits_bind: bool = False

    @property
    def finds_plainly(self) -> bool:
        """Whether a call does nothing but run its body where a scope, or a session, is found."""
        options = self.spec.options
        named = self.binding.keeper is None and self.binding.manager_name is not None
        return not named and (options is None or options.joins_plainly)

    def find_keeper(self) -> UnitKeeper:
        """Return the keeper of this call."""
        keeper, name = self.binding.keeper, self.binding.manager_name
        if keeper is not None:
            return keeper
        keeper = current_keeper(name)
        if name is None and (here := keeper.find()) is not None:
            here.chosen_in = app_context(None)
        return keeper

    def execution(self) -> AnyExecution:
        """Return a fresh entry into the scope, of the colour that the session has.

        An asynchronous function has an ``AsyncSession`` if the injected parameter's annotation says
        so, or if it says nothing and the manager has such sessions at all.
        """
        keeper = self.find_keeper()
        is_async = None if self.injection is None else self.injection.wants_async
        if is_async is None:
            is_async = keeper.databases.has_async(self.spec.bind)
        return AsyncExecution(keeper, self.spec) if is_async else Execution(keeper, self.spec)

    @property
    def prepares(self) -> bool:
        """Whether the arguments are anything but what the caller gave."""
        return self.injection is not None or self.reattachment is not None

    @property
    def quick(self) -> Quick:
        """The calls that :meth:`prepare` need not be asked about."""
        if self.injection is None or self.reattachment is not None:
            return Quick()
        return self.injection.quick

    def complete(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        """Return the call if the caller gave the session and nothing is left to do, else None."""
        if self.injection is None or self.reattachment is not None:
            return None
        if self.spec.options is not None or not self.injection.is_given(args, kwargs):
            return None
        return self.injection.settled(args, kwargs)

    @property
    def recalls(self) -> bool:
        """Whether the arguments of a call are remembered from one attempt to the next."""
        return self.reattachment is not None and self.spec.retry is not None

    def prepare(
        self,
        port: Port,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        recall: Recall | None = None,
    ) -> Arguments:
        """Return the arguments with the session injected and models reattached."""
        injection, reattachment = self.injection, self.reattachment
        # Asked before the session is among them: it would be one more argument to look at. What a
        # recall remembers has to be restored first.
        is_ready = reattachment is None or (
            recall is None
            and reattachment.are_attached(port.session or port.open(), port.memory, args, kwargs)
        )
        if injection is not None:
            opener = port.open_async if isinstance(port, AsyncSessionPort) else port.open
            if not kwargs and len(args) == injection.position:  # the usual call, written out
                args = (*args, opener())
            else:
                args, kwargs = injection.complete(opener, args, kwargs)
        if reattachment is not None and not is_ready:
            args, kwargs = port.reattach_arguments(reattachment, args, kwargs, recall)
        return args, kwargs

    async def aprepare(
        self,
        port: Port,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        recall: Recall | None = None,
    ) -> Arguments:
        """Do what :meth:`prepare` does, where SQL has to be awaited."""
        if self.reattachment is None or not isinstance(port, AsyncSessionPort):
            return self.prepare(port, args, kwargs, recall)
        session = port.open_async()
        return await session.run_sync(lambda _session: self.prepare(port, args, kwargs, recall))
