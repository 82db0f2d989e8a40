"""Start a server as a private process, wait until it answers, and stop it."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import URL, NullPool, create_engine
from sqlalchemy.exc import OperationalError


class ServerFailedError(RuntimeError):
    """The server process ended instead of answering; the message is what it logged."""


@dataclass(frozen=True)
class Server:
    """A running server: the URL of its own database, and the SQL that makes and drops another."""

    url: URL
    create: str
    drop: str

    @contextmanager
    def database(self) -> Generator[str]:
        """Make an empty database, give its URL, and drop it with whoever is still connected."""
        name = f"test_{uuid4().hex}"
        engine = create_engine(self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(self.create.format(name=name))
            try:
                yield self.url.set(database=name).render_as_string(hide_password=False)
            finally:
                connection.exec_driver_sql(self.drop.format(name=name))


def account() -> pwd.struct_passwd:
    """Return whom a server runs as: PostgreSQL refuses to run as root."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


@contextmanager
def server_directory() -> Generator[Path]:
    """Make a directory that the servers' account owns, with a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="reqsession-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        os.chown(directory, account().pw_uid, account().pw_gid)
        yield directory


def run(command: Sequence[str | Path], directory: Path) -> None:
    """Run a set-up command as the servers' account."""
    process = _start(command, directory)
    if process.wait() != 0:
        raise ServerFailedError(_log(directory))


@contextmanager
def running(
    command: Sequence[str | Path],
    directory: Path,
    url: URL,
    *,
    listens_on: Path,
    stop: signal.Signals,
) -> Generator[None]:
    """Run a server from the moment it answers on ``url`` until the end of the block.

    ``listens_on`` is its socket, ``stop`` the signal that makes it end.
    """
    process = _start(command, directory)
    try:
        while not (_accepts(listens_on) and _answers(url)):
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.02)
                raise ServerFailedError(_log(directory))
        yield
    finally:
        process.send_signal(stop)
        process.wait()


def _start(command: Sequence[str | Path], directory: Path) -> subprocess.Popen[bytes]:
    with (directory / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=directory,
            # MariaDB clears the temporary directory of what looks like its own at every start.
            env=os.environ | {"TMPDIR": str(directory)},
            user=account().pw_uid,
            group=account().pw_gid,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # An interrupt typed at the terminal is for pytest, which then stops the server.
            start_new_session=True,
        )


def _log(directory: Path) -> str:
    return (directory / "log").read_text(encoding="utf-8", errors="replace")


def _accepts(path: Path) -> bool:
    # Asked first, because PyMySQL forgets to close a socket that could not be connected.
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _answers(url: URL) -> bool:
    with suppress(OperationalError), create_engine(url, poolclass=NullPool).connect():
        return True
    return False
