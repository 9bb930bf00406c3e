"""Plans: every fault at once, and exact round trips of everything that is stored."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.model import Actor, ActorKind, AuditEvent
from rollout.errors import InvalidPlan
from rollout.model import (
    AbortMode,
    Approval,
    ArtifactRef,
    Counters,
    DeviceProgress,
    Gate,
    Plan,
    Priority,
    Progress,
    Refusal,
    Rollout,
    Silent,
    State,
    Wave,
    WavePlan,
    WaveState,
    gate_to_dict,
    plan_to_dict,
)
from rollout.plan import check_plan, gate_from_dict, plan_faults, plan_from_dict
from rollout.ports import Intent
from rollout.stored import (
    intent_from_dict,
    intent_to_dict,
    progress_from_dict,
    progress_to_dict,
    rollout_from_dict,
    rollout_to_dict,
)
from tests.unit.rollout.world import artifact, request


def plan(**changes: Any) -> Plan:
    return dataclasses.replace(request().with_artifacts({"linux-amd64": artifact("1.0")}), **changes)


def one_wave(**gate: Any) -> Plan:
    return plan(waves=(WavePlan(group="canary", gate=Gate(**gate)),))


def test_a_plan_without_faults_is_accepted() -> None:
    check_plan(plan())


def test_all_faults_are_told_at_once() -> None:
    wrong = plan(
        product="Firm ware",
        artifacts={},
        waves=(
            WavePlan(group="g", percent=50),
            WavePlan(group="g", percent=50, gate=Gate(approvals=-1, success_percent=0)),
        ),
    )
    with pytest.raises(InvalidPlan) as refused:
        check_plan(wrong)
    assert [where for where, _ in refused.value.details] == [
        "product",
        "artifacts",
        "waves.2.percent",
        "waves.2.gate.approvals",
        "waves.2.gate.success_percent",
    ]


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        (plan(waves=()), "waves"),
        (plan(waves=tuple(WavePlan(group=f"g{n}") for n in range(501))), "waves"),
        (plan(version=""), "version"),
        (plan(version="../1"), "version"),
        (plan(channel="a/b"), "channel"),
        (plan(channel="a" * 101), "channel"),
        (plan(note="n\x00"), "note"),
        (plan(note="n" * 2001), "note"),
        (plan(note="\ud800"), "note"),
        (plan(waves=(WavePlan(group="G"),)), "waves.1.group"),
        (plan(waves=(WavePlan(group="g", percent=0),)), "waves.1.percent"),
        (plan(waves=(WavePlan(group="g", percent=101),)), "waves.1.percent"),
        (plan(waves=(WavePlan(group="g", percent=50), WavePlan(group="g", percent=10))), "waves.2.percent"),
        (one_wave(approvals=21), "waves.1.gate.approvals"),
        (one_wave(approvals=True), "waves.1.gate.approvals"),
        (one_wave(soak_seconds=-1), "waves.1.gate.soak_seconds"),
        (one_wave(success_percent=101), "waves.1.gate.success_percent"),
        (one_wave(min_reports=0), "waves.1.gate.min_reports"),
        (one_wave(max_failures=0), "waves.1.gate.max_failures"),
        (one_wave(max_failure_rate_percent=101), "waves.1.gate.max_failure_rate_percent"),
        (one_wave(deadline_seconds=0), "waves.1.gate.deadline_seconds"),
        (one_wave(soak_seconds=60, deadline_seconds=59), "waves.1.gate.deadline_seconds"),
        (one_wave(report_timeout_seconds=0), "waves.1.gate.report_timeout_seconds"),
        (one_wave(report_timeout_seconds=60, deadline_seconds=60), "waves.1.gate.report_timeout_seconds"),
        (one_wave(silent=Silent.IGNORE), "waves.1.gate.silent"),
        (one_wave(not_before=datetime(2026, 1, 1)), "waves.1.gate.not_before"),  # noqa: DTZ001
        (one_wave(not_before=datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))), "waves.1.gate.not_before"),
    ],
)
def test_a_fault_is_told_with_its_place(wrong: Plan, where: str) -> None:
    assert [place for place, _ in plan_faults(wrong)] == [where]


def test_five_hundred_waves_are_allowed() -> None:
    check_plan(plan(waves=tuple(WavePlan(group=f"g{n}") for n in range(500))))


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (lambda fields: fields.pop("product"), "product"),
        (lambda fields: fields.update(extra=1), "extra"),
        (lambda fields: fields.update(keep_open="yes"), "keep_open"),
        (lambda fields: fields.update(waves={}), "waves"),
        (lambda fields: fields.update(artifacts=[]), "artifacts"),
        (lambda fields: fields["waves"].append(3), "waves.3"),
        (lambda fields: fields["waves"][0].update(percent="10"), "waves.1.percent"),
        (lambda fields: fields["waves"][0].update(percent=True), "waves.1.percent"),
        (lambda fields: fields["waves"][1]["gate"].update(approval=2), "waves.2.gate.approval"),
        (lambda fields: fields["waves"][1]["gate"].update(not_before="2026-01-01T00:00:00"), "waves.2.gate.not_before"),
        (lambda fields: fields["waves"][1]["gate"].update(not_before="soon"), "waves.2.gate.not_before"),
        (lambda fields: fields["waves"][1]["gate"].update(silent="loud"), "waves.2.gate.silent"),
        (lambda fields: fields["waves"][1]["gate"].update(silent=["fail"]), "waves.2.gate.silent"),
        (lambda fields: fields.update(priority="urgent"), "priority"),
        (lambda fields: fields.update(priority=["security"]), "priority"),
    ],
)
def test_reading_a_plan_refuses_what_does_not_belong(spoil: Callable[[dict[str, Any]], object], where: str) -> None:
    fields: dict[str, Any] = json.loads(json.dumps(plan_to_dict(plan())))
    spoil(fields)
    with pytest.raises(InvalidPlan) as refused:
        plan_from_dict(fields)
    assert where in [place for place, _ in refused.value.details]


def test_a_garbled_stored_rollout_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="missing or garbled"):
        rollout_from_dict({"id": "rol_1"})


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TIMES = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
SOME_TIME = st.none() | TIMES
COUNT = st.integers(0, 10**9)
ACTORS = st.builds(Actor, st.sampled_from(ActorKind), TEXT, TEXT, st.none() | TEXT)
GATES = st.builds(
    Gate,
    approvals=COUNT,
    not_before=SOME_TIME,
    soak_seconds=COUNT,
    success_percent=COUNT,
    min_reports=COUNT,
    max_failures=st.none() | COUNT,
    max_failure_rate_percent=st.none() | COUNT,
    deadline_seconds=st.none() | COUNT,
    report_timeout_seconds=st.none() | COUNT,
    silent=st.sampled_from(Silent),
)
PLANS = st.builds(
    Plan,
    product=TEXT,
    version=TEXT,
    channel=TEXT,
    artifacts=st.dictionaries(TEXT, st.builds(ArtifactRef, id=TEXT, path=TEXT, length=COUNT, sha256=TEXT), max_size=3),
    waves=st.lists(st.builds(WavePlan, group=TEXT, percent=COUNT, gate=GATES), max_size=3).map(tuple),
    keep_open=st.booleans(),
    allow_downgrade=st.booleans(),
    note=TEXT,
    priority=st.sampled_from(Priority),
)
COUNTERS = st.builds(
    Counters, acting=COUNT, succeeded=COUNT, failed=COUNT, rolled_back=COUNT, failures=COUNT, finishes=COUNT
)
WAVES = st.builds(
    Wave,
    state=st.sampled_from(WaveState),
    opened_at=SOME_TIME,
    ended_at=SOME_TIME,
    note=TEXT,
    judged_from=COUNTERS,
    resumed_at=SOME_TIME,
    opened_revision=COUNT,
    silence_judged=COUNT,
)
ROLLOUTS = st.builds(
    Rollout,
    id=TEXT,
    org=TEXT,
    plan=PLANS,
    plan_hash=TEXT,
    created_by=ACTORS,
    created_at=TIMES,
    salt=TEXT,
    state=st.sampled_from(State),
    revision=COUNT,
    wave=COUNT,
    waves=st.lists(WAVES, max_size=3).map(tuple),
    approvals=st.lists(
        st.builds(Approval, wave=COUNT, by=ACTORS, at=TIMES, plan_hash=TEXT, signature=st.none() | TEXT), max_size=2
    ).map(tuple),
    refusals=st.lists(st.builds(Refusal, by=ACTORS, at=TIMES, plan_hash=TEXT, reason=TEXT), max_size=2).map(tuple),
    submitted_at=SOME_TIME,
    ended_at=SOME_TIME,
    paused_from=st.none() | st.sampled_from(State),
    paused_because=st.none() | TEXT,
    pause_needs_approver=st.booleans(),
    attempt=COUNT,
    device_attempts=st.dictionaries(TEXT, COUNT, max_size=3),
    abort_mode=st.none() | st.sampled_from(AbortMode),
    abort_reason=st.none() | TEXT,
    superseded_by=st.none() | TEXT,
    editors=st.lists(ACTORS, max_size=2).map(tuple),
    retried_revision=COUNT,
    braked_revision=COUNT,
    origin=st.none() | TEXT,
    rolled_back_because=st.none() | TEXT,
    retry_at=SOME_TIME,
    retry_devices=st.lists(TEXT, max_size=2).map(tuple),
)
EVENTS = st.builds(AuditEvent, TEXT, TEXT, ACTORS, TIMES, st.dictionaries(TEXT, TEXT | COUNT | st.none(), max_size=3))
INTENTS = st.builds(
    Intent,
    id=TEXT,
    seen=COUNT,
    after=ROLLOUTS,
    events=st.lists(EVENTS, max_size=2).map(tuple),
    decision_hash=TEXT,
    changes=st.dictionaries(TEXT, st.none() | TEXT, max_size=3),
    proposed_at=TIMES,
)
PROGRESS = st.builds(
    DeviceProgress,
    device=TEXT,
    wave=COUNT,
    attempt=COUNT,
    progress=st.sampled_from(Progress),
    at=TIMES,
    code=TEXT,
    detail=TEXT,
    failures=COUNT,
    finishes=COUNT,
    last_report=TEXT,
)


def through_json(value: dict[str, object]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(json.dumps(value))
    return read


@settings(max_examples=60, deadline=None)
@given(GATES)
def test_a_gate_survives_its_json_form(value: Gate) -> None:
    assert gate_from_dict(through_json(gate_to_dict(value))) == value


@settings(max_examples=60, deadline=None)
@given(ROLLOUTS)
def test_a_rollout_survives_storing(value: Rollout) -> None:
    read = rollout_from_dict(through_json(rollout_to_dict(value)))
    assert read == value
    assert read.plan.hash() == value.plan.hash()


@settings(max_examples=40, deadline=None)
@given(INTENTS)
def test_an_intent_survives_storing(value: Intent) -> None:
    assert intent_from_dict(through_json(intent_to_dict(value))) == value


@settings(max_examples=60, deadline=None)
@given(PROGRESS)
def test_progress_survives_storing(value: DeviceProgress) -> None:
    assert progress_from_dict(through_json(progress_to_dict(value))) == value


@pytest.mark.parametrize("kind", [Rollout, Wave, Intent, DeviceProgress])
def test_no_field_is_forgotten_in_the_stored_form(kind: type[Any]) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    rollout = rollout_to_dict(_example_rollout())
    intent = Intent(
        id="i", seen=1, after=_example_rollout(), events=(), decision_hash="", changes={}, proposed_at=moment
    )
    row = DeviceProgress(device="d", wave=1, attempt=1, progress=Progress.FAILED, at=moment)
    waves: Any = rollout["waves"]
    written: dict[type[Any], dict[str, object]] = {
        Rollout: rollout,
        Wave: waves[0],
        Intent: intent_to_dict(intent),
        DeviceProgress: progress_to_dict(row),
    }
    assert set(written[kind]) == {field.name for field in dataclasses.fields(kind)}


def _example_rollout() -> Rollout:
    return Rollout(
        id="rol_1",
        org="acme",
        plan=plan(),
        plan_hash=plan().hash(),
        created_by=Actor(ActorKind.USER, "usr_1", "Ann"),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        salt="00" * 16,
        waves=(Wave(reach=7, silence_judged=1), Wave()),
        origin="rol_0",
        rolled_back_because="bad",
        retry_at=datetime(2026, 1, 2, tzinfo=UTC),
        retry_devices=("dev_1",),
    )


def test_what_is_as_ever_is_stored_as_ever() -> None:
    later: dict[str, Any] = {"origin": None, "rolled_back_because": None, "retry_at": None, "retry_devices": ()}
    stored = rollout_to_dict(dataclasses.replace(_example_rollout(), **later))
    assert later.keys() & stored.keys() == set()
    assert rollout_from_dict(stored) == dataclasses.replace(_example_rollout(), **later)
    assert "priority" not in plan_to_dict(plan())


def test_security_changes_the_hash_of_a_plan() -> None:
    assert plan_to_dict(dataclasses.replace(plan(), priority=Priority.SECURITY))["priority"] == "security"
    assert dataclasses.replace(plan(), priority=Priority.SECURITY).hash() != plan().hash()
