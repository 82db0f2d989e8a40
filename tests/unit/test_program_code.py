"""A program reads like the code that it stands for."""

from __future__ import annotations

import pytest
from hypothesis.vendor.pretty import pretty

from flask_reqsession.testing.programs import Program, Reply, View
from flask_reqsession.testing.steps import (
    Abort,
    Add,
    Block,
    ByHand,
    Call,
    Doom,
    Execute,
    Flake,
    Flush,
    Generate,
    Options,
    Raise,
    Read,
    Register,
    Savepoint,
    Step,
    Try,
    Violate,
)

PROGRAM = Program(
    "request",
    (
        Block(
            "block1",
            Options("NESTED", durable=True),
            (Execute(2), Flush(), Read(), Violate(), Doom(), ByHand("commit")),
        ),
        Try((Call("call3", Options(), ()),), "swallow", 4),
        Try((Savepoint((Raise("Halt", 5),)),), "convert", 6),
        Try((Call("call7", Options(rollback_for=("Halt", "Exception")), (Add(8),)),), "reraise", 9),
        Generate("generator10", Options(), (Add(11),), (Doom(),), (Flush(),), is_closed=False),
        Generate("generator12", Options(), (), (), (), is_closed=True),
        Register("on_commit", "hook13", (), is_robust=False),
        Register("on_completion", "hook14", (Add(15),)),
        Abort(409, 16),
    ),
)
CODE = """\
@app.get("/")
@with_request_session
def view(session):
    with manager.session_scope(name="block1", propagation="NESTED", durable=True) as block1_session:
        block1_session.execute(insert(Row).values(number=2))
        block1_session.flush()
        print(block1_session.scalars(select(Row.number)).all())
        block1_session.add(Row(0)); block1_session.flush()
        set_rollback_only()
        block1_session.commit()
    try:
        @transactional()
        @with_request_session
        def call3(session):
            pass
        call3()
    except BaseException as error:
        pass
    try:
        with session.begin_nested():
            raise Halt(5)
    except BaseException as error:
        raise OtherTroubleError(6) from error
    try:
        @transactional(rollback_for=(Halt, Exception,))
        @with_request_session
        def call7(session):
            session.add(Row(8))
        call7()
    except BaseException as error:
        raise
    @transactional()
    @with_request_session
    def generator10(session):
        session.add(Row(11))
        yield
        session.flush()
    with closing(generator10()) as generator10_steps:
        next(generator10_steps)
        set_rollback_only()
        list(generator10_steps)
    @transactional()
    @with_request_session
    def generator12(session):
        yield
    with closing(generator12()) as generator12_steps:
        next(generator12_steps)
    def hook13(session):
        pass
    on_commit(with_request_session(hook13), robust=False)
    def hook14(session, outcome):
        session.add(Row(15))
    on_completion(with_request_session(hook14))
    abort(409)
    return "done"
app.test_client().get("/")"""
RETRIED = Program(
    "unit",
    (
        Call(
            "call1",
            Options(retry=2, rollback_on_status=None),
            (Add(2), Execute(3), ByHand("close"), Read(), Flake(1, 4)),
        ),
    ),
)
RETRIED_CODE = """\
earlier = defaultdict(count)
with manager.unit_of_work():
    session = manager.session
    @transactional(retry=Retry(2, on=FlakyError, initial=0), rollback_on_status=None)
    @with_request_session
    def call1(session):
        manager.session.add(Row(2 + 1000 * next(earlier[2])))
        manager.session.execute(insert(Row).values(number=3 + 1000 * next(earlier[3])))
        manager.session.close()
        print(manager.session.scalars(select(Row.number)).all())
        if next(earlier[4]) < 1: raise FlakyError(4)
    call1()"""


def test_the_repr_is_the_code() -> None:
    """Each step is the line that it executes; a bare program stands in nothing."""
    assert repr(PROGRAM) == CODE
    compile(CODE, "program", "exec")
    assert repr(Program("bare", (Call("call1", Options(), ()),))).startswith("@transactional()\n")


def test_what_runs_again_counts_and_what_is_closed_is_asked_for() -> None:
    """Each attempt writes other rows, and after a close the manager gives another session."""
    assert repr(RETRIED) == RETRIED_CODE
    compile(RETRIED_CODE, "program", "exec")


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (Abort(302, 1), 'abort(redirect("/", 302))'),
        (Abort(204, 1), "abort(Response(status=204))"),
    ],
)
def test_an_abort_with_a_success_is_told_the_response(step: Step, code: str) -> None:
    """There is no exception class for it."""
    assert repr(Program("bare", (step,))) == code


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply("json"), '{"done": True}'),
        (Reply("tuple", 409), '"done", 409'),
        (Reply("response", 503), "Response(status=503)"),
        (Reply("redirect", 302), 'redirect("/", 302)'),
        (Reply("error", 404), "default_exceptions[404]()"),
        (Reply("nothing"), "None"),
    ],
)
def test_a_view_may_be_decorated(reply: Reply, code: str) -> None:
    """Its answer is what it returns."""
    lines = repr(Program("request", (), View(Options(retry=2), reply))).splitlines()
    assert lines[2] == "@transactional(retry=Retry(2, on=FlakyError, initial=0))"
    assert lines[-2] == f"    return {code}"


def test_a_counterexample_is_printed_as_code() -> None:
    """Hypothesis prints it on lines of its own."""
    assert [line.strip() for line in pretty(PROGRAM).splitlines()[1:]] == [
        line.strip() for line in CODE.splitlines()
    ]
