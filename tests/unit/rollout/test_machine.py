"""The transition table whole, its guards, and histories that replay."""

from __future__ import annotations

import dataclasses
import itertools
from datetime import timedelta
from typing import Any

import pytest

from evidence.model import SCHEDULER, Actor, ActorKind, AuditEvent
from rollout.commands import (
    COMMANDS,
    Abort,
    Approve,
    Command,
    Edit,
    FailWave,
    OpenWave,
    PassWave,
    Pause,
    Refuse,
    Resume,
    Retry,
    RetryLater,
    RollBack,
    Submit,
    Supersede,
    command_from_dict,
    command_to_dict,
)
from rollout.errors import (
    ApprovalRefused,
    BrokenHistory,
    InvalidCommand,
    InvalidPlan,
    PlanChanged,
    RolloutError,
    TransitionNotAllowed,
)
from rollout.gate import Outcome, Verdict
from rollout.machine import TRANSITIONS, apply, begin, replay
from rollout.model import FINAL_STATES, AbortMode, Counters, Gate, Plan, Rollout, State, WavePlan, WaveState
from tests.unit.rollout.world import ANN, ANN_BY_KEY, BOB, CREATOR, NOW, ROBOT, SALT, artifact, request, two_waves

LATER = NOW + timedelta(hours=1)
ADMIN = Actor(ActorKind.USER, "usr_admin", "Ada", "ses_9")
GOOD = Verdict(Outcome.PASS, "wave 1: 3 of 3 devices succeeded")


def plan(version: str = "1.0", waves: tuple[WavePlan, ...] | None = None, **more: Any) -> Plan:
    return request(version, waves, **more).with_artifacts({"linux-amd64": artifact(version)})


def draft(**gate: Any) -> Rollout:
    the_plan = plan(waves=two_waves(**gate))
    rollout, _ = begin(rollout_id="rol_1", org="acme", plan=the_plan, salt=SALT, by=CREATOR, now=NOW)
    return rollout


def after(rollout: Rollout, *commands: Command) -> Rollout:
    for command in commands:
        rollout, _ = apply(rollout, command, now=LATER)
    return rollout


SUBMIT = Submit(by=CREATOR)
OPEN_1 = OpenWave(by=SCHEDULER, wave=1)
PASS_1 = PassWave(by=SCHEDULER, wave=1, verdict=GOOD)
FAIL_1 = FailWave(by=SCHEDULER, wave=1, cause="wave 1: 2 of 3 devices failed, limit 2")
PAUSE = Pause(by=BOB, reason="lunch")
RESUME = Resume(by=ANN, reason="seen", as_approver=True)

AT = {
    State.DRAFT: draft(),
    State.WAITING: after(draft(), SUBMIT),
    State.RUNNING: after(draft(), SUBMIT, OPEN_1),
    State.PAUSED: after(draft(), SUBMIT, OPEN_1, PAUSE),
    State.COMPLETED: after(
        draft(),
        SUBMIT,
        OPEN_1,
        PASS_1,
        OpenWave(by=SCHEDULER, wave=2),
        PassWave(by=SCHEDULER, wave=2, verdict=GOOD),
    ),
    State.ABORTED: after(draft(), SUBMIT, OPEN_1, Abort(by=BOB, reason="bad")),
    State.SUPERSEDED: after(draft(), SUBMIT, OPEN_1, Supersede(by=SCHEDULER, rollout="rol_2")),
}
SAID: dict[type[Command], Command] = {
    Submit: SUBMIT,
    Edit: Edit(by=CREATOR, plan=plan("2.0")),
    Approve: Approve(by=ANN, wave=1, plan_hash=draft().plan_hash),
    Refuse: Refuse(by=ANN, reason="not on a Friday"),
    OpenWave: OPEN_1,
    PassWave: PASS_1,
    FailWave: FAIL_1,
    Pause: PAUSE,
    Resume: RESUME,
    Retry: Retry(by=BOB),
    Abort: Abort(by=BOB, reason="bad", mode=AbortMode.ROLL_BACK),
    RetryLater: RetryLater(by=BOB, at=LATER + timedelta(hours=2), devices=("dev_c1",)),
    RollBack: RollBack(by=BOB, reason="eats batteries"),
    Supersede: Supersede(by=SCHEDULER, rollout="rol_2"),
}

