"""The HTML pages of the bank, and the statement that is streamed."""

from __future__ import annotations

import csv
import io

import pytest
from flask import Flask
from flask.testing import FlaskClient

from examples.bank.limits import DAILY_LIMIT
from examples.bank.tables import Customers
from tests.examples.conftest import NOTHING, PAID, Change, engine_of


def fill_in(customers: Customers, **changed: object) -> dict[str, object]:
    """Return the form in which Ada pays 25.00 to Grace, or something like it."""
    return {"payer": customers.ada, "payee": customers.grace, "amount": "25.00"} | changed


def test_an_empty_bank_says_what_to_do(client: FlaskClient) -> None:
    """The front page of a bank without accounts names the command that opens some."""
    assert "flask --app examples.bank seed" in client.get("/").text


@pytest.mark.usefixtures("customers")
def test_the_front_page_lists_the_accounts(client: FlaskClient) -> None:
    """Owners, balances and their sum are on it, and the address can fill in the form."""
    page = client.get("/?payer=2").text

    for text in ("Ada Lovelace", "€ 2,500.00", "frozen", "€ 3,420.00"):
        assert text in page
    assert '<option value="2" selected>' in page


@pytest.mark.rule("T15", "T16")
def test_a_transfer_by_form_is_confirmed_once(
    client: FlaskClient, customers: Customers, change: Change
) -> None:
    """A 303 commits; the page after it says what was done, the one after that does not."""
    answer = client.post("/transfers", data=fill_in(customers, memo="<rent>"))

    assert answer.status_code == 303
    assert change() == PAID
    page = client.get(answer.headers["Location"]).text
    assert "25.00 sent to Grace Hopper." in page
    assert "&lt;rent&gt;" in page
    assert "sent to" not in client.get(answer.headers["Location"]).text
    assert "+25.00" in client.get(f"/accounts/{customers.grace}").text


@pytest.mark.rule("T1", "M18")
@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"amount": "2,500.01"}, (422, "Choose two accounts")),
        ({"amount": "2500,01"}, (409, "not enough to pay 2,500.01")),
        ({"payee": ""}, (422, "Choose two accounts")),
        ({"payee": 3}, (403, "Frida Kahlo is frozen")),
    ],
)
def test_a_refused_form_is_shown_again(
    client: FlaskClient,
    customers: Customers,
    change: Change,
    changed: dict[str, object],
    refusal: tuple[int, str],
) -> None:
    """What was typed is still there, with the reason; only the refusal was committed."""
    answer = client.post("/transfers", data=fill_in(customers, memo="keep this", **changed))

    assert answer.status_code == refusal[0]
    assert refusal[1] in answer.text
    assert 'value="keep this"' in answer.text
    assert change() == NOTHING._replace(audit=1)


@pytest.mark.rule("T15")
def test_the_daily_limit_is_an_error_page(
    client: FlaskClient, customers: Customers, change: Change
) -> None:
    """``abort(403)`` in what the view calls rolls back and shows its reason."""
    amount = f"{DAILY_LIMIT // 100 + 1}"
    answer = client.post("/transfers", data=fill_in(customers, amount=amount))

    assert answer.status_code == 403
    assert "visit to the branch" in answer.text
    assert "No money has moved." in answer.text
    assert change() == NOTHING


@pytest.mark.parametrize("path", ["/accounts/99", "/nowhere"])
def test_an_unknown_page_is_an_error_page(client: FlaskClient, path: str) -> None:
    """It looks like the rest of the bank."""
    answer = client.get(path)

    assert answer.status_code == 404
    assert "Back to the accounts" in answer.text


@pytest.mark.rule("M17", "M18")
def test_another_error_of_the_database_is_a_500(bank: Flask, client: FlaskClient) -> None:
    """Only the overdraft is the customer's affair; a missing table is not."""
    with engine_of(bank).begin() as connection:
        connection.exec_driver_sql("DROP TABLE audit_trail")

    answer = client.get("/audit")

    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    assert "No money has moved." not in answer.text
    assert client.get("/").status_code == 200


def test_the_audit_trail_is_shown(client: FlaskClient) -> None:
    """It is a page too, also while it is empty."""
    assert "Nothing has happened yet." in client.get("/audit").text
    client.post("/api/accounts", json={"owner": "Kurt", "balance": 100})
    assert "000001 for Kurt, holding 1.00" in client.get("/audit").text


@pytest.mark.rule("M22", "T11", "R4")
def test_a_statement_is_streamed(client: FlaskClient, customers: Customers) -> None:
    """It is written while it is sent, from a session of its own, by an account that came along."""
    client.post("/transfers", data=fill_in(customers, memo='the "rent", again'))
    client.post("/transfers", data=fill_in(customers, amount="1000"))
    client.post("/transfers", data=fill_in(customers, payer=customers.grace, payee=customers.ada))

    answer = client.get(f"/accounts/{customers.ada}/statement.csv", buffered=False)

    assert answer.is_streamed
    assert answer.mimetype == "text/csv"
    assert "statement-000001.csv" in answer.headers["Content-Disposition"]
    header, *lines = csv.reader(io.StringIO(answer.text, newline=""))
    assert header == ["date", "transfer", "counterparty", "memo", "amount", "balance"]
    assert [line[2:] for line in lines] == [
        ["Grace Hopper", 'the "rent", again', "-25.00", "2475.00"],
        ["Grace Hopper", "", "25.00", "2500.00"],
    ]


@pytest.mark.rule("M22", "M17", "T11")
def test_an_abandoned_statement_leaves_no_connection(
    bank: Flask, client: FlaskClient, customers: Customers
) -> None:
    """A client that goes away in the middle closes the body: the fixture counts connections."""
    client.post("/transfers", data=fill_in(customers))
    answer = client.get(f"/accounts/{customers.ada}/statement.csv", buffered=False)
    lines = answer.iter_encoded()

    assert next(lines).startswith(b"date,")
    assert b"Grace" in next(lines)
    answer.close()
    assert bank.test_client().get("/").status_code == 200
