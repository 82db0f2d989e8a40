"""CI runs what the README tells people to run, and its verdict is the tests' verdict."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers.programs import PACKAGES

ROOT = Path(__file__).parents[2]
CI_RUN = ROOT / ".ci" / "run"
TEST_COMMAND = "python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox"

PYTHON3 = """\
#!/bin/sh
mkdir -p .venv/bin
printf '#!/bin/sh\\necho pip "$@"\\n' > .venv/bin/pip
printf '#!/bin/sh\\necho tox ran\\nexit {status}\\n' > .venv/bin/tox
chmod +x .venv/bin/pip .venv/bin/tox
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Make a clone that holds ``.ci/run``, and a folder ``bin`` for the programs it meets."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_bytes(CI_RUN.read_bytes())
    (tmp_path / "bin").mkdir()
    return tmp_path


def run_ci(clone: Path, *, status: int, installed: bool) -> subprocess.CompletedProcess[str]:
    """Run ``.ci/run`` where tox ends with ``status``, on a machine with or without the servers."""
    programs = {"python3": PYTHON3.format(status=status), "apt-get": "#!/bin/sh\necho apt-get $@\n"}
    if installed:
        programs |= dict.fromkeys(PACKAGES, "#!/bin/sh\n")
    for name, script in programs.items():
        path = clone / "bin" / name
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)
    for name in ("bash", "sh", "mkdir", "chmod", "dirname"):
        (clone / "bin" / name).symlink_to(str(shutil.which(name)))
    return subprocess.run(
        [clone / "bin" / "bash", clone / ".ci" / "run"],
        cwd="/",
        env={"PATH": str(clone / "bin")},
        check=False,
        capture_output=True,
        text=True,
    )


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """What CI proves is that the README's command passes."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = CI_RUN.read_text(encoding="utf-8").splitlines()

    assert TEST_COMMAND in readme.splitlines()
    assert commands[-1] == TEST_COMMAND


def test_ci_knows_the_programs_that_the_tests_need() -> None:
    """Each program that a test may ask for is installed from the package that its error names."""
    needed = re.findall(r"^ +([\w-]+):([\w-]+)$", CI_RUN.read_text(encoding="utf-8"), re.MULTILINE)

    assert dict(needed) == PACKAGES


def test_ci_installs_nothing_where_nothing_is_missing(clone: Path) -> None:
    """A machine that has everything is left as it is, and no package list is fetched."""
    done = run_ci(clone, status=0, installed=True)

    assert done.stdout.splitlines() == ["pip install tox", "tox ran"]
    assert done.returncode == 0


def test_ci_installs_what_is_missing_first(clone: Path) -> None:
    """A machine straight from its image gets the programs before the tests start."""
    done = run_ci(clone, status=0, installed=False)

    update, install, *tests = done.stdout.splitlines()
    assert update == "apt-get update"
    assert set(PACKAGES.values()) <= set(install.split())
    assert tests == ["pip install tox", "tox ran"]


def test_ci_fails_when_a_gate_fails(clone: Path) -> None:
    """The exit status of tox is that of CI."""
    assert run_ci(clone, status=3, installed=True).returncode == 3