# Written by hand from the design, not from the code: what each command leads to from each state, wave 1 at hand.
MATRIX = """
            submit  edit  approve refuse open_wave pass_wave fail_wave
draft       waiting draft -       -      -         -         -
waiting     -       draft waiting draft  running   -         -
running     -       -     -       -      -         waiting   paused
paused      -       -     -       -      -         -         -
completed   -       -     -       -      -         -         -
aborted     -       -     -       -      -         -         -
superseded  -       -     -       -      -         -         -
"""
MATRIX_OF_THE_REST = """
            pause  resume  retry   retry_later abort   roll_back supersede
draft       -      -       -       -           aborted -         -
waiting     paused -       -       -           aborted -         superseded
running     paused -       running running     aborted -         superseded
paused      -      running paused  paused      aborted -         superseded
completed   -      -       -       -           -       completed -
aborted     -      -       -       -           -       aborted   -
superseded  -      -       -       -           -       -         -
"""


def wanted(state: State, command: type[Command]) -> State | None:
    matrix = MATRIX if command.name in MATRIX.split() else MATRIX_OF_THE_REST
    head, *rows = [line.split() for line in matrix.strip().splitlines()]
    row = next(row for row in rows if row[0] == state.value)
    to = row[1 + head.index(command.name)]
    return None if to == "-" else State(to)


@pytest.mark.parametrize(("state", "command"), [*itertools.product(State, Command.__subclasses__())])
def test_every_command_from_every_state(state: State, command: type[Command]) -> None:
    rollout, to = AT[state], wanted(state, command)
    assert rollout.state is state
    if to is None:
        with pytest.raises(TransitionNotAllowed) as refused:
            apply(rollout, SAID[command], now=LATER)
        assert f"{command.name} is not possible while rol_1 is {state}" in str(refused.value)
        return
    moved, events = apply(rollout, SAID[command], now=LATER)
    assert moved.state is to
    assert moved.revision == rollout.revision + 1
    assert [event.tag for event in events] == [TRANSITIONS[state, command].tag]
    assert (events[0].by, events[0].at, events[0].subject) == (SAID[command].by, LATER, "rol_1")
    assert (events[0].data["from"], events[0].data["to"]) == (state, to)


def test_the_list_of_commands_is_whole() -> None:
    assert set(COMMANDS) == set(Command.__subclasses__())
    assert len({command.name for command in COMMANDS}) == 14


def test_a_refusal_names_the_commands_possible() -> None:
    with pytest.raises(TransitionNotAllowed, match="possible: resume, retry, retry_later, abort, supersede"):
        apply(AT[State.PAUSED], PAUSE, now=LATER)
    with pytest.raises(TransitionNotAllowed, match="possible: nothing, it has ended"):
        apply(AT[State.SUPERSEDED], PAUSE, now=LATER)


def test_final_states_have_no_way_out() -> None:
    out_of_the_end = {(state, arrow.to) for (state, _), arrow in TRANSITIONS.items() if state in FINAL_STATES}
    assert out_of_the_end == {(State.COMPLETED, (State.COMPLETED,)), (State.ABORTED, (State.ABORTED,))}


@pytest.mark.parametrize("command", [*SAID.values()], ids=lambda command: command.name)
def test_a_command_survives_being_told(command: Command) -> None:
    assert command_from_dict(command_to_dict(command), command.by) == command


