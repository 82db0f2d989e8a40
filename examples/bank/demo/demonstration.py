"""The demonstration: real HTTP requests, and what each has left in the database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from examples.bank import tables
from examples.bank.app import create_app
from examples.bank.worker import StandingOrderWorker
from flask_reqsession import current_manager

from .mishaps import mishaps
from .server import Answer, Client
from .steps import Ada, Step, steps_of
from .witness import Conversation, SecondConnection, Seen


class Outcome(NamedTuple):
    """What came of a step."""

    step: Step
    answer: Answer
    sent: str
    change: Seen

    @property
    def as_promised(self) -> bool:
        """Whether status, answer and database are what the step says."""
        return (
            self.answer.status == self.step.status
            and self.step.text in self.answer.text
            and self.change == self.step.change
        )


class Demonstration:
    """The bank with three customers, watched from outside."""

    def __init__(self, database_url: str) -> None:
        self.app = create_app(database_url)
        self.app.register_blueprint(mishaps)
        self._url = database_url
        with self.app.app_context(), current_manager().unit_of_work():
            tables.create_tables()
            self._customers = tables.seed()
            self._engine = current_manager().session.get_bind().engine
        self._conversation = Conversation(self._engine)
        self._second_connection = SecondConnection(database_url, self._customers)

    @property
    def worker(self) -> StandingOrderWorker:
        """Return the worker of the standing orders, which the caller starts and stops."""
        worker: StandingOrderWorker = self.app.extensions["bank.worker"]
        return worker

    def close(self) -> None:
        """Close the connections of the app, which serves no longer."""
        self._engine.dispose()

    def outcomes(self, address: str) -> Iterator[Outcome]:
        """Take every step, one after the other, against the server at ``address``."""
        ada = Ada(Client(address), self._customers, self.worker, self._url)
        for step in steps_of(ada):
            before = self._second_connection.look()
            self._conversation.take()
            answer = step.request()
            sent = self._conversation.take()
            yield Outcome(step, answer, sent, self._second_connection.look().since(before))
