"""Devices that say nothing are counted after the gate's report timeout, as failures or not at all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rollout.gate import Outcome, judge
from rollout.machine import replay
from rollout.model import ArtifactRef, Counters, Gate, Plan, Progress, Rollout, Silent, State, WavePlan
from rollout.outlook import outlook
from rollout.silence import Silence
from tests.unit.rollout.test_gate import HOUR, results, resumed, running
from tests.unit.rollout.world import ANN, CANARY, NOW, ORG, World, two_waves

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("gate", "counters", "expected", "stalled", "outcome", "reason"),
    [
        # Nobody is silent: as ever.
        ({}, results(10), 10, 0, Outcome.PASS, "wave 1: 10 of 10 devices succeeded"),
        # One of ten was never heard of; 10 % is the limit and not above it.
        ({}, results(9), 10, 0, Outcome.PASS, "wave 1: 9 of 10 devices succeeded, 1 silent"),
        (
            {},
            results(8),
            10,
            0,
            Outcome.FAIL,
            "wave 1: 2 of 10 results are failures (20 %, 2 of them silent), limit 10 %",
        ),
        # Begun and never finished is the same silence.
        (
            {},
            results(8, busy=2),
            10,
            2,
            Outcome.FAIL,
            "wave 1: 2 of 10 results are failures (20 %, 2 of them silent), limit 10 %",
        ),
        (
            {"max_failures": 3},
            results(8, 1, busy=1),
            11,
            1,
            Outcome.FAIL,
            "wave 1: 3 of 11 devices failed (2 of them silent), limit 3",
        ),
        # Under way within the timeout is not silent.
        ({}, results(8, busy=2), 10, 0, Outcome.WAIT, "wave 1: 8 of 10 acting devices succeeded, 90 % needed"),
        # Silence fills up the reports that are needed.
        (
            {"min_reports": 10, "success_percent": 80},
            results(9),
            10,
            0,
            Outcome.PASS,
            "wave 1: 9 of 10 devices succeeded, 1 silent",
        ),
        (
            {"max_failure_rate_percent": None},
            results(8),
            10,
            0,
            Outcome.WAIT,
            "wave 1: 8 of 10 acting devices (2 silent) succeeded, 90 % needed",
        ),
        # Left out where the plan says so.
        ({"silent": Silent.IGNORE}, results(8), 10, 0, Outcome.PASS, "wave 1: 8 of 10 devices succeeded, 2 silent"),
        (
            {"silent": Silent.IGNORE},
            results(8, busy=2),
            10,
            2,
            Outcome.PASS,
            "wave 1: 8 of 10 devices succeeded, 2 silent",
        ),
        (
            {"silent": Silent.IGNORE, "min_reports": 10},
            results(8),
            10,
            0,
            Outcome.PASS,
            "wave 1: 8 of 10 devices succeeded, 2 silent",
        ),
        (
            {"silent": Silent.IGNORE, "min_reports": 8},
            results(7, busy=1),
            10,
            0,
            Outcome.WAIT,
            "wave 1: 7 of 10 devices reported a result, 8 needed",
        ),
        # Nobody's success is no success.
        (
            {"silent": Silent.IGNORE},
            results(),
            10,
            0,
            Outcome.WAIT,
            "wave 1: 0 of 10 devices reported a result, 1 needed",
        ),
        (
            {"silent": Silent.IGNORE},
            results(busy=3),
            3,
            3,
            Outcome.WAIT,
            "wave 1: 0 of 3 devices reported a result, 1 needed",
        ),
    ],
)
def test_after_the_timeout_silence_is_judged(
    gate: dict[str, Any], counters: Counters, expected: int, stalled: int, outcome: Outcome, reason: str
) -> None:
    rollout = running(report_timeout_seconds=3600, **gate)
    verdict = judge(rollout, counters, expected, NOW + HOUR, stalled=stalled)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_before_the_timeout_a_wave_waits_for_those_whose_silence_would_count() -> None:
    rollout = running(report_timeout_seconds=3600)
    early = judge(rollout, results(9), 10, NOW + HOUR - SECOND)
    assert (early.outcome, early.reason) == (
        Outcome.WAIT,
        "wave 1: 9 of 10 devices reported a result, the others have until 2026-11-21T13:00:00Z",
    )
    assert judge(rollout, results(10), 10, NOW).outcome is Outcome.PASS


def test_before_the_timeout_a_wave_need_not_wait_for_those_that_are_left_out() -> None:
    rollout = running(report_timeout_seconds=3600, silent=Silent.IGNORE)
    assert judge(rollout, results(1), 10, NOW).outcome is Outcome.PASS


def test_a_resume_gives_everybody_the_whole_timeout_again() -> None:
    rollout = resumed(Counters(), report_timeout_seconds=3600)
    assert judge(rollout, results(8), 10, NOW + HOUR + HOUR - SECOND).outcome is Outcome.WAIT
    assert judge(rollout, results(8), 10, NOW + HOUR + HOUR).outcome is Outcome.FAIL


def silent_world() -> tuple[World, Rollout]:
    world = World()
    return world, world.running(waves=two_waves(report_timeout_seconds=60, max_failures=1))


def test_the_scheduler_pauses_a_rollout_over_a_device_that_was_never_heard_of() -> None:
    world, rollout = silent_world()
    for device in CANARY[:2]:
        world.report(rollout, device, Progress.SUCCEEDED)
    world.wait(58)
    world.tick()
    assert world.get(rollout).state is State.RUNNING
    world.tick()
    paused = world.get(rollout)
    assert (paused.state, paused.paused_because) == (
        State.PAUSED,
        "wave 1: 1 of 3 devices failed (1 of them silent), limit 1",
    )
    assert replay(world.rollouts.events(ORG, rollout.id)) == paused


def test_a_device_that_stands_still_after_its_last_step_is_silent_and_its_next_step_ends_that() -> None:
    world, rollout = silent_world()
    for device in CANARY[:2]:
        world.report(rollout, device, Progress.SUCCEEDED)
    world.wait(40)
    world.report(rollout, CANARY[2], Progress.DOWNLOADING)
    world.wait(40)
    world.report(rollout, CANARY[2], Progress.INSTALLING)
    world.wait(58)
    world.tick()
    assert world.get(rollout).state is State.RUNNING
    world.tick()
    assert world.get(rollout).paused_because == "wave 1: 1 of 3 devices failed (1 of them silent), limit 1"


def test_resuming_forgives_the_silence_that_failed_the_wave() -> None:
    world, rollout = silent_world()
    for device in CANARY[:2]:
        world.report(rollout, device, Progress.SUCCEEDED)
    world.wait(60)
    world.tick()
    assert world.get(rollout).state is State.PAUSED
    world.service.resume(ORG, rollout.id, reason="it is off", by=ANN, as_approver=True, now=world.now)
    world.tick()
    assert world.get(rollout).waves[0].note == "wave 1: 2 of 3 devices succeeded"


def test_another_silence_than_the_forgiven_one_fails_the_wave_again() -> None:
    world, rollout = silent_world()
    world.report(rollout, CANARY[0], Progress.SUCCEEDED)
    world.wait(60)
    world.report(rollout, CANARY[1], Progress.INSTALLING)
    world.tick()
    assert world.get(rollout).paused_because == "wave 1: 1 of 3 devices failed (1 of them silent), limit 1"
    world.service.resume(ORG, rollout.id, reason="it is off", by=ANN, as_approver=True, now=world.now)
    world.wait(60)
    world.tick()
    assert world.get(rollout).paused_because == "wave 1: 1 of 3 devices failed (1 of them silent), limit 1"


@pytest.mark.parametrize(("missing", "state"), [(285, State.COMPLETED), (400, State.PAUSED)])
def test_in_a_large_group_nobody_is_missed_who_may_not_be_there(missing: int, state: State) -> None:
    """10 % of 100,000 devices are 10,000 by the share and, by chance, up to 285 fewer."""
    world = World()
    world.groups.devices["world"] = [f"dev_{number:06}" for number in range(100_000)]
    gate = Gate(report_timeout_seconds=60, max_failures=1)
    rollout = world.running(waves=(WavePlan(group="world", percent=10, gate=gate),))
    there = 10_000 - missing
    world.rollouts.kept_counters[rollout.id] = {1: results(there)}
    world.wait(60)
    world.tick()
    assert world.get(rollout).state is state


def test_the_outlook_of_an_open_wave_tells_rates_silence_and_clocks() -> None:
    rollout = running(report_timeout_seconds=60, soak_seconds=30, deadline_seconds=90)
    found = outlook(rollout, 1, results(4, 1, busy=2), expected=10, stalled=2, now=NOW + SECOND * 60)
    assert found is not None
    assert found.success is not None
    assert (found.success.percent, found.success.low, found.success.high) == (80.0, 37.6, 96.4)
    assert found.failure is not None
    assert (found.failure.percent, found.failure.low, found.failure.high) == (20.0, 3.6, 62.4)
    assert found.silence == Silence(unheard=3, stalled=2)
    assert [found.soaks_until, found.silent_from, found.deadline_at] == [
        NOW + SECOND * 30,
        NOW + SECOND * 60,
        NOW + SECOND * 90,
    ]
    assert outlook(rollout, 2, Counters(), expected=20, stalled=0, now=NOW) is None


def test_plans_without_the_new_rules_keep_their_hash() -> None:
    plan = Plan(
        product="fw",
        version="1.0",
        channel="stable",
        artifacts={"any": ArtifactRef(id="art_1", path="fw/1.0/any/fw.bin", length=3, sha256="ab" * 32)},
        waves=(WavePlan(group="canary", gate=Gate(approvals=1, soak_seconds=60)), WavePlan(group="fleet")),
    )
    assert plan.hash() == "0079c7746f1b9e26bff06bb3603f71ea7ad43fca19318e45fa1de5e62d6b51d5"
