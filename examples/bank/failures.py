"""What the customer is told when something is refused or goes wrong.

A handler runs after the view's transaction was rolled back, and the request's session is usable
again: the refusal goes on the audit trail in a transaction of its own, which is committed.
"""

from __future__ import annotations

from flask import Flask, current_app, flash, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import DBAPIError
from werkzeug.exceptions import HTTPException

from flask_reqsession import UnexpectedRollbackError

from .audit import record
from .errors import BankError
from .models import NO_OVERDRAFT, AuditAction
from .pages import account_list


def register(app: Flask) -> None:
    """Install the handlers."""
    app.register_error_handler(BankError, refused)
    app.register_error_handler(DBAPIError, contradicted)
    app.register_error_handler(UnexpectedRollbackError, rolled_back)
    app.register_error_handler(HTTPException, failed)


def refused(error: BankError) -> ResponseReturnValue:
    """Answer a refusal of the service layer."""
    # A mistyped address is not an attempt to move money.
    if request.method != "GET":
        record(AuditAction.REFUSED, str(error))
    if request.endpoint == "pages.send":
        flash(str(error), "error")
        return account_list(typed=request.form), error.status
    return _answer(error.status, str(error))


def contradicted(error: DBAPIError) -> ResponseReturnValue:
    """Answer an overdraft that the service layer let through and the database did not."""
    # Its class says nothing: what is an IntegrityError elsewhere, MariaDB calls operational.
    if NO_OVERDRAFT not in str(error.orig):
        raise error
    return _answer(409, "An account cannot hold less than nothing.")


def rolled_back(error: UnexpectedRollbackError) -> ResponseReturnValue:
    """Answer a view that wanted to say "done" although a part of it had failed."""
    current_app.logger.error("%s", error, exc_info=error)
    return _answer(500, "A part of this failed, so that nothing was done.")


def failed(error: HTTPException) -> ResponseReturnValue:
    """Answer ``abort()``, an unknown address, and (as a 500) every other exception."""
    return _answer(error.code or 500, error.description or error.name)


def _answer(status: int, message: str) -> ResponseReturnValue:
    if request.path.startswith("/api/"):
        return {"error": message}, status
    return render_template("failure.html", status=status, message=message), status
