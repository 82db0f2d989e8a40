"""Every flow, against every way in which its effects can fail, in both colours, no database."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from flask_reqsession import (
    CommitOutcomeUnknownError,
    PropagationError,
    UnexpectedRollbackError,
)
from flask_reqsession.effects import Failed, Ok, Outcome
from flask_reqsession.flows import (
    bare_flow,
    broken_flow,
    closing_flow,
    discarded_flow,
    join_flow,
    savepoint_flow,
    transaction_flow,
)
from flask_reqsession.options import TransactionOptions
from flask_reqsession.outcome_rules import Rules
from flask_reqsession.retry_flows import retried_flow
from flask_reqsession.scope import Scope
from flask_reqsession.states import ScopeState
from tests.never import never
from tests.unit.scripted import EffectError, Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask_reqsession.effects import Flow
    from flask_reqsession.scope import OutcomeRules

RULES = Rules(TransactionOptions(), None)
TRANSACTION = ("begin", "body", "flush", "commit", "rollback", "close")
SAVEPOINT = ("savepoint", "body", "release_savepoint", "rollback_to_savepoint")

both_colours = pytest.mark.parametrize("drive", [Script.run, Script.arun], ids=["sync", "async"])


class AnsweringRules:
    """Rules that want to see the answer, and judge it."""

    def __init__(self, verdict: bool | None = None, error: BaseException | None = None) -> None:
        self.verdict = verdict
        self.error = error

    def fails(self, _error: BaseException) -> bool:
        """Judge no error: there is none."""
        never()

    def rejects(self, value: object) -> bool | None:
        """Judge the answer only."""
        return self.verdict if value == "answer" else None

    def respond(self, _value: object) -> object:
        """Make the answer."""
        if self.error is not None:
            raise self.error
        return "answer"


def subsets(effects: Iterable[str]) -> list[frozenset[str]]:
    """Return every set of effects that can fail together."""
    effects = tuple(effects)
    return [
        frozenset(chosen)
        for size in range(len(effects) + 1)
        for chosen in itertools.combinations(effects, size)
    ]


def expected_transaction(failing: frozenset[str]) -> tuple[list[str], list[str]]:
    """Say from the contract what is sent, and which failures the caller learns of, in order."""
    if "begin" in failing:
        sent = ["begin"]
    elif "body" in failing:
        sent = ["begin", "body", "rollback"]
    elif "flush" in failing:
        sent = ["begin", "body", "flush", "rollback"]
    elif "commit" in failing:
        sent = ["begin", "body", "flush", "commit", "rollback"]
    else:
        sent = ["begin", "body", "flush", "commit"]
    sent.append("close")
    return sent, [effect for effect in sent if effect in failing]


@pytest.mark.rule("T1", "M19")
@both_colours
@pytest.mark.parametrize("failing", subsets(TRANSACTION), ids=lambda each: "+".join(sorted(each)))
def test_whatever_fails_the_session_is_closed_once_and_last_and_the_first_cause_wins(
    failing: frozenset[str], drive: Callable[[Script, Flow], Outcome]
) -> None:
    """Each subset of failing effects: CLOSE once and last, first cause raised, others as notes."""
    script = Script(failing)
    scope = Scope("pay()", RULES)
    outcome = drive(script, closing_flow(transaction_flow(scope)))
    sent, failures = expected_transaction(failing)

    assert script.conversation == sent
    committed = "commit" in sent and "commit" not in failing
    if committed:  # a CLOSE that fails must not tell the caller that nothing was kept
        assert outcome == Ok("value")
        return
    assert isinstance(outcome, Failed)
    assert [str(outcome.error), *notes(outcome.error)] == failures


def notes(error: BaseException) -> list[str]:
    """Return the effects that the notes of ``error`` speak of."""
    return [note.rpartition(": ")[2] for note in getattr(error, "__notes__", ())]


@pytest.mark.rule("T1")
@both_colours
@pytest.mark.parametrize("failing", subsets(TRANSACTION), ids=lambda each: "+".join(sorted(each)))
def test_a_scope_is_committed_only_after_its_commit_succeeded(
    failing: frozenset[str], drive: Callable[[Script, Flow], Outcome]
) -> None:
    """The state follows the effect, never the intention."""
    scope = Scope("pay()", RULES)
    script = Script(failing)
    drive(script, closing_flow(transaction_flow(scope)))
    committed = "commit" in script.conversation and "commit" not in failing
    begun = "begin" not in failing
    expected = ScopeState.COMMITTED if committed else ScopeState.ROLLED_BACK
    assert scope.state is (expected if begun else ScopeState.NEW)


@both_colours
@pytest.mark.parametrize("failing", subsets(SAVEPOINT), ids=lambda each: "+".join(sorted(each)))
def test_a_savepoint_is_released_or_rolled_back_to(
    failing: frozenset[str], drive: Callable[[Script, Flow], Outcome]
) -> None:
    """Each subset of failing effects: the savepoint ends one way or the other."""
    script = Script(failing)
    outer = Scope("pay()", RULES)
    scope = Scope("note()", RULES, outer)
    outcome = drive(script, savepoint_flow(scope, outer))
    if "savepoint" in failing:
        sent = ["savepoint"]
    elif "body" in failing:
        sent = ["savepoint", "body", "rollback_to_savepoint"]
    elif "release_savepoint" in failing:
        sent = ["savepoint", "body", "release_savepoint", "rollback_to_savepoint"]
    else:
        sent = ["savepoint", "body", "release_savepoint"]
    assert script.conversation == sent
    failures = [effect for effect in sent if effect in failing]
    if failures:
        assert isinstance(outcome, Failed)
        assert [str(outcome.error), *notes(outcome.error)] == failures
    else:
        assert outcome == Ok("value")


@pytest.mark.rule("T3")
@both_colours
def test_a_swallowed_failure_of_a_joined_call_is_an_unexpected_rollback(
    drive: Callable[[Script, Flow], Outcome],
) -> None:
    """The caller gets an error whose cause is the swallowed one, and which names the culprit."""
    scope = Scope("pay()", RULES)
    swallowed = ValueError("no money")
    scope.doom(swallowed, "withdraw()")
    scope.doom(KeyError("later"), "note()")
    script = Script()
    outcome = drive(script, transaction_flow(scope))

    assert script.conversation == ["begin", "body", "rollback"]
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, UnexpectedRollbackError)
    assert outcome.error.__cause__ is swallowed
    assert "withdraw()" in str(outcome.error)


@pytest.mark.rule("T6")
@both_colours
@pytest.mark.parametrize("swallowed", [False, True])
def test_rollback_only_is_quiet_even_if_a_failure_was_swallowed_before(
    drive: Callable[[Script, Flow], Outcome], swallowed: bool
) -> None:
    """set_rollback_only() is a decision, not an accident: nothing is raised."""
    scope = Scope("pay()", RULES)
    if swallowed:
        scope.doom(ValueError("no money"), "withdraw()")
    scope.rollback_only = True
    script = Script()
    assert drive(script, transaction_flow(scope)) == Ok("value")
    assert script.conversation == ["begin", "body", "rollback"]


@pytest.mark.rule("T16")
def test_an_exception_that_commits_is_the_context_of_a_failed_commit() -> None:
    """A redirect that was to be committed does not hide that its COMMIT failed."""
    rules = Rules(TransactionOptions(no_rollback_for=(EffectError,)), None)
    script = Script({"body", "commit"})
    outcome = script.run(transaction_flow(Scope("pay()", rules)))
    assert script.conversation == ["begin", "body", "flush", "commit", "rollback"]
    assert isinstance(outcome, Failed)
    assert str(outcome.error) == "commit"
    assert str(outcome.error.__context__) == "body"


@pytest.mark.rule("T3")
@pytest.mark.parametrize("fails", [False, True])
def test_a_joined_call_sends_nothing_and_dooms_only_by_failing(fails: bool) -> None:
    """Joining costs no effect; the failure is remembered with the name of the call."""
    scope = Scope("pay()", RULES)
    script = Script({"body"} if fails else ())
    outcome = script.run(join_flow(scope, "withdraw()", RULES))
    assert script.conversation == ["body"]
    assert isinstance(outcome, Failed) is fails
    assert scope.is_doomed is fails
    assert scope.culprit == ("withdraw()" if fails else "")


@both_colours
def test_a_bare_call_sends_nothing(drive: Callable[[Script, Flow], Outcome]) -> None:
    """Injection without a scope commits nothing and rolls nothing back."""
    script = Script()
    assert drive(script, bare_flow()) == Ok("value")
    assert script.conversation == ["body"]


@pytest.mark.parametrize("failing", subsets(["body", "rollback"]))
def test_what_runs_outside_a_scope_is_rolled_back(failing: frozenset[str]) -> None:
    """Work outside a scope is discarded, and the body's exception wins there as well."""
    script = Script(failing)
    outcome = script.run(discarded_flow())
    assert script.conversation == ["body", "rollback"]
    if "body" in failing:
        assert isinstance(outcome, Failed)
        assert [str(outcome.error), *notes(outcome.error)] == sorted(failing)
    else:
        assert outcome == Ok("value")


