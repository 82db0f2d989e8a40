"""``python -m examples.bank``: see what is committed and what is rolled back."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
from contextlib import closing
from pathlib import Path

import click

from .demo.demonstration import Demonstration, Outcome
from .demo.server import serving
from .money import format_cents

WIDTHS = (26, 4, 43, 41)


@click.command()
@click.option("--serve", is_flag=True, help="Leave the server running.")
@click.option("--port", default=0, show_default="a free one", help="Where to listen.")
@click.pass_context
def main(context: click.Context, *, serve: bool, port: int) -> None:
    """Send real HTTP requests to the bank, and show what each has left in the database.

    The exit status is 1 if anything is not as promised. The database is a new SQLite file, or what
    DATABASE_URL names.
    """
    # Crashes are a part of the demonstration: their tracebacks would drown the table.
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="bank-") as folder:
        url = os.environ.get("DATABASE_URL") or f"sqlite:///{Path(folder) / 'bank.db'}"
        with (
            closing(Demonstration(url)) as demonstration,
            serving(demonstration.app, port) as address,
            demonstration.worker,
        ):
            failures = show(demonstration, address)
            logging.disable(logging.NOTSET)
            if serve:
                wait_for_interrupt(address)
    context.exit(1 if failures else 0)


def show(demonstration: Demonstration, address: str) -> int:
    """Print the table; return how many steps were not as promised."""
    _print_row("request", "HTTP", "what the app sent", "what a second connection sees", "")
    _print_row(*("-" * width for width in WIDTHS), "--")
    failures = 0
    for outcome in demonstration.outcomes(address):
        failures += not outcome.as_promised
        _print_row(
            outcome.step.name,
            str(outcome.answer.status),
            outcome.sent or "(only reads)",
            _describe(outcome),
            "ok" if outcome.as_promised else f"NOT AS PROMISED: {outcome.answer.text}",
        )
    click.echo("" if failures else "\nEverything is as promised.")
    return failures


def wait_for_interrupt(address: str) -> None:
    """Serve until Ctrl-C or a SIGTERM."""
    click.echo(f"The bank is open at {address}/ (Ctrl-C closes it).")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("\nThe bank is closed.")


def _print_row(*cells: str) -> None:
    *columns, verdict = cells
    line = "  ".join(cell.ljust(width) for cell, width in zip(columns, WIDTHS, strict=True))
    click.echo(f"{line}  {verdict}".rstrip())


def _describe(outcome: Outcome) -> str:
    change = outcome.change
    changes = [
        f"{owner} {'+' if cents > 0 else ''}{format_cents(cents)}"
        for owner, cents in (("Ada", change.ada), ("Grace", change.grace), ("Frida", change.frida))
        if cents
    ]
    changes += ["+transfer"] * change.transfers + ["+audit"] * change.audit
    return " ".join(changes) or "nothing has changed"


if __name__ == "__main__":
    main()
