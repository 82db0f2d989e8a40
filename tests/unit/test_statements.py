"""Which statements write."""

from __future__ import annotations

import pytest

from flask_reqsession.statements import commits_implicitly, ends_transaction, writes

READING = [
    "SELECT 1",
    "select 1",
    "  SELECT 1",
    "(SELECT 1) UNION (SELECT 2)",
    "-- a comment\nSELECT 1",
    "/* a\ncomment */ SELECT 1",
    "WITH t AS (SELECT 1) SELECT * FROM t",
    "VALUES (1)",
    "SHOW TABLES",
    "EXPLAIN SELECT 1",
    "PRAGMA foreign_keys",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SAVEPOINT one",
    "RELEASE SAVEPOINT one",
    "ROLLBACK TO SAVEPOINT one",
    "BEGIN IMMEDIATE",
]
WRITING = [
    "INSERT INTO t VALUES (1)",
    "insert into t values (1)",
    "-- a comment\nUPDATE t SET id = 2",
    "/* SELECT */ DELETE FROM t",
    "WITH gone AS (DELETE FROM t RETURNING id) SELECT id FROM gone",
    "WITH t AS (SELECT 1)\nINSERT INTO u SELECT * FROM t",
    "EXPLAIN ANALYZE UPDATE t SET id = 2",
    "MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN DELETE",
    "REPLACE INTO t VALUES (1)",
    "CREATE TABLE t (id INTEGER)",
    "DROP TABLE t",
    "CALL pay(1)",
    "DO $$ BEGIN PERFORM pay(1); END $$",
    "COPY t FROM STDIN",
    "COMMIT",
    "{call pay(1)}",
    "",
]


@pytest.mark.rule("M15", "T8")
@pytest.mark.parametrize("statement", READING)
def test_a_statement_that_only_reads(statement: str) -> None:
    """A rollback would undo nothing."""
    assert not writes(statement)


@pytest.mark.rule("M15", "T8")
@pytest.mark.parametrize("statement", WRITING)
def test_a_statement_that_may_write(statement: str) -> None:
    """What is not known to read counts as writing."""
    assert writes(statement)


@pytest.mark.rule("T17")
@pytest.mark.parametrize(
    ("statement", "ends"),
    [
        ("COMMIT", True),
        (" rollback;", True),
        ("END", True),
        ("PREPARE TRANSACTION 'mine'", True),
        ("COMMIT PREPARED 'mine'", True),
        ("ROLLBACK TO SAVEPOINT one", False),
        ("PREPARE q AS SELECT 1", False),
        ("RELEASE SAVEPOINT one", False),
    ],
)
def test_a_statement_that_ends_the_whole_transaction(statement: str, ends: bool) -> None:
    """And what only looks like it."""
    assert ends_transaction(statement) is ends


@pytest.mark.rule("T18")
@pytest.mark.parametrize(
    ("statement", "commits"),
    [
        ("CREATE TABLE t (id INT)", True),
        ("/*!50001 CREATE TABLE t (id INT) */", True),
        ("truncate t", True),
        ("LOCK TABLES t WRITE", True),
        ("START TRANSACTION", True),
        ("begin", True),
        ("EXECUTE prepared", True),
        ("SELECT 1", False),
        ("SET @a = 1", False),
        ("SAVEPOINT one", False),
        ("INSERT INTO t VALUES (1)", False),
        ("CALL pay(1)", False),
        ("WITH a AS (SELECT 1) SELECT * FROM a", False),
    ],
)
def test_a_statement_that_commits_implicitly(statement: str, commits: bool) -> None:
    """What is not known to be harmless does; what only writes rows is the database's to refuse."""
    assert commits_implicitly(statement) is commits
