"""What ``rollout.ports.Rollouts`` promises: the same lines against the simulator, SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from evidence.model import Actor, ActorKind, AuditEvent
from rollout.errors import RolloutChanged, UnknownRollout
from rollout.model import (
    ArtifactRef,
    Counters,
    DeviceProgress,
    Gate,
    Plan,
    Progress,
    Rollout,
    State,
    Wave,
    WavePlan,
    WaveState,
)
from rollout.ports import Intent, ProgressChange, Rollouts
from store.database import Database
from store.rollouts import SqlRollouts
from tests.simulators.rollouts import RolloutsSimulator

NOON = datetime(2026, 11, 21, 12, 0, 0, 123_456, tzinfo=UTC)
ROUNDS = 10  # enough for a missing lock to show on PostgreSQL
ADA = Actor(ActorKind.USER, "usr_ADA", "Ada", "ses_1")


@pytest.fixture(params=["simulator", "sqlite", "postgresql"])
def rollouts(request: pytest.FixtureRequest) -> Iterator[Rollouts]:
    if request.param == "simulator":
        yield RolloutsSimulator()
        return
    database = Database(request.getfixturevalue(f"{request.param}_database_url"))
    yield SqlRollouts(database)
    database.close()


def test_what_was_added_is_read_back_whole(rollouts: Rollouts) -> None:
    full = replace(
        a_rollout("rol_1"),
        state=State.PAUSED,
        wave=1,
        waves=(
            Wave(state=WaveState.OPEN, opened_at=NOON, note="n", judged_from=Counters(acting=3, failures=2)),
            Wave(),
        ),
        paused_from=State.RUNNING,
        paused_because="wave 1: 3 of 40 devices failed, limit 2",
        pause_needs_approver=True,
        attempt=2,
        device_attempts={"dev_1": 3},
        submitted_at=NOON,
    )
    rollouts.add(full, an_event("rollout.created", "rol_1"))
    assert rollouts.get("acme", "rol_1") == full


def test_another_organisation_s_rollout_is_unknown(rollouts: Rollouts) -> None:
    rollouts.add(a_rollout("rol_1"), an_event("rollout.created", "rol_1"))
    with pytest.raises(UnknownRollout):
        rollouts.get("rival", "rol_1")
    with pytest.raises(UnknownRollout):
        rollouts.update_progress("rival", "rol_1", "dev_1", succeed_once("dev_1"))
    with pytest.raises(UnknownRollout):
        rollouts.save(replace(a_rollout("rol_1"), org="rival", revision=2), [], seen=1)
    with pytest.raises(UnknownRollout):
        rollouts.propose(an_intent(replace(a_rollout("rol_1"), org="rival", revision=2)))
    assert rollouts.events("rival", "rol_1") == []


def test_state_and_events_are_saved_together(rollouts: Rollouts) -> None:
    rollouts.add(a_rollout("rol_1"), an_event("rollout.created", "rol_1"))
    after = replace(a_rollout("rol_1"), state=State.WAITING, revision=2)
    rollouts.save(after, [an_event("rollout.submitted", "rol_1"), an_event("rollout.noted", "rol_1")], seen=1)
    assert rollouts.get("acme", "rol_1") == after
    tags = [event.tag for event in rollouts.events("acme", "rol_1")]
    assert tags == ["rollout.created", "rollout.submitted", "rollout.noted"]


def test_events_come_back_as_they_were_told(rollouts: Rollouts) -> None:
    told = AuditEvent(
        "rollout.created", "rol_1", ADA, NOON, {"plan": {"note": "ünïcode ✓"}, "waves": [1, 2], "x": None}
    )
    rollouts.add(a_rollout("rol_1"), told)
    rollouts.add(a_rollout("rol_2"), an_event("rollout.created", "rol_2"))
    assert rollouts.events("acme", "rol_1") == [told]


def test_who_saw_an_older_revision_loses_and_leaves_nothing(rollouts: Rollouts) -> None:
    rollouts.add(a_rollout("rol_1"), an_event("rollout.created", "rol_1"))
    first = replace(a_rollout("rol_1"), state=State.WAITING, revision=2)
    rollouts.save(first, [an_event("rollout.submitted", "rol_1")], seen=1)
    late = replace(a_rollout("rol_1"), state=State.ABORTED, revision=2)
    with pytest.raises(RolloutChanged):
        rollouts.save(late, [an_event("rollout.aborted", "rol_1")], seen=1)
    with pytest.raises(RolloutChanged):
        rollouts.propose(an_intent(late))
    assert rollouts.get("acme", "rol_1") == first
    assert [event.tag for event in rollouts.events("acme", "rol_1")] == ["rollout.created", "rollout.submitted"]
    assert rollouts.intents("acme") == []


def test_while_an_intent_stands_nobody_else_changes_the_rollout(rollouts: Rollouts) -> None:
    rollouts.add(a_rollout("rol_1"), an_event("rollout.created", "rol_1"))
    after = replace(a_rollout("rol_1"), state=State.RUNNING, revision=2)
    rollouts.propose(an_intent(after))
    with pytest.raises(RolloutChanged):
        rollouts.save(after, [], seen=1)
    with pytest.raises(RolloutChanged):
        rollouts.propose(replace(an_intent(after), id="int_other"))
    assert rollouts.get("acme", "rol_1") == a_rollout("rol_1")


def test_an_intent_is_settled_once(rollouts: Rollouts) -> None:
    rollouts.add(a_rollout("rol_1"), an_event("rollout.created", "rol_1"))
    after = replace(a_rollout("rol_1"), state=State.RUNNING, revision=2)
    intent = an_intent(after)
    assert not rollouts.standing(intent)
    rollouts.propose(intent)
    assert rollouts.standing(intent)
    assert not rollouts.standing(replace(intent, id="int_other"))
    assert rollouts.intents("acme") == [intent]
    assert rollouts.intents("rival") == []
    rollouts.settle(intent)
    rollouts.settle(intent)
    assert rollouts.get("acme", "rol_1") == after
    assert [event.tag for event in rollouts.events("acme", "rol_1")] == ["rollout.created", "rollout.wave.opened"]
    assert not rollouts.standing(intent)
    assert rollouts.intents("acme") == []


def test_a_dropped_intent_leaves_the_rollout_as_it_was(rollouts: Rollouts) -> None:
    rollouts.add(a_rollout("rol_1"), an_event("rollout.created", "rol_1"))
    intent = an_intent(replace(a_rollout("rol_1"), state=State.RUNNING, revision=2))
    rollouts.propose(intent)
    rollouts.drop(intent)
    rollouts.drop(intent)
    rollouts.settle(intent)
    assert rollouts.get("acme", "rol_1") == a_rollout("rol_1")
    assert [event.tag for event in rollouts.events("acme", "rol_1")] == ["rollout.created"]
    rollouts.save(replace(a_rollout("rol_1"), state=State.WAITING, revision=2), [], seen=1)


def test_intents_come_oldest_first(rollouts: Rollouts) -> None:
    for number, minutes in ((1, 2), (2, 1), (3, 3)):
        rollouts.add(a_rollout(f"rol_{number}"), an_event("rollout.created", f"rol_{number}"))
        intent = an_intent(replace(a_rollout(f"rol_{number}"), revision=2))
        rollouts.propose(replace(intent, proposed_at=NOON + timedelta(minutes=minutes)))
    assert [intent.after.id for intent in rollouts.intents("acme")] == ["rol_2", "rol_1", "rol_3"]


def test_only_waiting_and_running_rollouts_move(rollouts: Rollouts) -> None:
    for number, state in enumerate(State):
        rollouts.add(replace(a_rollout(f"rol_{number}"), state=state), an_event("rollout.created", f"rol_{number}"))
    rollouts.add(replace(a_rollout("rol_9"), org="rival", state=State.RUNNING), an_event("rollout.created", "rol_9"))
    assert rollouts.moving("acme") == ["rol_1", "rol_2"]


def test_rollouts_overlap_by_product_group_and_state(rollouts: Rollouts) -> None:
    running = replace(a_rollout("rol_1"), state=State.RUNNING)
    others = [
        replace(a_rollout("rol_2"), state=State.DRAFT),
        replace(a_rollout("rol_3"), state=State.COMPLETED),
        replace(a_rollout("rol_4"), state=State.PAUSED, plan=replace(PLAN, product="other")),
        replace(a_rollout("rol_5"), state=State.PAUSED, plan=replace(PLAN, waves=(WavePlan(group="lab"),))),
        replace(a_rollout("rol_6"), state=State.RUNNING, org="rival"),
        replace(a_rollout("rol_7"), state=State.PAUSED, plan=replace(PLAN, channel="beta")),
    ]
    for one in (running, *others):
        rollouts.add(one, an_event("rollout.created", one.id))
    assert [one.id for one in rollouts.overlapping("acme", "player", ["canary", "nobody"])] == ["rol_1", "rol_7"]
    assert rollouts.overlapping("acme", "player", ["everyone"])[0] == running
    assert rollouts.overlapping("acme", "player", ["nobody"]) == []


def test_an_edited_plan_overlaps_by_its_new_groups(rollouts: Rollouts) -> None:
    draft = a_rollout("rol_1")
    rollouts.add(draft, an_event("rollout.created", "rol_1"))
    plan = replace(PLAN, waves=(WavePlan(group="lab"),))
    edited = replace(draft, plan=plan, plan_hash=plan.hash(), state=State.WAITING, revision=2)
    rollouts.save(edited, [], seen=1)
    assert rollouts.overlapping("acme", "player", ["canary", "everyone"]) == []
    assert rollouts.overlapping("acme", "player", ["lab"]) == [edited]


def test_counters_move_with_the_devices(rollouts: Rollouts) -> None:
    rollouts.add(a_rollout("rol_1"), an_event("rollout.created", "rol_1"))
    assert rollouts.counters("rol_1") == {}
    assert rollouts.update_progress("acme", "rol_1", "dev_1", put("dev_1", Progress.DOWNLOADING))
    assert rollouts.update_progress("acme", "rol_1", "dev_2", put("dev_2", Progress.FAILED, failures=1, finishes=1))
    assert rollouts.update_progress("acme", "rol_1", "dev_3", put("dev_3", Progress.ROLLED_BACK, wave=2, finishes=1))
    assert rollouts.counters("rol_1") == {
        1: Counters(acting=2, failed=1, failures=1, finishes=1),
        2: Counters(acting=1, rolled_back=1, finishes=1),
    }
    assert rollouts.update_progress("acme", "rol_1", "dev_1", put("dev_1", Progress.SUCCEEDED, finishes=1))
    assert rollouts.update_progress("acme", "rol_1", "dev_2", put("dev_2", Progress.SUCCEEDED, failures=1, finishes=2))
    assert rollouts.counters("rol_1") == {
        1: Counters(acting=2, succeeded=2, failures=1, finishes=3),
        2: Counters(acting=1, rolled_back=1, finishes=1),
    }


def test_counters_of_several_rollouts_come_at_once(rollouts: Rollouts) -> None:
    for number in (1, 2, 3):
        rollouts.add(a_rollout(f"rol_{number}"), an_event("rollout.created", f"rol_{number}"))
    rollouts.update_progress("acme", "rol_1", "dev_1", put("dev_1", Progress.FAILED, wave=2))
    rollouts.update_progress("acme", "rol_3", "dev_1", put("dev_1", Progress.SUCCEEDED))
    assert rollouts.counters_of(["rol_1", "rol_2", "rol_3"]) == {
        "rol_1": {2: Counters(acting=1, failed=1)},
        "rol_3": {1: Counters(acting=1, succeeded=1)},
    }
    assert rollouts.counters_of([]) == {}


def test_who_stands_still_is_counted_by_wave_step_and_time(rollouts: Rollouts) -> None:
    for name in ("rol_1", "rol_2"):
        rollouts.add(a_rollout(name), an_event("rollout.created", name))
    for device, progress, wave in (
        ("dev_1", Progress.DOWNLOADING, 1),
        ("dev_2", Progress.INSTALLING, 1),
        ("dev_3", Progress.SUCCEEDED, 1),
        ("dev_4", Progress.FAILED, 1),
        ("dev_5", Progress.ROLLED_BACK, 1),
        ("dev_6", Progress.INSTALLING, 2),
    ):
        rollouts.update_progress("acme", "rol_1", device, put(device, progress, wave=wave))
    assert rollouts.stalled("rol_1", 1, before=NOON) == 2
    assert rollouts.stalled("rol_1", 1, before=NOON - timedelta(microseconds=1)) == 0
    assert rollouts.stalled("rol_1", 2, before=NOON + timedelta(seconds=1)) == 1
    assert rollouts.stalled("rol_2", 1, before=NOON) == 0


def test_a_change_sees_the_rollout_and_the_row_as_they_stand(rollouts: Rollouts) -> None:
    rollouts.add(a_rollout("rol_1"), an_event("rollout.created", "rol_1"))
    row = DeviceProgress(
        device="dev_1",
        wave=2,
        attempt=3,
        progress=Progress.FAILED,
        at=NOON,
        code="health_failed",
        detail="exit code 3",
        failures=2,
        finishes=3,
        last_report="rep_1",
    )
    rollouts.update_progress("acme", "rol_1", "dev_1", lambda rollout, before: row)
    seen: list[tuple[Rollout, DeviceProgress | None]] = []

    def look(rollout: Rollout, before: DeviceProgress | None) -> None:
        seen.append((rollout, before))

    assert not rollouts.update_progress("acme", "rol_1", "dev_1", look)
    assert not rollouts.update_progress("acme", "rol_1", "dev_2", look)
    assert seen == [(a_rollout("rol_1"), row), (a_rollout("rol_1"), None)]
    assert rollouts.counters("rol_1") == {2: Counters(acting=1, failed=1, failures=2, finishes=3)}


def test_a_change_that_raises_moves_nothing(rollouts: Rollouts) -> None:
    rollouts.add(a_rollout("rol_1"), an_event("rollout.created", "rol_1"))

    def refuse(rollout: Rollout, before: DeviceProgress | None) -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        rollouts.update_progress("acme", "rol_1", "dev_1", refuse)
    assert rollouts.counters("rol_1") == {}


def test_of_eight_writers_on_one_revision_one_wins(rollouts: Rollouts) -> None:
    start = threading.Barrier(8)

    def write(rollout_id: str, number: int) -> bool:
        after = replace(a_rollout(rollout_id), revision=2, wave=number)
        start.wait(10)
        try:
            if number % 2:
                rollouts.save(after, [an_event("rollout.saved", rollout_id)], seen=1)
            else:
                rollouts.propose(replace(an_intent(after), id=f"int_{rollout_id}_{number}"))
        except RolloutChanged:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for attempt in range(ROUNDS):
            rollout_id = f"rol_{attempt}"
            rollouts.add(a_rollout(rollout_id), an_event("rollout.created", rollout_id))
            assert sorted(pool.map(write, [rollout_id] * 8, range(8))) == [False] * 7 + [True]


def test_no_report_is_lost_when_many_come_at_once(rollouts: Rollouts) -> None:
    rollouts.add(a_rollout("rol_1"), an_event("rollout.created", "rol_1"))
    rollouts.update_progress("acme", "rol_1", "dev_1", put("dev_1", Progress.FAILED))

    def one_more(rollout: Rollout, before: DeviceProgress | None) -> DeviceProgress | None:
        assert before is not None
        return replace(before, failures=before.failures + 1, finishes=before.finishes + 2)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: rollouts.update_progress("acme", "rol_1", "dev_1", one_more), range(80)))
    assert rollouts.counters("rol_1") == {1: Counters(acting=1, failed=1, failures=80, finishes=160)}
    stood: list[DeviceProgress | None] = []
    rollouts.update_progress("acme", "rol_1", "dev_1", lambda rollout, before: stood.append(before))
    assert stood == [put("dev_1", Progress.FAILED, failures=80, finishes=160)(a_rollout("rol_1"), None)]


def test_two_first_reports_of_one_device_count_it_once(rollouts: Rollouts) -> None:
    rollouts.add(a_rollout("rol_1"), an_event("rollout.created", "rol_1"))

    def report(number: int) -> bool:
        device = f"dev_{number % 5}"
        return rollouts.update_progress("acme", "rol_1", device, succeed_once(device))

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(report, range(40))) == [False] * 35 + [True] * 5
    assert rollouts.counters("rol_1") == {1: Counters(acting=5, succeeded=5, finishes=5)}


PLAN = Plan(
    product="player",
    version="2.4.1",
    channel="stable",
    artifacts={
        "linux-arm64": ArtifactRef(id="art_1", path="player/2.4.1/linux-arm64/p.tar", length=7, sha256="ab" * 32)
    },
    waves=(
        WavePlan(group="canary", percent=10, gate=Gate(approvals=1, not_before=NOON, soak_seconds=60)),
        WavePlan(group="everyone"),
    ),
    note="first",
)


def a_rollout(rollout_id: str) -> Rollout:
    return Rollout(
        id=rollout_id,
        org="acme",
        plan=PLAN,
        plan_hash=PLAN.hash(),
        created_by=ADA,
        created_at=NOON,
        salt="00" * 16,
        waves=(Wave(), Wave()),
    )


def an_intent(after: Rollout) -> Intent:
    return Intent(
        id=f"int_{after.id}",
        seen=1,
        after=after,
        events=(an_event("rollout.wave.opened", after.id),),
        decision_hash="cd" * 32,
        changes={"decisions/player/canary.json": "ef" * 32, "brakes/player/canary.json": None},
        proposed_at=NOON,
    )


def an_event(tag: str, subject: str) -> AuditEvent:
    return AuditEvent(tag, subject, ADA, NOON, {"from": "draft"})


def put(device: str, progress: Progress, *, wave: int = 1, failures: int = 0, finishes: int = 0) -> ProgressChange:
    """Whatever stood there, the device stands so now."""

    def change(rollout: Rollout, before: DeviceProgress | None) -> DeviceProgress:
        return DeviceProgress(
            device=device, wave=wave, attempt=1, progress=progress, at=NOON, failures=failures, finishes=finishes
        )

    return change


def succeed_once(device: str) -> ProgressChange:
    """The device succeeds with its first report and has nothing new to say after it."""

    def change(rollout: Rollout, before: DeviceProgress | None) -> DeviceProgress | None:
        return put(device, Progress.SUCCEEDED, finishes=1)(rollout, before) if before is None else None

    return change
