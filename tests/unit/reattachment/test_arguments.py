"""Which arguments of a call are reattached: decided from the signature, without a database."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from cProfile import Profile
from typing import cast
from unittest.mock import MagicMock

import pytest
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    make_transient_to_detached,
    mapped_column,
)
from sqlalchemy.orm.attributes import set_committed_value
from werkzeug.local import LocalProxy

from flask_reqsession.errors import ReattachConflictError
from flask_reqsession.reattachment import ArgumentPlan, Memory, attach


class Base(DeclarativeBase):
    """The models of this file; no table is ever made."""


class User(Base):
    """A model with a method, whose ``self`` is an argument."""

    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]

    def rename(self, name: str) -> None:
        """Stand for a method that changes the name."""


class UnmappedUser(User):
    """Inherits from a mapped class, and is not mapped itself."""

    __abstract__ = True


def detached(number: int = 1) -> User:
    """Return a detached user that has loaded its name."""
    user = User(id=number)
    make_transient_to_detached(user)
    set_committed_value(user, "name", "ada")
    return user


def plan_of(function: Callable[..., object], *names: str) -> ArgumentPlan:
    """Return the plan of a function, for the named parameters or all."""
    return ArgumentPlan(function.__name__, inspect.signature(function), names)


def pay(user: object, amount: object = 0, *, note: object = None) -> None:
    """Stand for a function with parameters of the usual kinds."""


def gather(first: object, *rest: object, key: object = None, **extra: object) -> None:
    """Stand for a function that takes anything."""


def python_calls(act: Callable[[], object]) -> int:
    """Return how many Python functions run in ``act``, itself included."""
    profile = Profile(builtins=False)
    profile.runcall(act)
    return sum(entry.callcount for entry in profile.getstats())


@pytest.fixture
def session() -> Session:
    """Give a session without a database: a statement would raise."""
    return Session()


@pytest.mark.rule("R1")
def test_an_unknown_name_is_refused_at_decoration() -> None:
    """A name that is no parameter raises TypeError with the function and its parameters."""
    with pytest.raises(TypeError) as caught:
        plan_of(pay, "user", "amuont")

    assert str(caught.value) == (
        "pay() has no parameter 'amuont' to reattach. Its parameters are: user, amount, note. "
        "Name some of these in reattach_args(), or none to have every argument reattached."
    )


@pytest.mark.rule("R1")
def test_an_unknown_name_is_refused_where_there_are_no_parameters() -> None:
    """The message says so, instead of ending in nothing."""
    with pytest.raises(TypeError, match="Its parameters are: none"):
        plan_of(lambda: None, "user")


@pytest.mark.rule("R1")
@pytest.mark.parametrize(
    ("names", "attached"),
    [((), [True, True]), (("user",), [True, False]), (("note",), [False, True])],
)
def test_only_the_named_arguments_are_reattached(
    session: Session, names: tuple[str, ...], attached: list[bool]
) -> None:
    """Without names every argument is looked at, with names these alone."""
    user, note = detached(1), detached(2)

    plan_of(pay, *names).apply(session, (user, 5), {"note": note})

    assert [user in session, note in session] == attached


@pytest.mark.rule("R1")
def test_arguments_are_found_by_position_and_by_keyword(session: Session) -> None:
    """A named parameter is found however the call passes it."""
    by_position, by_keyword = detached(1), detached(2)
    plan = plan_of(pay, "amount")

    plan.apply(session, ("x", by_position), {})
    plan.apply(session, (), {"amount": by_keyword, "user": "x"})

    assert by_position in session
    assert by_keyword in session


@pytest.mark.rule("R1")
@pytest.mark.parametrize(
    ("names", "attached"),
    [
        ((), [True, True, True, True]),
        (("rest",), [False, True, False, False]),
        (("extra",), [False, False, False, True]),
        (("key",), [False, False, True, False]),
    ],
)
def test_variadic_arguments_are_reattached(
    session: Session, names: tuple[str, ...], attached: list[bool]
) -> None:
    """``*args`` and ``**kwargs`` are looked into; by name, without the others."""
    users = [detached(number) for number in range(4)]

    plan_of(gather, *names).apply(session, (users[0], users[1]), {"key": users[2], "x": users[3]})

    assert [user in session for user in users] == attached


@pytest.mark.rule("R1")
def test_self_of_a_mapped_class_is_an_argument(session: Session) -> None:
    """A decorated method of a model reattaches the model."""
    user = detached()

    plan_of(User.rename).apply(session, (user, "eve"), {})

    assert user in session


@pytest.mark.rule("R3", "R13")
def test_a_call_with_nothing_to_do_gets_its_own_arguments(session: Session) -> None:
    """The tuple and the dict of the call are returned themselves."""
    user = attach(session, detached())
    args: tuple[object, ...] = (user, 5)
    kwargs: dict[str, object] = {"note": user}

    passed = plan_of(pay).apply(session, args, kwargs)

    assert passed[0] is args
    assert passed[1] is kwargs


@pytest.mark.rule("R4")
def test_a_detached_argument_leaves_the_call_as_it_is(session: Session) -> None:
    """The same object is attached, so nothing has to be passed anew."""
    args: tuple[object, ...] = (detached(),)
    kwargs: dict[str, object] = {"note": detached(2)}

    passed = plan_of(pay).apply(session, args, kwargs)

    assert passed[0] is args
    assert passed[1] is kwargs


def test_a_replaced_argument_leaves_the_callers_containers_alone(session: Session) -> None:
    """The function gets the session's instances; the tuple and the dict of the caller stay."""
    own = [attach(session, detached(number)) for number in range(3)]
    others = [detached(number) for number in range(3)]
    args: tuple[object, ...] = (others[0], 5, others[1])
    kwargs: dict[str, object] = {"key": "k", "x": others[2]}

    passed = plan_of(gather).apply(session, args, kwargs)

    assert passed == ((own[0], 5, own[1]), {"key": "k", "x": own[2]})
    assert args == (others[0], 5, others[1])
    assert kwargs == {"key": "k", "x": others[2]}


