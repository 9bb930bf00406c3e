"""What the store answers about rollouts beyond the port: lists, devices, a recount, and writers in other processes."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, update

from evidence.model import Actor, ActorKind, AuditEvent
from fleet.version_order import order_key
from rollout.errors import RolloutChanged, UnknownRollout
from rollout.model import ArtifactRef, Counters, DeviceProgress, Plan, Progress, Rollout, State, Wave, WavePlan
from rollout.ports import DeviceFacts, Intent, Kind, ProgressChange
from store.audit import AuditLog
from store.database import Database
from store.inventory import SqlInventory
from store.leases import Leases
from store.models import device_running, devices, group_devices, groups, rollout_counters
from store.progress import DeviceFilter
from store.rollout_lists import RolloutFilter
from store.rollouts import SqlRollouts

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ADA = Actor(ActorKind.USER, "usr_ADA", "Ada")
WRITERS = 4


@pytest.fixture
def rollouts(database: Database) -> SqlRollouts:
    return SqlRollouts(database)


def test_rollouts_are_listed_newest_first_filtered_and_paged(rollouts: SqlRollouts) -> None:
    for number, (state, product) in enumerate(
        [(State.RUNNING, "player"), (State.DRAFT, "player"), (State.RUNNING, "shell"), (State.RUNNING, "player")]
    ):
        rollouts.add(replace(a_rollout(f"rol_{number}", product=product), state=state), CREATED)
    rollouts.add(replace(a_rollout("rol_9"), org="rival"), CREATED)

    def found(
        *, state: State | None = None, product: str | None = None, after: str | None = None, limit: int = 50
    ) -> list[str]:
        return [
            one.id
            for one in rollouts.list("acme", RolloutFilter(state=state, product=product), after=after, limit=limit)
        ]

    assert found() == ["rol_3", "rol_2", "rol_1", "rol_0"]
    assert found(state=State.RUNNING) == ["rol_3", "rol_2", "rol_0"]
    assert found(state=State.RUNNING, product="player") == ["rol_3", "rol_0"]
    assert found(limit=2) == ["rol_3", "rol_2"]
    assert found(after="rol_2", limit=2) == ["rol_1", "rol_0"]
    assert rollouts.count("acme") == 4
    assert rollouts.count("acme", RolloutFilter(state=State.RUNNING, product="player")) == 2


def test_rollouts_are_sorted_by_product_and_paged_across_equal_ones(rollouts: SqlRollouts) -> None:
    for number, product in enumerate(("player", "shell", "player", "app")):
        rollouts.add(a_rollout(f"rol_{number}", product=product), CREATED)

    def found(sort: str, after: str | None = None) -> list[str]:
        return [one.id for one in rollouts.list("acme", sort=sort, after=after, limit=50)]

    assert found("product") == ["rol_3", "rol_0", "rol_2", "rol_1"]
    assert found("-product") == ["rol_1", "rol_2", "rol_0", "rol_3"]
    assert found("product", after="rol_0 player") == ["rol_2", "rol_1"]
    assert found("-product", after="rol_2 player") == ["rol_0", "rol_3"]
    assert found("created_at", after="rol_1") == ["rol_2", "rol_3"]


def test_devices_of_a_group_are_told_with_what_they_run(database: Database) -> None:
    inventory = SqlInventory(database)
    with database.write() as connection:
        group = {"id": "grp_1", "org": "acme", "name": "g", "description": "", "created_at": NOON, "revision": 1}
        connection.execute(insert(groups), group)
        for number, status in enumerate(("active", "active", "revoked")):
            row = {"id": f"dev_{number}", "org": "acme", "name": f"d{number}", "status": status, "platform": "any"}
            said = {"hostname": "", "os_family": "", "os_name": "", "agent_version": "", "labels": {}, "state": ""}
            connection.execute(insert(devices), {**row, **said, "created_at": NOON})
            connection.execute(insert(group_devices), {"group_id": "grp_1", "device": f"dev_{number}", "org": "acme"})
        for product in ("player", "shell"):
            runs = {"device": "dev_1", "product": product, "org": "acme", "version": "1.0", "path": "p", "sha256": "x"}
            connection.execute(insert(device_running), {**runs, "rollout": "", "order_key": order_key("1.0")})
    assert inventory.facts("acme", "g", "player", limit=10) == [
        DeviceFacts(device="dev_0", name="d0", platform="any", version=None),
        DeviceFacts(device="dev_1", name="d1", platform="any", version="1.0"),
    ]
    assert [one.device for one in inventory.facts("acme", "g", "player", limit=1)] == ["dev_0"]
    assert sorted(inventory.kinds("acme", "g", "player"), key=lambda kind: kind.version or "") == [
        Kind("any", None, 1),
        Kind("any", "1.0", 1),
    ]
    assert inventory.facts("rival", "g", "player", limit=10) == []
    assert inventory.kinds("acme", "none", "player") == []


def test_devices_are_listed_by_id_filtered_and_paged(rollouts: SqlRollouts) -> None:
    rollouts.add(a_rollout("rol_1"), CREATED)
    for device, wave, progress in (
        ("dev_3", 1, Progress.SUCCEEDED),
        ("dev_1", 1, Progress.FAILED),
        ("dev_2", 2, Progress.SUCCEEDED),
    ):
        rollouts.update_progress("acme", "rol_1", device, put(device, wave, progress))

    def found(
        *, wave: int | None = None, progress: Progress | None = None, after: str | None = None, limit: int = 50
    ) -> list[str]:
        listed = rollouts.devices("acme", "rol_1", DeviceFilter(wave=wave, progress=progress), after=after, limit=limit)
        return [one.device for one in listed]

    assert found() == ["dev_1", "dev_2", "dev_3"]
    assert found(wave=1) == ["dev_1", "dev_3"]
    assert found(wave=1, progress=Progress.SUCCEEDED) == ["dev_3"]
    assert found(after="dev_1", limit=1) == ["dev_2"]
    with pytest.raises(UnknownRollout):
        rollouts.devices("rival", "rol_1", after=None, limit=50)


def test_a_recount_tells_what_the_counters_should_say(rollouts: SqlRollouts, database: Database) -> None:
    rollouts.add(a_rollout("rol_1"), CREATED)
    for number, progress in enumerate(Progress):
        rollouts.update_progress("acme", "rol_1", f"dev_{number}", put(f"dev_{number}", 1, progress, finishes=number))
    rollouts.update_progress("acme", "rol_1", "dev_9", put("dev_9", 2, Progress.FAILED, finishes=1))
    told = {
        1: Counters(acting=5, succeeded=1, failed=1, rolled_back=1, finishes=10),
        2: Counters(acting=1, failed=1, finishes=1),
    }
    assert rollouts.counters("rol_1") == told
    with database.write() as connection:
        connection.execute(update(rollout_counters).values(failed=77))
    kept, counted = rollouts.recount("acme", "rol_1")
    assert counted == told
    assert kept == rollouts.counters("rol_1")
    assert kept[2].failed == 77
    with pytest.raises(UnknownRollout):
        rollouts.recount("rival", "rol_1")


def test_where_else_devices_reported_is_of_the_same_product(rollouts: SqlRollouts) -> None:
    for name, product in (("rol_1", "player"), ("rol_2", "player"), ("rol_3", "shell"), ("rol_4", "player")):
        rollouts.add(a_rollout(name, product=product), CREATED)
    for name, device in (
        ("rol_1", "dev_1"),
        ("rol_2", "dev_1"),
        ("rol_3", "dev_1"),
        ("rol_4", "dev_1"),
        ("rol_4", "dev_2"),
    ):
        rollouts.update_progress("acme", name, device, put(device, 1, Progress.SUCCEEDED))
    found = rollouts.reported_elsewhere(rollouts.get("acme", "rol_1"), ["dev_1", "dev_2", "dev_3"])
    assert {device: [one.id for one in others] for device, others in found.items()} == {
        "dev_1": ["rol_2", "rol_4"],
        "dev_2": ["rol_4"],
    }
    assert rollouts.reported_elsewhere(rollouts.get("acme", "rol_1"), []) == {}


def test_who_lost_the_lease_decides_nothing_more(rollouts: SqlRollouts, database: Database) -> None:
    rollouts.add(a_rollout("rol_1"), CREATED)
    leases = Leases(database)
    lease = leases.take("scheduler/acme", "one", life=timedelta(hours=1))
    assert lease is not None
    leader = rollouts.under(lease)
    leader.save(replace(a_rollout("rol_1"), revision=2), [], seen=1)
    third = replace(a_rollout("rol_1"), revision=3)
    intent = Intent(id="int_1", seen=2, after=third, events=(), decision_hash="", changes={}, proposed_at=NOON)
    leader.propose(intent)
    assert leader.standing(intent)
    leases.give_up(lease)
    assert leases.take("scheduler/acme", "two", life=timedelta(hours=1)) is not None
    assert not leader.standing(intent)
    assert rollouts.standing(intent)
    # What was signed before the lease was lost is settled all the same: the state must follow what is served.
    leader.settle(intent)
    assert rollouts.get("acme", "rol_1").revision == 3
    with pytest.raises(RolloutChanged, match="the lease scheduler/acme was lost"):
        leader.save(replace(third, revision=4), [], seen=3)
    with pytest.raises(RolloutChanged, match="the lease scheduler/acme was lost"):
        leader.propose(replace(intent, seen=3, after=replace(third, revision=4)))
    assert rollouts.get("acme", "rol_1").revision == 3


def test_writers_in_other_processes_lose_no_revision_and_no_event(database_url: str) -> None:
    database = Database(database_url)
    rollouts = SqlRollouts(database)
    rollouts.add(a_rollout("rol_1"), CREATED)
    context = multiprocessing.get_context("spawn")
    with context.Pool(WRITERS) as pool:
        won = pool.map(write_ten_revisions, [database_url] * WRITERS)
        pool.close()
        pool.join()
    assert won == [10] * WRITERS
    assert rollouts.get("acme", "rol_1").revision == 41
    found = AuditLog(database).events("acme", limit=1_000)
    assert [one.seq for one in found] == list(range(1, 42))
    assert [one.event.data["revision"] for one in found[1:]] == list(range(2, 42))
    database.close()


def write_ten_revisions(url: str) -> int:
    """Run in a process of its own: look, decide and save until ten saves were the first on their revision."""
    database = Database(url)
    rollouts = SqlRollouts(database)
    won = 0
    while won < 10:
        seen = rollouts.get("acme", "rol_1")
        after = replace(seen, revision=seen.revision + 1)
        event = AuditEvent("rollout.saved", "rol_1", ADA, NOON, {"revision": after.revision})
        try:
            rollouts.save(after, [event], seen=seen.revision)
        except RolloutChanged:
            continue
        won += 1
    database.close()
    return won


CREATED = AuditEvent("rollout.created", "rol_1", ADA, NOON, {"revision": 1})


def a_rollout(rollout_id: str, *, product: str = "player") -> Rollout:
    plan = Plan(
        product=product,
        version="2.4.1",
        channel="stable",
        artifacts={"any": ArtifactRef(id="art_1", path=f"{product}/2.4.1/any/p.tar", length=7, sha256="ab" * 32)},
        waves=(WavePlan(group="canary"), WavePlan(group="everyone")),
    )
    return Rollout(
        id=rollout_id,
        org="acme",
        plan=plan,
        plan_hash=plan.hash(),
        created_by=ADA,
        created_at=NOON,
        salt="00" * 16,
        waves=(Wave(), Wave()),
    )


def put(device: str, wave: int, progress: Progress, *, finishes: int = 0) -> ProgressChange:
    row = DeviceProgress(device=device, wave=wave, attempt=1, progress=progress, at=NOON, finishes=finishes)
    return lambda rollout, before: row
