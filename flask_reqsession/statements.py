"""Tell statements that write from those that only read, and find those that commit.

Sources: PostgreSQL manual, "COMMIT", "END", "ABORT" and "PREPARE TRANSACTION"; MariaDB knowledge
base, "SQL statements that cause an implicit commit"; MySQL manual, "Statements that cause an
implicit commit". What these lists leave open was tried on a server.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final, TypeAlias

Word: TypeAlias = str
"""The first word of a statement, in capitals."""

# MySQL and MariaDB execute what is in /*! and /*M! comments. Possessive, since each way to split
# comments would be tried where nothing follows.
_SPACE: Final = r"(?:\s|--[^\n]*\n|#[^\n]*\n|/\*M?!\d*|\*/|/\*.*?\*/)"
_LEADING: Final = re.compile(rf"(?:{_SPACE}|\()*+([A-Za-z]+)", re.DOTALL)


def _after_first_word(pattern: str) -> re.Pattern[str]:
    """Compile what may come after a first word; a space stands for any space and comments."""
    spaced = pattern.replace(" ", f"{_SPACE}++")
    return re.compile(rf"\b{_SPACE}*+{spaced}", re.IGNORECASE | re.DOTALL)


_ENDING: Final = MappingProxyType(
    {
        "COMMIT": _after_first_word(""),
        "END": _after_first_word(""),
        "ABORT": _after_first_word(""),
        "PREPARE": _after_first_word(r"TRANSACTION\b"),
        "ROLLBACK": _after_first_word(r"(?!(?:TRANSACTION |WORK )?TO\b)"),
    }
)
_COMMITTING: Final = frozenset(
    {
        *("ALTER", "BACKUP", "CACHE", "CHANGE", "CHECK", "FLUSH", "GRANT", "INSTALL", "LOCK"),
        *("OPTIMIZE", "RENAME", "REPAIR", "RESET", "REVOKE", "SHUTDOWN", "START", "STOP"),
        *("TRUNCATE", "UNINSTALL", "UNLOCK"),
    }
)
_MAY_COMMIT: Final = MappingProxyType(
    {
        "ANALYZE": _after_first_word(r"(?:(?:NO_WRITE_TO_BINLOG|LOCAL) )?TABLES?\b"),
        "BEGIN": _after_first_word(r"(?!NOT\b)"),
        "CREATE": _after_first_word(r"(?!(?:OR REPLACE )?TEMPORARY TABLE\b)"),
        "DROP": _after_first_word(r"(?!(?:TEMPORARY|PREPARE)\b)"),
        "LOAD": _after_first_word(r"INDEX\b"),
        # Off is what it is in a transaction already.
        "SET": _after_first_word(
            r"(?:PASSWORD\b|DEFAULT ROLE\b|(?:.*?,\s*)?"
            r"(?:SESSION |LOCAL |@@(?:(?:SESSION|LOCAL)\.)?)?"
            r"`?AUTOCOMMIT`?\s*:?=\s*+(?!['\"]?(?:0|OFF|FALSE)\b))"
        ),
    }
)
_INNER: Final = _after_first_word(r"STATEMENT\b.*?\bFOR ")
_WRITING_WORD: Final = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE)\b", re.IGNORECASE)
_MAY_CONTAIN_WRITING: Final = frozenset({"WITH", "EXPLAIN"})
_READING: Final = frozenset(
    {
        *("SELECT", "VALUES", "TABLE", "SHOW", "DESCRIBE", "DESC", "PRAGMA", "SET"),
        *("BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK"),
    }
)
_WRITING: Final = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "CALL", "LOAD"})

COMMITS_IMPLICITLY: Final = frozenset({"mysql", "mariadb"})
"""The names of the dialects whose databases commit by themselves (:func:`committing_word`)."""

WRITES_BY_START: Final = MappingProxyType(
    {"SELECT": False, "INSERT": True, "UPDATE": True, "DELETE": True}
)
"""What :func:`writes` says of nearly all statements, by their first six letters. None of these ends
a transaction."""


def committing_word(statement: str) -> Word | None:
    """Return the first word of a statement at which MySQL and MariaDB commit, None of others.

    What a stored routine does, or a prepared statement, is not seen.

    >>> committing_word("DROP TABLE t"), committing_word("DROP TEMPORARY TABLE t")
    ('DROP', None)
    """
    word, end = _first_word(statement)
    if word in _COMMITTING:
        return word
    pattern = _MAY_COMMIT.get(word)
    if pattern is None:
        return None
    if word == "SET" and (inner := _INNER.match(statement, end)):
        return committing_word(statement[inner.end() :])
    return word if pattern.match(statement, end) else None


def commits_implicitly(statement: str) -> bool:
    """Whether ``statement`` may end the transaction on MySQL and MariaDB without saying so.

    Unlike :func:`committing_word` it is on the safe side: what is not known may.

    >>> commits_implicitly("DROP TABLE t"), commits_implicitly("DELETE FROM t")
    (True, False)
    """
    word, _ = _first_word(statement)
    if word == "BEGIN" or committing_word(statement) is not None:
        return True
    return writes(statement) and word not in _WRITING and not ends_transaction(statement)


def writes(statement: str) -> bool:
    """Whether ``statement`` may change something that a rollback would undo.

    Its first word decides, and what is not known to read counts as writing: to refuse too much is
    safe, to lose a write is not. A ``SELECT`` that writes, by a function or ``INTO``, cannot be
    told from another.

    >>> writes("SELECT 1"), writes("WITH gone AS (DELETE FROM t RETURNING id) SELECT id FROM gone")
    (False, True)
    """
    word, _ = _first_word(statement)
    if word in _MAY_CONTAIN_WRITING:
        return _WRITING_WORD.search(statement) is not None
    return word not in _READING


def ends_transaction(statement: str) -> bool:
    """Whether ``statement`` is a COMMIT, ROLLBACK or PREPARE of the whole transaction.

    >>> ends_transaction("ROLLBACK"), ends_transaction("ROLLBACK TO SAVEPOINT one")
    (True, False)
    """
    word, end = _first_word(statement)
    pattern = _ENDING.get(word)
    return pattern is not None and pattern.match(statement, end) is not None


def _first_word(statement: str) -> tuple[Word, int]:
    """Return the word, empty where there is none, and where it ends."""
    found = _LEADING.match(statement)
    return ("", 0) if found is None else (found.group(1).upper(), found.end())
