"""What the store answers about the fleet beyond its port: what rollouts and check-ins ask."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert

from evidence.model import Actor, ActorKind, AuditEvent
from fleet.errors import GroupInUse, InvalidFleetInput, UnknownGroup
from fleet.model import Certificate, CheckIn, Device, DeviceStatus, EnrolToken, Group, Running
from rollout.model import ArtifactRef, Plan, Rollout, State, Wave, WavePlan
from store.audit import AuditLog
from store.database import Database
from store.fleet import SqlFleet
from store.fleet_rows import device_row
from store.models import devices
from store.rollouts import SqlRollouts

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ADA = Actor(ActorKind.USER, "usr_ADA", "Ada")
EVENT = AuditEvent("something.happened", "subject", ADA, NOON)


@pytest.fixture
def fleet(database: Database) -> SqlFleet:
    """Five devices, four in ``canary``; ``dev_4`` is revoked, ``dev_5`` waits in ``lab``."""
    fleet = SqlFleet(database)
    for number, name in ((1, "canary"), (2, "everyone"), (3, "lab")):
        fleet.add_group(Group(id=f"grp_{number}", org="acme", name=name, description="", created_at=NOON), EVENT)
    fleet.add_token(TOKEN, EVENT)
    for number in range(1, 6):
        enrol(fleet, number)
        fleet.join("acme", "grp_3" if number == 5 else "grp_1", f"dev_{number}", EVENT)
    fleet.revoke("acme", "dev_4", EVENT)
    return fleet


def test_a_group_s_size_and_members_are_its_active_devices(fleet: SqlFleet) -> None:
    assert fleet.size("acme", "canary") == 3
    assert fleet.members("acme", "canary") == ["dev_1", "dev_2", "dev_3"]
    assert fleet.size("acme", "everyone") == 0
    assert fleet.members("acme", "nobody") == []
    assert fleet.size("rival", "canary") == 0
    assert fleet.members("rival", "canary") == []


def test_groups_that_are_not_there_are_named_in_the_order_asked(fleet: SqlFleet) -> None:
    assert fleet.missing("acme", ["z", "canary", "a"]) == ["z", "a"]
    assert fleet.missing("rival", ["canary"]) == ["canary"]
    assert fleet.missing("acme", []) == []


def test_the_groups_of_a_device_are_told_by_name(fleet: SqlFleet) -> None:
    fleet.join("acme", "grp_2", "dev_1", EVENT)
    assert fleet.of_device("acme", "dev_1") == frozenset({"canary", "everyone"})
    assert fleet.of_device("acme", "dev_9") == frozenset()
    assert fleet.of_device("rival", "dev_1") == frozenset()


def test_products_are_those_of_rollouts_for_the_groups_named(fleet: SqlFleet, database: Database) -> None:
    rollouts = SqlRollouts(database)
    for number, (product, group, state) in enumerate(
        [
            ("player", "canary", State.RUNNING),
            ("player", "canary", State.ABORTED),
            ("shell", "canary", State.COMPLETED),
            ("draft", "canary", State.DRAFT),
            ("other", "lab", State.RUNNING),
        ]
    ):
        rollouts.add(a_rollout(f"rol_{number}", product, group, state), EVENT)
    assert fleet.products_of("acme", fleet.of_device("acme", "dev_1")) == ["player", "shell"]
    assert fleet.products_of("acme", ["lab"]) == ["other"]
    assert fleet.products_of("acme", ["lab", "canary"]) == ["other", "player", "shell"]
    assert fleet.products_of("rival", ["canary"]) == []
    fleet.leave("acme", "grp_1", "dev_1", EVENT)
    assert fleet.products_of("acme", fleet.of_device("acme", "dev_1")) == []


@pytest.mark.parametrize("state", [State.DRAFT, State.WAITING, State.RUNNING, State.PAUSED])
def test_a_group_that_a_rollout_needs_stays(fleet: SqlFleet, database: Database, state: State) -> None:
    SqlRollouts(database).add(a_rollout("rol_1", "player", "canary", state), EVENT)
    with pytest.raises(GroupInUse, match="the group canary is in use by rol_1"):
        fleet.delete_group("acme", "grp_1", EVENT)
    assert fleet.group("acme", "canary").devices == 4


@pytest.mark.parametrize("state", [State.COMPLETED, State.ABORTED, State.SUPERSEDED])
def test_a_group_of_rollouts_that_are_over_may_go(fleet: SqlFleet, database: Database, state: State) -> None:
    SqlRollouts(database).add(a_rollout("rol_1", "player", "canary", state), EVENT)
    SqlRollouts(database).add(a_rollout("rol_2", "player", "lab", State.RUNNING), EVENT)
    fleet.delete_group("acme", "grp_1", EVENT)
    with pytest.raises(UnknownGroup):
        fleet.group("acme", "canary")
    assert fleet.device("acme", "dev_1").groups == ()


def test_check_ins_are_stored_together_and_those_of_gone_devices_passed_over(
    fleet: SqlFleet, database: Database
) -> None:
    told = AuditLog(database).count("acme")
    player = Running(product="player", version="2", path="player/2/any/p", sha256="ab" * 32, rollout="rol_1")
    said = {f"dev_{number}": replace(SAID, running=(player,)) for number in (3, 1, 9)}
    assert fleet.check_in_many("acme", said) == 2
    assert fleet.device("acme", "dev_1").running == {"player": player}
    assert fleet.device("acme", "dev_3").last_seen_at == NOON
    assert fleet.device("acme", "dev_2").running == {}
    assert fleet.check_in_many("rival", said) == 0
    assert fleet.check_in_many("acme", {}) == 0
    assert AuditLog(database).count("acme") == told


def test_a_thousand_check_ins_are_one_transaction(fleet: SqlFleet, database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(devices), [device_row(a_device(number), {}) for number in range(6, 1_001)])
    said = {f"dev_{number}": replace(SAID, state=f"s{number}") for number in range(1, 1_001)}
    assert fleet.check_in_many("acme", said) == 1_000
    assert fleet.device("acme", "dev_777").state == "s777"
    assert fleet.count_devices("acme", filters={}) == 1_000


def test_times_of_calls_are_stored_together_and_those_of_gone_devices_passed_over(
    fleet: SqlFleet, database: Database
) -> None:
    told = AuditLog(database).count("acme")
    before = fleet.device("acme", "dev_1")
    seen = {"dev_3": NOON, "dev_1": NOON + timedelta(seconds=1), "dev_9": NOON}
    assert fleet.seen_many("acme", seen) == 2
    assert fleet.device("acme", "dev_1") == replace(before, last_seen_at=NOON + timedelta(seconds=1))
    assert fleet.device("acme", "dev_3").last_seen_at == NOON
    assert fleet.device("acme", "dev_2").last_seen_at is None
    assert fleet.seen_many("rival", {"dev_1": NOON}) == 0
    assert fleet.seen_many("acme", {}) == 0
    assert fleet.device("acme", "dev_1").last_seen_at == NOON + timedelta(seconds=1)
    assert AuditLog(database).count("acme") == told


def test_a_device_that_is_seen_joins_the_group_of_those_seen_lately(fleet: SqlFleet) -> None:
    lately = Group(id="grp_4", org="acme", name="lately", description="", created_at=NOON, selector="last_seen < 5m")
    fleet.add_group(lately, EVENT)
    assert fleet.seen_many("acme", {"dev_1": NOON}) == 1
    assert fleet.members("acme", "lately") == ["dev_1"]


def test_names_are_told_for_devices_that_are_there(fleet: SqlFleet) -> None:
    assert fleet.names("acme", ["dev_1", "dev_9", "dev_2"]) == {"dev_1": "device-1", "dev_2": "device-2"}
    assert fleet.names("rival", ["dev_1"]) == {}


def test_groups_and_tokens_are_counted(fleet: SqlFleet) -> None:
    assert fleet.count_groups("acme") == 3
    assert fleet.count_tokens("acme") == 1
    assert (fleet.count_groups("rival"), fleet.count_tokens("rival")) == (0, 0)


def test_a_filter_that_is_not_there_is_refused(fleet: SqlFleet) -> None:
    with pytest.raises(InvalidFleetInput, match="no filter 'colour' for devices; there are status, platform, group"):
        fleet.devices("acme", after=None, limit=5, filters={"colour": "red"})


def test_a_device_named_like_another_s_id_does_not_hide_it(fleet: SqlFleet) -> None:
    enrol(fleet, 6, name="dev_1")
    assert fleet.device("acme", "dev_1").name == "device-1"


TOKEN = EnrolToken(
    id="tok_1",
    org="acme",
    name="all",
    sha256="0a" * 32,
    created_by="usr_ADA",
    created_at=NOON,
    expires_at=NOON + timedelta(days=1),
    max_uses=10_000,
)

SAID = CheckIn(
    agent_version="0.1.0",
    hostname="h",
    os_family="linux",
    os_name="Debian 12",
    platform="any",
    running=(),
    state="",
    at=NOON,
)


def a_device(number: int, *, name: str = "") -> Device:
    return Device(
        id=f"dev_{number}",
        org="acme",
        name=name or f"device-{number}",
        status=DeviceStatus.ACTIVE,
        platform="any",
        created_at=NOON,
    )


def enrol(fleet: SqlFleet, number: int, *, name: str = "") -> None:
    device = a_device(number, name=name)
    certificate = Certificate(
        fingerprint=f"{number:064x}", serial=f"{number:x}", device=device.id, not_before=NOON, not_after=NOON
    )
    fleet.enrol("acme", TOKEN.sha256, device, certificate, EVENT, now=NOON)


def a_rollout(rollout_id: str, product: str, group: str, state: State) -> Rollout:
    plan = Plan(
        product=product,
        version="1",
        channel="stable",
        artifacts={"any": ArtifactRef(id="art_1", path=f"{product}/1/any/p", length=7, sha256="ab" * 32)},
        waves=(WavePlan(group=group),),
    )
    return Rollout(
        id=rollout_id,
        org="acme",
        plan=plan,
        plan_hash=plan.hash(),
        created_by=ADA,
        created_at=NOON,
        salt="00" * 16,
        state=state,
        waves=(Wave(),),
    )
