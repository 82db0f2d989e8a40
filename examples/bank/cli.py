"""Commands: ``flask --app examples.bank init-db | seed | transfer | work``."""

from __future__ import annotations

import click
from flask import Flask
from flask.cli import with_appcontext

from flask_reqsession import transactional

from . import tables
from .audit import record
from .bookkeeping import transfer
from .errors import BankError
from .models import AuditAction, Transfer
from .money import format_cents
from .orders import TransferOrder, order_from_form
from .patience import PATIENT
from .worker import current_worker


def register(app: Flask) -> None:
    """Add the commands to ``flask``."""
    for command in (init_db, seed, transfer_command, work):
        app.cli.add_command(command)


@click.command("init-db")
@with_appcontext
def init_db() -> None:
    """Make the tables that are missing."""
    tables.create_tables()
    click.echo("The tables are there.")


@click.command("seed")
@with_appcontext
def seed() -> None:
    """Open three accounts to play with."""
    click.echo("Opened accounts " + ", ".join(str(number) for number in tables.seed()) + ".")


@click.command("transfer")
@click.argument("payer")
@click.argument("payee")
@click.argument("amount")
@click.option("--memo", default="", help="What the payee reads.")
@with_appcontext
def transfer_command(payer: str, payee: str, amount: str, memo: str) -> None:
    """Send AMOUNT (such as 12.50) from account PAYER to account PAYEE."""
    try:
        movement = _make_transfer(
            order_from_form({"payer": payer, "payee": payee, "amount": amount, "memo": memo})
        )
    except BankError as error:
        record(AuditAction.REFUSED, str(error))
        raise click.ClickException(str(error)) from error
    click.echo(f"{format_cents(movement.amount)} sent, transfer {movement.id}.")


@transactional(retry=PATIENT)
def _make_transfer(order: TransferOrder) -> Transfer:
    return transfer(order)


@click.command("work")
@with_appcontext
def work() -> None:
    """Carry out the standing orders that are pending, then end (for cron)."""
    click.echo(f"{current_worker().execute_pending()} standing orders tried.")
