"""What ``fleet.ports.Fleet`` promises of devices with codes: the same lines against the simulator, SQLite and
PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from fleet.errors import DeviceExists, EnrolmentRefused, UnknownDevice
from fleet.model import Device, DeviceCode, DeviceEdit, DeviceStatus
from fleet.ports import Fleet
from fleet.selector import parse
from store.audit import AuditLog
from store.database import Database
from store.fleet import SqlFleet
from tests.integration.contracts.fleet_samples import NOON, a_certificate, a_device, a_group, an_event
from tests.simulators.fleet import FleetSimulator

LATER = NOON + timedelta(hours=1)


@pytest.fixture(params=["simulator", "sqlite", "postgresql"])
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    if request.param == "simulator":
        yield FleetSimulator()
        return
    database = Database(request.getfixturevalue(f"{request.param}_database_url"))
    yield SqlFleet(database)
    database.close()


def a_code(number: int, device: int = 1) -> DeviceCode:
    return DeviceCode(
        id=f"cod_{number}",
        org="acme",
        device=f"dev_{device}",
        sha256=f"{number:064x}",
        created_by="usr_ADA",
        created_at=NOON,
        expires_at=NOON + timedelta(days=30),
    )


def pending(number: int = 1, **more: object) -> Device:
    return replace(a_device(number), status=DeviceStatus.PENDING, **more)  # type: ignore[arg-type]


def add(fleet: Fleet, *added: tuple[Device, DeviceCode]) -> None:
    fleet.add_devices("acme", added, [an_event("device.created") for _ in added])


def use(fleet: Fleet, number: int, *, at: datetime = LATER, certificate: int = 1, org: str = "acme") -> None:
    known = a_device(1)
    told = replace(known, platform="linux-arm64", hostname="h1", agent_version="0.1.0")
    proof = replace(a_certificate(certificate), device="dev_1")
    fleet.enrol_by_code(org, f"{number:064x}", told, proof, an_event("device.enrolled"), now=at)


def test_a_device_waits_in_its_groups_until_its_code_is_used(fleet: Fleet) -> None:
    fleet.add_group(a_group(1), an_event("group.created"))
    fleet.add_group(replace(a_group(2), selector="labels.site = berlin"), an_event("group.created"))
    add(fleet, (pending(groups=("group-1",), labels={"site": "berlin"}, platform=""), a_code(1)))
    waiting = fleet.device("acme", "device-1")
    assert (waiting.status, waiting.platform, waiting.groups) == (DeviceStatus.PENDING, "", ("group-1", "group-2"))
    assert fleet.group("acme", "group-1").devices == 1
    assert fleet.preview("acme", parse("labels.site = berlin"), now=NOON, limit=1).active == 0
    assert fleet.code(f"{1:064x}") == a_code(1)

    use(fleet, 1)

    there = fleet.device("acme", "device-1")
    assert (there.status, there.platform, there.hostname) == (DeviceStatus.ACTIVE, "linux-arm64", "h1")
    assert (there.groups, there.labels) == (("group-1", "group-2"), {"site": "berlin"})
    assert fleet.device_by_fingerprint("f1" * 32) == (there, a_certificate(1))
    assert fleet.group("acme", "group-1").devices == 1
    assert fleet.preview("acme", parse("labels.site = berlin"), now=NOON, limit=1).active == 1
    assert fleet.code(f"{1:064x}") == replace(a_code(1), used_at=LATER)


def test_devices_are_made_and_edited_in_one_step(fleet: Fleet) -> None:
    for number in (1, 2):
        fleet.add_group(a_group(number), an_event("group.created"))
    fleet.add_group(replace(a_group(3), selector="labels.site = berlin"), an_event("group.created"))
    add(fleet, (pending(groups=("group-1",), labels={"site": "oslo"}), a_code(1)), (pending(2), a_code(2, device=2)))
    moved = DeviceEdit(device="dev_1", labels={"site": "berlin"}, joins=("group-2", "gone"), leaves=("group-1",))
    joined = DeviceEdit(device="dev_2", joins=("group-1",))
    more = [(pending(3, labels={"site": "berlin"}), a_code(3, device=3))]
    fleet.add_devices("acme", more, [an_event("device.imported")] * 3, edits=[moved, joined])
    there = fleet.devices_named("acme", ["device-1", "device-2", "device-3", "device-9"])
    assert {name: (one.groups, dict(one.labels)) for name, one in there.items()} == {
        "device-1": (("group-2", "group-3"), {"site": "berlin"}),
        "device-2": (("group-1",), {}),
        "device-3": (("group-3",), {"site": "berlin"}),
    }
    assert [fleet.group("acme", f"group-{number}").devices for number in (1, 2, 3)] == [1, 1, 2]
    assert fleet.devices_named("rival", ["device-1"]) == {}
    assert (fleet.selector_groups("acme"), fleet.selector_groups("rival")) == (frozenset({"group-3"}), frozenset())


def test_an_edit_of_a_device_that_is_gone_keeps_all_from_being_stored(fleet: Fleet) -> None:
    add(fleet, (pending(labels={"site": "oslo"}), a_code(1)))
    edits = [DeviceEdit(device="dev_1", labels={}), DeviceEdit(device="dev_9", labels={})]
    with pytest.raises(UnknownDevice):
        fleet.add_devices("acme", [(pending(2), a_code(2, device=2))], [an_event("device.imported")] * 3, edits=edits)
    assert fleet.device("acme", "dev_1").labels == {"site": "oslo"}
    with pytest.raises(UnknownDevice):
        fleet.device("acme", "dev_2")


def test_one_taken_name_of_many_keeps_all_from_being_made(fleet: Fleet) -> None:
    add(fleet, (pending(), a_code(1)))
    with pytest.raises(DeviceExists, match="device-1"):
        add(fleet, (pending(2), a_code(2, 2)), (pending(3, name="device-1"), a_code(3, 3)))
    assert fleet.count_devices("acme", filters={}) == 1
    assert fleet.code(f"{2:064x}") is None


def test_fifty_racers_on_one_code_make_one_winner(fleet: Fleet) -> None:
    add(fleet, (pending(), a_code(1)))

    def race(number: int) -> str | None:
        try:
            use(fleet, 1, certificate=number)
        except EnrolmentRefused:
            return None
        return f"f{number}" * 32

    with ThreadPoolExecutor(16) as pool:
        won = [one for one in pool.map(race, range(50)) if one is not None]
    assert len(won) == 1
    assert fleet.device_by_fingerprint(won[0])[0].id == "dev_1"
    lost = 1 if won[0] != "f1" * 32 else 2
    with pytest.raises(UnknownDevice):
        fleet.device_by_fingerprint(f"f{lost}" * 32)


@pytest.mark.parametrize(
    ("number", "at", "org", "why"),
    [
        (2, LATER, "acme", "unknown"),
        (1, NOON + timedelta(days=30), "acme", "expired at this very moment"),
        (1, LATER, "rival", "another organisation's"),
    ],
)
def test_a_code_that_does_not_count_changes_nothing(
    fleet: Fleet, number: int, at: datetime, org: str, why: str
) -> None:
    add(fleet, (pending(), a_code(1)))
    with pytest.raises(EnrolmentRefused):
        use(fleet, number, at=at, org=org)
    assert fleet.device("acme", "dev_1").status is DeviceStatus.PENDING
    assert fleet.code(f"{1:064x}") == a_code(1)


def test_a_newer_code_ends_the_earlier_one_and_its_use_ends_all_certificates(fleet: Fleet) -> None:
    add(fleet, (pending(), a_code(1)))
    use(fleet, 1)
    fleet.add_certificate(replace(a_certificate(2), device="dev_1"), an_event("renewed"), "acme")
    fleet.put_code(a_code(2), an_event("device.code.created"))
    fleet.put_code(a_code(3), an_event("device.code.created"))
    assert (fleet.code(f"{1:064x}"), fleet.code(f"{2:064x}")) == (None, None)
    assert fleet.device_by_fingerprint("f2" * 32)[0].status is DeviceStatus.ACTIVE
    with pytest.raises(EnrolmentRefused):
        use(fleet, 2, certificate=3)

    use(fleet, 3, certificate=3)

    for ended in ("f1", "f2"):
        with pytest.raises(UnknownDevice):
            fleet.device_by_fingerprint(ended * 32)
    assert fleet.device_by_fingerprint("f3" * 32)[0].id == "dev_1"
    with pytest.raises(UnknownDevice):
        fleet.put_code(replace(a_code(4), org="rival"), an_event("device.code.created"))


def test_a_device_that_is_revoked_or_deleted_has_no_code(fleet: Fleet) -> None:
    add(fleet, (pending(), a_code(1)), (pending(2), a_code(2, 2)))
    fleet.revoke("acme", "dev_1", an_event("device.revoked"))
    fleet.delete("acme", "dev_2", an_event("device.deleted"))
    assert (fleet.code(f"{1:064x}"), fleet.code(f"{2:064x}")) == (None, None)

    fleet.put_code(a_code(3), an_event("device.code.created"))
    use(fleet, 3)
    assert fleet.device("acme", "dev_1").status is DeviceStatus.ACTIVE


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_waves_count_a_device_from_its_enrolment_to_its_revocation(kind: str, request: pytest.FixtureRequest) -> None:
    database = Database(request.getfixturevalue(f"{kind}_database_url"))
    fleet = SqlFleet(database)
    fleet.add_group(a_group(1), an_event("group.created"))
    fleet.add_group(replace(a_group(2), selector="platform = linux-arm64"), an_event("group.created"))
    add(fleet, (pending(groups=("group-1",), platform=""), a_code(1)))

    def sizes() -> list[int]:
        return [fleet.size("acme", name) for name in ("group-1", "group-2")]

    assert (sizes(), fleet.members("acme", "group-1")) == ([0, 0], [])
    use(fleet, 1)
    assert (sizes(), fleet.members("acme", "group-1")) == ([1, 1], ["dev_1"])
    fleet.put_code(a_code(2), an_event("device.code.created"))
    use(fleet, 2, certificate=2)
    assert sizes() == [1, 1]
    fleet.revoke("acme", "dev_1", an_event("device.revoked"))
    assert sizes() == [0, 0]
    fleet.put_code(a_code(3), an_event("device.code.created"))
    use(fleet, 3, certificate=3)
    assert sizes() == [1, 1]
    add(fleet, (pending(2, groups=("group-1",)), a_code(4, 2)))
    fleet.delete("acme", "dev_2", an_event("device.deleted"))
    assert (sizes(), fleet.group("acme", "group-1").devices) == ([1, 1], 1)
    tags = [one.event.tag for one in AuditLog(database).events("acme", limit=200)]
    assert (tags.count("device.created"), tags.count("device.enrolled"), tags.count("device.code.created")) == (2, 3, 2)
    database.close()