class Policy:
    """Retries everything, with delays that can be told apart."""

    def __init__(self, attempts: int, announced: BaseException | None = None) -> None:
        self.attempts = attempts
        self.announcements: list[int] = []
        self.announced = announced
        self.given_up: list[str] = []

    def allows(self, error: BaseException) -> bool:
        """Allow what the scripts fail with."""
        return isinstance(error, EffectError)

    def delay(self, attempt: int) -> float:
        """Wait longer after each attempt."""
        return attempt / 10

    def announce(self, attempt: int, error: BaseException) -> None:
        """Remember the attempt."""
        self.announcements.append(attempt)
        if self.announced is not None:
            raise self.announced

    def give_up(self, attempt: int, error: BaseException) -> None:
        """Remember the last error."""
        self.given_up.append(f"{attempt}: {error}")


class Attempts:
    """The attempts of one call, each with a scope of its own."""

    def __init__(self, rules: OutcomeRules = RULES) -> None:
        self.others: list[Script] = []
        self.rules = rules
        self.scopes: list[Scope] = []

    def attempt(self) -> Flow:
        """Begin another one."""
        self.scopes.append(Scope("pay()", self.rules))
        return transaction_flow(self.scopes[-1])

    def is_kept(self) -> bool:
        """Tell how the last one ended."""
        return self.scopes[-1].state is ScopeState.COMMITTED

    def under(self, policy: Policy) -> Flow:
        """Run them as ``policy`` says."""
        return retried_flow(self.attempt, policy, self.is_kept, lambda: self.others)


