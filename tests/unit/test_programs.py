"""A test that needs a missing program is skipped on a developer's machine and fails in CI."""

from __future__ import annotations

from pathlib import Path

import pytest
from coverage import CoverageData
from sqlalchemy import URL

from tests.conftest import or_skip
from tests.coverage_gate import main as coverage_gate
from tests.servers.mariadb import mariadb
from tests.servers.programs import MARIADB_URL, missing, required


@pytest.fixture
def _bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Be a developer's machine on which none of the programs is installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv(MARIADB_URL, raising=False)


@pytest.fixture
def _half_covered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Be in a project of which one line of two was covered."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COVERAGE_FILE", str(tmp_path / "coverage"))
    (tmp_path / ".coveragerc").write_text("[report]\nfail_under = 100\n", encoding="utf-8")
    source = tmp_path / "half.py"
    source.write_text("first = 1\nsecond = 2\n", encoding="utf-8")
    data = CoverageData(str(tmp_path / "coverage"))
    data.add_lines({str(source): [1]})
    data.write()
    data.close()


@pytest.mark.usefixtures("_bare_machine")
def test_the_reason_names_the_package_to_install() -> None:
    """A skipped test tells how to have it run."""
    with pytest.raises(RuntimeError, match="apt-get install chromium-driver"):
        required("chromedriver")


def test_the_system_folder_of_servers_is_searched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A user who is not root has no /usr/sbin in PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    chosen = next(Path("/usr/sbin").iterdir()).name

    assert required(chosen) == f"/usr/sbin/{chosen}"


@pytest.mark.usefixtures("_bare_machine")
def test_a_missing_server_skips_the_test() -> None:
    """A developer without MariaDB still runs everything else."""
    with pytest.raises(pytest.skip.Exception, match="mariadb"), or_skip(mariadb()):
        ...


@pytest.mark.usefixtures("_bare_machine")
def test_a_missing_server_fails_the_test_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI nothing is skipped for want of a server."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="mariadb"), or_skip(mariadb()):
        ...


@pytest.mark.usefixtures("_bare_machine")
def test_the_environment_can_name_a_mariadb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the program, the server that the variable names is used, and left running."""
    monkeypatch.setenv(MARIADB_URL, "mariadb+pymysql://someone@db.example/some")

    with mariadb() as server:
        assert server.url == URL.create(
            "mariadb+pymysql", username="someone", host="db.example", database="some"
        )
    assert [sentence.split()[0] for sentence in missing()] == ["chromium", "chromedriver"]


@pytest.mark.usefixtures("_bare_machine", "_half_covered")
def test_the_coverage_gate_forgives_tests_that_could_not_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A developer without the programs can still pass the test command, and is told."""
    assert coverage_gate() == 0
    assert "chromium is not installed" in capsys.readouterr().out


@pytest.mark.usefixtures("_bare_machine", "_half_covered")
def test_the_coverage_gate_forgives_nothing_in_ci(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In CI less than everything is a failure."""
    monkeypatch.setenv("CI", "true")

    assert coverage_gate() == 1
    assert "50.00 %, which is less than 100 %" in capsys.readouterr().out


@pytest.mark.usefixtures("_bare_machine", "_half_covered")
def test_the_coverage_gate_passes_what_is_covered(tmp_path: Path) -> None:
    """Full coverage passes everywhere."""
    (tmp_path / "half.py").write_text("first = 1\n", encoding="utf-8")

    assert coverage_gate() == 0
