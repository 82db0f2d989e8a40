"""Model instances inside containers: found however deep, and rebuilt only where needed."""

from __future__ import annotations

import gc
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from contextvars import ContextVar
from cProfile import Profile
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    attribute_keyed_dict,
    make_transient_to_detached,
    mapped_column,
    object_session,
    relationship,
)
from sqlalchemy.orm.attributes import set_committed_value
from werkzeug.datastructures import ImmutableDict, ImmutableList, ImmutableMultiDict, MultiDict
from werkzeug.local import LocalProxy

from flask_reqsession.reattachment import Memory, ReattachOptions, attach
from flask_reqsession.reattachment.containers import not_attached


class Base(DeclarativeBase):
    """The models of this file; no table is ever made."""


class User(Base):
    """Somebody with friends, in collections of two kinds."""

    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    friend_id: Mapped[int | None] = mapped_column(ForeignKey("user.id"))
    friends: Mapped[list[User]] = relationship()
    by_id: Mapped[dict[int, User]] = relationship(
        collection_class=attribute_keyed_dict("id"), viewonly=True
    )


class Tag(MappedAsDataclass, Base):
    """A mapped class that is a dataclass, too."""

    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)


def detached(number: int = 1) -> User:
    """Return a detached user."""
    user = User(id=number)
    make_transient_to_detached(user)
    return user


def owner_of(friends: list[User]) -> User:
    """Return a detached user with these friends."""
    owner = detached(9)
    set_committed_value(owner, "friends", friends)
    return owner


class Pair(NamedTuple):
    """A named tuple."""

    user: User | None
    note: str = ""


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the other kind


class Team(tuple[Any, ...]):
    """A tuple of the user's own type."""

    __slots__ = ()


class Crew(list[Any]):
    """A list of the user's own type, with something to remember."""

    name = "none"


@dataclass
class Order:
    """A plain dataclass that counts how often it is made."""

    user: User | None
    made: int = 0
    unset: object = field(init=False)

    def __post_init__(self) -> None:
        """Count."""
        self.made += 1


@dataclass
class Row:
    """A dataclass of two."""

    one: User
    other: User


@dataclass(frozen=True, slots=True)
class Frozen:
    """A dataclass that cannot be written to."""

    users: tuple[User | None, ...]


@pytest.fixture
def session() -> Session:
    """Give a session without a database: a statement would raise."""
    return Session()


@pytest.fixture
def own(session: Session) -> User:
    """Give the session's instance of user 1."""
    return attach(session, detached())


def around(user: User) -> list[tuple[str, Any]]:
    """Return a container of each kind around a user."""
    crew = Crew([user, 5])
    crew.name = "blue"
    return [
        ("list", [user, 5]),
        ("tuple", (user, 5)),
        ("named", Pair(user, "x")),
        ("old named", Point(user, 5)),
        ("own tuple", Team((user, 5))),
        ("own list", crew),
        ("set", {user, 5}),
        ("frozen set", frozenset({user, 5})),
        ("dict", {"a": user, "b": 5}),
        ("ordered", OrderedDict(b=user, a=5)),
        ("default", defaultdict(list, {"a": user})),
        ("immutable dict", ImmutableDict(a=user, b=5)),
        ("immutable list", ImmutableList([user, 5])),
        ("multi dict", MultiDict([("a", 5), ("a", user), ("b", 6)])),
        ("immutable multi dict", ImmutableMultiDict([("a", 5), ("a", user), ("b", 6)])),
        ("dataclass", Order(user)),
        ("frozen dataclass", Frozen((user,))),
        ("nested", [{"a": ([user], Frozen((user,)))}]),
    ]


def described(value: Any) -> Any:
    """Return what can be compared of a container."""
    if isinstance(value, Order):
        return value.user, value.made, hasattr(value, "unset")
    return value


KINDS = [name for name, _ in around(User())]


