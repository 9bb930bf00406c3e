"""Random lives against the model, and planted mutants that the very same lives must catch."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from rollout import aftermath, documents, effects, gate, guards, machine, precedence, progress, settlement
from rollout.commands import (
    Abort,
    Approve,
    Command,
    Edit,
    OpenWave,
    Pause,
    Resume,
    Retry,
    RetryLater,
    RollBack,
    command_to_dict,
)
from rollout.decision import Stance
from rollout.model import AbortMode, Counters, Progress, Rollout, State
from tests.unit.rollout.many import ManyLives
from tests.unit.rollout.model import transitions

LIVES = settings(
    max_examples=300,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    print_blob=False,
    report_multiple_bugs=False,
)
MORE_LIVES = settings(LIVES, max_examples=900)  # a caught mutant ends them early


def test_rollouts_live_as_the_model_says(capsys: pytest.CaptureFixture[str]) -> None:
    transitions.clear()
    run_state_machine_as_test(ManyLives, settings=LIVES)
    lines = [f"{count:6} x {state} {tag}" for (state, tag), count in sorted(transitions.items())]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", *lines, ""]))
    wanted = {(state.value, arrow.tag) for (state, _), arrow in machine.TRANSITIONS.items()}
    assert {pair for pair, count in transitions.items() if count >= 20} >= wanted


Plant = Callable[[pytest.MonkeyPatch], None]


def arrow(patch: pytest.MonkeyPatch, state: State, command: Any, **changes: Any) -> None:
    patch.setitem(machine.TRANSITIONS, (state, command), replace(machine.TRANSITIONS[state, command], **changes))


def creator_approves(patch: pytest.MonkeyPatch) -> None:
    arrow(patch, State.WAITING, Approve, guard=guards.anything_goes)
    patch.setattr(
        gate, "approvers", lambda rollout, number: {a.by.id: a.by for a in rollout.approvals if a.wave == number}
    )


def credentials_count_as_people(patch: pytest.MonkeyPatch) -> None:
    true = gate.approvers

    def by_credential(rollout: Rollout, number: int) -> dict[str, Any]:
        allowed = true(rollout, number)
        return {
            str(one.by.credential): one.by for one in rollout.approvals if one.by.id in allowed and one.wave == number
        }

    patch.setattr(gate, "approvers", by_credential)


def approvals_survive_an_edit(patch: pytest.MonkeyPatch) -> None:
    true = effects.edit

    def keep(rollout: Rollout, command: Any, now: Any) -> Rollout:
        after = true(rollout, command, now)
        kept = tuple(replace(one, plan_hash=after.plan_hash) for one in rollout.approvals)
        return replace(after, approvals=kept)

    for state in (State.DRAFT, State.WAITING):
        arrow(patch, state, Edit, effect=keep)


def approvals_of_one_wave_open_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gate, "approvers", lambda rollout, number: {a.by.id: a.by for a in rollout.approvals})


def the_gate_is_not_asked(patch: pytest.MonkeyPatch) -> None:
    opens = gate.Verdict(gate.Outcome.PASS, "open")
    patch.setattr(gate, "may_open", lambda rollout, now: opens)


def aborted_can_be_resumed(patch: pytest.MonkeyPatch) -> None:
    out_of_the_end: tuple[State, type[Command]] = (State.ABORTED, Resume)
    patch.setitem(machine.TRANSITIONS, out_of_the_end, machine.TRANSITIONS[State.PAUSED, Resume])


def resuming_forgets_where_it_was(patch: pytest.MonkeyPatch) -> None:
    true = effects.resume
    arrow(patch, State.PAUSED, Resume, effect=lambda r, c, now: true(replace(r, paused_from=State.RUNNING), c, now))


def anybody_resumes_a_failed_wave(patch: pytest.MonkeyPatch) -> None:
    arrow(patch, State.PAUSED, Resume, guard=guards.has_reason)


def a_failed_wave_is_judged_again_after_a_resume(patch: pytest.MonkeyPatch) -> None:
    true = effects.resume
    arrow(patch, State.PAUSED, Resume, effect=lambda r, c, now: true(r, replace(c, counters=Counters()), now))


def the_limit_is_off_by_one(patch: pytest.MonkeyPatch) -> None:
    true = gate._failure
    patch.setattr(
        gate,
        "_failure",
        lambda name, limits, tally: true(name, replace(limits, max_failures=limits.max_failures + 1), tally),
    )


def nobody_waits_for_the_soak(patch: pytest.MonkeyPatch) -> None:
    true = gate._lacking
    patch.setattr(
        gate,
        "_lacking",
        lambda wave, limits, tally, now: true(wave, replace(limits, soak_seconds=0), tally, now),
    )


def a_pause_brakes_nothing(patch: pytest.MonkeyPatch) -> None:
    true = documents.stance_of
    patch.setattr(
        documents, "stance_of", lambda rollout: (Stance.OPEN, "") if rollout.state is State.PAUSED else true(rollout)
    )


def roll_back_only_halts(patch: pytest.MonkeyPatch) -> None:
    arrow(
        patch,
        State.RUNNING,
        Abort,
        effect=lambda r, c, now: effects.abort(r, replace(c, mode=AbortMode.STOP), now),
    )


def the_first_wave_of_a_group_stays_its_cohort(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        documents,
        "widest_reach",
        lambda rollout, group: next(round(w.percent * 100) for w in rollout.plan.waves if w.group == group),
    )


def cohorts_are_wider_than_their_wave(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(documents, "reach_of", lambda plan, wave: min(10_000, round(plan.percent * 100) + 1))


def the_state_is_saved_before_it_is_signed(patch: pytest.MonkeyPatch) -> None:
    def save_first(self: Any, before: Rollout, command: Any, now: Any) -> Rollout:
        after, events = machine.apply(before, command, now=now)
        self.rollouts.save(after, events, seen=before.revision)
        delta = documents.changes(before, after)
        if delta:
            self.decisions.commit(delta, only_if=lambda: True, now=now)
        return after

    patch.setattr(settlement.Settlement, "perform", save_first)


def recovery_drops_what_is_signed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement.Settlement, "_resolve", lambda self, intent: self.rollouts.drop(intent))


def recovery_settles_what_is_not_signed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement.Settlement, "_resolve", lambda self, intent: self.rollouts.settle(intent))


def yanks_are_not_asked_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "why_blocked", lambda releases, org, plan: "")


def reports_count_again_when_they_come_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(progress, "_ORDER", dict.fromkeys(Progress, 0) | {Progress.SUCCEEDED: 1})


def rolling_back_for_a_brake_counts_as_failing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(progress, "_is_failure", lambda rollout, said: said in {Progress.FAILED, Progress.ROLLED_BACK})


def devices_outside_the_share_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(progress, "reach_of", lambda plan, wave: 10_000)


def an_event_forgets_its_command(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        machine,
        "command_to_dict",
        lambda command: command_to_dict(command) | ({"reason": "?"} if type(command) is Pause else {}),
    )


def the_wave_after_is_opened(patch: pytest.MonkeyPatch) -> None:
    true = effects.open_wave

    def skip(rollout: Rollout, command: Any, now: Any) -> Rollout:
        following = min(command.wave + 1, len(rollout.waves))
        return true(replace(rollout, wave=following), replace(command, wave=following), now)

    arrow(patch, State.WAITING, OpenWave, effect=skip)


def a_newer_normal_one_ends_a_security_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(precedence, "supersedes", lambda newer, older: precedence.place(newer) > precedence.place(older))


def nobody_waits_for_a_security_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(precedence.Precedence, "waited_for", lambda self, rollout: None)


def a_call_back_only_says_so(patch: pytest.MonkeyPatch) -> None:
    arrow(patch, State.COMPLETED, RollBack, effect=lambda rollout, command, now: rollout)


def a_call_back_revives_the_rollout(patch: pytest.MonkeyPatch) -> None:
    arrow(patch, State.COMPLETED, RollBack, to=(State.RUNNING,))


def devices_are_called_back_twice(patch: pytest.MonkeyPatch) -> None:
    for state in (State.COMPLETED, State.ABORTED):
        arrow(patch, state, RollBack, guard=guards.has_reason)


def a_call_back_takes_the_brake_of_whoever_has_the_group(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement.Settlement, "overtaken", lambda self, rollout: "")


def going_back_when_called_counts_as_failing(patch: pytest.MonkeyPatch) -> None:
    true = progress._is_failure
    patch.setattr(progress, "_is_failure", lambda rollout, said: true(replace(rollout, rolled_back_because=None), said))


def a_retry_for_later_is_one_for_now(patch: pytest.MonkeyPatch) -> None:
    for state in (State.RUNNING, State.PAUSED):
        arrow(patch, state, RetryLater, effect=effects.retry)


def a_planned_retry_is_never_done_with(patch: pytest.MonkeyPatch) -> None:
    true = effects.retry

    def again(rollout: Rollout, command: Any, now: Any) -> Rollout:
        after = true(rollout, command, now)
        return replace(after, retry_at=rollout.retry_at, retry_devices=rollout.retry_devices)

    arrow(patch, State.RUNNING, Retry, effect=again)


def a_planned_retry_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    for state in (State.RUNNING, State.PAUSED):
        arrow(patch, state, RetryLater, effect=lambda rollout, command, now: rollout)


def what_is_under_way_is_run_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(aftermath, "FINAL_STATES", frozenset(State))


MUTANTS: list[Plant] = [
    creator_approves,
    credentials_count_as_people,
    approvals_survive_an_edit,
    approvals_of_one_wave_open_all,
    the_gate_is_not_asked,
    aborted_can_be_resumed,
    resuming_forgets_where_it_was,
    anybody_resumes_a_failed_wave,
    a_failed_wave_is_judged_again_after_a_resume,
    the_limit_is_off_by_one,
    nobody_waits_for_the_soak,
    a_pause_brakes_nothing,
    roll_back_only_halts,
    the_first_wave_of_a_group_stays_its_cohort,
    cohorts_are_wider_than_their_wave,
    the_state_is_saved_before_it_is_signed,
    recovery_drops_what_is_signed,
    recovery_settles_what_is_not_signed,
    yanks_are_not_asked_for,
    reports_count_again_when_they_come_late,
    rolling_back_for_a_brake_counts_as_failing,
    devices_outside_the_share_count,
    an_event_forgets_its_command,
    the_wave_after_is_opened,
    a_newer_normal_one_ends_a_security_one,
    nobody_waits_for_a_security_one,
    a_call_back_only_says_so,
    a_call_back_revives_the_rollout,
    devices_are_called_back_twice,
    a_call_back_takes_the_brake_of_whoever_has_the_group,
    going_back_when_called_counts_as_failing,
    a_retry_for_later_is_one_for_now,
    a_planned_retry_is_never_done_with,
    a_planned_retry_is_forgotten,
    what_is_under_way_is_run_again,
]


@pytest.mark.parametrize("plant", MUTANTS, ids=lambda plant: plant.__name__)
def test_a_planted_mutant_does_not_survive(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(Exception) as caught:  # noqa: PT011
        run_state_machine_as_test(ManyLives, settings=MORE_LIVES)
    assert not isinstance(caught.value, TypeError | NameError | AttributeError), "the mutant itself is broken"