@pytest.mark.parametrize("told", [{}, {"name": "explode"}, {"name": "pause"}, {"name": "pause", "reason": "x", "y": 1}])
def test_what_no_command_is_is_a_value_error(told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no command is told"):
        command_from_dict(told, ANN)


class TestApproving:
    def approve(self, rollout: Rollout, by: Actor, wave: int = 1, plan_hash: str | None = None) -> Rollout:
        return after(rollout, Approve(by=by, wave=wave, plan_hash=plan_hash or rollout.plan_hash))

    def test_the_creator_never_approves(self) -> None:
        with pytest.raises(ApprovalRefused, match="created rol_1"):
            self.approve(AT[State.WAITING], CREATOR)

    def test_who_edited_the_plan_does_not_approve_it(self) -> None:
        edited = after(draft(), Edit(by=ADMIN, plan=plan("2.0"), as_admin=True), Edit(by=CREATOR, plan=plan()), SUBMIT)
        assert [editor.id for editor in edited.editors] == ["usr_admin"]
        with pytest.raises(ApprovalRefused, match="edited the plan"):
            self.approve(edited, ADMIN)

    def test_one_person_with_two_credentials_counts_once(self) -> None:
        once = self.approve(AT[State.WAITING], ANN)
        with pytest.raises(ApprovalRefused, match="approved wave 1 already"):
            self.approve(once, ANN_BY_KEY)

    def test_an_automation_account_does_not_approve(self) -> None:
        with pytest.raises(ApprovalRefused, match="a person must approve"):
            self.approve(AT[State.WAITING], ROBOT)

    def test_who_refused_the_plan_does_not_approve_it_later(self) -> None:
        resubmitted = after(AT[State.WAITING], Refuse(by=ANN, reason="no"), SUBMIT)
        with pytest.raises(ApprovalRefused, match="refused this plan"):
            self.approve(resubmitted, ANN)

    def test_who_refused_may_approve_an_edited_plan(self) -> None:
        refused = after(AT[State.WAITING], Refuse(by=ANN, reason="no"))
        edited = after(refused, Edit(by=CREATOR, plan=plan("2.0")), SUBMIT)
        assert [one.by.id for one in self.approve(edited, ANN).approvals] == ["usr_ann"]

    def test_an_approval_names_the_plan_it_was_shown(self) -> None:
        with pytest.raises(PlanChanged, match="look again"):
            self.approve(AT[State.WAITING], ANN, plan_hash="0" * 64)

    def test_a_later_wave_may_be_approved_in_advance(self) -> None:
        assert self.approve(AT[State.WAITING], ANN, wave=2).approvals[0].wave == 2

    @pytest.mark.parametrize("wave", [-1, 0, 3])
    def test_a_wave_that_is_not_is_not_approved(self, wave: int) -> None:
        with pytest.raises(InvalidCommand, match="has waves 1 to 2"):
            self.approve(AT[State.WAITING], ANN, wave=wave)

    def test_a_wave_that_has_passed_is_not_approved(self) -> None:
        with pytest.raises(TransitionNotAllowed, match="wave 1 of rol_1 is passed"):
            self.approve(after(AT[State.RUNNING], PASS_1), ANN)


def test_a_wave_opens_only_with_its_approvals() -> None:
    waiting = after(draft(approvals=2), SUBMIT)
    one = after(waiting, Approve(by=ANN, wave=1, plan_hash=waiting.plan_hash))
    with pytest.raises(TransitionNotAllowed, match="waits for approval: 1 of 2 given"):
        apply(one, OPEN_1, now=LATER)
    two = after(one, Approve(by=BOB, wave=1, plan_hash=waiting.plan_hash))
    assert after(two, OPEN_1).waves[0].state is WaveState.OPEN


def test_only_the_awaited_wave_opens() -> None:
    with pytest.raises(TransitionNotAllowed, match="is at wave 1, not 2"):
        apply(AT[State.WAITING], OpenWave(by=SCHEDULER, wave=2), now=LATER)


@pytest.mark.parametrize("outcome", [Outcome.WAIT, Outcome.FAIL])
def test_a_wave_passes_by_a_passing_verdict_only(outcome: Outcome) -> None:
    verdict = Verdict(outcome, "wave 1: not yet")
    with pytest.raises(TransitionNotAllowed, match="not yet"):
        apply(AT[State.RUNNING], PassWave(by=SCHEDULER, wave=1, verdict=verdict), now=LATER)


def test_passing_a_wave_awaits_the_next_and_keeps_the_verdict() -> None:
    passed = after(AT[State.RUNNING], PASS_1)
    assert (passed.state, passed.wave) == (State.WAITING, 2)
    assert passed.waves[0].note == "wave 1: 3 of 3 devices succeeded"
    assert passed.waves[0].ended_at == LATER


def test_passing_the_last_wave_completes_with_two_events() -> None:
    last = after(AT[State.RUNNING], PASS_1, OpenWave(by=SCHEDULER, wave=2))
    done, events = apply(last, PassWave(by=SCHEDULER, wave=2, verdict=GOOD), now=LATER)
    assert [event.tag for event in events] == ["rollout.wave.passed", "rollout.completed"]
    assert [event.data["revision"] for event in events] == [6, 6]
    assert (done.state, done.ended_at) == (State.COMPLETED, LATER)


class TestEditing:
    def test_an_edit_clears_approvals_and_goes_back_to_draft(self) -> None:
        approved = after(AT[State.WAITING], Approve(by=ANN, wave=1, plan_hash=draft().plan_hash))
        edited = after(approved, Edit(by=CREATOR, plan=plan("2.0")))
        assert (edited.state, edited.wave, edited.approvals) == (State.DRAFT, 0, ())
        assert edited.plan_hash == plan("2.0").hash()

    def test_another_person_edits_as_admin_only(self) -> None:
        with pytest.raises(TransitionNotAllowed, match="they or an admin"):
            apply(AT[State.DRAFT], Edit(by=ANN, plan=plan("2.0")), now=LATER)

    def test_a_plan_in_the_field_is_not_edited(self) -> None:
        between = after(AT[State.RUNNING], PASS_1)
        with pytest.raises(TransitionNotAllowed, match="its plan stands"):
            apply(between, Edit(by=CREATOR, plan=plan("2.0")), now=LATER)

    def test_a_wrong_plan_is_not_taken(self) -> None:
        with pytest.raises(InvalidPlan):
            apply(AT[State.DRAFT], Edit(by=CREATOR, plan=plan(waves=(WavePlan(group="NO"),))), now=LATER)


def test_a_refusal_between_waves_pauses_for_an_approver() -> None:
    between = after(AT[State.RUNNING], PASS_1)
    refused = after(between, Refuse(by=ANN, reason="crashes here"))
    assert (refused.state, refused.paused_from) == (State.PAUSED, State.WAITING)
    assert refused.paused_because == "Ann refused: crashes here"
    with pytest.raises(TransitionNotAllowed, match="an approver must resume"):
        apply(refused, Resume(by=BOB, reason="why not"), now=LATER)


class TestResuming:
    def test_a_pause_remembers_where_to_go_on(self) -> None:
        paused = after(AT[State.WAITING], PAUSE)
        assert after(paused, Resume(by=BOB, reason="back")).state is State.WAITING
        assert after(AT[State.PAUSED], Resume(by=BOB, reason="back")).state is State.RUNNING

    def test_after_a_failed_wave_an_approver_resumes(self) -> None:
        failed = after(AT[State.RUNNING], FAIL_1)
        assert failed.paused_because == "wave 1: 2 of 3 devices failed, limit 2"
        with pytest.raises(TransitionNotAllowed, match="an approver must resume it"):
            apply(failed, Resume(by=BOB, reason="go"), now=LATER)
        assert after(failed, RESUME).state is State.RUNNING

    def test_where_approvals_are_asked_for_the_creator_is_no_approver_of_a_failed_wave(self) -> None:
        waiting = after(draft(approvals=1), SUBMIT)
        opened = after(waiting, Approve(by=ANN, wave=1, plan_hash=waiting.plan_hash), OPEN_1, FAIL_1)
        with pytest.raises(ApprovalRefused, match="wrote the plan"):
            apply(opened, Resume(by=CREATOR, reason="go", as_approver=True), now=LATER)
        assert after(opened, RESUME).state is State.RUNNING

    def test_where_none_are_asked_for_the_creator_may(self) -> None:
        failed = after(AT[State.RUNNING], FAIL_1)
        assert after(failed, Resume(by=CREATOR, reason="go", as_approver=True)).state is State.RUNNING

    def test_a_resume_judges_from_the_counters_it_saw(self) -> None:
        seen = Counters(acting=3, failed=2, failures=2, finishes=2)
        resumed = after(AT[State.PAUSED], Resume(by=BOB, reason="go", counters=seen))
        assert resumed.waves[0].judged_from == seen
        assert resumed.waves[0].resumed_at == LATER


class TestRetrying:
    def test_all_that_failed_get_the_next_attempt(self) -> None:
        retried = after(AT[State.RUNNING], Retry(by=BOB))
        assert (retried.attempt, retried.attempt_for("dev_c1")) == (2, 2)

    def test_named_devices_get_an_attempt_of_their_own(self) -> None:
        retried = after(AT[State.RUNNING], Retry(by=BOB, devices=("dev_c1",)), Retry(by=BOB, devices=("dev_c1",)))
        assert (retried.attempt, retried.attempt_for("dev_c1"), retried.attempt_for("dev_c2")) == (1, 3, 1)

    def test_retrying_all_goes_above_what_named_devices_had(self) -> None:
        retried = after(AT[State.RUNNING], Retry(by=BOB, devices=("dev_c1",)), Retry(by=BOB))
        assert (retried.attempt_for("dev_c1"), retried.attempt_for("dev_c2")) == (3, 3)

    def test_nothing_is_retried_before_anything_was_offered(self) -> None:
        with pytest.raises(TransitionNotAllowed, match="nothing to retry"):
            apply(after(AT[State.WAITING], PAUSE), Retry(by=BOB), now=LATER)

    def test_a_thousand_devices_are_the_most_by_name(self) -> None:
        names = tuple(f"dev_{number}" for number in range(1001))
        assert len(after(AT[State.RUNNING], Retry(by=BOB, devices=names[:1000])).device_attempts) == 1000
        with pytest.raises(InvalidCommand, match="at most 1000 devices"):
            apply(AT[State.RUNNING], Retry(by=BOB, devices=names), now=LATER)

    def test_a_device_is_named_by_its_id(self) -> None:
        with pytest.raises(InvalidCommand, match="by their ids"):
            apply(AT[State.RUNNING], Retry(by=BOB, devices=("no such/../id",)), now=LATER)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "a\x00b", "\ud800"])
