"""The reference model: what must come of a program, by the contract alone.

An interpreter of its own, small enough to be read against the rules. It knows neither Flask nor
SQLAlchemy nor the rest of this package, only the programs.

What is kept or lost together is a *physical unit*: a transaction, or the savepoint of a NESTED
scope (T3). A call that joins is no unit of its own, it is a part of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from flask_reqsession.testing.programs import (
    Add,
    Block,
    Body,
    ByHand,
    Call,
    Caught,
    Doom,
    Event,
    Execute,
    Fired,
    Flush,
    Generate,
    HandWork,
    Options,
    Outcome,
    Program,
    Raise,
    Raised,
    Read,
    Register,
    Savepoint,
    Seen,
    Step,
    Try,
)


def predict(program: Program) -> Outcome:
    """Tell what must come of ``program``.

    >>> from flask_reqsession.testing.programs import Add, Call, Options, Program, Raise, Try
    >>> inner = Call("inner", Options(), (Add(1), Raise("TroubleError", 2)))
    >>> outer = Call("outer", Options(), (Add(3), Try((inner,), "swallow", 4)))
    >>> outcome = predict(Program("unit", (outer,)))
    >>> sorted(outcome.rows), outcome.error.kind, sorted(outcome.error.names)
    ([], 'UnexpectedRollbackError', ['inner', 'outer'])
    """
    return _Interpreter().run(program)


class _Thrown(Exception):  # noqa: N818 - the program's exception on its way, not an error of ours
    def __init__(self, raised: Raised) -> None:
        super().__init__(raised)
        self.raised = raised


# -- SQLAlchemy's session, as far as the contract leaves it to SQLAlchemy -----------------------


@dataclass(eq=False)
class _Layer:
    """The transaction itself, or one savepoint in it: the rows that were sent in it.

    ``broken``: a flush in it failed. SQLAlchemy has rolled it back then, and refuses everything
    until it is told to roll back. ``is_block``: it is SQLAlchemy's own ``with`` block, in which a
    statement is refused with another error than a flush.
    """

    rows: set[int] = field(default_factory=set[int])
    broken: bool = False
    is_block: bool = False


@dataclass(eq=False)
class _Session:
    """What is pending, and the rows of the open transaction by savepoint."""

    committed: set[int]
    layers: list[_Layer] = field(default_factory=list[_Layer])
    own: set[int] = field(default_factory=set[int])
    pending: set[int] = field(default_factory=set[int])
    unit: _Unit | None = None
    paused: _Unit | None = None
    wrote: bool = False

    def begin(self) -> None:
        if not self.layers:
            self.layers.append(_Layer())

    def require_alive(self) -> _Layer:
        self.begin()
        if self.layers[-1].broken:
            raise _Thrown(Raised("PendingRollbackError"))
        return self.layers[-1]

    def require_usable(self) -> _Layer:
        self.begin()
        if self.layers[-1].broken and self.layers[-1].is_block:
            raise _Thrown(Raised("InvalidRequestError"))
        return self.require_alive()

    def add(self, row: int) -> None:
        self.begin()
        self.own.add(row)
        self.pending.add(row)

    def flush(self) -> None:
        if self.pending:
            self.require_alive().rows |= self.pending
            self.pending.clear()
            self.wrote = True

    def execute(self, row: int) -> None:
        self.require_usable().rows.add(row)
        self.wrote = True
        self.own.add(row)

    def violate(self) -> None:
        self.begin()
        self.pending.add(0)
        layer = self.require_alive()
        self.wrote = True
        layer.rows.clear()
        layer.broken = True
        self.pending.clear()
        raise _Thrown(Raised("IntegrityError"))

    def visible(self) -> frozenset[int]:
        self.flush()
        self.require_usable()
        seen = self.committed.union(*(layer.rows for layer in self.layers))
        return frozenset(seen & self.own)

    def savepoint(self) -> _Layer:
        self.require_alive()
        self.flush()
        layer = _Layer()
        self.layers.append(layer)
        return layer

    def release(self, layer: _Layer) -> None:
        self.require_alive()
        self.flush()
        self.layers.remove(layer)
        self.layers[-1].rows |= layer.rows

    def roll_back_to(self, layer: _Layer) -> None:
        if layer in self.layers:
            del self.layers[self.layers.index(layer) :]
            self.pending.clear()

    def leave(self, layer: _Layer) -> None:
        """End SQLAlchemy's own block: a broken one is only closed, and what came later stays."""
        pending = set(self.pending) if layer.broken else set[int]()
        self.roll_back_to(layer)
        self.pending |= pending

    def commit(self) -> None:
        if self.layers:
            self.prove_alive()
            self.flush()
            self.committed.update(*(layer.rows for layer in self.layers))
            self.layers.clear()

    def prove_alive(self) -> None:
        if self.layers:
            self.require_alive()

    def roll_back(self) -> None:
        self.layers.clear()
        self.pending.clear()


