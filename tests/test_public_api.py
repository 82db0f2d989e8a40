"""The names that users import, and what importing them costs."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path
from types import ModuleType

import pytest

import flask_reqsession

ERRORS = {
    "CommitOutcomeUnknownError",
    "ConfigurationError",
    "ForeignInstanceError",
    "ManualCommitError",
    "MissingRowError",
    "MultipleBindsError",
    "NoActiveScopeError",
    "PoolDemandError",
    "PropagationError",
    "ReadOnlyViolationError",
    "ReattachConflictError",
    "ReattachError",
    "ReqSessionError",
    "RetryNotAllowedError",
    "ScopeOwnershipError",
    "TransactionTimeoutError",
    "UncommittedChangesWarning",
    "UnexpectedRollbackError",
}
NAMES = ERRORS | {
    "DatabaseManager",
    "Propagation",
    "RequestScopedSessionManager",
    "Retry",
    "TransactionOutcome",
    "before_commit",
    "current_manager",
    "non_transactional",
    "on_commit",
    "on_completion",
    "on_rollback",
    "reattach_args",
    "set_rollback_only",
    "transactional",
    "with_request_session",
}
OPTIONAL = {
    "aiosqlite",
    "apiflask",
    "asgiref",
    "asyncmy",
    "asyncpg",
    "flask_smorest",
    "flask_sqlalchemy",
    "flask_sqlalchemy_lite",
    "hypothesis",
    "psycopg",
    "pymysql",
    "pytest",
}

PINS = "REQSESSION_TEST_PINS"

under_tox = pytest.mark.skipif(
    "REQSESSION_TEST_WHEEL" not in os.environ, reason="only tox installs the built wheel"
)


def test_the_package_exports_the_contracts_names() -> None:
    """Section 1 of the contract, as far as it is built, and nothing else."""
    offered = {
        name
        for name, value in vars(flask_reqsession).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }

    assert set(flask_reqsession.__all__) == NAMES
    assert offered == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_public_name_is_documented(name: str) -> None:
    """``help()`` on whatever can be imported tells what it promises."""
    assert getattr(flask_reqsession, name).__doc__


@pytest.mark.parametrize("name", sorted(NAMES - ERRORS))
def test_a_public_name_shows_an_example(name: str) -> None:
    """Besides the errors, each name's docstring holds an example, which ``test_docs`` runs."""
    assert ">>>" in getattr(flask_reqsession, name).__doc__


def test_importing_the_package_imports_nothing_optional() -> None:
    """A production process pays neither for test tools nor for what it does not use."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import flask_reqsession, sys; print(*sys.modules, sep='\\n')"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()

    assert OPTIONAL & set(loaded) == set()


@under_tox
def test_the_wheel_is_what_is_tested() -> None:
    """Under tox the tests import what was built and installed, not the checkout."""
    assert "site-packages" in Path(flask_reqsession.__file__).parts


@under_tox
def test_the_wheel_holds_the_typed_package_only() -> None:
    """Users get the package, its ``py.typed``, and no tests or examples."""
    files = [Path(str(file)) for file in distribution("flask-reqsession").files or ()]
    folders = {file.parts[0] for file in files}

    assert Path("flask_reqsession/py.typed") in files
    assert folders == {
        "flask_reqsession",
        f"flask_reqsession-{version('flask-reqsession')}.dist-info",
    }


@pytest.mark.skipif(PINS not in os.environ, reason="only the floor environment pins versions")
def test_the_floor_environment_runs_on_the_floors() -> None:
    """No other requirement has moved the oldest versions that the package promises to work with."""
    pins = dict(pin.split("==") for pin in os.environ[PINS].split())

    assert {name: version(name) for name in pins} == pins