@pytest.mark.parametrize("kind", [Pause, Abort])
def test_a_reason_is_plain_text_of_500_characters_at_most(kind: Any, reason: str) -> None:
    with pytest.raises(InvalidCommand, match="needs a reason"):
        apply(AT[State.RUNNING], kind(by=BOB, reason=reason), now=LATER)


def test_the_end_stops_the_waves_under_it() -> None:
    between = after(AT[State.RUNNING], PASS_1)
    ended = after(between, Abort(by=BOB, reason="bad"))
    assert [wave.state for wave in ended.waves] == [WaveState.PASSED, WaveState.STOPPED]
    assert (ended.abort_mode, ended.abort_reason, ended.ended_at) == (AbortMode.STOP, "bad", LATER)


def test_gates_with_a_time_open_then() -> None:
    not_before = LATER + timedelta(seconds=1)
    the_plan = plan(waves=(WavePlan(group="canary", gate=Gate(not_before=not_before)),))
    rollout, _ = begin(rollout_id="rol_1", org="acme", plan=the_plan, salt=SALT, by=CREATOR, now=NOW)
    waiting = after(rollout, SUBMIT)
    with pytest.raises(TransitionNotAllowed, match="opens not before 2026-11-21T13:00:01Z"):
        apply(waiting, OPEN_1, now=LATER)
    opened, _ = apply(waiting, OPEN_1, now=not_before)
    assert opened.state is State.RUNNING


