"""The background worker: carries out standing orders in a thread of its own."""

from __future__ import annotations

import threading
from queue import Queue
from types import TracebackType
from typing import Self, cast

from flask import Flask, current_app

from flask_reqsession import current_manager

from .errors import BankError
from .standing_orders import execute, pending_ids, refuse


class StandingOrderWorker:
    """Execute the orders whose numbers are submitted, one after the other.

    Use it as a context manager around the server, or call :meth:`start` and :meth:`stop`. An order
    submitted while no thread runs waits in the queue; one that was in the queue of a process that
    died is still pending in the database, and :meth:`start` takes it up again.
    """

    def __init__(self, app: Flask) -> None:
        """Belong to ``app``; nothing runs yet."""
        self._app = app
        self._queue: Queue[int | None] = Queue()
        self._thread: threading.Thread | None = None

    def submit(self, order_id: int) -> None:
        """Ask for a committed order to be carried out soon."""
        self._queue.put(order_id)

    def start(self) -> None:
        """Start the thread, with what an earlier process left behind."""
        self._thread = threading.Thread(target=self._run, name="standing-orders")
        self._thread.start()

    def stop(self) -> None:
        """Finish what was submitted, then end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def wait_until_idle(self) -> None:
        """Return when everything submitted so far has been tried."""
        self._queue.join()

    def execute_pending(self) -> int:
        """Try every pending order in this thread; return how many there were."""
        with self._app.app_context(), current_manager().unit_of_work():
            waiting = pending_ids()
        for order_id in waiting:
            self._execute(order_id)
        return len(waiting)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def _run(self) -> None:
        self.execute_pending()
        while (order_id := self._queue.get()) is not None:
            self._execute(order_id)
            self._queue.task_done()
        self._queue.task_done()

    def _execute(self, order_id: int) -> None:
        # One unit of work for each order: its session sees nothing of the order before.
        with self._app.app_context(), current_manager().unit_of_work():
            try:
                execute(order_id)
            except BankError as error:
                refuse(order_id, str(error))
            except Exception:
                # The order stays pending; the thread must live on for the next one.
                self._app.logger.exception("standing order %d failed", order_id)


def current_worker() -> StandingOrderWorker:
    """Return the worker of the running app."""
    return cast("StandingOrderWorker", current_app.extensions["bank.worker"])
