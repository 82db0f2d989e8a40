"""Execute programs with ``Session``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar

from flask import Flask
from sqlalchemy.orm import Session

from flask_reqsession.testing.programs import Program
from flask_reqsession.testing.running.arguments import given
from flask_reqsession.testing.running.at_once import AtOnce, Steps, at_once
from flask_reqsession.testing.running.runner import Runner
from flask_reqsession.testing.steps import Body, Call, Generate, Register

if TYPE_CHECKING:
    from flask_reqsession.options import ScopeOptions, TransactionOutcome

T = TypeVar("T")


class SyncRunner(Runner[Session]):
    """Decorates functions; each drives its body to the end by itself, since nothing waits."""

    def error_of(self, program: Program) -> BaseException | None:
        """Run ``program``; return what reached its caller."""
        try:
            if program.root == "request":
                self._serve(program.body)
            elif program.root == "unit":
                with self._manager.unit_of_work():
                    at_once(self._start(self._manager.session, program.body))
            else:
                at_once(self._body(None, program.body))
        except BaseException as error:  # noqa: BLE001 - described
            return error
        return None

    def _serve(self, body: Body) -> None:
        """Run the program in a view; what it raises comes through."""
        app = Flask(__name__)
        app.config["PROPAGATE_EXCEPTIONS"] = True
        self._manager.init_app(app)

        @app.get("/")
        @self._manager.with_request_session
        def view(session: Session) -> str:
            at_once(self._start(session, body))
            return "done"

        app.test_client().get("/")

    async def _do(self, session: Session, work: Callable[[Session], T]) -> T:
        return work(session)

    async def _call(self, call: Call) -> None:
        def function(session: Session) -> None:
            at_once(self._body(session, call.body))

        function.__name__ = function.__qualname__ = call.name
        injected = self._manager.with_request_session(function)
        self._manager.transactional(**given(call.options))(injected)()

    def _hook(self, step: Register) -> Callable[..., object]:
        def hook(session: Session, outcome: TransactionOutcome | None = None) -> None:
            at_once(self._fire(session, step, outcome))

        hook.__name__ = hook.__qualname__ = step.name
        return self._manager.with_request_session(hook)

    def _generator(self, step: Generate) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        def function(session: Session) -> Generator[None]:
            at_once(self._body(session, step.first))
            yield
            at_once(self._body(session, step.rest))

        function.__name__ = function.__qualname__ = step.name
        injected = self._manager.with_request_session(function)
        return Steps(self._manager.transactional(**given(step.options))(injected)())

    def _block(self, options: ScopeOptions) -> AbstractAsyncContextManager[Session]:
        return AtOnce(self._manager.session_scope(**options))

    def _savepoint(self, session: Session) -> AbstractAsyncContextManager[object]:
        return AtOnce(session.begin_nested())
