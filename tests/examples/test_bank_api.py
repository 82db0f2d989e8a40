"""The JSON endpoints of the bank: what is answered, and what is then in the database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from examples.bank.demo.rival import Rival
from examples.bank.demo.witness import Seen
from examples.bank.limits import DAILY_LIMIT
from examples.bank.tables import Customers
from tests.examples.conftest import NOTHING, PAID, Change
from tests.servers.connections import Rows

REFUSAL = NOTHING._replace(audit=1)


def order(customers: Customers, **changed: object) -> dict[str, Any]:
    """Return the JSON of an order by Ada to pay 25.00 to Grace, or something like it."""
    return {"payer": customers.ada, "payee": customers.grace, "amount": 2500} | changed


@pytest.mark.rule("T1", "T15", "T16")
def test_a_transfer_is_committed_before_it_is_answered(
    client: FlaskClient, customers: Customers, change: Change
) -> None:
    """A 201 means: transfer, two entries, both balances and the audit line are in the database."""
    answer = client.post("/api/transfers", json=order(customers, memo=" rent "))

    assert answer.status_code == 201
    assert answer.get_json()["memo"] == "rent"
    assert change() == PAID


@pytest.mark.rule("T1", "T15", "M18")
@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"amount": 250_001}, 409),
        ({"payee": 3}, 403),
        ({"payee": 4}, 404),
        ({"payee": 10**30}, 404),
        ({"payee": 1}, 422),
        ({"payee": True}, 422),
        ({"amount": 0}, 422),
        ({"amount": -1}, 422),
        ({"amount": 10**15}, 422),
        ({"amount": "25"}, 422),
        ({"memo": 25}, 422),
        ({"memo": "two\nlines"}, 422),
        ({"memo": "x" * 141}, 422),
    ],
)
def test_a_refused_transfer_leaves_only_its_refusal(
    client: FlaskClient,
    customers: Customers,
    change: Change,
    changed: dict[str, object],
    status: int,
) -> None:
    """The transfer is rolled back; the error handler commits a line of the audit trail."""
    answer = client.post("/api/transfers", json=order(customers, **changed))

    assert answer.status_code == status
    assert answer.get_json()["error"]
    assert change() == REFUSAL


def test_an_order_is_a_json_object(client: FlaskClient, change: Change) -> None:
    """A list, or no JSON at all, is refused with a reason."""
    assert client.post("/api/transfers", json=[1, 2, 2500]).status_code == 422
    assert client.post("/api/transfers", data="{").status_code == 415
    assert change() == REFUSAL


@pytest.mark.rule("T15")
def test_abort_rolls_back_what_was_posted(
    client: FlaskClient, customers: Customers, change: Change
) -> None:
    """The limit is looked up after the posting: ``abort(403)`` undoes all of it."""
    within = client.post("/api/transfers", json=order(customers, amount=DAILY_LIMIT))
    beyond = client.post("/api/transfers", json=order(customers, amount=1))

    assert (within.status_code, beyond.status_code) == (201, 403)
    assert "visit to the branch" in beyond.get_json()["error"]
    assert change() == Seen(-DAILY_LIMIT, DAILY_LIMIT, 0, 1, 2, 1)


@pytest.mark.rule("T1", "M17", "M18")
def test_a_crash_leaves_nothing(client: FlaskClient, customers: Customers, change: Change) -> None:
    """An unexpected exception is a 500, and the request after it works."""
    answer = client.post("/api/mishaps/crash", json=order(customers))

    assert answer.status_code == 500
    assert change() == NOTHING
    assert client.post("/api/transfers", json=order(customers)).status_code == 201


@pytest.mark.rule("T3")
def test_a_swallowed_failure_is_never_a_success(
    client: FlaskClient, customers: Customers, change: Change
) -> None:
    """A view that hides the failure of a part answers 500, and its other part is undone too."""
    answer = client.post("/api/mishaps/swallow", json=order(customers))

    assert answer.status_code == 500
    assert answer.get_json() == {"error": "A part of this failed, so that nothing was done."}
    assert change() == NOTHING


def test_the_database_has_the_last_word(
    client: FlaskClient, customers: Customers, change: Change
) -> None:
    """A view that forgets to look at the balance cannot overdraw an account."""
    too_much = order(customers, amount=250_001)

    assert client.post("/api/mishaps/overdraw", json=too_much).status_code == 409
    assert change() == NOTHING

    allowed = order(customers, amount=250_000)
    assert client.post("/api/mishaps/overdraw", json=allowed).status_code == 201
    assert change() == NOTHING._replace(ada=-250_000)


@pytest.mark.rule("T20", "T21")
def test_a_locked_database_is_tried_again(
    client: FlaskClient, customers: Customers, change: Change, sqlite_file_url: str
) -> None:
    """A second connection holds the write lock during the first attempt; the second succeeds."""
    rival = Rival(sqlite_file_url, customers.ada)
    with rival.in_the_way():
        answer = client.post("/api/transfers", json=order(customers))

    assert answer.status_code == 201
    assert [type(error).__name__ for error in rival.conflicts] == ["OperationalError"]
    assert change() == PAID


@pytest.mark.rule("T16", "T20", "M13")
def test_no_cent_is_lost_among_many_threads(
    bank: Flask, customers: Customers, change: Change
) -> None:
    """Each 201 is a transfer in the database and every other answer is none."""

    def pay(payer: int, payee: int) -> int:
        back = order(customers, payer=payer, payee=payee, amount=1)
        return bank.test_client().post("/api/transfers", json=back).status_code

    sides = [(customers.ada, customers.grace), (customers.grace, customers.ada)] * 20
    with ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(pay, *zip(*sides, strict=True)))

    made = statuses.count(201)
    seen = change()
    assert seen.ada + seen.grace == 0
    assert (seen.transfers, seen.entries, seen.audit) == (made, 2 * made, made)
    assert made > 0


@pytest.mark.usefixtures("customers")
def test_accounts_are_listed_and_shown(client: FlaskClient) -> None:
    """The list and the single account say the same."""
    listed = client.get("/api/accounts").get_json()

    assert [account["owner"] for account in listed] == [
        "Ada Lovelace",
        "Grace Hopper",
        "Frida Kahlo",
    ]
    assert client.get("/api/accounts/3").get_json() == listed[2]
    assert client.get("/api/accounts/3?fresh").get_json() == listed[2]
    assert listed[2] == {
        "id": 3,
        "number": "000003",
        "owner": "Frida Kahlo",
        "balance": 12000,
        "frozen": True,
    }


def test_looking_for_what_is_not_there_changes_nothing(client: FlaskClient, change: Change) -> None:
    """An unknown account is a 404; a GET writes no line on the audit trail."""
    answer = client.get("/api/accounts/99")

    assert (answer.status_code, answer.get_json()) == (404, {"error": "There is no account 99."})
    assert change() == NOTHING


def test_an_account_is_opened(client: FlaskClient, sqlite_file_url: str, rows: Rows) -> None:
    """Opening one answers with its address."""
    answer = client.post("/api/accounts", json={"owner": " Kurt ", "balance": 100})

    assert answer.status_code == 201
    assert client.get(answer.headers["Location"]).get_json()["owner"] == "Kurt"
    assert rows(sqlite_file_url, "SELECT owner, balance FROM accounts") == [("Kurt", 100)]


@pytest.mark.parametrize(
    "payload",
    [
        {"owner": " ", "balance": 0},
        {"owner": "x" * 81, "balance": 0},
        {"owner": "Kurt", "balance": -1},
        {"owner": "Kurt", "balance": "1"},
        {"owner": "Kurt"},
    ],
)
def test_an_account_needs_an_owner_and_money(
    client: FlaskClient, sqlite_file_url: str, rows: Rows, payload: dict[str, object]
) -> None:
    """What makes no sense is refused."""
    assert client.post("/api/accounts", json=payload).status_code == 422
    assert rows(sqlite_file_url, "SELECT owner FROM accounts") == []


@pytest.mark.rule("T15")
def test_an_account_is_frozen_and_thawed(
    client: FlaskClient, customers: Customers, sqlite_file_url: str, rows: Rows
) -> None:
    """Each real change leaves one line on the audit trail; a wrong request leaves none."""
    path = f"/api/accounts/{customers.ada}"
    assert client.patch(path, json={"frozen": True}).get_json()["frozen"] is True
    assert client.patch(path, json={"frozen": True}).get_json()["frozen"] is True
    assert client.patch(path, json={"frozen": "no"}).status_code == 422
    assert rows(sqlite_file_url, "SELECT frozen FROM accounts WHERE id = 1") == [(1,)]

    assert client.patch(path, json={"frozen": False}).get_json()["frozen"] is False
    assert rows(sqlite_file_url, "SELECT frozen FROM accounts WHERE id = 1") == [(0,)]
    trail = client.get("/api/audit").get_json()
    assert [line["action"] for line in trail[:3]] == ["thawed", "frozen", "frozen"]
    assert [line["detail"] for line in trail[:3]] == ["000001", "000001", "000003"]


@pytest.mark.rule("M9")
def test_a_standing_order_is_accepted_first_and_made_later(
    bank: Flask, client: FlaskClient, customers: Customers, change: Change
) -> None:
    """202 means that the order is in the database; the worker carries it out."""
    accepted = client.post("/api/standing-orders", json=order(customers))
    path = f"/api/standing-orders/{accepted.get_json()['id']}"

    assert accepted.status_code == 202
    assert client.get(path).get_json()["state"] == "pending"
    assert change() == NOTHING

    with bank.extensions["bank.worker"]:
        pass
    assert client.get(path).get_json()["state"] == "executed"
    assert change() == PAID


def test_an_unknown_standing_order_is_a_404(client: FlaskClient, customers: Customers) -> None:
    """So is one whose accounts are unknown."""
    assert client.get("/api/standing-orders/1").status_code == 404
    unknown = order(customers, payee=99)
    assert client.post("/api/standing-orders", json=unknown).status_code == 404