def test_a_refused_argument_leaves_the_others_alone(session: Session) -> None:
    """All arguments are decided before the first is attached."""
    attach(session, own := detached(1))
    fine, changed = detached(2), detached(1)
    changed.name, own.name = "eve", "own"

    with pytest.raises(ReattachConflictError) as caught:
        plan_of(pay).apply(session, (fine,), {"note": changed})

    assert str(caught.value) == (
        "User 1 cannot be attached as argument 'note' of pay(): name was changed in it, and to "
        "something else in this session, which holds another instance of the row. Load it anew "
        'and repeat the change, or say whose value counts: conflict="argument" or '
        'conflict="session".'
    )
    assert list(session) == [own]


@pytest.mark.parametrize("memory", [None, Memory()])
def test_messages_name_the_argument(session: Session, memory: Memory | None) -> None:
    """Positional-only and variadic ones, too."""

    def show(user: object, /, *rest: object) -> None: ...

    attach(session, own := detached())
    changed = detached()
    changed.name, own.name = "eve", "own"
    plan = plan_of(show)

    with pytest.raises(ReattachConflictError, match=r" as argument 'user' of show\(\): "):
        plan.apply(session, (changed,), {}, memory=memory)
    with pytest.raises(ReattachConflictError, match=r" as argument '\*rest' of show\(\): "):
        plan.apply(session, (own, changed), {}, memory=memory)


def test_a_model_as_default_is_reattached_when_the_call_leaves_it_out(session: Session) -> None:
    """The default is looked at only by calls that use it."""
    default = detached()

    def greet(name: str, user: User = default, /, other: User = default) -> None: ...

    plan = plan_of(greet)
    plan.apply(session, ("x", detached(2)), {"other": detached(3)})
    assert default not in session

    assert plan.apply(session, ("x",), {}) == (("x",), {})
    assert default in session


def test_a_replaced_default_is_passed(session: Session) -> None:
    """By keyword; by position, after the defaults before it, where it cannot have a keyword."""
    own = attach(session, detached())

    def by_keyword(name: str, user: User = detached()) -> None: ...  # noqa: B008 - the point
    def by_position(name: str, n: int = 5, user: User = detached(), /) -> None: ...  # noqa: B008

    assert plan_of(by_keyword).apply(session, ("x",), {}) == (("x",), {"user": own})
    assert plan_of(by_position).apply(session, ("x",), {}) == (("x", 5, own), {})


def test_a_wrong_call_stays_wrong(session: Session) -> None:
    """No default hides that an argument is missing: the function itself is to say so."""
    own = attach(session, detached())

    def by_position(name: str, user: User = detached(), /) -> None: ...  # noqa: B008 - the point

    args, kwargs = plan_of(by_position).apply(session, (), {"nonsense": 1})

    assert (args, kwargs) == ((), {"nonsense": 1})
    assert list(session) == [own]


