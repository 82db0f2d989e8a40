"""Register functions that run at the end of the current transaction."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec, overload

from flask_reqsession.errors import ConfigurationError, NoActiveScopeError
from flask_reqsession.hook_calls import HookCall
from flask_reqsession.pending import HookKind
from flask_reqsession.plans import Binding
from flask_reqsession.registering import Registering, Registration

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask_reqsession.keeper import UnitKeeper
    from flask_reqsession.manager import RequestScopedSessionManager
    from flask_reqsession.units import Unit

P = ParamSpec("P")


class BeforeCommit(Registering):
    """Run ``function(*args, **kwargs)`` as the last thing before the transaction's COMMIT.

    It runs inside the transaction: what it writes is committed with the rest, and if it raises,
    all is rolled back and the exception is raised from the scope. Where the transaction, or the
    savepoint in which it was registered, rolls back, it does not run.

    ``bind`` chooses the scope where several binds have one, ``manager`` (an object or a name) the
    manager; all other keywords are the function's. In an async scope it may be a coroutine
    function.

    :raises NoActiveScopeError: no scope is running, or it is not clear which one is meant.
    :raises ConfigurationError: the function can't be run here.
    :raises TypeError: the arguments do not fit.

    >>> from flask_reqsession import RequestScopedSessionManager, before_commit
    >>> manager = RequestScopedSessionManager("sqlite://")
    >>> with manager.session_scope():
    ...     before_commit(print, "about to commit")
    ...     print("working")
    working
    about to commit
    """

    _kind = HookKind.BEFORE_COMMIT

    def __call__(
        self,
        function: Callable[..., object],
        /,
        *args: object,
        bind: str | None = None,
        manager: RequestScopedSessionManager | str | None = None,
        **kwargs: object,
    ) -> None:
        """Register ``function``."""
        self._refuse_shared(function, bind=bind, manager=manager)
        self._register(self._options(bind, manager), function, args, kwargs)


class OnCommit(Registering):
    """Run ``function(*args, **kwargs)`` after the transaction's COMMIT, in order of registration.

    With no scope running it runs at once. Where the transaction, or the savepoint in which it was
    registered, rolls back, or nobody knows whether COMMIT happened, it does not run.

    It runs in a transaction of its own and may register hooks. If it fails, this is logged, the
    other hooks run, and the caller of the scope is not disturbed: the data is committed. With
    ``robust=False`` its exception is raised from the scope after all hooks have run.

    ``bind`` chooses the scope where several binds have one, ``manager`` (an object or a name) the
    manager; all other keywords are the function's. In an async scope it may be a coroutine
    function.

    :raises NoActiveScopeError: it is not clear which of several scopes is meant.
    :raises ConfigurationError: the function can't be run here.
    :raises TypeError: the arguments do not fit.

    >>> from flask_reqsession import RequestScopedSessionManager, on_commit
    >>> manager = RequestScopedSessionManager("sqlite://")
    >>> with manager.session_scope():
    ...     on_commit(print, "committed")
    ...     print("working")
    working
    committed
    """

    _kind = HookKind.ON_COMMIT

    def __call__(
        self,
        function: Callable[..., object],
        /,
        *args: object,
        robust: bool = True,
        bind: str | None = None,
        manager: RequestScopedSessionManager | str | None = None,
        **kwargs: object,
    ) -> None:
        """Register ``function``, or run it if there is no scope."""
        self._refuse_shared(function, robust=None if robust else False, bind=bind, manager=manager)
        self._register(self._options(bind, manager, robust=robust), function, args, kwargs)

    @overload
    def deferred(self, function: Callable[P, object], /) -> Callable[P, None]: ...
    @overload
    def deferred(
        self,
        function: None = None,
        /,
        *,
        robust: bool = True,
        bind: str | None = None,
        manager: RequestScopedSessionManager | str | None = None,
    ) -> Callable[[Callable[P, object]], Callable[P, None]]: ...
    def deferred(
        self,
        function: Callable[P, object] | None = None,
        /,
        *,
        robust: bool = True,
        bind: str | None = None,
        manager: RequestScopedSessionManager | str | None = None,
    ) -> Callable[P, None] | Callable[[Callable[P, object]], Callable[P, None]]:
        """Decorate a function: to call it then schedules it for after the COMMIT.

        All keywords of the call are the function's. The options are those of ``on_commit()``.

        >>> from flask_reqsession import RequestScopedSessionManager
        >>> manager = RequestScopedSessionManager("sqlite://")
        >>> @manager.on_commit.deferred
        ... def notify(name):
        ...     print("hello,", name)
        >>> with manager.session_scope():
        ...     notify("ada")
        ...     print("working")
        working
        hello, ada
        """
        options = self._options(bind, manager, robust=robust)
        if function is None:
            return functools.partial(self._deferred, options)
        return self._deferred(options, function)

    def _deferred(self, options: Registration, function: Callable[P, object]) -> Callable[P, None]:
        self._check_function(function)

        @functools.wraps(function)
        def schedule(*args: P.args, **kwargs: P.kwargs) -> None:
            self._register(options, function, args, kwargs)

        return schedule

    def _without_scope(
        self, call: HookCall, keeper: UnitKeeper, unit: Unit | None, options: Registration
    ) -> None:
        """Run at once. Inside work that somebody commits by hand the call is a part of that."""
        if call.is_async:
            raise NoActiveScopeError(
                f"on_commit({call.name}) was called with a coroutine function outside a scope, "
                "where it has to run at once, but nobody would await it. Await it yourself, or "
                "register it in an async scope."
            )
        port = None if unit is None else unit.ports.get(call.bind)
        if port is not None and (port.paused is not None or port.has_uncommitted_changes):
            call.call()
            return
        run = call.run if _has_sessions(keeper, call.bind) else call.call
        try:
            run()
        except Exception as error:
            if not options.robust:
                raise
            call.report(error)


class OnRollback(Registering):
    """Run ``function(*args, **kwargs)`` after the transaction's ROLLBACK.

    Registered in a savepoint, it runs right after that is rolled back. Otherwise, and where nobody
    knows whether COMMIT happened, it does not run. It runs in a transaction of its own (in a
    savepoint, where the transaction goes on); if it fails, this is logged, and noted on the
    exception that the caller gets. With ``robust=False`` its exception is raised if no other is.

    ``bind`` chooses the scope where several binds have one, ``manager`` (an object or a name) the
    manager; all other keywords are the function's. In an async scope it may be a coroutine
    function.

    :raises NoActiveScopeError: no scope is running, or it is not clear which one is meant.
    :raises ConfigurationError: the function can't be run here.
    :raises TypeError: the arguments do not fit.

    >>> from flask_reqsession import RequestScopedSessionManager, on_rollback, set_rollback_only
    >>> manager = RequestScopedSessionManager("sqlite://")
    >>> with manager.session_scope():
    ...     on_rollback(print, "rolled back")
    ...     set_rollback_only()
    rolled back
    """

    _kind = HookKind.ON_ROLLBACK

    def __call__(
        self,
        function: Callable[..., object],
        /,
        *args: object,
        robust: bool = True,
        bind: str | None = None,
        manager: RequestScopedSessionManager | str | None = None,
        **kwargs: object,
    ) -> None:
        """Register ``function``."""
        self._refuse_shared(function, robust=None if robust else False, bind=bind, manager=manager)
        self._register(self._options(bind, manager, robust=robust), function, args, kwargs)


class OnCompletion(Registering):
    """Run ``function(outcome, *args, **kwargs)`` when the transaction has ended, however.

    ``outcome`` is a :class:`~flask_reqsession.TransactionOutcome`. Registered in a savepoint that
    was rolled back it is ROLLED_BACK, and told at the end of the transaction all the same. It runs
    after the hooks of ``on_commit()`` or ``on_rollback()``, in a transaction of its own; if it
    fails, this is logged, and noted on the exception that the caller gets, if there is one. With
    ``robust=False`` its exception is raised if no other is.

    ``bind`` chooses the scope where several binds have one, ``manager`` (an object or a name) the
    manager; all other keywords are the function's. In an async scope it may be a coroutine
    function.

    :raises NoActiveScopeError: no scope is running, or it is not clear which one is meant.
    :raises ConfigurationError: the function can't be run here.
    :raises TypeError: the arguments do not fit.

    >>> from flask_reqsession import RequestScopedSessionManager, on_completion
    >>> manager = RequestScopedSessionManager("sqlite://")
    >>> with manager.session_scope():
    ...     on_completion(print)
    TransactionOutcome.COMMITTED
    """

    _kind = HookKind.ON_COMPLETION

    def __call__(
        self,
        function: Callable[..., object],
        /,
        *args: object,
        robust: bool = True,
        bind: str | None = None,
        manager: RequestScopedSessionManager | str | None = None,
        **kwargs: object,
    ) -> None:
        """Register ``function``."""
        self._refuse_shared(function, robust=None if robust else False, bind=bind, manager=manager)
        self._register(self._options(bind, manager, robust=robust), function, args, kwargs)


before_commit: BeforeCommit = BeforeCommit(Binding())
on_commit: OnCommit = OnCommit(Binding())
on_completion: OnCompletion = OnCompletion(Binding())
on_rollback: OnRollback = OnRollback(Binding())


def _has_sessions(keeper: UnitKeeper, bind: str) -> bool:
    """Whether ``bind`` has synchronous sessions.

    :raises ConfigurationError: there is no such bind.
    """
    try:
        keeper.databases.source(bind)
    except ConfigurationError:
        if keeper.databases.has_async(bind):
            return False
        raise
    return True
