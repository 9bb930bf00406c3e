"""Metric gates: what is measured must hold before a wave passes, and what is not known is never good."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from rollout import gate
from rollout.gate import Outcome
from rollout.metrics import Metric, OnViolation, Op, Reading, metric_faults, read_anew
from rollout.model import Counters, Gate, Plan, Rollout, WavePlan, plan_to_dict
from rollout.plan import plan_faults, plan_from_dict
from tests.unit.rollout.world import NOW, World, artifact, request

ERRORS = Metric(name="errors", source="prod", query="sum(rate(errors[5m]))", op=Op.LESS, threshold=0.5)
STRICT = replace(ERRORS, on=OnViolation.FAIL, for_seconds=60)
ALL_WELL = Counters(acting=3, succeeded=3, finishes=3)
AT = NOW + timedelta(seconds=10)


def running(*metrics: Metric) -> Rollout:
    return World().running("1.0", (WavePlan(group="canary", gate=Gate(metrics=metrics)),))


def judged(reading: Reading | None, metric: Metric = ERRORS, counters: Counters = ALL_WELL) -> tuple[Outcome, str]:
    readings = {} if reading is None else {"errors": reading}
    verdict = gate.judge(running(metric), counters, 3, AT, readings=readings)
    return verdict.outcome, verdict.reason


@pytest.mark.parametrize(
    ("reading", "outcome", "reason"),
    [
        (None, Outcome.WAIT, "wave 1: metric errors was not measured yet"),
        (Reading(at=NOW, samples=(0.1,)), Outcome.WAIT, "wave 1: metric errors was not measured yet"),
        (Reading(at=AT, samples=(0.1,)), Outcome.PASS, "wave 1: 3 of 3 devices succeeded"),
        (Reading(at=AT, samples=(0.5,)), Outcome.WAIT, "wave 1: metric errors is 0.5, < 0.5 needed"),
        (
            Reading(at=AT, samples=(0.1, 0.7, 0.6)),
            Outcome.WAIT,
            "wave 1: metric errors is 0.7 (2 of 3 samples), < 0.5 needed",
        ),
        (
            Reading(at=AT, trouble="prod: no answer (MaxRetryError)"),
            Outcome.WAIT,
            "wave 1: metric errors is not known: prod: no answer (MaxRetryError)",
        ),
    ],
)
def test_a_wave_passes_only_when_every_metric_holds(reading: Reading | None, outcome: Outcome, reason: str) -> None:
    assert judged(reading) == (outcome, reason)


def test_an_old_reading_says_nothing_about_now() -> None:
    rollout = running(ERRORS)
    later = AT + timedelta(minutes=5, seconds=1)
    verdict = gate.judge(rollout, ALL_WELL, 3, later, readings={"errors": Reading(at=AT, samples=(0.1,))})
    assert verdict.outcome is Outcome.WAIT
    assert verdict.reason == "wave 1: metric errors was last measured at 2026-11-21T12:00:10Z"


def test_devices_are_told_before_metrics_and_failures_before_both() -> None:
    good = Reading(at=AT, samples=(0.1,))
    assert judged(good, counters=Counters(acting=1))[1] == "wave 1: 0 of 3 devices reported a result, 1 needed"
    bad = Reading(at=AT, samples=(9,), violated_since=NOW)
    failed = Counters(acting=3, failed=3, failures=3, finishes=3)
    assert judged(bad, replace(ERRORS, on=OnViolation.FAIL), failed)[1].endswith("limit 10 %")


def test_an_empty_wave_waits_for_its_metrics_too() -> None:
    rollout = running(ERRORS)
    assert gate.judge(rollout, Counters(), 0, AT).reason == (
        "wave 1: no device is in it; metric errors was not measured yet"
    )
    good = {"errors": Reading(at=AT, samples=(0.1,))}
    assert gate.judge(rollout, Counters(), 0, AT, readings=good).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("seconds", "trouble", "outcome"),
    [(59, "", Outcome.WAIT), (60, "", Outcome.FAIL), (60, "prod: no answer", Outcome.WAIT)],
)
def test_a_metric_that_was_missed_for_its_time_fails_the_wave(seconds: int, trouble: str, outcome: Outcome) -> None:
    rollout = running(STRICT)
    opened = rollout.waves[0].opened_at
    assert opened is not None
    now = opened + timedelta(seconds=seconds)
    samples = () if trouble else (0.9,)
    reading = Reading(at=now, samples=samples, trouble=trouble, violated_since=opened - timedelta(hours=1))
    verdict = gate.judge(rollout, ALL_WELL, 3, now, readings={"errors": reading})
    assert verdict.outcome is outcome
    if outcome is Outcome.FAIL:
        assert verdict.reason == "wave 1: metric errors is 0.9, < 0.5 was missed for 60 s"


def test_a_violation_begins_and_ends_with_what_was_measured_and_not_with_what_was_not() -> None:
    first = read_anew(ERRORS, None, (0.9,), "", NOW)
    assert first.violated_since == NOW
    unknown = read_anew(ERRORS, first, (), "no answer", AT)
    assert (unknown.violated_since, unknown.samples) == (NOW, ())
    assert read_anew(ERRORS, unknown, (0.8,), "", AT).violated_since == NOW
    assert read_anew(ERRORS, unknown, (0.1,), "", AT).violated_since is None
    assert read_anew(ERRORS, None, (), "", AT).trouble == "there are no samples"
    assert read_anew(ERRORS, None, (), "no answer", AT).violated_since is None


@pytest.mark.parametrize(
    ("op", "sample", "holds"),
    [
        (Op.LESS, 1, False),
        (Op.AT_MOST, 1, True),
        (Op.MORE, 1, False),
        (Op.AT_LEAST, 1, True),
        (Op.AT_LEAST, float("nan"), False),
        (Op.LESS, float("nan"), False),
    ],
)
def test_how_a_sample_stands_to_the_threshold(op: Op, sample: float, holds: bool) -> None:
    assert op.holds(sample, 1) is holds


@pytest.mark.parametrize(
    ("metric", "where"),
    [
        (replace(ERRORS, name="Errors"), "m.1.name"),
        (replace(ERRORS, source="http://inner"), "m.1.source"),
        (replace(ERRORS, query=None), "m.1"),
        (replace(ERRORS, path="/errors"), "m.1"),
        (replace(ERRORS, query="a\nb"), "m.1.query"),
        (replace(ERRORS, query=None, path="errors"), "m.1.path"),
        (replace(ERRORS, query=None, path="/a~2"), "m.1.path"),
        (replace(ERRORS, threshold=float("inf")), "m.1.threshold"),
        (replace(ERRORS, for_seconds=60), "m.1.for_seconds"),
        (replace(STRICT, for_seconds=-1), "m.1.for_seconds"),
    ],
)
def test_metrics_that_cannot_be_are_told(metric: Metric, where: str) -> None:
    assert [fault[0] for fault in metric_faults("m", [metric])] == [where]


def test_two_metrics_of_one_name_and_too_many_are_told() -> None:
    assert [fault[0] for fault in metric_faults("m", [ERRORS, ERRORS])] == ["m.2.name"]
    many = [replace(ERRORS, name=f"m{number}") for number in range(21)]
    assert metric_faults("m", many) == [("m", "expected at most 20, found 21")]


def test_a_gate_with_metrics_comes_back_from_its_json_and_one_without_says_nothing_of_them() -> None:
    told = plan(STRICT, replace(ERRORS, name="depth", query=None, path="/queue/0/depth"))
    assert plan_faults(told) == []
    assert plan_from_dict(json.loads(json.dumps(plan_to_dict(told)))) == told
    assert "metrics" not in json.dumps(plan_to_dict(plan()))


def plan(*metrics: Metric) -> Plan:
    waves = (WavePlan(group="canary", gate=Gate(metrics=metrics)),)
    return request(waves=waves).with_artifacts({"linux-amd64": artifact("1.0")})
