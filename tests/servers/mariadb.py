"""A private MariaDB from the system's ``mariadbd``, else one that the environment names."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import URL, make_url

from tests.servers.processes import Server, run, running, server_directory
from tests.servers.programs import MARIADB_URL, MissingProgramError, required


@contextmanager
def mariadb() -> Generator[Server]:
    """Run a MariaDB that listens on a socket in its own directory only.

    Where the program is missing, the server at ``REQSESSION_TEST_MARIADB_URL`` is used; without
    it, :class:`MissingProgramError` is raised.
    """
    try:
        install, serve = required("mariadb-install-db"), required("mariadbd")
    except MissingProgramError:
        if MARIADB_URL not in os.environ:
            raise
        yield _server(make_url(os.environ[MARIADB_URL]))
        return
    with server_directory() as directory:
        data = f"--datadir={directory / 'data'}"
        run(
            [
                *(install, "--no-defaults", data),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
            ],
            directory,
        )
        socket = directory / "socket"
        url = URL.create(
            "mariadb+pymysql",
            username="root",
            host="localhost",
            database="mysql",
            query={"unix_socket": str(socket)},
        )
        command = [serve, "--no-defaults", data, f"--socket={socket}", *_OPTIONS]
        with running(command, directory, url, listens_on=socket, stop=signal.SIGTERM):
            yield _server(url)


_OPTIONS = (
    "--skip-networking",
    # Nothing here has to survive a crash of the machine.
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=32M",
    # Seconds. A leaked transaction makes the drop of its database fail instead of hanging.
    "--lock-wait-timeout=20",
)


# DROP DATABASE alone waits for whoever left a transaction open in it.
_DROP = """
BEGIN NOT ATOMIC
    DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;  -- the thread has ended meanwhile
    FOR guest IN (SELECT id FROM information_schema.processlist WHERE db = '{name}') DO
        KILL guest.id;
    END FOR;
    DROP DATABASE {name};
END
"""


def _server(url: URL) -> Server:
    return Server(url, create="CREATE DATABASE {name}", drop=_DROP)
