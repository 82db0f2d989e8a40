"""``python -m examples.bank``: the demonstration, over real HTTP on real databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask

from examples.bank import __main__ as command
from examples.bank.demo.demonstration import Demonstration, Outcome
from examples.bank.demo.server import Answer, Client, serving
from examples.bank.demo.steps import Step
from tests.examples import FOLDER
from tests.examples.conftest import NOTHING, PAID, engine_of

COMMAND = [sys.executable, "-m", "examples.bank"]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Give a folder that holds the examples, as the README's folder does, but not the package."""
    (tmp_path / "examples").symlink_to(FOLDER, target_is_directory=True)
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    """Give the environment of somebody who has set nothing up."""
    unset = {"DATABASE_URL", "PYTHONSAFEPATH"}
    return {name: value for name, value in os.environ.items() if name not in unset}


def test_the_main_job_succeeds(elsewhere: Path, environment: dict[str, str]) -> None:
    """The README's command shows every step as promised, exits 0 and leaves no file behind."""
    environment["TMPDIR"] = str(elsewhere)
    done = subprocess.run(
        COMMAND, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == "Everything is as promised."
    table = [line for line in lines if line.endswith("  ok")]
    assert [line[28:31] for line in table] == [
        "201", "303", "409", "403", "403", "409", "500", "500", "201", "202", "200",
    ]  # fmt: skip
    assert sum("COMMIT  " in line and "+transfer" in line for line in table) == 4
    assert [path.name for path in elsewhere.iterdir()] == ["examples"]


def test_the_server_is_left_running_on_request(
    elsewhere: Path, environment: dict[str, str]
) -> None:
    """With ``--serve`` the pages can be visited until the process is told to end."""
    with subprocess.Popen(
        [*COMMAND, "--serve"], cwd=elsewhere, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            address = next(line.split()[5] for line in process.stdout if "is open at" in line)
            assert "Ada Lovelace" in Client(address.rstrip("/")).get("/").text
            process.send_signal(signal.SIGTERM)
            assert process.stdout.read().split() == ["The", "bank", "is", "closed."]
        finally:
            process.terminate()
    assert process.returncode == 0


def test_every_step_is_as_promised_on_every_database(database_url: str) -> None:
    """``DATABASE_URL`` may name a server: what is committed and rolled back is the same there."""
    with (
        closing(Demonstration(database_url)) as demonstration,
        serving(demonstration.app) as address,
        demonstration.worker,
    ):
        outcomes = list(demonstration.outcomes(address))

    assert [outcome for outcome in outcomes if not outcome.as_promised] == []
    assert len(outcomes) == 11


def test_a_broken_promise_is_seen() -> None:
    """Status, answer and database must all be what the step says."""
    kept = Answer(201, "all is done")
    step = Step("pay", lambda: kept, 201, text="done", moved=2500, audited=1)

    assert Outcome(step, step.request(), "", PAID).as_promised
    assert not Outcome(step, kept._replace(status=500), "", PAID).as_promised
    assert not Outcome(step, kept._replace(text=""), "", PAID).as_promised
    assert not Outcome(step, kept, "", NOTHING).as_promised


def test_a_broken_promise_fails_the_command(
    bank: Flask, sqlite_file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a database that gives money away, the second connection finds it out."""
    with engine_of(bank).begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER gift AFTER INSERT ON entries "
            "BEGIN UPDATE accounts SET balance = balance + 1 WHERE id = 3; END"
        )
    monkeypatch.setenv("DATABASE_URL", sqlite_file_url)

    done = CliRunner().invoke(command.main)

    assert done.exit_code == 1
    assert "Frida +0.02" in done.output
    assert "NOT AS PROMISED" in done.output
    assert "Everything is as promised." not in done.output
