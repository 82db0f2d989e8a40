"""The HTML pages."""

from __future__ import annotations

from collections.abc import Mapping

from flask import (
    Blueprint,
    Response,
    flash,
    redirect,
    render_template,
    request,
    stream_with_context,
    url_for,
)
from flask.typing import ResponseReturnValue

from flask_reqsession import transactional

from .accounts import all_accounts, find_account, latest_entries
from .audit import latest_records
from .bookkeeping import transfer
from .limits import require_daily_limit
from .models import Transfer
from .money import format_cents
from .orders import TransferOrder, order_from_form
from .patience import PATIENT
from .statements import statement_lines

pages = Blueprint("pages", __name__)


@pages.get("/")
def index() -> str:
    """Show all accounts and the transfer form."""
    return account_list(typed=request.args)


def account_list(typed: Mapping[str, str]) -> str:
    """Render the front page; ``typed`` is what the form already holds."""
    return render_template("index.html", accounts=all_accounts(), typed=typed)


@pages.get("/accounts/<int:account_id>")
def account(account_id: int) -> str:
    """Show one account with its latest transfers."""
    shown = find_account(account_id)
    return render_template("account.html", account=shown, entries=latest_entries(shown))


@pages.post("/transfers")
def send() -> ResponseReturnValue:
    """Carry out what the form says."""
    movement = _make_transfer(order_from_form(request.form))
    # After the commit, and outside what is retried: the message is true, and is shown once.
    flash(f"{format_cents(movement.amount)} sent to {movement.payee.owner}.", "success")
    return redirect(url_for(".account", account_id=movement.payer_id), 303)


@transactional(retry=PATIENT)
def _make_transfer(order: TransferOrder) -> Transfer:
    movement = transfer(order)
    require_daily_limit(movement)
    return movement


@pages.get("/accounts/<int:account_id>/statement.csv")
def statement(account_id: int) -> Response:
    """Send all entries of an account as a CSV file, line by line."""
    shown = find_account(account_id)
    disposition = f'attachment; filename="statement-{shown.number}.csv"'
    return Response(
        stream_with_context(statement_lines(shown)),
        mimetype="text/csv",
        headers={"Content-Disposition": disposition},
    )


@pages.get("/audit")
def audit_trail() -> str:
    """Show the audit trail."""
    return render_template("audit.html", records=latest_records())
