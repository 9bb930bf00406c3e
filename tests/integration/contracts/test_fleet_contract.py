"""What ``fleet.ports.Fleet`` promises: the same lines against the simulator, SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from fleet.errors import (
    DeviceExists,
    EnrolmentRefused,
    GroupChanged,
    GroupExists,
    GroupInUse,
    UnknownDevice,
    UnknownGroup,
    UnknownToken,
    WrongGroupKind,
)
from fleet.model import DeviceStatus, Running
from fleet.ports import Fleet
from fleet.selector import parse
from store.audit import AuditLog
from store.database import Database
from store.fleet import SqlFleet
from tests.integration.contracts.fleet_samples import (
    NOON,
    SAID,
    TOKEN,
    a_certificate,
    a_device,
    a_group,
    an_event,
    enrol,
)
from tests.simulators.fleet import FleetSimulator


@dataclass
class Subject:
    """A fleet, and the tags of its events in order."""

    fleet: Fleet
    tags: Callable[[], Sequence[str]]


@pytest.fixture(params=["simulator", "sqlite", "postgresql"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "simulator":
        simulator = FleetSimulator()
        yield Subject(simulator, lambda: [event.tag for event in simulator.events])
        return
    database = Database(request.getfixturevalue(f"{request.param}_database_url"))
    log = AuditLog(database)
    yield Subject(SqlFleet(database), lambda: [one.event.tag for one in log.events("acme", limit=200)])
    database.close()


@pytest.fixture
def fleet(subject: Subject) -> Fleet:
    return subject.fleet


def test_an_enrolled_device_has_the_token_s_groups_and_labels(subject: Subject) -> None:
    fleet = subject.fleet
    fleet.add_group(a_group(1), an_event("group.created"))
    fleet.add_token(replace(TOKEN, groups=("group-1",), labels={"site": "berlin"}), an_event("token.created"))
    enrol(fleet, replace(a_device(1), labels={"site": "self-made", "rack": "7"}))
    shown = fleet.device("acme", "dev_1")
    assert shown.groups == ("group-1",)
    assert shown.labels == {"site": "berlin", "rack": "7"}
    assert shown.status is DeviceStatus.ACTIVE
    assert fleet.device("acme", "device-1") == shown
    assert fleet.device_by_fingerprint("f1" * 32) == (shown, a_certificate(1))
    assert fleet.token(TOKEN.sha256).uses == 1
    assert subject.tags() == ["group.created", "token.created", "device.enrolled"]


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (None, "unknown"),
        ({"expires_at": NOON}, "expired at this very moment"),
        ({"max_uses": 1, "uses": 1}, "used up"),
        ({"org": "rival"}, "another organisation's"),
    ],
)
def test_a_token_that_does_not_count_enrols_nobody(subject: Subject, token: dict[str, object] | None, why: str) -> None:
    fleet = subject.fleet
    if token is not None:
        fleet.add_token(replace(TOKEN, **token), an_event("token.created"))  # type: ignore[arg-type]
    told = subject.tags()
    with pytest.raises(EnrolmentRefused):
        enrol(fleet, a_device(1))
    with pytest.raises(UnknownDevice):
        fleet.device("acme", "dev_1")
    with pytest.raises(UnknownDevice):
        fleet.device_by_fingerprint("f1" * 32)
    assert subject.tags() == told


def test_a_taken_name_uses_up_no_place(subject: Subject) -> None:
    fleet = subject.fleet
    fleet.add_token(TOKEN, an_event("token.created"))
    enrol(fleet, a_device(1))
    with pytest.raises(DeviceExists):
        enrol(fleet, replace(a_device(2), name="device-1"), number=2)
    assert fleet.token(TOKEN.sha256).uses == 1
    assert subject.tags() == ["token.created", "device.enrolled"]


def test_fifty_racers_on_three_places_make_three_devices(fleet: Fleet) -> None:
    fleet.add_token(replace(TOKEN, max_uses=3), an_event("token.created"))

    def race(number: int) -> bool:
        try:
            enrol(fleet, a_device(number), number=number)
        except EnrolmentRefused:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(race, range(50))) == 3
    assert fleet.count_devices("acme", filters={}) == 3
    assert fleet.token(TOKEN.sha256).uses == 3


def test_a_renewed_certificate_stands_beside_the_old_one(fleet: Fleet) -> None:
    fleet.add_token(TOKEN, an_event("token.created"))
    enrol(fleet, a_device(1))
    renewed = replace(a_certificate(2), device="dev_1")
    fleet.add_certificate(renewed, an_event("device.certificate.renewed"), "acme")
    assert fleet.device_by_fingerprint("f2" * 32)[1] == renewed
    assert fleet.device_by_fingerprint("f1" * 32)[0].id == "dev_1"
    with pytest.raises(UnknownDevice):
        fleet.add_certificate(replace(a_certificate(3), device="dev_1"), an_event("x"), "rival")


def test_a_device_is_found_by_its_certificate_with_all_its_groups_and_programs_whatever_they_are_called(
    fleet: Fleet,
) -> None:
    for number in (3, 1, 2):
        fleet.add_group(a_group(number), an_event("group.created"))
    fleet.add_token(replace(TOKEN, labels={"site": 'Köln "Süd"'}), an_event("token.created"))
    enrol(fleet, a_device(1))
    for number in (3, 1):
        fleet.join("acme", f"grp_{number}", "dev_1", an_event("group.device.added"))
    odd = Running(product="zeit", version="1 \"β\" \\ 'x', [null]", path="zeit/⏱/p", sha256="ab" * 32, rollout="")
    plain = Running(product="app", version="2", path="app/2/any/a", sha256="cd" * 32, rollout="rol_1")
    fleet.check_in("acme", "dev_1", replace(SAID, running=(odd, plain)))

    found, certificate = fleet.device_by_fingerprint("f1" * 32)

    assert certificate == a_certificate(1)
    assert (found.groups, found.held_back) == (("group-1", "group-3"), ())
    assert found.running == {"app": plain, "zeit": odd}
    assert found == fleet.device("acme", "dev_1")


def test_a_check_in_replaces_what_the_device_said_before(subject: Subject) -> None:
    fleet = subject.fleet
    fleet.add_token(TOKEN, an_event("token.created"))
    enrol(fleet, a_device(1))
    player = Running(product="player", version="2", path="player/2/any/p", sha256="ab" * 32, rollout="rol_1")
    shell = Running(product="shell", version="1", path="shell/1/any/s", sha256="cd" * 32)
    fleet.check_in("acme", "dev_1", replace(SAID, running=(player, shell)))
    newer = replace(player, version="3")
    fleet.check_in("acme", "dev_1", replace(SAID, running=(newer,), state="idle", at=NOON + timedelta(hours=1)))
    shown = fleet.device("acme", "dev_1")
    assert fleet.device_by_fingerprint("f1" * 32) == (shown, a_certificate(1))
    assert shown.running == {"player": newer}
    assert (shown.state, shown.last_seen_at) == ("idle", NOON + timedelta(hours=1))
    assert (shown.hostname, shown.os_family, shown.os_name, shown.agent_version) == ("h", "linux", "Debian 12", "0.1.0")
    assert shown.platform == "linux-arm64"
    assert subject.tags() == ["token.created", "device.enrolled"]


def test_a_check_in_without_a_platform_leaves_the_one_enrolled_with(fleet: Fleet) -> None:
    fleet.add_token(TOKEN, an_event("token.created"))
    enrol(fleet, a_device(1))
    fleet.check_in("acme", "dev_1", replace(SAID, platform=""))
    assert fleet.device("acme", "dev_1").platform == "linux-amd64"


def test_a_revoked_device_is_still_known_by_its_certificate(subject: Subject) -> None:
    fleet = subject.fleet
    fleet.add_token(TOKEN, an_event("token.created"))
    enrol(fleet, a_device(1))
    fleet.revoke("acme", "dev_1", an_event("device.revoked"))
    assert fleet.device_by_fingerprint("f1" * 32)[0].status is DeviceStatus.REVOKED
    assert subject.tags() == ["token.created", "device.enrolled", "device.revoked"]


def test_a_deleted_device_is_gone_with_its_certificates_and_groups(subject: Subject) -> None:
    fleet = subject.fleet
    fleet.add_group(a_group(1), an_event("group.created"))
    fleet.add_token(replace(TOKEN, groups=("group-1",)), an_event("token.created"))
    enrol(fleet, a_device(1))
    fleet.check_in("acme", "dev_1", replace(SAID, running=(Running(product="p", version="1", path="x", sha256="y"),)))
    fleet.delete("acme", "dev_1", an_event("device.deleted"))
    with pytest.raises(UnknownDevice):
        fleet.device("acme", "dev_1")
    with pytest.raises(UnknownDevice):
        fleet.device_by_fingerprint("f1" * 32)
    assert fleet.group("acme", "group-1").devices == 0
    assert subject.tags()[-2:] == ["device.enrolled", "device.deleted"]


def test_what_is_not_there_is_unknown_and_leaves_no_event(subject: Subject) -> None:
    fleet = subject.fleet
    event = an_event("never")
    for unknown_device in (
        lambda: fleet.device("acme", "dev_1"),
        lambda: fleet.check_in("acme", "dev_1", SAID),
        lambda: fleet.revoke("acme", "dev_1", event),
        lambda: fleet.delete("acme", "dev_1", event),
        lambda: fleet.device_by_fingerprint("00" * 32),
    ):
        with pytest.raises(UnknownDevice):
            unknown_device()
    for unknown_group in (
        lambda: fleet.group("acme", "group-1"),
        lambda: fleet.edit_group(a_group(1), event, seen=1),
        lambda: fleet.delete_group("acme", "grp_1", event),
        lambda: fleet.join("acme", "grp_1", "dev_1", event),
        lambda: fleet.leave("acme", "grp_1", "dev_1", event),
    ):
        with pytest.raises(UnknownGroup):
            unknown_group()
    with pytest.raises(UnknownToken):
        fleet.delete_token("acme", "tok_1", event)
    with pytest.raises(EnrolmentRefused):
        fleet.token("00" * 32)
    assert subject.tags() == []


def test_another_organisation_s_fleet_is_unknown(fleet: Fleet) -> None:
    fleet.add_group(a_group(1), an_event("group.created"))
    fleet.add_token(replace(TOKEN, groups=("group-1",)), an_event("token.created"))
    enrol(fleet, a_device(1))
    event = an_event("never")
    for unknown_device in (
        lambda: fleet.device("rival", "device-1"),
        lambda: fleet.check_in("rival", "dev_1", SAID),
        lambda: fleet.revoke("rival", "dev_1", event),
        lambda: fleet.delete("rival", "dev_1", event),
    ):
        with pytest.raises(UnknownDevice):
            unknown_device()
    with pytest.raises(UnknownGroup):
        fleet.group("rival", "group-1")
    with pytest.raises(UnknownToken):
        fleet.delete_token("rival", TOKEN.id, event)
    assert fleet.devices("rival", after=None, limit=10, filters={}) == []
    assert fleet.groups("rival", after=None, limit=10) == []
    assert fleet.tokens("rival", after=None, limit=10) == []
    assert fleet.device("acme", "dev_1").status is DeviceStatus.ACTIVE


def test_devices_are_listed_by_id_page_by_page(fleet: Fleet) -> None:
    fleet.add_token(TOKEN, an_event("token.created"))
    for number in (3, 1, 2):
        enrol(fleet, a_device(number), number=number)
    first = fleet.devices("acme", after=None, limit=2, filters={})
    assert [device.id for device in first] == ["dev_1", "dev_2"]
    assert [device.id for device in fleet.devices("acme", after="dev_2", limit=2, filters={})] == ["dev_3"]


@pytest.mark.parametrize(
    ("sort", "pages"),
    [
        ("created_at", [["dev_1", "dev_2"], ["dev_3"]]),
        ("-created_at", [["dev_3", "dev_2"], ["dev_1"]]),
        ("name", [["dev_2", "dev_1"], ["dev_3"]]),
        ("-name", [["dev_3", "dev_1"], ["dev_2"]]),
    ],
)
def test_devices_are_listed_in_an_order_page_by_page(fleet: Fleet, sort: str, pages: list[list[str]]) -> None:
    fleet.add_token(TOKEN, an_event("token.created"))
    names = {1: "m 1", 2: "Z", 3: "m 3"}
    for number, name in names.items():
        enrol(fleet, replace(a_device(number), name=name), number=number)
    first = fleet.devices("acme", after=None, limit=2, filters={}, sort=sort)
    last = first[-1]
    place = f"{last.id} {last.name}" if "name" in sort else last.id
    rest = fleet.devices("acme", after=place, limit=2, filters={}, sort=sort)
    assert [[device.id for device in found] for found in (first, rest)] == pages


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ["dev_1", "dev_2", "dev_3"]),
        ({"status": "revoked"}, ["dev_2"]),
        ({"platform": "linux-arm64"}, ["dev_3"]),
        ({"group": "group-1"}, ["dev_1", "dev_2", "dev_3"]),
        ({"group": "group-1", "status": "active"}, ["dev_1", "dev_3"]),
        ({"group": "nobody"}, []),
        ({"name": "vice-3"}, ["dev_3"]),
        ({"label": "rack=3"}, ["dev_3"]),
        ({"label": "rack=3", "status": "revoked"}, []),
        ({"label": "rack"}, []),
        ({"label": "rack="}, []),
        ({"name": "%"}, []),
        ({"name": "_"}, []),
    ],
)
def test_devices_are_filtered(fleet: Fleet, filters: dict[str, str], found: list[str]) -> None:
    fleet.add_group(a_group(1), an_event("group.created"))
    fleet.add_token(replace(TOKEN, groups=("group-1",)), an_event("token.created"))
    for number in (1, 2, 3):
        platform = "linux-arm64" if number == 3 else "linux-amd64"
        labels = {"rack": str(number), "site": "a=b"}
        enrol(fleet, replace(a_device(number), platform=platform, labels=labels), number=number)
    fleet.revoke("acme", "dev_2", an_event("device.revoked"))
    assert [device.id for device in fleet.devices("acme", after=None, limit=10, filters=filters)] == found
    assert fleet.count_devices("acme", filters=filters) == len(found)


def test_joining_and_leaving_are_told_once(subject: Subject) -> None:
    fleet = subject.fleet
    fleet.add_token(TOKEN, an_event("token.created"))
    enrol(fleet, a_device(1))
    fleet.add_group(a_group(1), an_event("group.created"))
    joined, left = an_event("group.device.joined"), an_event("group.device.left")
    assert fleet.join("acme", "grp_1", "dev_1", joined) is True
    assert fleet.join("acme", "grp_1", "dev_1", joined) is False
    assert fleet.device("acme", "dev_1").groups == ("group-1",)
    assert fleet.group("acme", "grp_1").devices == 1
    assert fleet.leave("acme", "grp_1", "dev_1", left) is True
    assert fleet.leave("acme", "grp_1", "dev_1", left) is False
    assert fleet.device("acme", "dev_1").groups == ()
    assert subject.tags()[-2:] == ["group.device.joined", "group.device.left"]
    with pytest.raises(UnknownDevice):
        fleet.join("acme", "grp_1", "dev_9", joined)


def test_a_group_s_name_is_unique_and_its_description_changes(subject: Subject) -> None:
    fleet = subject.fleet
    fleet.add_group(a_group(1), an_event("group.created"))
    with pytest.raises(GroupExists):
        fleet.add_group(replace(a_group(2), name="group-1"), an_event("group.created"))
    fleet.add_group(replace(a_group(3), org="rival", name="group-1"), an_event("group.created"))
    fleet.edit_group(replace(a_group(1), description="the brave"), an_event("group.described"), seen=1)
    assert fleet.group("acme", "grp_1") == replace(a_group(1), description="the brave", revision=2)
    fleet.delete_group("acme", "grp_1", an_event("group.deleted"))
    with pytest.raises(UnknownGroup):
        fleet.group("acme", "group-1")


def test_groups_and_tokens_are_listed_by_id_page_by_page(fleet: Fleet) -> None:
    for number in (2, 3, 1):
        fleet.add_group(a_group(number), an_event("group.created"))
        token = replace(TOKEN, id=f"tok_{number}", sha256=f"{number}" * 64)
        fleet.add_token(token, an_event("token.created"))
    assert [group.id for group in fleet.groups("acme", after=None, limit=2)] == ["grp_1", "grp_2"]
    assert fleet.groups("acme", after="grp_2", limit=2) == [a_group(3)]
    assert [token.id for token in fleet.tokens("acme", after=None, limit=2)] == ["tok_1", "tok_2"]
    assert [token.id for token in fleet.tokens("acme", after="tok_2", limit=2)] == ["tok_3"]
    fleet.delete_token("acme", "tok_1", an_event("token.deleted"))
    assert [token.id for token in fleet.tokens("acme", after=None, limit=2)] == ["tok_2", "tok_3"]


def test_a_group_by_selector_follows_labels_and_check_ins(subject: Subject) -> None:
    fleet = subject.fleet
    fleet.add_token(replace(TOKEN, labels={"site": "berlin"}), an_event("token.created"))
    fleet.add_group(replace(a_group(1), selector="labels.site = berlin"), an_event("group.created"))
    fleet.add_group(replace(a_group(2), selector="version(player) >= 2"), an_event("group.created"))
    enrol(fleet, a_device(1))
    assert fleet.of_device("acme", "dev_1") == frozenset({"group-1"})
    player = Running(product="player", version="2", path="player/2/any/p", sha256="ab" * 32)
    fleet.check_in("acme", "dev_1", replace(SAID, running=(player,)))
    assert fleet.device("acme", "dev_1").groups == ("group-1", "group-2")
    assert fleet.relabel("acme", "dev_1", lambda _: {"site": "munich"}, an_event("device.labelled")) is True
    assert fleet.relabel("acme", "dev_1", lambda _: {"site": "munich"}, an_event("never")) is False
    assert fleet.of_device("acme", "dev_1") == frozenset({"group-2"})
    assert [group.devices for group in fleet.groups("acme", after=None, limit=10)] == [0, 1]
    assert fleet.of_device("rival", "dev_1") == frozenset()
    assert subject.tags()[-2:] == ["device.enrolled", "device.labelled"]
    with pytest.raises(UnknownDevice):
        fleet.relabel("rival", "dev_1", lambda _: {}, an_event("never"))


def test_an_edit_wins_once_and_a_new_selector_moves_devices(subject: Subject) -> None:
    fleet = subject.fleet
    fleet.add_token(TOKEN, an_event("token.created"))
    enrol(fleet, a_device(1))
    fleet.add_group(replace(a_group(1), selector="platform = linux-arm64"), an_event("group.created"))
    edited = replace(a_group(1), selector="platform = linux-amd64")
    fleet.edit_group(edited, an_event("group.selected"), seen=1)
    assert fleet.group("acme", "grp_1") == replace(edited, devices=1, revision=2)
    with pytest.raises(GroupChanged, match="revision 2, you saw 1"):
        fleet.edit_group(edited, an_event("never"), seen=1)
    with pytest.raises(GroupChanged, match="revision 2, you saw 1"):
        fleet.delete_group("acme", "grp_1", an_event("never"), seen=1)
    fleet.add_group(a_group(2), an_event("group.created"))
    fleet.join("acme", "grp_2", "dev_1", an_event("group.device.added"))
    assert fleet.group("acme", "grp_2").revision == 2
    for wrong in (
        lambda: fleet.join("acme", "grp_1", "dev_1", an_event("never")),
        lambda: fleet.leave("acme", "grp_1", "dev_1", an_event("never")),
        lambda: fleet.edit_group(replace(a_group(2), selector="platform = x"), an_event("never"), seen=2),
        lambda: fleet.edit_group(replace(a_group(1), selector=""), an_event("never"), seen=2),
        lambda: fleet.add_group(replace(a_group(3), selector="group = group-1"), an_event("never")),
    ):
        with pytest.raises(WrongGroupKind):
            wrong()
    assert subject.tags()[-2:] == ["group.created", "group.device.added"]


def test_a_preview_tells_who_would_be_in(fleet: Fleet) -> None:
    fleet.add_token(TOKEN, an_event("token.created"))
    for number in (1, 2, 3):
        enrol(fleet, a_device(number), number=number)
    fleet.revoke("acme", "dev_2", an_event("device.revoked"))
    found = fleet.preview("acme", parse("platform = linux-amd64"), now=NOON, limit=2)
    assert (found.devices, found.active, [device.id for device in found.sample]) == (3, 2, ["dev_1", "dev_2"])
    assert fleet.preview("acme", parse("last_seen < 7d"), now=NOON, limit=2).devices == 0
    assert fleet.preview("rival", parse("platform = linux-amd64"), now=NOON, limit=2).devices == 0
    with pytest.raises(UnknownGroup):
        fleet.preview("acme", parse("group = nobody"), now=NOON, limit=2)


def test_a_group_that_a_token_or_a_selector_needs_stays(subject: Subject) -> None:
    fleet = subject.fleet
    fleet.add_group(a_group(1), an_event("group.created"))
    fleet.add_token(replace(TOKEN, groups=("group-1",)), an_event("token.created"))
    with pytest.raises(GroupInUse):
        fleet.delete_group("acme", "grp_1", an_event("never"))
    fleet.delete_token("acme", TOKEN.id, an_event("token.deleted"))
    fleet.add_group(replace(a_group(2), selector="group != group-1"), an_event("group.created"))
    with pytest.raises(GroupInUse):
        fleet.delete_group("acme", "grp_1", an_event("never"))
    fleet.delete_group("acme", "grp_2", an_event("group.deleted"))
    fleet.delete_group("acme", "grp_1", an_event("group.deleted"))
    assert subject.tags()[-2:] == ["group.deleted", "group.deleted"]
