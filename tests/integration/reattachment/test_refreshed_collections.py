"""Loaded collections after a refresh: left alone if they are complete, else loaded anew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import ForeignKey, create_engine, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    attribute_keyed_dict,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
)

from flask_reqsession.reattachment import ReattachOptions, attach
from tests.integration.reattachment.shop import Folder, Note, Person, Shop


class Base(DeclarativeBase):
    """The tables of this file."""


class Team(Base):
    """Found by its code, if it has one; its members in the order of their names, and by name."""

    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column(unique=True)
    members: Mapped[list[Member]] = relationship(back_populates="team")
    ordered: Mapped[list[Member]] = relationship(order_by="Member.name", viewonly=True)
    named: Mapped[dict[str, Member]] = relationship(
        collection_class=attribute_keyed_dict("name"), viewonly=True
    )
    adults: Mapped[list[Member]] = relationship(
        primaryjoin="and_(Member.team_code == Team.code, Member.age >= 18)", viewonly=True
    )


class Member(Base):
    """Somebody in a team."""

    __tablename__ = "member"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    age: Mapped[int]
    team_code: Mapped[str | None] = mapped_column(ForeignKey("team.code"))
    team: Mapped[Team | None] = relationship(back_populates="members")
    locker: Mapped[Locker | None] = relationship()


class Locker(Base):
    """Of one member."""

    __tablename__ = "locker"
    id: Mapped[int] = mapped_column(primary_key=True)
    member_id: Mapped[int | None] = mapped_column(ForeignKey("member.id"))


@pytest.fixture
def make(sqlite_file_url: str) -> Iterator[sessionmaker[Session]]:
    """Give sessions on two teams, one of which has a code and two members."""
    engine = create_engine(sqlite_file_url)
    Base.metadata.create_all(engine)
    make = sessionmaker(engine, expire_on_commit=False)
    with make.begin() as session:
        session.add_all([Team(id=1, code="x"), Team(id=2)])
        session.add_all(
            [
                Member(id=1, name="ada", age=30, team_code="x"),
                Member(id=2, name="bob", age=20, team_code="x"),
                Member(id=3, name="eve", age=20, locker=Locker(id=1)),
            ]
        )
    yield make
    engine.dispose()


@pytest.mark.rule("R9")
@pytest.mark.parametrize(
    ("attribute", "wanted", "is_kept"),
    [("members", {1, 2}, True), ("ordered", [2, 1], False), ("adults", [1], False)],
)
def test_only_what_the_foreign_key_tells_is_left_alone(
    make: sessionmaker[Session], attribute: str, wanted: object, *, is_kept: bool
) -> None:
    """The order and a further condition may depend on what has changed."""
    with make() as session:
        option = selectinload(getattr(Team, attribute))
        teams = [session.get_one(Team, number, options=[option]) for number in (1, 2)]
    with make.begin() as other:
        other.execute(text("UPDATE member SET name = 'zoe' WHERE id = 1"))
        other.execute(text("UPDATE member SET age = 2 WHERE id = 2"))

    with make() as session:
        attach(session, teams, options=ReattachOptions(refresh=True))
        assert [attribute in vars(team) for team in teams] == [is_kept, False]
        numbers = [member.id for member in getattr(teams[0], attribute)]
        assert type(wanted)(numbers) == wanted  # type: ignore[call-arg]
        assert getattr(teams[1], attribute) == []


@pytest.mark.rule("R9")
def test_the_keys_of_a_collection_are_up_to_date(make: sessionmaker[Session]) -> None:
    """Its members are still the same."""
    with make() as session:
        team = session.get_one(Team, 1, options=[selectinload(Team.named)])
    with make.begin() as other:
        other.execute(text("UPDATE member SET name = 'zoe' WHERE id = 1"))

    with make() as session:
        attach(session, team, options=ReattachOptions(refresh=True))
        assert sorted(team.named) == ["bob", "zoe"]


@pytest.mark.rule("R9")
def test_what_one_row_alone_leads_to_is_loaded_anew(make: sessionmaker[Session]) -> None:
    """Its key is in the other row, which may be another one's by now."""
    with make() as session:
        option = selectinload(Member.locker)
        members = [session.get_one(Member, number, options=[option]) for number in (3, 1)]
    with make.begin() as other:
        other.execute(text("UPDATE locker SET member_id = 1"))

    with make() as session:
        attach(session, members, options=ReattachOptions(refresh=True))
        assert members[0].locker is None
        assert members[1].locker is not None


@pytest.mark.rule("R9")
def test_a_collection_that_is_never_loaded_is_not_read(shop: Shop, session: Session) -> None:
    """What was added to it and flushed is in the database, as all that it has."""
    folder = session.get_one(Folder, 1)
    folder.notes.add(Note(id=7))
    session.flush()
    shop.sql.clear()

    shop.attach(session, folder, refresh=True)
    assert len(shop.sql) == 1


@pytest.mark.rule("R9")
def test_an_unchanged_collection_is_not_loaded_again(shop: Shop, session: Session) -> None:
    """The rows of its members tell that it is complete; so do those of an empty one."""
    people = [shop.load(Person, number, selectinload(Person.orders)) for number in (1, 2)]
    shop.write("UPDATE orders SET total = 5")

    shop.attach(session, people, refresh=True)
    assert len(shop.sql) == 2
    assert [[order.total for order in person.orders] for person in people] == [[5, 5], []]
    assert len(shop.sql) == 2


@pytest.mark.rule("R9")
@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("UPDATE orders SET person_id = 2 WHERE id = 1", [[2], [1]]),
        ("INSERT INTO orders (id, total, person_id) VALUES (7, 0, 2)", [[1, 2], [7]]),
        ("DELETE FROM orders WHERE id = 1", [[2], []]),
    ],
)
def test_a_changed_collection_is_loaded_anew(
    shop: Shop, session: Session, sql: str, wanted: list[list[int]]
) -> None:
    """Members may have come, gone, or moved."""
    people = [shop.load(Person, number, selectinload(Person.orders)) for number in (1, 2)]
    shop.write(sql)

    shop.attach(session, people, refresh=True)
    assert len(shop.sql) == 2
    assert [[order.id for order in person.orders] for person in people] == wanted


@pytest.mark.rule("R6", "R9")
def test_a_copys_collection_goes_without_rows_that_are_gone(shop: Shop, session: Session) -> None:
    """The original keeps what it has loaded."""
    with shop.session() as other:
        foreign = other.get_one(Person, 1, options=[selectinload(Person.orders)])
        other.commit()
        shop.write("DELETE FROM orders WHERE id = 1")

        copy = shop.attach(session, foreign, refresh=True)

        assert len(shop.sql) == 2
        assert [order.id for order in copy.orders] == [2]
        assert [order.id for order in foreign.orders] == [1, 2]
