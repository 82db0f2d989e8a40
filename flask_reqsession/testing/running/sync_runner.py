"""Execute programs with ``Session``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.orm import Session

from flask_reqsession.testing.programs import Program
from flask_reqsession.testing.running.answers import returned
from flask_reqsession.testing.running.at_once import AtOnce, AtOnceGenerator, at_once
from flask_reqsession.testing.running.runner import Runner
from flask_reqsession.testing.steps import Call, Generate, Register

if TYPE_CHECKING:
    from flask_reqsession.options import ScopeOptions, TransactionOutcome

T = TypeVar("T")


class SyncRunner(Runner[Session]):
    """Decorates functions; each drives its body to the end by itself, since nothing waits."""

    def error_of(self, program: Program) -> BaseException | None:
        """Run ``program``; return what reached its caller."""
        try:
            if program.root == "request":
                self._serve(program)
            elif program.root == "unit":
                with self._manager.unit_of_work():
                    at_once(self._start(self._manager.session, program.body))
            else:
                at_once(self._body(None, program.body))
        except BaseException as error:  # noqa: BLE001 - described
            return error
        return None

    @property
    def _current(self) -> Session:
        return self._manager.session

    def _view(self, program: Program) -> Callable[..., object]:
        run = self._body if program.view.options is not None else self._start

        def view(session: Session) -> object:
            at_once(run(session, program.body))
            return returned(program.view.reply)

        return view

    async def _do(self, session: Session, work: Callable[[Session], T]) -> T:
        return work(session)

    async def _call(self, call: Call) -> None:
        def function(session: Session) -> object:
            at_once(self._body(session, call.body))
            return self._service_answer

        self._decorated(function, call.name, call.options)()

    def _hook(self, step: Register) -> Callable[..., object]:
        def hook(session: Session, outcome: TransactionOutcome | None = None) -> None:
            at_once(self._fire(session, step, outcome))

        return self._decorated(hook, step.name, None)

    def _generator(self, step: Generate) -> AbstractAsyncContextManager[AsyncIterator[None]]:
        def function(session: Session) -> Generator[None]:
            at_once(self._body(session, step.first))
            yield
            at_once(self._body(session, step.rest))

        return AtOnceGenerator(self._decorated(function, step.name, step.options)())

    def _block(self, options: ScopeOptions) -> AbstractAsyncContextManager[Session]:
        return AtOnce(self._manager.session_scope(**options))

    def _savepoint(self, session: Session) -> AbstractAsyncContextManager[object]:
        return AtOnce(session.begin_nested())
