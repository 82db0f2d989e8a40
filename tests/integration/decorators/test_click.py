"""Commands: Flask's ``app.cli`` and click read signatures and names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest
from flask import Blueprint, Flask
from flask.cli import with_appcontext
from sqlalchemy.orm import Session

from flask_reqsession import transactional, with_request_session
from tests.integration.decorators.notebook import Notebook, write


def scoped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Inject the session, in a scope."""
    return transactional(with_request_session(function))


def command() -> Callable[..., None]:
    """Return a function to make a command of; click leaves marks on what it gets."""

    def add(session: Session, text: str, *, times: int) -> None:
        """Add a note, so many times longer."""
        click.echo(write(session, text * times))
        if text == "fail":
            raise click.ClickException("Failed.")

    return add


def with_parameters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Say what the user has to type."""
    return click.argument("text")(click.option("--times", default=1)(function))


def below(app: Flask) -> None:
    """Decorate below click."""
    app.cli.command("add")(with_parameters(scoped(command())))


def above(app: Flask) -> None:
    """Decorate above click's parameters."""
    app.cli.command("add")(scoped(with_parameters(command())))


def between(app: Flask) -> None:
    """Decorate between click's parameters and what brings the app context."""
    parameters: list[click.Parameter] = [
        click.Argument(["text"]),
        click.Option(["--times"], default=1),
    ]
    callback = with_appcontext(scoped(command()))
    app.cli.add_command(click.Command("add", params=parameters, callback=callback))


def blueprint(app: Flask) -> None:
    """Decorate a command of a blueprint."""
    notes = Blueprint("notes", __name__, cli_group=None)
    notes.cli.command("add")(with_parameters(scoped(command())))
    app.register_blueprint(notes)


@pytest.fixture(params=[below, above, between, blueprint], ids=lambda f: f.__name__)
def notes(request: pytest.FixtureRequest, sqlite_file_url: str) -> Iterator[Notebook]:
    """Give a notebook whose app has the command ``add``."""
    notebook = Notebook(sqlite_file_url, app=Flask(__name__))
    request.param(notebook.app)
    yield notebook
    notebook.close()


@pytest.mark.rule("W3", "W4", "M10")
def test_a_command_commits_or_rolls_back(notes: Notebook) -> None:
    """It has a session of its own, and click gives it what the user typed."""
    runner = notes.app.test_cli_runner()

    assert runner.invoke(args=["add", "ab", "--times", "2"]).output == "abab\n"
    assert notes.kept() == ["abab"]
    failed = runner.invoke(args=["add", "fail"])
    assert (failed.exit_code, failed.output) == (1, "fail\nError: Failed.\n")
    assert notes.kept() == ["abab"]


@pytest.mark.rule("W4")
def test_help_tells_what_the_author_wrote(notes: Notebook) -> None:
    """The docstring, the parameters, and no session."""
    text = notes.app.test_cli_runner().invoke(args=["add", "--help"]).output

    assert "session" not in text
    assert "TEXT" in text
    assert "--times" in text
