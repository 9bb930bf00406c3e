"""Gates judge the open wave, in one line that a person can act on."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from evidence.model import SCHEDULER
from rollout.commands import Abort, OpenWave, Pause, Refuse, Resume, Submit, Supersede
from rollout.gate import Outcome, judge, may_open, why
from rollout.machine import apply, begin
from rollout.model import AbortMode, Approval, Counters, Refusal, Rollout, WavePlan
from tests.unit.rollout.world import ANN, ANN_BY_KEY, BOB, CREATOR, NOW, SALT, artifact, request, two_waves

HOUR = timedelta(hours=1)


def waiting(**gate: Any) -> Rollout:
    plan = request(waves=two_waves(**gate)).with_artifacts({"linux-amd64": artifact("1.0")})
    rollout, _ = begin(rollout_id="rol_1", org="acme", plan=plan, salt=SALT, by=CREATOR, now=NOW)
    return apply(rollout, Submit(by=CREATOR), now=NOW)[0]


def running(**gate: Any) -> Rollout:
    return apply(waiting(**gate), OpenWave(by=SCHEDULER, wave=1), now=NOW)[0]


def resumed(seen: Counters, **gate: Any) -> Rollout:
    paused, _ = apply(running(**gate), Pause(by=BOB, reason="look"), now=NOW)
    return apply(paused, Resume(by=BOB, reason="go", counters=seen), now=NOW + HOUR)[0]


def results(succeeded: int = 0, failed: int = 0, busy: int = 0) -> Counters:
    return Counters(
        acting=succeeded + failed + busy,
        succeeded=succeeded,
        failed=failed,
        failures=failed,
        finishes=succeeded + failed,
    )


@pytest.mark.parametrize(
    ("gate", "counters", "expected", "outcome", "reason"),
    [
        ({}, results(), 0, Outcome.PASS, "wave 1: no device is in it"),
        ({}, results(), 3, Outcome.WAIT, "wave 1: 0 of 3 devices reported a result, 1 needed"),
        ({}, results(3), 3, Outcome.PASS, "wave 1: 3 of 3 devices succeeded"),
        ({}, results(1), 1, Outcome.PASS, "wave 1: 1 of 1 device succeeded"),
        ({}, results(9, 1), 10, Outcome.PASS, "wave 1: 9 of 10 devices succeeded"),
        ({}, results(8, busy=2), 10, Outcome.WAIT, "wave 1: 8 of 10 acting devices succeeded, 90 % needed"),
        ({"min_reports": 5}, results(4), 10, Outcome.WAIT, "wave 1: 4 of 10 devices reported a result, 5 needed"),
        ({"min_reports": 5}, results(4), 4, Outcome.PASS, "wave 1: 4 of 4 devices succeeded"),
        ({"min_reports": 5}, results(4), 0, Outcome.PASS, "wave 1: 4 of 4 devices succeeded"),
        ({"max_failures": 2}, results(30, 1), 40, Outcome.PASS, "wave 1: 30 of 40 devices succeeded"),
        ({"max_failures": 2}, results(30, 3), 40, Outcome.FAIL, "wave 1: 3 of 40 devices failed, limit 2"),
        ({"max_failures": 2}, results(30, 2), 40, Outcome.FAIL, "wave 1: 2 of 40 devices failed, limit 2"),
        ({}, results(8, 1), 40, Outcome.FAIL, "wave 1: 1 of 9 results are failures (11 %), limit 10 %"),
        (
            {"min_reports": 10},
            results(8, 1),
            40,
            Outcome.WAIT,
            "wave 1: 9 of 40 devices reported a result, 10 needed",
        ),
        (
            {"max_failure_rate_percent": None},
            results(0, 3),
            3,
            Outcome.WAIT,
            "wave 1: 0 of 3 acting devices succeeded, 90 % needed",
        ),
        (
            {"max_failure_rate_percent": 0},
            results(99, 1),
            100,
            Outcome.FAIL,
            "wave 1: 1 of 100 results are failures (1 %), limit 0 %",
        ),
    ],
)
def test_the_open_wave_is_judged(
    gate: dict[str, Any], counters: Counters, expected: int, outcome: Outcome, reason: str
) -> None:
    verdict = judge(running(**gate), counters, expected, NOW)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_a_wave_soaks_from_its_opening() -> None:
    rollout = running(soak_seconds=3600)
    early = judge(rollout, results(3), 3, NOW + HOUR - timedelta(seconds=1))
    assert (early.outcome, early.reason) == (
        Outcome.WAIT,
        "wave 1: 3 of 3 devices succeeded, soaks until 2026-11-21T13:00:00Z",
    )
    assert judge(rollout, results(3), 3, NOW + HOUR).outcome is Outcome.PASS


def test_a_deadline_fails_what_has_not_passed() -> None:
    rollout = running(deadline_seconds=3600)
    assert judge(rollout, results(1, busy=2), 3, NOW + HOUR - timedelta(seconds=1)).outcome is Outcome.WAIT
    late = judge(rollout, results(1, busy=2), 3, NOW + HOUR)
    assert (late.outcome, late.reason) == (
        Outcome.FAIL,
        "wave 1: not passed within 3600 s; 1 of 3 acting devices succeeded, 90 % needed",
    )
    assert judge(rollout, results(3), 3, NOW + HOUR).outcome is Outcome.PASS


def test_a_resume_forgives_what_failed_before() -> None:
    seen = results(1, 2)
    rollout = resumed(seen, max_failures=2)
    assert judge(rollout, seen, 3, NOW + HOUR).reason == "wave 1: 1 of 3 devices succeeded"


def test_a_resume_does_not_forgive_what_fails_after() -> None:
    rollout = resumed(results(1, 2), max_failures=2)
    verdict = judge(rollout, results(1, 4), 5, NOW + HOUR)
    assert (verdict.outcome, verdict.reason) == (Outcome.FAIL, "wave 1: 2 of 5 devices failed, limit 2")


def test_a_forgiven_device_that_is_retried_counts_again() -> None:
    rollout = resumed(results(1, 2), max_failures=None)
    busy = Counters(acting=3, succeeded=1, failed=1, failures=2, finishes=3)
    assert judge(rollout, busy, 3, NOW + HOUR).reason == "wave 1: 1 of 2 acting devices succeeded, 90 % needed"


def test_without_one_success_no_wave_passes() -> None:
    seen = results(0, 3)
    verdict = judge(resumed(seen), seen, 3, NOW + HOUR)
    assert (verdict.outcome, verdict.reason) == (
        Outcome.WAIT,
        "wave 1: every device that reported failed before the resume; retry them",
    )


def test_soak_and_deadline_begin_anew_with_a_resume() -> None:
    rollout = resumed(Counters(), soak_seconds=60, deadline_seconds=3600)
    assert judge(rollout, results(3), 3, NOW + HOUR + timedelta(seconds=59)).outcome is Outcome.WAIT
    assert judge(rollout, results(3), 3, NOW + HOUR + timedelta(seconds=60)).outcome is Outcome.PASS
    assert judge(rollout, results(), 3, NOW + HOUR + HOUR).outcome is Outcome.FAIL


def test_only_a_running_rollout_is_judged() -> None:
    assert judge(waiting(), results(3), 3, NOW).outcome is Outcome.WAIT


def approval(rollout: Rollout, by: Any, **changes: Any) -> Approval:
    return replace(Approval(wave=1, by=by, at=NOW, plan_hash=rollout.plan_hash), **changes)


def test_only_distinct_people_who_did_not_write_or_refuse_the_plan_count() -> None:
    rollout = waiting(approvals=2)
    padded = replace(
        rollout,
        approvals=(
            approval(rollout, ANN),
            approval(rollout, ANN_BY_KEY),
            approval(rollout, CREATOR),
            approval(rollout, BOB, plan_hash="0" * 64),
            approval(rollout, BOB, wave=2),
        ),
    )
    assert may_open(padded, NOW).reason == "wave 1 waits for approval: 1 of 2 given"
    enough = replace(padded, approvals=(*padded.approvals, approval(rollout, BOB)))
    assert may_open(enough, NOW).outcome is Outcome.PASS
    refused = replace(
        enough, refusals=(Refusal(by=BOB, at=NOW, plan_hash=rollout.plan_hash, reason="changed my mind"),)
    )
    assert may_open(refused, NOW).reason == "wave 1 waits for approval: 1 of 2 given"
    edited = replace(enough, editors=(ANN,))
    assert may_open(edited, NOW).reason == "wave 1 waits for approval: 1 of 2 given"


def test_a_wave_waits_for_the_one_before_it() -> None:
    skipped = replace(waiting(), wave=2)
    assert may_open(skipped, NOW).reason == "wave 2 waits for the wave before it to pass"
    assert may_open(running(), NOW).reason == "the rollout is running, a wave opens while it is waiting"


def test_why_tells_each_state_in_one_line() -> None:
    wait, run = waiting(), running()
    draft, _ = apply(wait, Refuse(by=ANN, reason="too early"), now=NOW)
    paused, _ = apply(run, Pause(by=BOB, reason="lunch"), now=NOW)
    stopped, _ = apply(run, Abort(by=BOB, reason="bad"), now=NOW)
    back, _ = apply(run, Abort(by=BOB, reason="bad", mode=AbortMode.ROLL_BACK), now=NOW)
    superseded, _ = apply(run, Supersede(by=BOB, rollout="rol_2"), now=NOW)
    lines = [why(one, results(), 3, NOW) for one in (draft, wait, run, paused, stopped, back, superseded)]
    assert lines == [
        "refused by Ann: too early; edit it or submit it again",
        "wave 1 may open",
        "wave 1: 0 of 3 devices reported a result, 1 needed",
        "paused: lunch",
        "aborted: bad",
        "aborted, devices roll back: bad",
        "superseded by rol_2",
    ]


def test_why_of_a_new_draft() -> None:
    plan = request(waves=(WavePlan(group="canary"),)).with_artifacts({"any": artifact("1.0", "any")})
    rollout, _ = begin(rollout_id="rol_1", org="acme", plan=plan, salt=SALT, by=CREATOR, now=NOW)
    assert why(rollout, Counters(), 0, NOW) == "a draft: submit it to begin"