def history() -> tuple[Rollout, list[AuditEvent]]:
    rollout, first = begin(rollout_id="rol_1", org="acme", plan=plan(), salt=SALT, by=CREATOR, now=NOW)
    events = [first]
    seen = Counters(acting=3, failed=2, failures=2, finishes=2)
    second = [OpenWave(by=SCHEDULER, wave=2), PassWave(by=SCHEDULER, wave=2, verdict=GOOD)]
    for step, command in enumerate(
        [
            SUBMIT,
            Refuse(by=ANN, reason="no"),
            Edit(by=CREATOR, plan=plan("2.0")),
            SUBMIT,
            Approve(by=ANN, wave=1, plan_hash=plan("2.0").hash(), signature="c2ln"),
            OPEN_1,
            FAIL_1,
            Retry(by=BOB, devices=("dev_c1",)),
            Resume(by=ANN, reason="seen", as_approver=True, counters=seen),
            PASS_1,
            *second,
        ]
    ):
        rollout, told = apply(rollout, command, now=NOW + timedelta(seconds=step, microseconds=7))
        events += told
    return rollout, events


def test_a_history_replays_to_the_rollout() -> None:
    rollout, events = history()
    assert rollout.state is State.COMPLETED
    assert replay(events) == rollout
    assert [event.data["revision"] for event in events] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 13]


@pytest.mark.parametrize("lost", range(14))
def test_a_history_with_an_event_lost_is_noticed(lost: int) -> None:
    _, events = history()
    with pytest.raises(BrokenHistory):
        replay(events[:lost] + events[lost + 1 :])


@pytest.mark.parametrize("place", range(14))
def test_a_history_with_an_event_changed_is_noticed(place: int) -> None:
    _, events = history()
    events[place] = dataclasses.replace(events[place], data={**events[place].data, "to": "aborted"})
    with pytest.raises(BrokenHistory):
        replay(events)


def test_no_history_is_no_rollout() -> None:
    with pytest.raises(BrokenHistory):
        replay([])


def test_errors_of_the_room_have_codes_of_their_own() -> None:
    codes = [leaf.code for leaf in RolloutError.__subclasses__()]
    assert len(set(codes)) == len(codes)
    assert "rollout_error" not in codes
