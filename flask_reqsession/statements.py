"""Tell statements that write from those that only read."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

_LEADING: Final = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*([A-Za-z]+)", re.DOTALL)
_ENDING: Final = re.compile(
    r"\s*(?:COMMIT|END|ABORT|PREPARE\s+TRANSACTION|ROLLBACK(?!\s+(?:TRANSACTION\s+|WORK\s+)?TO))\b",
    re.IGNORECASE,
)
_WRITING_WORD: Final = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE)\b", re.IGNORECASE)
_MAY_CONTAIN_WRITING: Final = frozenset({"WITH", "EXPLAIN"})
_READING: Final = frozenset(
    {
        *("SELECT", "VALUES", "TABLE", "SHOW", "DESCRIBE", "DESC", "PRAGMA", "SET"),
        *("BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK"),
    }
)
_WRITING: Final = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "CALL", "LOAD"})

WRITES_BY_START: Final = MappingProxyType(
    {"SELECT": False, "INSERT": True, "UPDATE": True, "DELETE": True}
)
"""What :func:`writes` says of nearly all statements, by their first six letters. None of these ends
a transaction."""


def commits_implicitly(statement: str) -> bool:
    """Whether ``statement`` may end the transaction on MySQL and MariaDB, as DDL does there.

    >>> commits_implicitly("DROP TABLE t"), commits_implicitly("DELETE FROM t")
    (True, False)
    """
    found = _LEADING.match(statement)
    word = found.group(1).upper() if found else ""
    return word == "BEGIN" or (writes(statement) and word not in _WRITING)


def writes(statement: str) -> bool:
    """Whether ``statement`` may change something that a rollback would undo.

    Its first word decides, and what is not known to read counts as writing: to refuse too much is
    safe, to lose a write is not. A ``SELECT`` that writes, by a function or ``INTO``, cannot be
    told from another.

    >>> writes("SELECT 1"), writes("WITH gone AS (DELETE FROM t RETURNING id) SELECT id FROM gone")
    (False, True)
    """
    found = _LEADING.match(statement)
    word = found.group(1).upper() if found else ""
    if word in _MAY_CONTAIN_WRITING:
        return _WRITING_WORD.search(statement) is not None
    return word not in _READING


def ends_transaction(statement: str) -> bool:
    """Whether ``statement`` is a COMMIT, ROLLBACK or PREPARE of the whole transaction.

    >>> ends_transaction("ROLLBACK"), ends_transaction("ROLLBACK TO SAVEPOINT one")
    (True, False)
    """
    return _ENDING.match(statement) is not None
