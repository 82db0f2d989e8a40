"""The bank without a request: its worker, its commands, its factory and its small parts."""

from __future__ import annotations

import doctest
import logging
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import make_url

from examples.bank import create_app, money
from examples.bank.bookkeeping import transfer
from examples.bank.demo.rival import Rival
from examples.bank.demo.witness import Seen
from examples.bank.errors import InsufficientFundsError
from examples.bank.models import Account, OrderState
from examples.bank.orders import TransferOrder
from examples.bank.standing_orders import execute, find_standing_order, place
from examples.bank.tables import Customers
from examples.bank.worker import StandingOrderWorker, current_worker
from flask_reqsession import current_manager
from tests.examples.conftest import PAID, Change, engine_of
from tests.servers.connections import Rows


@pytest.fixture
def worker(bank: Flask) -> StandingOrderWorker:
    """Give the bank's worker, not yet started."""
    with bank.app_context():
        return current_worker()


def stand(customers: Customers, amount: int = 2500) -> int:
    """Place a standing order by Ada in favour of Grace; return its number."""
    order = TransferOrder(payer_id=customers.ada, payee_id=customers.grace, amount=amount)
    return place(order).id


@pytest.mark.rule("M10")
def test_a_service_is_a_transaction_of_its_own(
    bank: Flask, customers: Customers, change: Change
) -> None:
    """Called outside a request, the outermost service opens, commits and closes."""
    order = TransferOrder(payer_id=customers.ada, payee_id=customers.grace, amount=2500)
    with bank.app_context():
        movement = transfer(order)
        assert not current_manager().is_session_active()

    assert movement.payer.balance == 247_500
    assert change() == PAID


@pytest.mark.rule("M9", "M10")
def test_a_refused_service_can_be_followed_by_another(
    bank: Flask, customers: Customers, change: Change
) -> None:
    """In one unit of work each outermost call is its own transaction, on one session."""
    too_much = TransferOrder(payer_id=customers.ada, payee_id=customers.grace, amount=10**9)
    order = TransferOrder(payer_id=customers.ada, payee_id=customers.grace, amount=2500)
    with bank.app_context(), current_manager().unit_of_work():
        session = current_manager().session
        with pytest.raises(InsufficientFundsError):
            transfer(too_much)
        transfer(order)
        assert current_manager().session is session

    assert change() == PAID


def test_the_worker_makes_what_is_submitted(
    bank: Flask, worker: StandingOrderWorker, customers: Customers, change: Change
) -> None:
    """Orders are carried out while the worker runs, and a stopped one starts again."""
    with bank.app_context():
        with worker:
            worker.submit(stand(customers))
            worker.wait_until_idle()
            assert change() == PAID
        worker.stop()
        with worker:
            worker.submit(stand(customers))

    assert change() == Seen(-5000, 5000, 0, 2, 4, 2)


def test_the_worker_takes_up_what_was_left(
    bank: Flask, worker: StandingOrderWorker, customers: Customers, change: Change
) -> None:
    """An order that was committed, and whose process died, is still made: once."""
    with bank.app_context():
        left = stand(customers)
    worker.submit(left)
    with worker:
        pass

    assert change() == PAID


def test_the_worker_refuses_and_goes_on(
    bank: Flask, worker: StandingOrderWorker, customers: Customers, change: Change
) -> None:
    """A refused order leaves its state and a line on the audit trail; the next one is made."""
    with bank.app_context(), worker:
        refused = stand(customers, amount=10**9)
        worker.submit(refused)
        worker.submit(stand(customers))

    with bank.app_context():
        found = find_standing_order(refused)
    assert found.state is OrderState.REFUSED
    assert found.reason.startswith("Ada Lovelace has 2,500.00")
    assert change() == PAID._replace(audit=2)


def test_the_worker_outlives_a_crash(
    bank: Flask,
    worker: StandingOrderWorker,
    customers: Customers,
    change: Change,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What cannot be found at all is logged; the thread lives on."""
    with bank.app_context(), worker, caplog.at_level(logging.ERROR):
        worker.submit(99)
        worker.submit(stand(customers))

    assert "standing order 99 failed" in caplog.text
    assert change() == PAID


@pytest.mark.rule("T20", "T21", "M9")
def test_the_worker_tries_again(
    bank: Flask,
    worker: StandingOrderWorker,
    customers: Customers,
    change: Change,
    sqlite_file_url: str,
) -> None:
    """The outermost call in a unit of work may be retried."""
    with bank.app_context():
        stand(customers)
        rival = Rival(sqlite_file_url, customers.ada)
        with rival.in_the_way():
            assert worker.execute_pending() == 1

    assert len(rival.conflicts) == 1
    assert change() == PAID


def test_a_standing_order_is_made_once(bank: Flask, customers: Customers, change: Change) -> None:
    """Executing it again changes nothing."""
    with bank.app_context():
        order_id = stand(customers)
        execute(order_id)
        execute(order_id)

    assert change() == PAID


def test_the_commands_make_a_bank(tmp_path: Path, rows: Rows) -> None:
    """``init-db``, ``seed``, ``transfer`` and ``work`` run one after the other."""
    url = f"sqlite:///{tmp_path / 'new.db'}"
    app = create_app(url)
    runner = app.test_cli_runner()

    for command in (["init-db"], ["init-db"], ["seed"]):
        assert runner.invoke(args=command).exit_code == 0
    done = runner.invoke(args=["transfer", "1", "2", "25", "--memo", "rent"])
    assert (done.exit_code, done.output) == (0, "25.00 sent, transfer 1.\n")
    assert rows(url, "SELECT balance FROM accounts ORDER BY id") == [(247500,), (82500,), (12000,)]

    refused = runner.invoke(args=["transfer", "1", "3", "25"])
    assert refused.exit_code == 1
    assert "Error: The account of Frida Kahlo is frozen." in refused.output
    assert rows(url, "SELECT count(*) FROM transfers") == [(1,)]
    assert rows(url, "SELECT detail FROM audit_trail WHERE action = 'REFUSED'") == [
        ("The account of Frida Kahlo is frozen.",)
    ]

    assert runner.invoke(args=["work"]).output == "0 standing orders tried.\n"
    engine_of(app).dispose()


def test_the_database_is_chosen_by_argument_environment_or_instance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``create_app(url)`` wins over ``DATABASE_URL``, which wins over the instance folder."""
    named, environment = (f"sqlite:///{tmp_path / name}" for name in ("named.db", "environment.db"))

    monkeypatch.setenv("DATABASE_URL", environment)
    assert engine_of(create_app(named)).url == make_url(named)
    assert engine_of(create_app()).url == make_url(environment)

    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.chdir(tmp_path)
    app = create_app()
    assert engine_of(app).url.database == str(Path(app.instance_path) / "bank.db")


def test_money_is_read_and_written() -> None:
    """The examples in its docstrings hold, and nonsense is refused."""
    assert doctest.testmod(money).failed == 0
    for nonsense in ("", "-1", "1.234", "1e3", "٣", "1,234.00"):
        with pytest.raises(ValueError, match="not an amount"):
            money.parse_cents(nonsense)


def test_an_account_number_is_padded() -> None:
    """People read six digits."""
    assert Account(id=7).number == "000007"
