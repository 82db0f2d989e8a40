"""The hooks of a transaction, against every way in which it and they can fail, no database."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from flask_reqsession import CommitOutcomeUnknownError, PropagationError, TransactionOutcome
from flask_reqsession.completion import completed_flow
from flask_reqsession.effects import Failed, Ok, Outcome, Run
from flask_reqsession.flows import broken_flow, savepoint_flow, transaction_flow
from flask_reqsession.options import TransactionOptions
from flask_reqsession.outcome_rules import Rules
from flask_reqsession.pending import Hook, HookKind
from flask_reqsession.scope import Scope
from flask_reqsession.states import ScopeState
from tests.never import never
from tests.unit.scripted import EffectError, Script

if TYPE_CHECKING:
    from flask_reqsession.effects import Flow

Drive = Callable[[Script, "Flow"], Outcome]

BEFORE, COMMITTED, ROLLED_BACK, COMPLETED = HookKind
NO_ERRORS: Mapping[str, BaseException] = MappingProxyType({})
RULES = Rules(TransactionOptions(), None)

both_colours = pytest.mark.parametrize("drive", [Script.run, Script.arun], ids=["sync", "async"])


class Recorded:
    """A user's function: it tells the script that it ran, and may fail or do more."""

    def __init__(
        self,
        script: HookedScript,
        name: str,
        error: BaseException | None,
        more: Callable[[], object] = lambda: None,
    ) -> None:
        self._error = error
        self._more = more
        self._name = name
        self._script = script

    def run(self, outcome: TransactionOutcome | None) -> None:
        """Be called."""
        self._script.conversation.append(self._name)
        self._script.told[self._name] = outcome
        self._more()
        if self._error is not None:
            raise self._error

    async def arun(self, outcome: TransactionOutcome | None) -> None:
        """Be called and awaited."""
        self.run(outcome)

    async def run_awaited(self, outcome: TransactionOutcome | None) -> None:
        """Be called and awaited on a synchronous session."""
        never(outcome)

    def report(self, error: BaseException) -> None:
        """Remember what would be logged."""
        self._script.reported.append(str(error))


class HookedScript(Script):
    """A script whose body registers hooks; it knows what they were told and what was logged."""

    def __init__(
        self, failing: Collection[str] = (), errors: Mapping[str, BaseException] = NO_ERRORS
    ) -> None:
        super().__init__(failing, errors=errors)
        self.register: Callable[[], object] = lambda: None
        self.reported: list[str] = []
        self.told: dict[str, TransactionOutcome | None] = {}

    def body(self) -> object:
        """Register, then be the user's code."""
        self.register()
        return super().body()


def scripted(
    scope: Scope,
    failing: frozenset[str],
    *,
    robust: bool = True,
    errors: Mapping[str, BaseException] = NO_ERRORS,
) -> HookedScript:
    """Return a script whose body registers two hooks of each kind, one after the other."""
    script = HookedScript(failing, errors)

    def register() -> None:
        for number, kind in itertools.product((1, 2), HookKind):
            name = f"{kind.value} {number}"
            error = EffectError(name) if name in failing else script.errors.get(name)
            task = Recorded(script, name, error)
            scope.register(Hook(kind, f"{name}()", task, scope, robust=robust))

    script.register = register
    return script


def hooked_flow(scope: Scope) -> Flow:
    """Run a transaction and what waits for its end, as an entry does."""
    outcome = yield from transaction_flow(scope)
    if scope.hooks is not None:
        outcome = yield from completed_flow(scope, scope.hooks, outcome)
    return outcome


def subsets(names: tuple[str, ...]) -> list[frozenset[str]]:
    """Return every set of names."""
    return [
        frozenset(chosen)
        for size in range(len(names) + 1)
        for chosen in itertools.combinations(names, size)
    ]


EFFECTS = subsets(("begin", "body", "flush", "commit", "rollback"))
FAILING_HOOKS = subsets(
    ("before_commit 1", "before_commit 2", "on_commit 1", "on_rollback 1", "on_completion 2")
)


