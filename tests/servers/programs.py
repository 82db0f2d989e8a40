"""The programs that the tests need from the system, and what to do where one is not there.

It imports the standard library only: the coverage gate runs where nothing else is installed.
"""

from __future__ import annotations

import os
import shutil
from types import MappingProxyType
from typing import Final

MARIADB_URL: Final = "REQSESSION_TEST_MARIADB_URL"
"""Environment variable: a MariaDB server to use where the program is not installed."""

PACKAGES: Final = MappingProxyType(
    {
        "mariadbd": "mariadb-server-core",
        "mariadb-install-db": "mariadb-server-core",
        "chromium": "chromium",
        "chromedriver": "chromium-driver",
    },
)
"""The Debian package that brings each program."""


class MissingProgramError(RuntimeError):
    """A test needs a program that this machine does not have."""


def required(program: str) -> str:
    """Return the path of ``program``; raises :class:`MissingProgramError` with the fix."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    found = shutil.which(program, path=search)
    if found is None:
        msg = f"{program} is not installed. Debian: apt-get install {PACKAGES[program]}"
        raise MissingProgramError(msg)
    return found


def missing() -> list[str]:
    """Say what this machine lacks, one sentence each; empty where every test can run."""
    lacking: list[str] = []
    for program in PACKAGES:
        if program.startswith("mariadb") and MARIADB_URL in os.environ:
            continue
        try:
            required(program)
        except MissingProgramError as error:
            lacking.append(str(error))
    return lacking