@pytest.mark.rule("T20")
@both_colours
def test_before_a_wait_the_other_sessions_let_go_too(
    drive: Callable[[Script, Flow], Outcome],
) -> None:
    """After the call's own; one that fails ends the attempts, and the others are not asked."""
    script, policy, attempts = Script({"commit"}), Policy(3), Attempts()
    attempts.others = [Script(), Script({"let_go_if_idle"}), Script()]
    outcome = drive(script, attempts.under(policy))
    assert isinstance(outcome, Failed)
    assert str(outcome.error) == "let_go_if_idle"
    assert script.conversation[-1] == "let_go"
    asked = [other.conversation for other in attempts.others]
    assert asked == [["let_go_if_idle"], ["let_go_if_idle"], []]
    assert script.slept == []


@both_colours
def test_a_retried_call_runs_anew_each_time_until_the_attempts_run_out(
    drive: Callable[[Script, Flow], Outcome],
) -> None:
    """Each attempt has a fresh scope and is rolled back before the wait; the last error is told."""
    script, policy, attempts = Script({"commit"}), Policy(3), Attempts()
    outcome = drive(script, attempts.under(policy))
    attempt = ["begin", "body", "flush", "commit", "rollback"]
    assert script.conversation == [*attempt, "let_go", *attempt, "let_go", *attempt]
    assert script.slept == [0.1, 0.2]
    assert policy.announcements == [1, 2]
    assert policy.given_up == ["3: commit"]
    assert isinstance(outcome, Failed)
    assert [scope.state for scope in attempts.scopes] == [ScopeState.ROLLED_BACK] * 3


@pytest.mark.rule("T14", "T37")
def test_an_exception_that_left_a_committed_call_does_not_run_it_again() -> None:
    """Its work would be there twice."""

    class Lenient(BrokenRules):
        def fails(self, _error: BaseException) -> bool:
            return False

    script, policy = Script({"body"}), Policy(3)
    outcome = script.run(Attempts(Lenient()).under(policy))
    assert script.conversation == ["begin", "body", "flush", "commit"]
    assert isinstance(outcome, Failed)
    assert (policy.announcements, policy.given_up) == ([], [])


@pytest.mark.parametrize("failing", [set[str](), {"body"}])
def test_a_call_that_succeeds_or_fails_otherwise_is_not_run_again(failing: set[str]) -> None:
    """Only what the policy allows is retried."""
    script, policy = Script(failing), Policy(3)
    policy.allows = lambda error: False  # type: ignore[method-assign]  # noqa: ARG005 - the protocol's
    script.run(Attempts().under(policy))
    assert script.conversation.count("body") == 1
    assert script.slept == []


