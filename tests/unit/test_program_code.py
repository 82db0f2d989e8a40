"""A program reads like the code that it stands for."""

from __future__ import annotations

from hypothesis.vendor.pretty import pretty

from flask_reqsession.testing.programs import Program
from flask_reqsession.testing.steps import (
    Add,
    Block,
    ByHand,
    Call,
    Doom,
    Execute,
    Flush,
    Generate,
    Options,
    Raise,
    Read,
    Register,
    Savepoint,
    Try,
    Violate,
)

PROGRAM = Program(
    "request",
    (
        Block(
            "block1",
            Options("REQUIRES_NEW", durable=True),
            (Execute(2), Flush(), Read(), Violate(), Doom(), ByHand("commit")),
        ),
        Try((Call("call3", Options(), ()),), "swallow", 4),
        Try((Savepoint((Raise("Halt", 5),)),), "convert", 6),
        Try((Call("call7", Options(rollback_for=("Halt", "Exception")), (Add(8),)),), "reraise", 9),
        Generate("generator10", Options(), (Add(11),), (Doom(),), (Flush(),), is_closed=False),
        Generate("generator12", Options(), (), (), (), is_closed=True),
        Register("on_commit", "hook13", (), is_robust=False),
        Register("on_completion", "hook14", (Add(15),)),
    ),
)
CODE = """\
with app.test_request_context():
    session = manager.session
    with manager.session_scope(name="block1", propagation="REQUIRES_NEW", durable=True) as session:
        session.execute(insert(Row).values(number=2))
        session.flush()
        print(session.scalars(select(Row.number)).all())
        session.add(Row(0)); session.flush()
        set_rollback_only()
        session.commit()
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
    with closing(generator10()) as steps:
        next(steps)
        set_rollback_only()
        list(steps)
    @transactional()
    @with_request_session
    def generator12(session):
        yield
    with closing(generator12()) as steps:
        next(steps)
    def hook13(session):
        pass
    on_commit(with_request_session(hook13), robust=False)
    def hook14(session, outcome):
        session.add(Row(15))
    on_completion(with_request_session(hook14))"""


def test_the_repr_is_the_code() -> None:
    """Each step is the line that it executes; a bare program stands in nothing."""
    assert repr(PROGRAM) == CODE
    compile(CODE, "program", "exec")
    assert repr(Program("bare", (Call("call1", Options(), ()),))).startswith("@transactional()\n")


def test_a_counterexample_is_printed_as_code() -> None:
    """Hypothesis prints it on lines of its own."""
    assert [line.strip() for line in pretty(PROGRAM).splitlines()[1:]] == [
        line.strip() for line in CODE.splitlines()
    ]