def expected(failing: frozenset[str]) -> tuple[list[str], list[str], bool]:
    """Say from the contract what happens, which causes roll back, and whether it is committed."""
    happens, causes = ["begin", "body", "flush"], ["begin", "body", "flush"]
    committed = False
    first = next((effect for effect in causes if effect in failing), None)
    if first is not None:
        happens = happens[: happens.index(first) + 1]
    else:
        happens.append("before_commit 1")
        if "before_commit 1" not in failing:
            happens.append("before_commit 2")
            if "before_commit 2" not in failing:
                happens += ["flush", "commit"]
                committed = "commit" not in failing
    causes = [happens[-1]] if not committed else []
    if first == "begin":
        return happens, causes, committed
    if committed:
        happens += ["on_commit 1", "on_commit 2"]
    else:
        happens += ["rollback", "on_rollback 1", "on_rollback 2"]
    happens += ["on_completion 1", "on_completion 2"]
    return happens, causes, committed


def notes(error: BaseException) -> list[str]:
    """Return what the notes of ``error`` speak of."""
    return [note.rpartition(": ")[2] for note in getattr(error, "__notes__", ())]


@pytest.mark.rule("T30", "T32", "T33", "T34", "T37")
@both_colours
@pytest.mark.parametrize("robust", [True, False], ids=["robust", "fragile"])
@pytest.mark.parametrize("effects", EFFECTS, ids=lambda each: "+".join(sorted(each)) or "none")
def test_whatever_fails_each_hook_runs_in_its_place_or_not_at_all(
    effects: frozenset[str], robust: bool, drive: Drive
) -> None:
    """Every set of failing effects with every set of failing hooks: order, cause and notes."""
    for hooks in FAILING_HOOKS:
        failing = effects | hooks
        scope = Scope("pay()", RULES)
        script = scripted(scope, failing, robust=robust)
        outcome = drive(script, hooked_flow(scope))
        happens, causes, committed = expected(failing)

        assert script.conversation == happens
        later = [name for name in happens if name in failing and name not in causes]
        hooks_after = [name for name in later if name.startswith("on_")]
        assert script.reported == hooks_after
        if causes:
            assert isinstance(outcome, Failed)
            assert [str(outcome.error), *notes(outcome.error)] == [*causes, *later]
        elif robust or not hooks_after:
            assert outcome == Ok("value")
        else:
            assert isinstance(outcome, Failed)
            assert [str(outcome.error), *notes(outcome.error)] == hooks_after
        end = TransactionOutcome.COMMITTED if committed else TransactionOutcome.ROLLED_BACK
        assert {script.told[name] for name in happens if name.startswith("on_")} <= {end}
        assert scope.hooks is None or not len(scope.hooks)


@pytest.mark.rule("T37")
@both_colours
def test_a_commit_without_an_answer_is_told_to_those_who_wait_for_any_end(drive: Drive) -> None:
    """UNKNOWN: neither the hooks of a commit nor those of a rollback run."""
    lost = CommitOutcomeUnknownError("lost")
    scope = Scope("pay()", RULES)
    script = scripted(scope, frozenset(), errors={"commit": lost})
    script.done = None
    assert drive(script, hooked_flow(scope)) == Failed(lost, done=None)
    assert script.conversation[-3:] == ["rollback", "on_completion 1", "on_completion 2"]
    assert script.told["on_completion 1"] is TransactionOutcome.UNKNOWN


@pytest.mark.rule("T30", "T37")
@both_colours
def test_a_signal_that_strikes_when_commit_is_done_drops_no_hook(drive: Drive) -> None:
    """The data is committed, so what waited for that runs before the signal goes on."""
    signal = KeyboardInterrupt()
    scope = Scope("pay()", RULES)
    script = scripted(scope, frozenset(), errors={"commit": signal})
    script.done = True
    assert drive(script, hooked_flow(scope)) == Failed(signal, done=True)
    assert script.conversation[-4:] == [
        "on_commit 1",
        "on_commit 2",
        "on_completion 1",
        "on_completion 2",
    ]


@pytest.mark.rule("T6", "T37")
@both_colours
@pytest.mark.parametrize("robust", [True, False])
def test_a_hook_that_fails_after_a_quiet_rollback_is_logged_or_raised(
    robust: bool, drive: Drive
) -> None:
    """There is no exception to note it on: a robust hook leaves the return value alone."""
    scope = Scope("pay()", RULES)
    scope.rollback_only = True
    script = scripted(scope, frozenset({"on_rollback 1", "on_completion 1"}), robust=robust)
    outcome = drive(script, hooked_flow(scope))
    assert script.conversation == [
        "begin",
        "body",
        "rollback",
        "on_rollback 1",
        "on_rollback 2",
        "on_completion 1",
        "on_completion 2",
    ]
    if robust:
        assert outcome == Ok("value")
    else:
        assert isinstance(outcome, Failed)
        assert [str(outcome.error), *notes(outcome.error)] == ["on_rollback 1", "on_completion 1"]


