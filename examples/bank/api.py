"""The JSON endpoints. Amounts are in cents."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue
from flask.views import MethodView
from sqlalchemy.orm import Session

from flask_reqsession import transactional, with_request_session

from . import standing_orders
from .accounts import all_accounts, find_account, open_account, set_frozen
from .audit import latest_records
from .bookkeeping import transfer
from .errors import InvalidOrderError
from .limits import require_daily_limit
from .models import Account, AuditRecord, StandingOrder, Transfer
from .orders import order_from_json
from .patience import PATIENT
from .worker import current_worker

api = Blueprint("api", __name__, url_prefix="/api")


@api.post("/transfers")
@transactional(retry=PATIENT)
def create_transfer() -> ResponseReturnValue:
    """Move money; the whole view is one transaction, and is run again when another was faster."""
    movement = transfer(order_from_json(request.get_json()))
    require_daily_limit(movement)
    return transfer_as_json(movement), 201


class AccountList(MethodView):
    """All accounts."""

    init_every_request = False

    def get(self) -> ResponseReturnValue:
        """List them."""
        return [account_as_json(account) for account in all_accounts()]

    @transactional
    def post(self) -> ResponseReturnValue:
        """Open one: ``{"owner": "Ada", "balance": 10000}``."""
        match request.get_json():
            case {"owner": str(owner), "balance": int(balance)}:
                account = open_account(owner.strip(), balance)
            case _:
                raise InvalidOrderError("Send the owner as text and the balance in cents.")
        location = url_for(".account", account_id=account.id)
        return account_as_json(account), 201, {"Location": location}


class AccountItem(MethodView):
    """One account."""

    init_every_request = False

    @with_request_session
    def get(self, session: Session, account_id: int) -> ResponseReturnValue:
        """Show it; ``?fresh`` proves that the session holds nothing that is not in the database."""
        account = find_account(account_id)
        if "fresh" in request.args:
            session.refresh(account)
        return account_as_json(account)

    @transactional(retry=PATIENT)
    def patch(self, account_id: int) -> ResponseReturnValue:
        """Freeze it or thaw it: ``{"frozen": true}``."""
        match request.get_json():
            case {"frozen": bool(frozen)}:
                return account_as_json(set_frozen(account_id, frozen=frozen))
            case _:
                # A status of 400 or above rolls back, whether it is raised or returned.
                return {"error": "Send frozen as true or false."}, 422


@api.post("/standing-orders")
def create_standing_order() -> ResponseReturnValue:
    """Accept an order for later: committed first, handed to the worker second."""
    standing = standing_orders.place(order_from_json(request.get_json()))
    current_worker().submit(standing.id)
    return standing_order_as_json(standing), 202


@api.get("/standing-orders/<int:order_id>")
def show_standing_order(order_id: int) -> ResponseReturnValue:
    """Tell what has become of it."""
    return standing_order_as_json(standing_orders.find_standing_order(order_id))


@api.get("/audit")
def show_audit_trail() -> ResponseReturnValue:
    """Return the newest lines of the audit trail."""
    return [record_as_json(record) for record in latest_records()]


def account_as_json(account: Account) -> dict[str, object]:
    """Return what the API tells of an account."""
    return {
        "id": account.id,
        "number": account.number,
        "owner": account.owner,
        "balance": account.balance,
        "frozen": account.frozen,
    }


def transfer_as_json(movement: Transfer) -> dict[str, object]:
    """Return what the API tells of a transfer."""
    return {
        "id": movement.id,
        "payer": movement.payer_id,
        "payee": movement.payee_id,
        "amount": movement.amount,
        "memo": movement.memo,
        "made_at": movement.made_at.isoformat(),
    }


def standing_order_as_json(standing: StandingOrder) -> dict[str, object]:
    """Return what the API tells of a standing order."""
    return {"id": standing.id, "state": standing.state, "reason": standing.reason}


def record_as_json(record: AuditRecord) -> dict[str, object]:
    """Return what the API tells of a line of the audit trail."""
    return {
        "action": record.action,
        "detail": record.detail,
        "written_at": record.written_at.isoformat(),
    }


api.add_url_rule("/accounts", view_func=AccountList.as_view("accounts"))
api.add_url_rule("/accounts/<int:account_id>", view_func=AccountItem.as_view("account"))