@pytest.mark.rule("R2", "R13")
@pytest.mark.parametrize("kind", KINDS)
def test_a_container_in_which_nothing_changes_is_passed_itself(
    session: Session, own: User, kind: str
) -> None:
    """What it contains is attached."""
    fresh = detached(2)
    attached, free = dict(around(own))[kind], dict(around(fresh))[kind]

    assert attach(session, attached) is attached
    assert attach(session, free) is free
    assert fresh in session


@pytest.mark.rule("R2")
@pytest.mark.parametrize("kind", KINDS)
def test_a_container_is_rebuilt_around_a_replacement(
    session: Session, own: User, kind: str
) -> None:
    """In the same type; the caller's own is not touched."""
    stale = detached()
    given, before, wanted = (dict(around(user))[kind] for user in (stale, stale, own))

    passed = attach(session, given)

    assert type(passed) is type(given)
    assert described(passed) == described(wanted)
    assert described(given) == described(before)
    assert getattr(passed, "name", None) == getattr(wanted, "name", None)
    assert getattr(passed, "default_factory", None) == getattr(wanted, "default_factory", None)


PAIRS: dict[str, Callable[[User, User], Any]] = {
    "list": lambda one, other: [one, other],
    "tuple": lambda one, other: (one, other),
    "named": Point,
    "dict": lambda one, other: {"b": one, "a": other},
    "dataclass": Row,
    "nested": lambda one, other: [{"b": ([one],)}, other],
    "nested later": lambda one, other: (one, [other]),
    "relationship": lambda one, other: owner_of([one, other]).friends,
}


@pytest.mark.rule("R2", "R5")
@pytest.mark.parametrize("kind", PAIRS)
def test_of_two_detached_instances_of_a_row_the_first_is_attached(
    session: Session, kind: str
) -> None:
    """In the order of the container, however deep, as with arguments of their own."""
    first, second = detached(), detached()

    assert attach(session, PAIRS[kind](first, second)) == PAIRS[kind](first, first)
    assert first in session
    assert second not in session


@pytest.mark.rule("R2")
def test_only_what_leads_to_a_replacement_is_rebuilt(session: Session, own: User) -> None:
    """The rest is shared with the caller's containers."""
    same, other = [own], {"a": 5}
    given = [same, (detached(), other)]

    passed = attach(session, given)

    assert passed == [[own], (own, {"a": 5})]
    assert passed[0] is same
    assert cast("tuple[object, object]", passed[1])[1] is other


@pytest.mark.rule("R2")
def test_cycles_are_closed_again(session: Session, own: User) -> None:
    """Through lists, tuples, dicts and dataclasses."""
    given: list[Any] = [detached()]
    order = Order(None)
    order.unset = given
    given += [(given, {"self": given}), order]

    passed = attach(session, given)

    assert passed is not given
    assert passed[0] is own
    assert passed[1][0] is passed
    assert passed[1][1]["self"] is passed
    assert passed[2].unset is passed
    assert given[2].unset is given


@pytest.mark.rule("R2")
def test_a_shared_container_stays_shared(session: Session, own: User) -> None:
    """It is rebuilt once, and so are tuples that contain each other."""
    inner = (detached(),)
    outer = (inner, (inner,))

    passed = attach(session, [inner, outer])

    assert passed == [(own,), ((own,), ((own,),))]
    assert passed[0] is cast("Any", passed[1])[0] is cast("Any", passed[1])[1][0]


@pytest.mark.rule("R2")
def test_there_is_no_limit_of_depth(session: Session, own: User) -> None:
    """Not even Python's own."""
    for wrap in (lambda value: [value], lambda value: (value,)):
        make = cast("Callable[[object], Any]", wrap)
        deep: Any = detached()
        for _ in range(5000):
            deep = make(deep)

        passed: Any = attach(session, deep)

        for _ in range(5000):
            (passed,) = passed
        assert passed is own