@pytest.mark.rule("T32")
@both_colours
@pytest.mark.parametrize("failing", [frozenset[str](), frozenset({"body"})])
def test_an_exit_out_of_a_hook_goes_on_after_the_others_have_run(
    failing: frozenset[str], drive: Drive
) -> None:
    """Ctrl-C is no failure to be logged away, nor to be noted on another exception."""
    signal, again = KeyboardInterrupt(), SystemExit()
    names = ("on_rollback", "on_completion") if failing else ("on_commit", "on_completion")
    errors = {f"{names[0]} 1": signal, f"{names[1]} 1": again}
    scope = Scope("pay()", RULES)
    script = scripted(scope, failing, errors=errors)
    assert drive(script, hooked_flow(scope)) == Failed(signal)
    assert script.conversation[-4:] == [f"{name} {number}" for name in names for number in (1, 2)]
    assert len(notes(signal)) == 1
    assert str(signal.__context__ or "") == "".join(failing)


@pytest.mark.rule("T14", "T32")
def test_an_exception_that_commits_is_the_callers_whatever_the_hooks_do() -> None:
    """The body's exception was to be raised after the COMMIT; what fails then is noted on it."""
    rules = Rules(TransactionOptions(no_rollback_for=(EffectError,)), None)
    scope = Scope("pay()", rules)
    script = scripted(scope, frozenset({"body", "on_commit 2"}), robust=False)
    outcome = script.run(hooked_flow(scope))
    assert isinstance(outcome, Failed)
    assert [str(outcome.error), *notes(outcome.error)] == ["body", "on_commit 2"]
    assert scope.state is ScopeState.COMMITTED


@pytest.mark.rule("T33")
@pytest.mark.parametrize("failing", [{"body", "before_commit 2"}, {"body", "flush"}])
def test_what_rolls_back_after_an_exception_that_was_to_commit_has_it_as_context(
    failing: set[str],
) -> None:
    """No cause is lost."""
    rules = Rules(TransactionOptions(no_rollback_for=(EffectError,)), None)
    script = scripted(scope := Scope("pay()", rules), frozenset(failing))
    outcome = script.run(hooked_flow(scope))
    assert isinstance(outcome, Failed)
    assert {str(outcome.error), str(outcome.error.__context__)} == failing
    assert script.told["on_completion 1"] is TransactionOutcome.ROLLED_BACK


@pytest.mark.rule("T33")
@both_colours
def test_what_a_hook_before_the_commit_leaves_pending_may_fail_in_its_own_flush(
    drive: Drive,
) -> None:
    """That is a rollback like any other."""
    scope = Scope("pay()", RULES)
    script = HookedScript()

    def add() -> None:
        script.failing = {"flush"}

    task = Recorded(script, "before", None, add)
    script.register = lambda: scope.register(Hook(BEFORE, "add()", task, scope))
    outcome = drive(script, hooked_flow(scope))
    assert script.conversation == ["begin", "body", "flush", "before", "flush", "rollback"]
    assert isinstance(outcome, Failed)
    assert str(outcome.error) == "flush"


@pytest.mark.rule("T3", "T6", "T33")
@both_colours
@pytest.mark.parametrize("cause", [None, EffectError("swallowed")])
def test_a_hook_before_the_commit_may_doom_the_transaction(
    cause: EffectError | None, drive: Drive
) -> None:
    """By set_rollback_only(), quietly, or by a joined call whose failure it swallowed."""
    scope = Scope("pay()", RULES)
    script = HookedScript()

    def doom() -> None:
        if cause is None:
            scope.rollback_only = True
        else:
            scope.doom(cause, "note()")

    task = Recorded(script, "before", None, doom)
    script.register = lambda: scope.register(Hook(BEFORE, "doom()", task, scope))
    outcome = drive(script, hooked_flow(scope))
    assert script.conversation == ["begin", "body", "flush", "before", "rollback"]
    if cause is None:
        assert outcome == Ok("value")
    else:
        assert isinstance(outcome, Failed)
        assert outcome.error.__cause__ is cause