def test_a_callback_that_raises_ends_the_attempts() -> None:
    """before_retry may veto: its exception is what the caller gets."""
    veto = RuntimeError("enough")
    script, policy = Script({"body"}), Policy(3, veto)
    outcome = script.run(Attempts().under(policy))
    assert outcome == Failed(veto)
    assert script.conversation == ["begin", "body", "rollback"]
    assert script.slept == []


@both_colours
@pytest.mark.parametrize("effect", ["sleep", "let_go"])
def test_a_wait_that_is_interrupted_ends_the_attempts(
    effect: str, drive: Callable[[Script, Flow], Outcome]
) -> None:
    """Ctrl-C or a cancellation while waiting is what the caller gets, after the attempt's error."""
    script = Script({"body", effect})
    outcome = drive(script, Attempts().under(Policy(3)))
    assert script.conversation == ["begin", "body", "rollback", "let_go"]
    assert isinstance(outcome, Failed)
    assert str(outcome.error) == effect
    assert str(outcome.error.__context__) == "body"


@pytest.mark.rule("T15")
@both_colours
@pytest.mark.parametrize("verdict", [False, None, True])
def test_an_answer_is_made_and_judged_before_the_commit(
    verdict: bool | None, drive: Callable[[Script, Flow], Outcome]
) -> None:
    """After a flush of its own; the caller gets the answer, whatever the judgement."""
    script, scope = Script(), Scope("pay()", AnsweringRules(verdict))
    assert drive(script, transaction_flow(scope)) == Ok("answer")
    end = ["rollback"] if verdict else ["flush", "commit"]
    assert script.conversation == ["begin", "body", "flush", *end]


@pytest.mark.rule("T15", "T16")
@both_colours
def test_what_cannot_be_answered_is_rolled_back_and_raised(
    drive: Callable[[Script, Flow], Outcome],
) -> None:
    """Of what fails before the answer is made, none is."""
    error = TypeError("a set")
    script, scope = Script(), Scope("pay()", AnsweringRules(error=error))
    assert drive(script, transaction_flow(scope)) == Failed(error)
    assert script.conversation == ["begin", "body", "flush", "rollback"]
    script, scope = Script({"flush"}), Scope("pay()", AnsweringRules(error=error))
    outcome = drive(script, transaction_flow(scope))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, EffectError)
    assert scope.state is ScopeState.ROLLED_BACK


@pytest.mark.rule("T15", "T4")
@both_colours
def test_a_savepoint_makes_no_answer(drive: Callable[[Script, Flow], Outcome]) -> None:
    """Only the view's outermost scope looks at the return value."""
    script, scope, outer = Script(), Scope("pay()", AnsweringRules()), Scope("outer()", RULES)
    assert drive(script, savepoint_flow(scope, outer)) == Ok("value")
    assert script.conversation == ["savepoint", "body", "release_savepoint"]


class BrokenRules(AnsweringRules):
    """A rule of the user's that fails."""

    def fails(self, _error: BaseException) -> bool:
        """Fail on an exception."""
        raise ZeroDivisionError

    def rejects(self, _value: object) -> bool:
        """Fail on a value."""
        raise ZeroDivisionError


@pytest.mark.rule("T15")
@both_colours
@pytest.mark.parametrize("failing", [frozenset[str](), frozenset({"body"})])
def test_a_rule_that_fails_rolls_back(
    failing: frozenset[str], drive: Callable[[Script, Flow], Outcome]
) -> None:
    """What it would have decided is unknown, so nothing is committed; its error is raised."""
    script, scope = Script(failing), Scope("pay()", BrokenRules())
    outcome = drive(script, transaction_flow(scope))
    assert script.conversation == ["begin", "body", "rollback"]
    assert scope.state is ScopeState.ROLLED_BACK
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, ZeroDivisionError)
    assert (outcome.error.__context__ is not None) is bool(failing)


def test_contexts_are_never_made_a_loop() -> None:
    """The body's exception is no context of what already leads to it, nor of itself."""
    body = EffectError("body")

    class Rules(BrokenRules):
        def fails(self, error: BaseException) -> bool:
            try:
                raise error
            except EffectError:
                raise RuntimeError  # noqa: B904 - the context is what is tested

    for broken in (BrokenRules(), Rules()):
        script = Script()
        flow = transaction_flow(Scope("pay()", broken))
        script.perform(next(flow))
        flow.send(Ok())
        flow.send(Failed(body))
        with pytest.raises(StopIteration) as finished:
            flow.send(Ok())
        error: BaseException | None = finished.value.value.error
        seen: list[BaseException] = []
        while error is not None:
            assert not any(error is each for each in seen)
            seen.append(error)
            error = error.__context__
        assert seen[-1] is body


