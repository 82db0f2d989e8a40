"""Prove on live engines that transactions do what they say, and report it (rule D6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.pool import StaticPool

from flask_reqsession.errors import ReqSessionError
from flask_reqsession.proofs import PROOFS, Probe
from flask_reqsession.urls import shown


@dataclass(frozen=True)
class EngineReport:
    """What was found on one engine.

    ``checks`` says of each experiment whether it went well. ``second_connection``: whether its
    effects were looked at through a connection of their own.
    """

    bind: str
    url: str
    second_connection: bool
    checks: dict[str, bool]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class VerificationReport:
    """What :meth:`~flask_reqsession.DatabaseManager.verify` found, engine by engine.

    >>> report = VerificationReport(())
    >>> report.ok, report.problems, report.to_dict()
    (True, [], {'ok': True, 'problems': [], 'engines': []})
    """

    engines: tuple[EngineReport, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    @property
    def problems(self) -> list[str]:
        """Sentences that say what is wrong, and how to put it right."""
        return [problem for engine in self.engines for problem in engine.problems]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as something that JSON can hold."""
        engines = [
            {
                "bind": engine.bind,
                "url": engine.url,
                "second_connection": engine.second_connection,
                "checks": dict(engine.checks),
                "problems": list(engine.problems),
            }
            for engine in self.engines
        ]
        return {"ok": self.ok, "problems": self.problems, "engines": engines}


def verify_engine(bind: str, engine: Engine) -> EngineReport:
    """Do every experiment on ``engine``, in a table that is made for it and dropped.

    What goes wrong is reported, never raised.
    """
    probe = Probe(engine)
    checks: dict[str, bool] = {}
    problems: list[str] = []
    url = shown(engine.url)
    where = f"Bind {bind!r} ({url})"
    try:
        with probe.existing():
            for name, finding in _findings(probe):
                checks[name] = finding is None
                if finding is not None:
                    problems.append(f"{where}: {finding}. {_remedy(engine)}")
    except (SQLAlchemyError, ReqSessionError) as error:
        problems.append(
            f"{where}: the table {probe.table.name}, made for the verification, could not be "
            f"created or dropped ({_described(error)}). Verify as a user who may do both, while "
            "the database can be reached; drop the table if it is still there."
        )
    return EngineReport(bind, url, probe.has_second_connection, checks, tuple(problems))


async def verify_async_engine(bind: str, engine: AsyncEngine) -> EngineReport:
    """Do what :func:`verify_engine` does, through the asynchronous driver.

    What the engine's pool holds is closed afterwards: it belongs to the event loop of the
    verification, which nobody else uses.
    """
    async with AsyncSession(engine) as session:
        report = await session.run_sync(lambda _session: verify_engine(bind, engine.sync_engine))
    if not isinstance(engine.pool, StaticPool):  # a memory database would end with it
        await engine.dispose()
    return report


def _findings(probe: Probe) -> Iterator[tuple[str, str | None]]:
    for name, prove in PROOFS.items():
        try:
            probe.clear()
            finding = prove(probe)
        except (SQLAlchemyError, ReqSessionError) as error:
            finding = f"the check of {name} failed ({_described(error)})"
        yield name, finding


def _described(error: Exception) -> str:
    """Say in one line what happened, without the statement and its parameters."""
    cause: BaseException | None = error.orig if isinstance(error, DBAPIError) else error
    return f"{type(cause).__name__}: {cause}".partition("\n")[0]


def _remedy(engine: Engine) -> str:
    if engine.dialect.name == "sqlite":
        return (
            "Give DatabaseManager the URL instead of an engine of your own, or make its driver "
            "begin transactions: "
            "https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#sqlite-transactions"
        )
    if engine.dialect.name in {"mysql", "mariadb"}:
        return (
            "Use InnoDB: ALTER TABLE ... ENGINE = InnoDB for each table, and "
            "default_storage_engine = InnoDB in the server's configuration."
        )
    return "Remove isolation_level='AUTOCOMMIT' or 'READ UNCOMMITTED' from the engine's options."