# -- the contract -------------------------------------------------------------------------------


@dataclass(eq=False, frozen=True)
class _Scoped:
    """What runs in a scope: a call, a block or a generator."""

    name: str
    options: Options
    run: Callable[[], None]


@dataclass(eq=False)
class _Unit:
    """A physical unit: a transaction, or a savepoint of the unit ``outer``."""

    name: str
    outer: _Unit | None = None
    rollback_only: bool = False
    cause: Raised | None = None
    culprit: str = ""
    hooks: list[_Hook] = field(default_factory=list["_Hook"])
    is_shared: bool = False
    waiting: str = ""

    def is_inside(self, other: _Unit) -> bool:
        return self is other or (self.outer is not None and self.outer.is_inside(other))

    @property
    def transaction(self) -> _Unit:
        return self if self.outer is None else self.outer.transaction

    def doom(self, cause: Raised, culprit: str = "") -> None:
        """T3: the first failure is the one that is told."""
        if self.cause is None:
            self.cause, self.culprit = cause, culprit
        elif self.cause is cause and not self.culprit:
            self.culprit = culprit

    def unexpected_rollback(self) -> _Thrown:
        """T3: the inner exception is the cause, and the message names the inner call."""
        cause = self.cause or Raised("")
        names = {self.culprit} if self.culprit else cause.names
        return _Thrown(Raised("UnexpectedRollbackError", 0, frozenset({self.name, *names}), cause))


@dataclass(eq=False)
class _Hook:
    """A hook that waits; ``outcome`` is what it will be told, where that is known already."""

    step: Register
    unit: _Unit
    outcome: str = ""