def test_a_loop_of_contexts_made_by_hand_is_survived() -> None:
    """Whoever made it, the flow ends."""
    first, second = EffectError("first"), EffectError("second")
    first.__context__, second.__context__ = second, first
    policy = Policy(2, first)
    assert Script({"body"}).run(Attempts().under(policy)) == Failed(first)


@pytest.mark.rule("T24")
@both_colours
def test_a_commit_without_an_answer_is_of_unknown_outcome(
    drive: Callable[[Script, Flow], Outcome],
) -> None:
    """Neither committed nor rolled back; the session is rolled back all the same."""
    unknown = CommitOutcomeUnknownError("lost")
    script, scope = Script(errors={"commit": unknown}, done=None), Scope("pay()", RULES)
    outcome = drive(script, transaction_flow(scope))
    assert isinstance(outcome, Failed)
    assert outcome.error is unknown
    assert script.conversation == ["begin", "body", "flush", "commit", "rollback"]
    assert scope.state is ScopeState.UNKNOWN


@pytest.mark.rule("T1", "T16")
@both_colours
def test_an_error_that_came_after_the_commit_does_not_deny_it(
    drive: Callable[[Script, Flow], Outcome],
) -> None:
    """It propagates; the scope is committed, nothing is rolled back, nothing is run again."""
    late = EffectError("late")
    script, attempts = Script(errors={"commit": late}, done=True), Attempts()
    outcome = drive(script, attempts.under(Policy(3)))
    assert isinstance(outcome, Failed)
    assert outcome.error is late
    assert script.conversation == ["begin", "body", "flush", "commit"]
    assert [scope.state for scope in attempts.scopes] == [ScopeState.COMMITTED]


class Rejecting(AnsweringRules):
    """Rules by which every value is to be rolled back."""

    def rejects(self, value: object) -> bool:
        """Reject always."""
        del value
        return True


@pytest.mark.rule("T15", "T6", "M19")
@both_colours
def test_an_error_status_is_the_answer_also_where_its_rollback_fails(
    drive: Callable[[Script, Flow], Outcome],
) -> None:
    """Nothing was to be kept: the dead connection changes nothing for the caller."""
    script, scope = Script({"rollback"}), Scope("pay()", Rejecting())
    assert drive(script, transaction_flow(scope)) == Ok("value")
    assert scope.state is ScopeState.ROLLED_BACK
    doomed = Scope("pay()", RULES)
    doomed.rollback_only = True
    assert drive(Script({"rollback"}), transaction_flow(doomed)) == Ok("value")
    assert drive(Script({"rollback"}), discarded_flow()) == Ok("value")


@pytest.mark.rule("T1")
@both_colours
def test_ctrl_c_during_the_rollback_of_an_error_status_goes_on(
    drive: Callable[[Script, Flow], Outcome],
) -> None:
    """The program was asked to stop."""
    signal = KeyboardInterrupt()
    for flow in (transaction_flow(Scope("pay()", Rejecting())), discarded_flow()):
        assert drive(Script(errors={"rollback": signal}), flow) == Failed(signal)


@pytest.mark.rule("T4", "M19")
@both_colours
@pytest.mark.parametrize("failing", subsets(SAVEPOINT), ids=lambda each: "+".join(sorted(each)))
def test_a_savepoint_dooms_the_outer_only_by_not_rolling_back(
    failing: frozenset[str], drive: Callable[[Script, Flow], Outcome]
) -> None:
    """Its work would be committed with the outer's; the first cause is the outer's cause, too."""
    outer = Scope("pay()", RULES)
    script = Script(failing)
    outcome = drive(script, savepoint_flow(Scope("note()", RULES, outer), outer))
    stuck = "rollback_to_savepoint" in failing and "rollback_to_savepoint" in script.conversation
    assert outer.is_doomed is stuck
    if stuck:
        assert isinstance(outcome, Failed)
        assert outer.cause is outcome.error
        assert outer.culprit == "note()"


