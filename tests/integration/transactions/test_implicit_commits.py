"""MariaDB commits by itself at DDL and the like: inside a scope that is a commit by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import abort
from sqlalchemy import text

from flask_reqsession import (
    ManualCommitError,
    Propagation,
    UnexpectedRollbackError,
    set_rollback_only,
)
from tests.integration.transactions.conftest import make_world
from tests.integration.transactions.one_connection import one_connection
from tests.integration.transactions.worlds import SyncWorld, World

CREATE = "CREATE TABLE other (id INTEGER)"
COMMITTING = {
    CREATE: "CREATE",
    "\n/* mine */ alter table note add column n integer": "ALTER",
    "TRUNCATE note": "TRUNCATE",
    "OPTIMIZE TABLE note": "OPTIMIZE",
    "LOCK TABLES note WRITE": "LOCK",
    "START TRANSACTION": "START",
    "BEGIN": "BEGIN",
    "SET autocommit = 1": "SET",
    "/*!50001 DROP TABLE note */": "DROP",
    "SET STATEMENT max_statement_time = 9 FOR DROP TABLE note": "DROP",
}


@pytest.fixture(params=["sync", "async", "mysql"])
def mariadb(request: pytest.FixtureRequest, mariadb_url: str) -> Iterator[World]:
    """Give a manager on MariaDB in each colour, and by the name that MySQL's dialect has."""
    if request.param == "mysql":
        world = make_world("sync", mariadb_url.replace("mariadb+", "mysql+"))
    else:
        world = make_world(request.param, mariadb_url)
    yield world
    assert world.conversation.held == 0, "a connection was left checked out"


@pytest.mark.rule("T1", "T17")
@pytest.mark.parametrize(("sql", "word"), COMMITTING.items())
@pytest.mark.parametrize("manual_commit", ["raise", "defer"])
async def test_a_statement_that_commits_is_refused_and_nothing_is_kept(
    mariadb: World, manual_commit: str, sql: str, word: str
) -> None:
    """It is not sent; the error names it, says why, and where it can be run."""
    told = rf"^{word} as a statement, at which MariaDB commits.* pay,.*not sent.*'allow'"
    with pytest.raises(ManualCommitError, match=told):
        async with mariadb.scope(name="pay", manual_commit=manual_commit):
            await mariadb.write("before")
            await mariadb.execute(sql)
    assert mariadb.kept() == []
    async with mariadb.scope():
        await mariadb.write("next")
    assert mariadb.kept() == ["next"]


@pytest.mark.rule("T1", "T12")
def test_a_view_that_answers_an_error_keeps_nothing(mariadb_url: str) -> None:
    """Also if it swallows the refusal: its answer says that nothing was kept."""
    world = SyncWorld(mariadb_url)

    @world.manager.transactional
    def view() -> None:
        world.put("before")
        with pytest.raises(ManualCommitError):
            world.session.execute(text(CREATE))
        abort(409)

    assert world.app_of(view).test_client().get("/").status_code == 409
    assert world.kept() == []
    world.manager.databases.dispose()


@pytest.mark.rule("T4", "T17")
async def test_in_a_savepoint_it_dooms_the_whole(mariadb: World) -> None:
    """As any commit by hand does, which would have ended the savepoint with its transaction."""

    @mariadb.transactional(propagation=Propagation.NESTED)
    async def attempt() -> None:
        await mariadb.write("tried")
        await mariadb.execute(CREATE)

    async def pay() -> None:
        async with mariadb.scope():
            await mariadb.write("before")
            with pytest.raises(ManualCommitError):
                await attempt()

    with pytest.raises(UnexpectedRollbackError, match="CREATE as a statement"):
        await pay()
    assert mariadb.kept() == []


@pytest.mark.rule("T1")
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_autocommit_is_not_left_to_the_next_scope(mariadb_url: str, colour: str) -> None:
    """The one connection of the pool would keep what that scope rolls back."""
    world = one_connection(colour, mariadb_url)

    async def main() -> None:
        with pytest.raises(ManualCommitError):
            async with world.scope():
                await world.write("before")
                await world.execute("SET autocommit = 1")
        async with world.scope():
            await world.write("next")
            set_rollback_only()

    world.run(main)
    assert world.kept() == []


@pytest.mark.rule("T17")
async def test_where_it_is_allowed_it_commits_and_an_exception_says_so(mariadb: World) -> None:
    """What came before is kept, and what came after rolled back."""
    with pytest.raises(ValueError, match="^two") as caught:
        async with mariadb.scope(manual_commit="allow", name="batch"):
            await mariadb.write("one")
            await mariadb.execute(CREATE)
            assert mariadb.kept() == ["one"]
            await mariadb.write("two")
            raise ValueError("two")
    assert "batch has manual_commit='allow'" in "".join(caught.value.__notes__)
    assert mariadb.kept() == ["one"]


@pytest.mark.rule("T17")
async def test_outside_of_scopes_it_is_the_users(mariadb: World) -> None:
    """Nothing is promised there that it could break."""
    async with mariadb.unit():
        await mariadb.write("one")
        await mariadb.execute(CREATE)
    assert mariadb.kept() == ["one"]


@pytest.mark.rule("T1", "T17")
async def test_temporary_tables_and_the_like_are_no_commits(mariadb: World) -> None:
    """MariaDB commits at none of these, so the scope can still be rolled back."""
    async with mariadb.scope():
        await mariadb.write("before")
        await mariadb.execute("CREATE TEMPORARY TABLE mine AS SELECT * FROM note")
        await mariadb.execute("DROP TEMPORARY TABLE mine")
        await mariadb.execute("ANALYZE SELECT * FROM note")
        await mariadb.execute("SET autocommit = 0")
        await mariadb.execute("SET @mine = @@autocommit")
        await mariadb.execute("BEGIN NOT ATOMIC SET @mine = 1; END")
        set_rollback_only()
    assert mariadb.kept() == []


@pytest.mark.rule("T17")
async def test_on_another_database_ddl_is_a_part_of_the_scope(on_postgresql: World) -> None:
    """PostgreSQL rolls it back."""
    async with on_postgresql.scope():
        await on_postgresql.write("before")
        await on_postgresql.execute("DROP TABLE note")
        set_rollback_only()
    assert on_postgresql.kept() == []
