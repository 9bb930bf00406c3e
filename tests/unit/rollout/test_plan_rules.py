"""What plans can say beyond their first fields: old hashes stay, new fields come back, retries count."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from rollout.budget import Budget
from rollout.cohort import reach, starts_after
from rollout.decision import MalformedDocument, decode_decision, encode_decision
from rollout.documents import documents
from rollout.errors import InvalidPlan, ReportRefused, TransitionNotAllowed
from rollout.machine import replay
from rollout.model import Advance, Gate, Plan, Progress, Requirement, RetryPolicy, State, WavePlan, plan_to_dict
from rollout.plan import plan_faults, plan_from_dict
from rollout.windows import Window
from tests.unit.rollout.world import ANN, CREATOR, ORG, SALT, World, artifact, request

WINDOW = Window(days=("sat",), start="02:00", minutes=240, zone="Europe/Berlin")
EVERY_RULE: dict[str, object] = {
    "from_versions": ("0.9", ">=0.5,<0.8"),
    "requires": (Requirement(product="os", at_least="11"),),
    "after": ("rol_1",),
    "window": WINDOW,
    "spread_seconds": 60,
    "retry": RetryPolicy(count=2, backoff_seconds=60, codes=("health_failed",)),
    "ignores_freeze": True,
    "budget": Budget(label="site", min_available=2, lease_seconds=60),
}


def plan(**more: object) -> Plan:
    return request(**more).with_artifacts({"linux-amd64": artifact("1.0")})  # type: ignore[arg-type]


def test_a_plan_of_before_these_rules_has_the_hash_it_always_had() -> None:
    assert plan().hash() == "76a736a4c623235dfba785a197d13ada08bf0183a09282ee52302156aba401e6"
    assert (
        plan(waves=(WavePlan(group="canary", percent=10.0),)).hash()
        == plan(waves=(WavePlan(group="canary", percent=10),)).hash()
    )


def test_a_plan_with_every_rule_comes_back_from_its_json() -> None:
    waves = (WavePlan(group="canary", count=5, gate=Gate(advance=Advance.MANUAL)), WavePlan(group="fleet", percent=0.5))
    told = plan(waves=waves, **EVERY_RULE)
    assert plan_faults(told) == []
    assert plan_from_dict(json.loads(json.dumps(plan_to_dict(told)))) == told


@pytest.mark.parametrize(
    "broken",
    [
        {"retry": {"count": "2", "backoff_seconds": 0, "codes": []}},
        {"window": {"days": ["sat"]}},
        {"requires": [{"product": "os"}]},
        {"from_versions": "1.0"},
        {"after": [1]},
    ],
)
def test_garbled_rules_are_an_invalid_plan(broken: dict[str, object]) -> None:
    with pytest.raises(InvalidPlan):
        plan_from_dict(plan_to_dict(plan()) | broken)


@pytest.mark.parametrize(
    ("waves", "where"),
    [
        ([("a", 0.001, None)], "waves.1.percent"),
        ([("a", 0.125, None)], "waves.1.percent"),
        ([("a", float("nan"), None)], "waves.1.percent"),
        ([("a", 1, None), ("a", 0.5, None)], "waves.2.percent"),
        ([("a", 100, 5), ("a", 100, 5)], "waves.2.count"),
        ([("a", 50, 5)], "waves.1.count"),
        ([("a", 1, None), ("a", 100, 5)], "waves.2.count"),
        ([("a", 100, 0)], "waves.1.count"),
    ],
)
def test_shares_that_cannot_be_are_told(waves: list[tuple[str, float, int | None]], where: str) -> None:
    made = tuple(WavePlan(group=group, percent=percent, count=count) for group, percent, count in waves)
    assert where in [fault[0] for fault in plan_faults(plan(waves=made))]


@pytest.mark.parametrize(("percent", "buckets"), [(0.01, 1), (0.29, 29), (1, 100), (12.5, 1250), (33.33, 3333)])
def test_a_share_is_hundredths_of_a_percent(percent: float, buckets: int) -> None:
    assert reach(percent) == buckets


def test_moments_of_a_spread_are_even_and_nobody_s_bucket() -> None:
    seconds = [starts_after(SALT, f"dev_{number}", 100) for number in range(10_000)]
    assert min(seconds) == 0
    assert max(seconds) == 99
    assert all(50 < seconds.count(second) < 160 for second in range(100))


def test_a_decision_carries_the_rules_and_comes_back() -> None:
    world = World()
    rules = {name: value for name, value in EVERY_RULE.items() if name != "after"}
    rollout = world.running("1.0", (WavePlan(group="canary"),), **rules)
    document = documents(rollout)["decisions/firmware/canary.json"]
    decision = decode_decision(document)
    assert encode_decision(decision) == document
    assert (decision.window, decision.spread_seconds, decision.spread_from) == (
        WINDOW,
        60,
        rollout.waves[0].opened_at,
    )
    assert (decision.requires, decision.retry) == (EVERY_RULE["requires"], EVERY_RULE["retry"])
    assert json.loads(document)["format"] == 2
    with pytest.raises(MalformedDocument, match="cannot be honoured"):
        decode_decision(document.replace(b"Europe/Berlin", b"Mars/Phobos"))


def test_a_device_s_own_tries_are_counted_and_no_more_than_the_plan_has() -> None:
    world = World()
    gate = Gate(max_failure_rate_percent=None, min_reports=3)
    rollout = world.running("1.0", (WavePlan(group="canary", gate=gate),), retry=RetryPolicy(count=2))
    for attempt, progress in ((1, Progress.FAILED), (2, Progress.FAILED), (3, Progress.SUCCEEDED)):
        assert world.report(rollout, "dev_c1", progress, attempt=attempt)
    with pytest.raises(ReportRefused, match="attempt 4"):
        world.report(rollout, "dev_c1", Progress.SUCCEEDED, attempt=4)
    counters = world.rollouts.counters(rollout.id)[1]
    assert (counters.succeeded, counters.failed, counters.failures, counters.finishes) == (1, 0, 2, 3)

    again = world.service.retry(ORG, rollout.id, devices=["dev_c2"], by=CREATOR, now=world.now)
    assert again.attempt_for("dev_c2") == 4
    assert world.service.retry(ORG, rollout.id, by=CREATOR, now=world.now).attempt == 7


def test_a_rollout_waits_for_the_one_before_it_and_for_ever_if_that_ended_otherwise() -> None:
    world = World()
    first = world.running("1.0", (WavePlan(group="canary"),))
    second = world.submitted("2.0", (WavePlan(group="fleet"),), after=(first.id,))
    world.tick()
    assert world.service.why(world.get(second), world.now) == (
        f"wave 1 is held back until {first.id} is completed; it is running"
    )
    with pytest.raises(TransitionNotAllowed, match="held back"):
        world.service.advance(ORG, second.id, by=ANN, now=world.now)
    world.service.abort(ORG, first.id, reason="no", by=ANN, now=world.now)
    world.tick()
    assert world.get(second).state is State.WAITING
    assert world.service.why(world.get(second), world.now).endswith("it is aborted; that has ended, make another plan")


def test_a_rollout_after_one_that_does_not_exist_is_no_plan() -> None:
    with pytest.raises(InvalidPlan) as refused:
        World().submitted("1.0", (WavePlan(group="canary"),), after=("rol_9999",))
    assert refused.value.details[0][0] == "after.1"


def test_a_manual_wave_and_a_count_replay_from_their_events() -> None:
    world = World()
    waves = (
        WavePlan(group="canary", gate=Gate(advance=Advance.MANUAL)),
        WavePlan(group="fleet", count=7),
    )
    rollout = world.running("1.0", waves)
    world.report(rollout, "dev_c1", Progress.SUCCEEDED)
    for _ in range(3):
        world.tick()
    assert world.get(rollout).state is State.WAITING

    opened = world.service.advance(ORG, rollout.id, by=ANN, now=world.now)

    assert opened.state is State.RUNNING
    assert world.service.expected(opened, 2, world.now) == 7
    assert replay(world.rollouts.events(ORG, rollout.id)) == opened


def test_devices_of_a_count_that_grew_are_those_of_its_range() -> None:
    world = World()
    rollout = world.running("1.0", (WavePlan(group="fleet", count=7),))
    range_then = rollout.waves[0].reach
    world.groups.devices["fleet"] += [f"dev_new{number}" for number in range(400)]
    world.tick()
    assert world.get(rollout).waves[0].reach == range_then
    assert documents(replace(rollout)) == documents(world.get(rollout))


def test_a_report_timeout_outlasts_the_spread_or_who_begins_last_would_be_silent() -> None:
    where = "waves.1.gate.report_timeout_seconds"
    waves = (WavePlan(group="canary", gate=Gate(report_timeout_seconds=600)),)
    assert [fault[0] for fault in plan_faults(plan(waves=waves, spread_seconds=600))] == [where]
    assert plan_faults(plan(waves=waves, spread_seconds=599)) == []