def test_a_positional_only_name_does_not_catch_a_keyword(session: Session) -> None:
    """``f(x, user=...)`` puts ``user`` into ``**extra`` where the parameter has no keyword."""
    own = attach(session, detached())

    def show(user: object, /, **extra: object) -> None: ...

    assert plan_of(show, "user").apply(session, (5,), {"user": detached()})[1] != {"user": own}
    assert plan_of(show, "extra").apply(session, (5,), {"user": detached()})[1] == {"user": own}


def test_a_proxy_is_replaced_by_the_model_behind_it(session: Session) -> None:
    """``current_user`` and its like are unwrapped, attached already or not, argument or default."""
    current: ContextVar[User] = ContextVar("current")
    proxy = LocalProxy(current)
    user = detached()
    current.set(user)

    def greet(user: object = proxy) -> None: ...

    assert plan_of(pay).apply(session, (proxy,), {})[0][0] is user
    assert user in session
    assert plan_of(pay).apply(session, (proxy,), {})[0][0] is user
    assert plan_of(greet).apply(session, (), {})[1]["user"] is user
    assert attach(session, cast("User", proxy)) is user


def test_other_proxies_pass_untouched(session: Session) -> None:
    """A proxy without a model behind it, or without anything, is none of our business."""
    unbound = LocalProxy(ContextVar[object]("unbound"))
    of_number = LocalProxy(lambda: 5)
    args = (unbound, of_number)

    assert plan_of(gather).apply(session, args, {})[0] is args
    assert attach(session, unbound) is unbound


@pytest.mark.rule("R7")
@pytest.mark.parametrize(
    "value",
    [
        User(id=1),
        pytest.param(User.__new__(User), id="half made"),
        UnmappedUser(),
        User,
        MagicMock(),
        None,
        5,
        [User(id=1)],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_saved_model_passes_untouched(session: Session, value: object) -> None:
    """Transient, half-made and unmapped instances, classes, mocks and plain values."""
    args = (value,)

    assert plan_of(gather).apply(session, args, {})[0] is args
    assert attach(session, value) is value
    assert list(session) == []


def test_what_was_attached_or_replaced_is_reported(session: Session) -> None:
    """Once for each argument, with what the call gets; nothing for what stays as it is."""
    own = attach(session, detached(1))
    free = detached(2)
    reported: list[object] = []

    plan_of(gather).apply(
        session, (own, detached(1), free, free, 5), {}, reattached=reported.append
    )

    assert reported == [free, own]


@pytest.mark.rule("R13")
def test_attached_arguments_cost_no_python_calls(session: Session) -> None:
    """A thousand attached arguments run as many Python functions as one."""
    plan, memory = plan_of(pay, "user"), Memory()
    wide = ArgumentPlan(
        "wide",
        inspect.Signature(
            [
                inspect.Parameter(f"p{number}", inspect.Parameter.POSITIONAL_OR_KEYWORD)
                for number in range(1000)
            ]
        ),
    )
    user = attach(session, detached())

    one = python_calls(lambda: plan.apply(session, (user,), {}, memory=memory))
    thousand = python_calls(lambda: wide.apply(session, (user,) * 1000, {}, memory=memory))

    assert one == thousand == 2


@pytest.mark.rule("R3", "R13")
def test_a_call_is_attached_if_all_that_it_passes_is(session: Session) -> None:
    """By position or keyword, in a container or as a default; in doubt the long way tells."""
    memory, own, default = Memory(), attach(session, detached(1)), detached(2)

    def greet(user: object, other: object = default) -> None: ...

    def tell(plan: ArgumentPlan, *args: object, **kwargs: object) -> bool:
        return plan.are_attached(session, memory, args, kwargs)

    assert tell(plan_of(pay), own, 5, note=[own, (own, [])])
    for loose in (default, User.__new__(User), LocalProxy(lambda: own), [{"a": default}]):
        assert not tell(plan_of(pay), own, loose)
        assert not tell(plan_of(pay), own, note=loose)
    assert not tell(plan_of(greet), own)
    attach(session, default)
    assert tell(plan_of(greet), own)
    memory.deleted.sessions.add(session.hash_key)
    assert not tell(plan_of(pay), own)