@pytest.mark.rule("T31", "T33")
@both_colours
@pytest.mark.parametrize(
    ("first", "added", "happens"),
    [
        (BEFORE, BEFORE, ["first", "added", "flush", "commit"]),
        (BEFORE, COMMITTED, ["first", "flush", "commit", "added"]),
        (COMMITTED, COMPLETED, ["commit", "first", "added"]),
    ],
)
def test_a_hook_may_register_hooks(
    first: HookKind, added: HookKind, happens: list[str], drive: Drive
) -> None:
    """What is still to come when it is registered does come."""
    scope = Scope("pay()", RULES)
    script = HookedScript()
    more = Hook(added, "more()", Recorded(script, "added", None), scope)
    task = Recorded(script, "first", None, lambda: scope.register(more))
    script.register = lambda: scope.register(Hook(first, "first()", task, scope))
    assert drive(script, hooked_flow(scope)) == Ok("value")
    assert script.conversation == ["begin", "body", "flush", *happens]


@pytest.mark.rule("T33")
def test_nothing_is_put_before_a_commit_that_is_on_its_way() -> None:
    """It would never run, so it is refused; other hooks are still welcome."""
    scope = Scope("pay()", RULES)
    flow, task = hooked_flow(scope), Recorded(HookedScript(), "late", None)
    request = next(flow)
    while getattr(request, "verb", "") != "commit":
        request = flow.send(Ok())
    with pytest.raises(PropagationError, match="on its way"):
        scope.register(Hook(BEFORE, "late()", task, scope))
    late = Hook(COMMITTED, "late()", task, scope)
    scope.register(late)
    request = flow.send(Ok())
    assert isinstance(request, Run)
    assert request.hook is late


# -- savepoints -----------------------------------------------------------------------------------


def nested(failing: frozenset[str], *, inner_fails: bool) -> tuple[HookedScript, Scope, Outcome]:
    """Run a savepoint in a transaction; both register hooks, the outer before and after it."""
    outer = Scope("pay()", RULES)
    inner = Scope("note()", RULES, outer)
    innermost = Scope("line()", RULES, inner)
    script = HookedScript(failing)

    def add(scope: Scope, which: str) -> None:
        for kind in HookKind:
            task = Recorded(script, f"{kind.value} {which}", None)
            scope.register(Hook(kind, f"{which}()", task, scope))

    def flow() -> Flow:
        add(outer, "outer 1")
        script.register = lambda: (add(inner, "inner"), add(innermost, "innermost"))
        saved = yield from savepoint_flow(inner, outer)
        if inner.hooks is not None:
            saved = yield from completed_flow(inner, inner.hooks, saved)
        add(outer, "outer 2")
        return saved

    outcome = script.run(flow())
    assert isinstance(outcome, Failed) is inner_fails
    script.register = lambda: None
    script.failing = ()
    outcome = script.run(hooked_flow(outer))
    return script, outer, outcome


@pytest.mark.rule("T30", "T35", "T37")
def test_a_savepoint_that_is_released_changes_nothing_for_its_hooks() -> None:
    """They run with those of the transaction, in the order of registration."""
    script, _, outcome = nested(frozenset(), inner_fails=False)
    order = ["outer 1", "inner", "innermost", "outer 2"]
    assert outcome == Ok("value")
    assert script.conversation == [
        "savepoint",
        "body",
        "release_savepoint",
        "begin",
        "body",
        "flush",
        *[f"before_commit {each}" for each in order],
        "flush",
        "commit",
        *[f"on_commit {each}" for each in order],
        *[f"on_completion {each}" for each in order],
    ]
    assert set(script.told.values()) == {None, TransactionOutcome.COMMITTED}


