"""Which statements write."""

from __future__ import annotations

import pytest

from flask_reqsession.statements import (
    commits_implicitly,
    committing_word,
    ends_transaction,
    writes,
)

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
        ("/*c*/ commit", True),
        ("-- c\ncommit", True),
        ("# c\ncommit", True),
        ("/*!commit*/", True),
        ("ROLLBACK WORK", True),
        ("PREPARE /* c */ TRANSACTION 'mine'", True),
        ("ROLLBACK/**/TO one", False),
        ("ROLLBACK WORK TO one", False),
        ("COMMITTED", False),
        ("/* commit */ SELECT 1", False),
        ("", False),
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
        ("SET autocommit = 1", True),
        ("COMMIT", False),
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


AT_A_COMMIT = [
    *("ALTER TABLE t ADD n INT", "create table t (id INT)", "DROP TABLE t", "TRUNCATE t"),
    *("RENAME TABLE t TO u", "CREATE INDEX i ON t (id)", "CREATE TEMPORARY SEQUENCE s"),
    *("ANALYZE TABLE t", "ANALYZE NO_WRITE_TO_BINLOG TABLES t", "OPTIMIZE TABLE t"),
    *("REPAIR TABLE t", "CHECK TABLE t", "FLUSH TABLES", "RESET QUERY CACHE"),
    *("GRANT SELECT ON t TO me", "REVOKE SELECT ON t FROM me", "SET PASSWORD = 'x'"),
    *("SET DEFAULT ROLE NONE", "LOCK TABLES t WRITE", "UNLOCK TABLES", "START TRANSACTION"),
    *("BEGIN", "begin work", "INSTALL SONAME 'x'", "CACHE INDEX t IN c", "LOAD INDEX INTO CACHE t"),
    *("SET autocommit=1", "SET @@autocommit = ON", "SET @@local.autocommit:=1"),
    *("SET SESSION autocommit = 1", "SET `autocommit` = 1", "SET @a = 1, autocommit = 1"),
    *("SET STATEMENT max_statement_time = 9 FOR DROP TABLE t", "/*!50001 DROP TABLE t */"),
    *(
        "/*M!100001 DROP TABLE t */",
        "# c\nDROP TABLE t",
        "-- c\n\tDROP TABLE t",
        "/**/DROP TABLE t",
    ),
]
AT_NO_COMMIT = [
    *("CREATE TEMPORARY TABLE t (id INT)", "\nCREATE OR REPLACE TEMPORARY TABLE t (id INT)"),
    *("create/**/temporary /* c */ table t (id INT)", "DROP TEMPORARY TABLE t", "DROP PREPARE q"),
    *("ANALYZE SELECT 1", "ANALYZE FORMAT=JSON SELECT 1", "CHECKSUM TABLE t"),
    *("BEGIN NOT ATOMIC SELECT 1; END", "LOAD DATA INFILE 'x' INTO TABLE t", "SET @a = 1"),
    *("SET autocommit=0", "SET autocommit = OFF", "SET autocommit = 'off'"),
    *("SET GLOBAL autocommit = 1", "SET @@GLOBAL.autocommit = 1", "SET @autocommit = 1"),
    *("SET @a = @@autocommit", "SET NAMES utf8mb4", "SET ROLE NONE", "SAVEPOINT one"),
    *("SET STATEMENT max_statement_time = 9 FOR SELECT 1", "XA START 'x'", "CALL pay(1)"),
    *(
        "SELECT 1",
        "SHOW TABLES",
        "CREATED",
        "/* DROP TABLE t */ SELECT 1",
        "/* DROP TABLE t */",
        "",
    ),
]


@pytest.mark.rule("T17")
@pytest.mark.parametrize("statement", AT_A_COMMIT)
def test_a_statement_at_which_mariadb_commits(statement: str) -> None:
    """Each one was seen to on a server, or is in its manual's list."""
    assert committing_word(statement) is not None


@pytest.mark.rule("T17")
@pytest.mark.parametrize("statement", AT_NO_COMMIT)
def test_a_statement_at_which_mariadb_does_not_commit(statement: str) -> None:
    """To refuse it would break code that works."""
    assert committing_word(statement) is None


@pytest.mark.rule("T17")
@pytest.mark.parametrize("statement", ["/**/" * 5000, "/*!1*/" * 5000, "SET " + "a, " * 5000])
def test_a_statement_is_looked_at_once(statement: str) -> None:
    """Each way to split comments would be tried without end, did the pattern not commit itself."""
    assert not ends_transaction(statement)
    assert committing_word(statement) is None