@pytest.mark.rule("T4", "T6", "M19")
@both_colours
def test_a_savepoint_that_was_given_up_and_does_not_roll_back_fails_and_dooms_the_outer(
    drive: Callable[[Script, Flow], Outcome],
) -> None:
    """set_rollback_only() raises nothing by itself, but what it gave up would be committed."""
    outer = Scope("pay()", RULES)
    scope = Scope("note()", RULES, outer)
    scope.rollback_only = True
    script = Script({"rollback_to_savepoint"})

    outcome = drive(script, savepoint_flow(scope, outer))

    assert script.conversation == ["savepoint", "body", "rollback_to_savepoint"]
    assert isinstance(outcome, Failed)
    assert str(outcome.error) == "rollback_to_savepoint"
    assert not hasattr(outcome.error, "__notes__")
    assert outer.cause is outcome.error


@pytest.mark.rule("T4", "T11")
@pytest.mark.parametrize("failing", [frozenset[str](), frozenset({"body"})])
def test_a_savepoint_that_others_wrote_into_dooms_the_outer_when_it_is_rolled_back(
    failing: frozenset[str],
) -> None:
    """Their work went with it; released, nothing is lost."""
    outer = Scope("pay()", RULES)
    scope = Scope("notes()", RULES, outer)
    scope.is_shared = True
    Script(failing).run(savepoint_flow(scope, outer))
    assert outer.is_doomed is bool(failing)
    assert isinstance(outer.cause, PropagationError) is bool(failing)


@pytest.mark.rule("T11")
def test_a_scope_does_not_end_well_while_a_part_of_it_is_half_done() -> None:
    """Rolled back with an error that names the generator; a decision to roll back is enough."""
    for decided in (False, True):
        scope = Scope("pay()", RULES)
        scope.pause("notes()", None)
        scope.rollback_only = decided
        script = Script()
        outcome = script.run(transaction_flow(scope))
        assert script.conversation == ["begin", "body", "rollback"]
        if decided:
            assert outcome == Ok("value")
        else:
            assert isinstance(outcome, Failed)
            assert isinstance(outcome.error, PropagationError)
            assert "notes()" in str(outcome.error)


def test_a_generator_that_goes_on_is_no_obstacle() -> None:
    """Resumed and exhausted in time."""
    scope = Scope("pay()", RULES)
    scope.pause("notes()", None)
    scope.pause("audits()", None)
    scope.resume("notes()", None)
    scope.resume("audits()", None)
    assert Script().run(transaction_flow(scope)) == Ok("value")


@pytest.mark.parametrize("failing", [frozenset[str](), frozenset({"rollback"})])
def test_an_interrupted_flow_is_cleaned_up(failing: frozenset[str]) -> None:
    """What it had joined is doomed, what it had begun rolled back, a bare call leaves nothing."""
    signal = KeyboardInterrupt()
    joined = Scope("pay()", RULES)
    script = Script(failing)
    assert script.run(broken_flow(signal, None, None)) == Failed(signal)
    assert script.run(broken_flow(signal, None, joined)) == Failed(signal)
    assert script.conversation == []
    assert joined.cause is signal
    assert script.run(broken_flow(signal, Scope("pay()", RULES), None)) == Failed(signal)
    assert script.conversation == ["rollback"]
    assert notes(signal) == sorted(failing)


@pytest.mark.rule("T3")
def test_the_first_cause_stays_and_learns_who_it_came_from() -> None:
    """What the machinery refused inside a joined call is known by the name of that call."""
    scope, refusal = Scope("pay()", RULES), PropagationError("refused")
    scope.doom(refusal)
    assert "PropagationError: refused" in str(scope.unexpected_rollback())
    scope.doom(KeyError("another"), "note()")
    assert (scope.cause, scope.culprit) == (refusal, "")
    scope.doom(refusal, "withdraw()")
    scope.doom(refusal, "transfer()")
    assert (scope.cause, scope.culprit) == (refusal, "withdraw()")
    assert "withdraw() had joined" in str(scope.unexpected_rollback())


def test_a_lineage_leads_from_a_savepoint_to_its_transaction() -> None:
    """Each scope knows how deep it is."""
    outer = Scope("pay()", RULES)
    inner = Scope("note()", RULES, outer)
    assert list(inner.lineage()) == [inner, outer]
    assert (outer.depth, inner.depth) == (1, 2)


def test_a_scope_refuses_an_illegal_move() -> None:
    """A committed scope cannot be rolled back afterwards."""
    scope = Scope("pay()", RULES)
    with pytest.raises(RuntimeError, match="has not begun"):
        scope.advance(ScopeState.COMMITTED)