@pytest.mark.rule("T30", "T37")
@pytest.mark.parametrize("failing", [{"body"}, {"release_savepoint"}])
def test_a_savepoint_that_is_rolled_back_takes_its_hooks_along(failing: set[str]) -> None:
    """Dropped, run right after it, or told at the end; so are those of savepoints inside it."""
    script, _, outcome = nested(frozenset(failing), inner_fails=True)
    assert outcome == Ok("value")
    ended = script.conversation.index("rollback_to_savepoint")
    assert script.conversation[ended:] == [
        "rollback_to_savepoint",
        "on_rollback inner",
        "on_rollback innermost",
        "begin",
        "body",
        "flush",
        "before_commit outer 1",
        "before_commit outer 2",
        "flush",
        "commit",
        "on_commit outer 1",
        "on_commit outer 2",
        "on_completion outer 1",
        "on_completion inner",
        "on_completion innermost",
        "on_completion outer 2",
    ]
    assert script.told["on_completion inner"] is TransactionOutcome.ROLLED_BACK
    assert script.told["on_completion innermost"] is TransactionOutcome.ROLLED_BACK
    assert script.told["on_completion outer 2"] is TransactionOutcome.COMMITTED


@pytest.mark.rule("T37", "M19")
def test_a_savepoint_that_can_not_be_rolled_back_leaves_its_hooks_to_the_transaction() -> None:
    """It dooms the transaction, whose ROLLBACK is the one that they wait for."""
    script, outer, outcome = nested(frozenset({"body", "rollback_to_savepoint"}), inner_fails=True)
    assert isinstance(outcome, Failed)
    assert outer.state is ScopeState.ROLLED_BACK
    order = ["outer 1", "inner", "innermost", "outer 2"]
    assert script.conversation[-9:] == [
        "rollback",
        *[f"on_rollback {each}" for each in order],
        *[f"on_completion {each}" for each in order],
    ]


def test_a_savepoint_without_hooks_has_nothing_to_run() -> None:
    """The hooks of the transaction around it stay where they are."""
    outer = Scope("pay()", RULES)
    inner = Scope("note()", RULES, outer)
    script = HookedScript({"body"})
    outer.register(Hook(ROLLED_BACK, "undo()", Recorded(script, "undo", None), outer))
    script.run(savepoint_flow(inner, outer))
    assert inner.hooks is None
    assert outer.hooks is not None
    assert len(outer.hooks) == 1


# -- interruptions --------------------------------------------------------------------------------


def interrupted(state: ScopeState, *, sends_commit: bool = False) -> HookedScript:
    """Interrupt a transaction that has come to ``state``, and clean up."""
    signal = KeyboardInterrupt()
    scope = Scope("pay()", RULES)
    script = scripted(scope, frozenset())
    script.register()
    for move in (ScopeState.ACTIVE, state):
        if scope.state is not move:
            scope.advance(move)
    scope.sends_commit = sends_commit
    assert script.run(broken_flow(signal, scope, None)) == Failed(signal)
    script.value = getattr(signal, "__notes__", [])
    return script


@pytest.mark.rule("T1", "T37")
def test_a_signal_before_the_commit_rolls_back_like_any_other_failure() -> None:
    """The hooks of a rollback run, those of a commit never."""
    for state in (ScopeState.ACTIVE, ScopeState.ROLLED_BACK):
        script = interrupted(state)
        assert script.conversation == [
            "rollback",
            "on_rollback 1",
            "on_rollback 2",
            "on_completion 1",
            "on_completion 2",
        ]
        assert script.told["on_completion 1"] is TransactionOutcome.ROLLED_BACK


@pytest.mark.rule("T1", "T37")
def test_a_signal_around_the_commit_leaves_its_outcome_unknown() -> None:
    """Whether COMMIT was sent cannot be told, so neither hooks of it nor of a rollback run."""
    script = interrupted(ScopeState.ACTIVE, sends_commit=True)
    assert script.conversation == ["rollback", "on_completion 1", "on_completion 2"]
    assert script.told["on_completion 1"] is TransactionOutcome.UNKNOWN


@pytest.mark.rule("T1", "T37")
def test_a_signal_after_the_commit_tells_how_many_hooks_were_lost() -> None:
    """Nothing that waits for a commit runs while a signal is on its way."""
    script = interrupted(ScopeState.COMMITTED, sends_commit=True)
    assert script.conversation == ["rollback"]
    assert script.value == ["pay() was committed, but 4 of its hooks did not run."]


def test_a_signal_after_the_last_hook_is_only_a_signal() -> None:
    """There is nothing to tell."""
    signal = KeyboardInterrupt()
    scope = Scope("pay()", RULES)
    script = scripted(scope, frozenset())
    script.run(hooked_flow(scope))
    assert script.run(broken_flow(signal, scope, None)) == Failed(signal)
    assert not hasattr(signal, "__notes__")
