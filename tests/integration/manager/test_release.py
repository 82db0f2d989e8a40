"""The connection can be given back in mid-request, if nothing is lost by that."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.orm import sessionmaker
from sqlalchemy.schema import CreateTable

from flask_reqsession import NoActiveScopeError, PropagationError, RequestScopedSessionManager
from tests.integration.manager.shop import Note, Shop, connections_held, texts


@pytest.mark.rule("M15")
def test_a_released_connection_is_in_the_pool_and_comes_back_at_the_next_use(shop: Shop) -> None:
    """The session stays the same, and its next statement begins a new transaction."""
    shop.keep("one")

    def view() -> str:
        session = shop.session
        note = session.scalars(select(Note)).one()
        assert connections_held(shop.engine) == 1
        shop.manager.release()
        assert connections_held(shop.engine) == 0
        with shop.engine.begin() as other:
            other.execute(text("UPDATE note SET text = 'two'"))
        assert note in session
        assert shop.session is session
        assert texts(session) == ["two"]
        return note.text

    assert shop.serve(view).text == "one"
    assert shop.events == ["created", "closed"]


@pytest.mark.rule("M15")
@pytest.mark.parametrize("expire_on_commit", [False, True])
def test_what_is_loaded_stays_readable_without_sql(shop: Shop, *, expire_on_commit: bool) -> None:
    """Also with a factory of the user's own that expires at COMMIT, which then goes on to do so."""
    shop.keep("one")
    engine = create_engine(shop.url)
    manager = RequestScopedSessionManager(sessionmaker(engine, expire_on_commit=expire_on_commit))
    sent: list[str] = []
    with manager.unit_of_work():
        note = manager.session.scalars(select(Note)).one()
        manager.release()
        event.listen(engine, "before_cursor_execute", lambda *event: sent.append(event[2]))
        assert note.text == "one"
        assert sent == []
        assert connections_held(engine) == 0
        manager.session.connection()
        manager.session.commit()
        assert ("text" in inspect(note).unloaded) is expire_on_commit
    engine.dispose()


@pytest.mark.rule("M15")
@pytest.mark.parametrize(
    "write",
    [
        lambda shop: shop.session.add(Note(text="new")),
        lambda shop: shop.write("new"),
        lambda shop: setattr(shop.session.scalars(select(Note)).one(), "text", "new"),
        lambda shop: shop.session.delete(shop.session.scalars(select(Note)).one()),
        lambda shop: shop.session.execute(insert(Note).values(text="new")),
        lambda shop: shop.session.execute(text("INSERT INTO note (text) VALUES ('new')")),
        lambda shop: shop.session.execute(
            text("WITH t(x) AS (SELECT 'new') INSERT INTO note (text) SELECT x FROM t")
        ),
        lambda shop: shop.session.execute(text("CREATE TABLE other (id INTEGER)")),
        lambda shop: shop.session.connection().execute(insert(Note).values(text="new")),
        lambda shop: shop.session.connection().execute(
            insert(Note), [{"text": "a"}, {"text": "b"}]
        ),
        lambda shop: shop.session.connection().exec_driver_sql("DELETE FROM note"),
        lambda shop: (
            shop.session.connection()
            .execution_options(no_parameters=True)
            .exec_driver_sql("DELETE FROM note")
        ),
        lambda shop: shop.session.bulk_insert_mappings(Note, [{"text": "new"}]),
        lambda shop: shop.session.execute(
            CreateTable(Table("other", MetaData(), Column("id", Integer)))
        ),
    ],
    ids=[
        *("pending", "flushed", "changed", "deleted", "Core", "text", "WITH", "DDL"),
        *("connection", "many", "driver's SQL", "no parameters", "bulk", "compiled DDL"),
    ],
)
def test_uncommitted_changes_are_refused(shop: Shop, write: Callable[[Shop], object]) -> None:
    """However they were made; nothing is committed, and they are still there."""
    shop.keep("old")
    with shop.manager.unit_of_work():
        write(shop)
        with pytest.raises(PropagationError, match="uncommitted changes") as refused:
            shop.manager.release()
        assert refused.value.code == "propagation"
        assert shop.manager.is_session_active()
        assert shop.kept() == ["old"]
        shop.session.rollback()
        shop.manager.release()


@pytest.mark.rule("M15")
def test_reading_in_every_form_is_no_change(shop: Shop) -> None:
    """Neither is a value that was set to what it was, nor what was written and committed."""
    shop.keep("old")
    with shop.manager.unit_of_work():
        shop.session.execute(text("-- a comment\nSELECT 1"))
        shop.session.execute(text("WITH t(x) AS (SELECT 1) SELECT x FROM t"))
        note = shop.session.scalars(select(Note).with_for_update()).one()
        note.text = "old"
        shop.manager.release()
        shop.write("new")
        shop.session.commit()
        texts(shop.session)
        shop.manager.release()
        assert connections_held(shop.engine) == 0
        shop.manager.release()
    assert shop.kept() == ["old", "new"]


@pytest.mark.rule("M15")
def test_a_scope_keeps_its_connection(shop: Shop) -> None:
    """The error names the scope; before and after it the connection can be given back."""

    @shop.manager.transactional
    def pay() -> None:
        texts(shop.session)
        with pytest.raises(PropagationError, match=r"pay\(\)"):
            shop.manager.release()
        assert connections_held(shop.engine) == 1

    with shop.manager.unit_of_work():
        texts(shop.session)
        shop.manager.release()
        pay()
        texts(shop.session)
        shop.manager.release()
        assert connections_held(shop.engine) == 0


@pytest.mark.rule("M15")
def test_release_without_a_session_does_nothing(shop: Shop) -> None:
    """Outside of everything it is refused, since it would be a mistake."""
    with shop.manager.unit_of_work():
        shop.manager.release()
    assert shop.events == []
    with pytest.raises(NoActiveScopeError, match=r"release\(\)"):
        shop.manager.release()


@pytest.mark.rule("M15", "M18")
def test_release_after_a_failed_query(any_shop: Shop) -> None:
    """PostgreSQL has given the transaction up; nothing was written, so nothing is lost."""
    shop = any_shop
    with shop.manager.unit_of_work():
        with pytest.raises(Exception, match="nowhere"):
            shop.session.execute(text("SELECT nowhere FROM note"))
        shop.manager.release()
        assert connections_held(shop.engine) == 0
        assert texts(shop.session) == []
