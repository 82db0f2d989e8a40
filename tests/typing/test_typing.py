"""Type checkers accept what they should, and reject the rest."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHECKERS = {
    "mypy": ["--strict", "--warn-unused-ignores"],
    "pyright": ["--pythonpath", sys.executable],
}


@pytest.mark.rule("W5")
@pytest.mark.parametrize("file", ["accept.py", "reject.py"])
@pytest.mark.parametrize("checker", CHECKERS)
def test_type_checkers_agree(checker: str, file: str) -> None:
    """Calls without the session are accepted, with the right types; wrong calls are not.

    In ``reject.py`` each wrong line carries an ignore, and one that ignores nothing is an error.
    """
    if find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed here; the environment for types checks the file")
    command = [sys.executable, "-m", checker, *CHECKERS[checker], str(HERE / file)]
    checked = subprocess.run(
        command, cwd=HERE.parents[1], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