@pytest.mark.rule("R2")
def test_a_proxy_in_a_container_is_unwrapped(session: Session, own: User) -> None:
    """``current_user`` in a list becomes the user; other proxies stay."""
    current: ContextVar[User] = ContextVar("current")
    current.set(own)
    unbound = LocalProxy(ContextVar[object]("unbound"))

    passed = attach(session, [LocalProxy(current), unbound])

    assert type(passed[0]) is User
    assert passed[0] is own
    assert passed[1] is unbound


@pytest.mark.rule("R2")
def test_a_relationships_own_collection_is_rebuilt_apart(session: Session, own: User) -> None:
    """The new one belongs to nobody: to change it changes no relationship."""
    owner = owner_of([detached()])
    set_committed_value(owner, "by_id", [detached()])

    friends, by_id = attach(session, [owner.friends, owner.by_id])

    assert friends == [own]
    assert type(friends) is type(owner.friends)
    assert by_id == {1: own}
    assert type(by_id) is type(owner.by_id)
    cast("Any", friends).clear()
    assert owner.friends != []
    assert object_session(owner) is None


@pytest.mark.rule("R2")
def test_a_mapped_dataclass_is_an_instance_and_no_container(session: Session) -> None:
    """It is attached, not looked into."""
    tag = Tag(id=1)
    make_transient_to_detached(tag)

    assert attach(session, [tag]) == [tag]
    assert tag in session


@pytest.mark.rule("R9")
@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("list", [5]),
        ("tuple", (5,)),
        ("named", Pair(None, "x")),
        ("old named", Point(None, 5)),
        ("own tuple", Team((5,))),
        ("set", {5}),
        ("frozen set", frozenset({5})),
        ("dict", {"b": 5}),
        ("ordered", OrderedDict(a=5)),
        ("immutable dict", ImmutableDict(b=5)),
        ("immutable list", ImmutableList([5])),
        ("multi dict", MultiDict([("a", 5), ("b", 6)])),
        ("immutable multi dict", ImmutableMultiDict([("a", 5), ("b", 6)])),
        ("dataclass", (None, 1, False)),
        ("frozen dataclass", Frozen(())),
        ("nested", [{"a": ([], Frozen(()))}]),
    ],
)
def test_a_missing_instance_is_dropped(session: Session, kind: str, wanted: object) -> None:
    """A field keeps its place and is None."""
    memory = Memory()
    memory.watch(session)
    gone = attach(session, detached(3))
    session.delete(gone)
    given = dict(around(detached(3)))[kind]

    passed = attach(session, given, memory=memory, options=ReattachOptions(missing="none"))

    assert type(passed) is type(given)
    assert described(passed) == wanted


@pytest.mark.rule("R13")
@pytest.mark.parametrize("doubtful", [False, True])
def test_attached_instances_cost_a_check_each(
    session: Session, own: User, *, doubtful: bool
) -> None:
    """And no Python call, unless something was deleted in the session."""
    loop: list[Any] = [own, "x", (own,), Frozen((own,))]
    loop.append(loop)

    assert not_attached([loop], session.hash_key, doubtful=doubtful) == []
    few, many = (_calls([own] * n, session, doubtful=doubtful) for n in (500, 1000))
    assert many - few == 500 * doubtful


def _calls(users: list[User], session: Session, *, doubtful: bool) -> int:
    profile = Profile(builtins=False)
    gc.collect()
    gc.disable()  # what it calls is not ours
    try:
        profile.runcall(not_attached, users, session.hash_key, doubtful=doubtful)
    finally:
        gc.enable()
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.rule("R13")
def test_whatever_needs_a_decision_is_seen(session: Session, own: User) -> None:
    """Detached instances are found; half-made ones and proxies take a closer look."""
    loose, stripped = detached(3), attach(session, detached(2))
    del stripped.__dict__["_sa_instance_state"]
    assert not_attached([[own, loose]], session.hash_key, doubtful=True) == [loose]
    for value in (User.__new__(User), stripped, LocalProxy(lambda: own)):
        assert not_attached([[loose, value]], session.hash_key, doubtful=True) is None