class _Interpreter:
    """Runs a program on nothing but sets of numbers."""

    def __init__(self) -> None:
        self.committed: set[int] = set()
        self.events: list[Event] = []
        self.session: _Session | None = None

    def run(self, program: Program) -> Outcome:
        """M3, M9: the end of a request or unit of work rolls back what no scope committed."""
        usable = True
        if program.root != "bare":
            self.session = _Session(self.committed)
        error = None
        try:
            self.body(program.body)
        except _Thrown as thrown:
            error = thrown.raised
        if self.session is not None:
            usable = not any(layer.broken for layer in self.session.layers)
        return Outcome(frozenset(self.committed), error, tuple(self.events), usable)

    @property
    def current(self) -> _Session:
        """The session that the running code gets."""
        if self.session is None:
            raise LookupError("Outside of a request and of every call there is no session.")
        return self.session

    def body(self, body: Body) -> None:
        for step in body:
            self.step(step)

    def step(self, step: Step) -> None:
        match step:
            case Call(name, options, body) | Block(name, options, body):
                self.scope(_Scoped(name, options, lambda: self.body(body)))
            case Generate():
                self.generate(step)
            case Try():
                self.answer(step)
            case Savepoint(body):
                self.savepoint(body)
            case Raise(error, number):
                raise _Thrown(Raised(error, number))
            case Doom():
                self.doom()
            case Register():
                self.register(step)
            case ByHand(work):
                self.by_hand(work)
            case Read():
                self.events.append(Seen(self.current.visible()))
            case _:
                self.write(step)

    def write(self, step: Step) -> None:
        match step:
            case Add(row):
                self.current.add(row)
            case Execute(row):
                self.current.execute(row)
            case Flush():
                self.current.flush()
            case _:
                self.current.violate()

    def answer(self, step: Try) -> None:
        try:
            self.body(step.body)
        except _Thrown as thrown:
            self.events.append(Caught(step.number, thrown.raised))
            if step.answer == "reraise":
                raise
            if step.answer == "convert":
                converted = Raised("OtherTroubleError", step.number, cause=thrown.raised)
                raise _Thrown(converted) from None

    def savepoint(self, body: Body) -> None:
        """SQLAlchemy's own block; it is no unit of the contract's, and dooms nothing."""
        session = self.current
        layer = session.savepoint()
        layer.is_block = True
        try:
            self.body(body)
        except _Thrown:
            session.leave(layer)
            raise
        if layer.broken:
            session.leave(layer)
        elif layer in session.layers:
            session.release(layer)

    def doom(self) -> None:
        """T6."""
        unit = self.current.unit
        if unit is None:
            raise _Thrown(Raised("NoActiveScopeError"))
        unit.rollback_only = True

    def by_hand(self, work: HandWork) -> None:
        """T17: inside a scope it is refused, and everything up to the transaction is doomed."""
        session = self.current
        unit = session.unit or session.paused
        if unit is None:
            session.commit() if work == "commit" else session.roll_back()
            return
        if work == "commit":
            session.prove_alive()
            self.merge_savepoints(session)
        elif not session.layers:
            return
        else:
            session.roll_back()
        refusal = Raised("ManualCommitError", 0, frozenset({unit.name}))
        while unit is not None:
            unit.doom(refusal)
            unit = unit.outer
        raise _Thrown(refusal)

    @staticmethod
    def merge_savepoints(session: _Session) -> None:
        """SQLAlchemy commits the savepoints first, one by one, and is refused at the last step."""
        session.begin()
        if len(session.layers) > 1:
            session.flush()
            session.layers[0].rows.update(*(layer.rows for layer in session.layers[1:]))
            del session.layers[1:]

    # -- scopes ---------------------------------------------------------------------------------

    def scope(self, call: _Scoped) -> None:
        """M10: outside of a request and of every unit, the outermost call has its own."""
        if self.session is not None:
            self.enter(call)
            return
        self.session = _Session(self.committed)
        try:
            self.enter(call)
        finally:
            self.session = None

    def generate(self, step: Generate) -> None:
        """T11: the scope is open from the first step to the end; closed early, it rolls back."""
        closed = Raised("GeneratorExit")
        consumer = self.session
        outer = None if consumer is None else consumer.unit
        left: _Thrown | None = None

        def run() -> None:
            nonlocal left
            self.body(step.first)
            left = self.wait(step, consumer, outer)
            if left is not None or step.is_closed:
                raise _Thrown(closed)
            self.body(step.rest)

        try:
            self.scope(_Scoped(step.name, step.options, run))
        except _Thrown as thrown:
            if thrown.raised is not closed:
                raise
        if left is not None:
            raise left

    def wait(
        self, step: Generate, consumer: _Session | None, outer: _Unit | None
    ) -> _Thrown | None:
        """T11: between two steps the scope is not current for the consumer.

        Return what the consumer leaves the generator with.
        """
        session, unit = self.current, self.current.unit
        if session is not consumer or unit is outer or unit is None:
            return self.consume(step, consumer)
        if outer is not None:
            return self.wait_in_a_savepoint(step, session, unit, outer)
        session.unit, session.paused = None, unit
        left = self.consume(step, consumer)
        session.unit, session.paused = unit, None
        return left

    def wait_in_a_savepoint(
        self, step: Generate, session: _Session, unit: _Unit, outer: _Unit
    ) -> _Thrown | None:
        """T4, T11: what the consumer writes meanwhile is in the savepoint, and goes with it."""
        session.flush()
        session.prove_alive()
        if outer.waiting:
            raise _refused(outer.waiting, step.name, outer.name)
        outer.waiting = step.name
        wrote, session.wrote = session.wrote, False
        session.unit = outer
        left = self.consume(step, session)
        session.unit = unit
        unit.is_shared |= session.wrote or bool(session.pending)
        session.wrote |= wrote
        outer.waiting = ""
        return left

    def consume(self, step: Generate, consumer: _Session | None) -> _Thrown | None:
        session, self.session = self.session, consumer
        try:
            self.body(step.between)
        except _Thrown as thrown:
            return thrown
        else:
            return None
        finally:
            self.session = session

    def enter(self, call: _Scoped) -> None:
        """T2 and T7: the table of propagations, with a scope running and without."""
        session, propagation = self.current, call.options.propagation
        running = session.unit
        if running is None:
            self.enter_without_a_scope(call, session)
        elif propagation == "NEVER":
            raise _refused(call.name, running.name)
        elif propagation == "NOT_SUPPORTED":
            self.on_a_session_of_its_own(lambda _own: call.run())
        elif propagation == "REQUIRES_NEW":
            self.on_a_session_of_its_own(lambda own: self.transaction(call, own))
        elif call.options.durable:
            raise _refused(call.name, running.name)
        elif propagation == "NESTED":
            self.nested(call, session, running)
        else:
            self.join(call, running)

    def enter_without_a_scope(self, call: _Scoped, session: _Session) -> None:
        match call.options.propagation:
            case "MANDATORY":
                raise _refused(call.name)
            case "SUPPORTS" | "NEVER":
                call.run()
            case "NOT_SUPPORTED":
                self.on_a_session_of_its_own(lambda _own: call.run())
            case _ if session.paused is None:
                self.transaction(call, session)
            case "REQUIRES_NEW":
                self.on_a_session_of_its_own(lambda own: self.transaction(call, own))
            case _:
                raise _refused(call.name, session.paused.name)

    def on_a_session_of_its_own(self, run: Callable[[_Session], None]) -> None:
        """T2, T5: the outer one is suspended; what is not committed at the end is lost."""
        suspended, own = self.session, _Session(self.committed)
        self.session = own
        try:
            run(own)
        finally:
            self.session = suspended

    def join(self, call: _Scoped, running: _Unit) -> None:
        """T3: a failure dooms the unit, whoever swallows it later."""
        try:
            call.run()
        except _Thrown as thrown:
            if _fails(call.options, thrown.raised):
                running.doom(thrown.raised, call.name)
            raise

    def transaction(self, call: _Scoped, session: _Session) -> None:
        """T1, T8: commit or roll back, with what the session had done before."""
        if session.layers and session.layers[-1].broken:
            session.roll_back()
        unit = session.unit = _Unit(call.name)
        is_lost, thrown = self.judged(call, unit)
        if not is_lost:
            try:
                is_lost, thrown = self.commit(session, unit, thrown)
            except _Thrown as failed:
                is_lost, thrown = True, failed
        if is_lost:
            session.roll_back()
        session.unit = None
        due = "on_rollback" if is_lost else "on_commit"
        outcome = "rolled back" if is_lost else "committed"
        thrown = self.fire([hook for hook in unit.hooks if hook.step.kind == due], "", thrown)
        completed = [hook for hook in unit.hooks if hook.step.kind == "on_completion"]
        thrown = self.fire(completed, outcome, thrown)
        if thrown is not None:
            raise thrown

    def commit(
        self, session: _Session, unit: _Unit, thrown: _Thrown | None
    ) -> tuple[bool, _Thrown | None]:
        """T33: hooks of ``before_commit`` run inside the transaction, and may fail or doom it."""
        session.flush()
        session.prove_alive()
        while hooks := [hook for hook in unit.hooks if hook.step.kind == "before_commit"]:
            unit.hooks.remove(hooks[0])
            self.run_hook(hooks[0], "")
            if len(hooks) == 1:
                if unit.rollback_only:
                    return True, thrown
                if unit.cause is not None:
                    return True, unit.unexpected_rollback()
                session.flush()
                session.prove_alive()
        session.commit()
        return False, thrown

    def nested(self, call: _Scoped, session: _Session, running: _Unit) -> None:
        """T4: the outer's pending work is sent before the savepoint; the outer is not doomed."""
        layer = session.savepoint()
        unit = session.unit = _Unit(call.name, running)
        is_lost, thrown = self.judged(call, unit)
        if not is_lost:
            try:
                session.release(layer)
            except _Thrown as failed:
                is_lost, thrown = True, failed
        if is_lost:
            session.roll_back_to(layer)
            if unit.is_shared:
                running.doom(Raised("PropagationError", 0, frozenset({call.name})))
        session.unit = running
        if is_lost:
            thrown = self.fire(self.take_hooks(unit), "", thrown)
        if thrown is not None:
            raise thrown

    # -- hooks ----------------------------------------------------------------------------------

    def register(self, step: Register) -> None:
        """T30, T37: it waits for the end of the transaction, and knows its savepoint."""
        unit = self.current.unit
        if unit is None:
            raise _Thrown(Raised("NoActiveScopeError", 0, frozenset({step.name})))
        unit.transaction.hooks.append(_Hook(step, unit))

    @staticmethod
    def take_hooks(savepoint: _Unit) -> list[_Hook]:
        """T37: what a savepoint's ROLLBACK does to its hooks; return those that are due."""
        hooks = savepoint.transaction.hooks
        inside = [hook for hook in hooks if hook.unit.is_inside(savepoint)]
        for hook in inside:
            if hook.step.kind == "on_completion":
                hook.outcome = "rolled back"
            else:
                hooks.remove(hook)
        return [hook for hook in inside if hook.step.kind == "on_rollback"]

    def fire(self, hooks: list[_Hook], outcome: str, thrown: _Thrown | None) -> _Thrown | None:
        """T32, T37: all run, in a transaction of their own; the first cause wins."""
        for hook in hooks:
            try:
                run = _Scoped(hook.step.name, Options("NESTED"), self.running(hook, outcome))
                self.enter(run)
            except _Thrown as failed:
                is_exit = failed.raised.kind == "Halt"
                if thrown is None:
                    thrown = failed if is_exit or not hook.step.is_robust else None
                elif is_exit and thrown.raised.kind not in {"Halt", "GeneratorExit"}:
                    thrown = failed
        return thrown

    def running(self, hook: _Hook, outcome: str) -> Callable[[], None]:
        return lambda: self.run_hook(hook, hook.outcome or outcome)

    def run_hook(self, hook: _Hook, outcome: str) -> None:
        self.events.append(Fired(hook.step.name, outcome))
        self.body(hook.step.body)

    # -- verdicts -------------------------------------------------------------------------------

    def judged(self, call: _Scoped, unit: _Unit) -> tuple[bool, _Thrown | None]:
        """Run the body; tell whether its unit is rolled back, and what its caller gets.

        T14 first, then T6, then T3: where work was to be kept but the unit is doomed, the caller
        is told.
        """
        thrown: _Thrown | None = None
        try:
            call.run()
        except _Thrown as raised:
            thrown = raised
        if thrown is not None and _fails(call.options, thrown.raised):
            return True, thrown
        if unit.rollback_only:
            return True, thrown
        if unit.cause is not None:
            return True, unit.unexpected_rollback()
        return False, thrown


def _refused(*names: str) -> _Thrown:
    return _Thrown(Raised("PropagationError", 0, frozenset(names)))


_ANCESTORS: Final = {
    "WorseTroubleError": ("TroubleError", "Exception"),
    "Halt": (),
    "GeneratorExit": (),
}


def _fails(options: Options, raised: Raised) -> bool:
    """T14: the most specific class wins; without one, every exception rolls back."""
    for name in (raised.kind, *_ANCESTORS.get(raised.kind, ("Exception",))):
        if name in options.rollback_for:
            return True
        if name in options.no_rollback_for:
            return False
    return True
