"""What is stored before a device is answered, and what within a second."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api.device.heartbeats import MOST, Heartbeats, is_news
from evidence.model import Actor, ActorKind, AuditEvent
from fleet.model import Certificate, CheckIn, Device, DeviceStatus, EnrolToken, Running
from store.errors import DatabaseBusy
from tests.simulators.fleet import FleetSimulator

NOON = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)
APP = Running(product="app", version="1", path="p", sha256="ab" * 32)
DEVICE = Device(
    id="dev_1",
    org="acme",
    name="gw-1",
    status=DeviceStatus.ACTIVE,
    platform="linux-amd64",
    created_at=NOON,
    last_seen_at=NOON,
    running={"app": APP},
)
SAID = CheckIn(
    agent_version="1",
    hostname="gw",
    os_family="linux",
    os_name="Debian 12",
    platform="linux-amd64",
    running=(APP,),
    state="idle",
    at=NOON + timedelta(minutes=5),
)


class BusyOnce(FleetSimulator):
    """Its first batch finds the database busy."""

    is_busy = True

    def check_in_many(self, org: str, said: Mapping[str, CheckIn]) -> int:
        if self.is_busy:
            self.is_busy = False
            raise DatabaseBusy("another writer has held the database for 30 seconds")
        return super().check_in_many(org, said)


class Writes(FleetSimulator):
    """Remembers what the batches were; the next one that holds check-ins or times can be made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[str, list[str]]] = []
        self.failing = ""

    def check_in_many(self, org: str, said: Mapping[str, CheckIn]) -> int:
        return self._tried("said", said) or super().check_in_many(org, said)

    def seen_many(self, org: str, seen: Mapping[str, datetime]) -> int:
        return self._tried("seen", seen) or super().seen_many(org, seen)

    def _tried(self, kind: str, batch: Mapping[str, object]) -> int:
        if batch:
            self.batches.append((kind, sorted(batch)))
            if self.failing == kind:
                self.failing = ""
                raise DatabaseBusy("another writer has held the database for 30 seconds")
        return 0


@pytest.fixture
def fleet() -> BusyOnce:
    fleet = BusyOnce()
    enrol(fleet)
    return fleet


@pytest.fixture
def writes() -> Writes:
    fleet = Writes()
    enrol(fleet)
    fleet.check_in("acme", "dev_1", replace(SAID, at=NOON))
    return fleet


def enrol(fleet: FleetSimulator) -> None:
    event = AuditEvent("something.happened", "subject", Actor(ActorKind.USER, "usr_ADA", "Ada"), NOON)
    token = EnrolToken(
        id="tok_1",
        org="acme",
        name="t",
        sha256="0a" * 32,
        created_by="usr_ADA",
        created_at=NOON,
        expires_at=NOON + timedelta(days=1),
        max_uses=9,
    )
    fleet.add_token(token, event)
    certificate = Certificate(fingerprint="f1" * 32, serial="1", device="dev_1", not_before=NOON, not_after=NOON)
    fleet.enrol("acme", token.sha256, DEVICE, certificate, event, now=NOON)


@pytest.mark.parametrize(
    ("device", "what", "news"),
    [
        (DEVICE, SAID, False),
        (DEVICE, replace(SAID, platform=""), False),
        (DEVICE, replace(SAID, state="waits", hostname="other"), False),
        (DEVICE, replace(SAID, platform="linux-arm64"), True),
        (DEVICE, replace(SAID, running=()), True),
        (DEVICE, replace(SAID, running=(replace(APP, rollout="rol_1"),)), True),
        (replace(DEVICE, last_seen_at=None), SAID, True),
        (DEVICE, replace(SAID, at=NOON + timedelta(minutes=15)), False),
        (DEVICE, replace(SAID, at=NOON + timedelta(minutes=15, microseconds=1)), True),
    ],
)
def test_news_is_what_selectors_look_at(device: Device, what: CheckIn, news: bool) -> None:
    assert is_news(device, what) is news


def test_a_heartbeat_waits_and_its_time_is_kept_to_the_second(fleet: BusyOnce) -> None:
    fleet.is_busy = False
    heartbeats = Heartbeats(fleet)
    assert heartbeats.take(DEVICE, replace(SAID, state="waits")) is False
    assert fleet.device("acme", "dev_1").state == ""
    assert heartbeats.flush() == 1
    assert heartbeats.flush() == 0
    kept = fleet.device("acme", "dev_1")
    assert (kept.state, kept.last_seen_at) == ("waits", datetime(2026, 11, 21, 12, 5, tzinfo=UTC))


def test_news_is_stored_at_once_and_an_older_heartbeat_forgotten(fleet: BusyOnce) -> None:
    heartbeats = Heartbeats(fleet)
    heartbeats.take(DEVICE, SAID)
    newer = replace(SAID, running=(replace(APP, version="2"),), at=SAID.at + timedelta(seconds=1))
    assert heartbeats.take(DEVICE, newer) is True
    assert heartbeats.flush() == 0
    kept = fleet.device("acme", "dev_1")
    assert (kept.running["app"].version, kept.last_seen_at) == ("2", newer.at)


def test_what_could_not_be_written_waits_and_a_newer_call_wins(fleet: BusyOnce) -> None:
    heartbeats = Heartbeats(fleet)
    heartbeats.take(DEVICE, SAID)
    with pytest.raises(DatabaseBusy):
        heartbeats.flush()
    heartbeats.take(DEVICE, replace(SAID, state="newer"))
    assert heartbeats.flush() == 1
    assert fleet.device("acme", "dev_1").state == "newer"


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({}, True),
        ({"platform": ""}, True),
        ({"agent_version": "2"}, False),
        ({"hostname": "other"}, False),
        ({"os_family": "bsd"}, False),
        ({"os_name": "Debian 13"}, False),
        ({"state": "waits"}, False),
    ],
)
def test_of_a_device_that_says_what_is_stored_only_the_time_is_written(
    writes: Writes, changed: dict[str, str], same: bool
) -> None:
    heartbeats, before = Heartbeats(writes), writes.device("acme", "dev_1")
    what = replace(SAID, **changed)  # type: ignore[arg-type]
    assert heartbeats.take(before, what) is False
    assert heartbeats.flush() == 1
    assert writes.batches == [("seen" if same else "said", ["dev_1"])]
    at = datetime(2026, 11, 21, 12, 5, tzinfo=UTC)
    facts = {name: value for name, value in changed.items() if value}
    assert writes.device("acme", "dev_1") == replace(before, last_seen_at=at, **facts)  # type: ignore[arg-type]


def test_a_device_that_says_again_what_is_stored_takes_back_what_waits(writes: Writes) -> None:
    heartbeats, stored = Heartbeats(writes), writes.device("acme", "dev_1")
    heartbeats.take(stored, replace(SAID, state="waits"))
    heartbeats.take(stored, replace(SAID, at=SAID.at + timedelta(seconds=2)))
    assert heartbeats.flush() == 1
    kept = writes.device("acme", "dev_1")
    assert (kept.state, kept.last_seen_at) == ("idle", datetime(2026, 11, 21, 12, 5, 2, tzinfo=UTC))


def test_what_is_said_while_a_batch_that_says_otherwise_is_written_is_said_again(writes: Writes) -> None:
    stored = writes.device("acme", "dev_1")

    class Meanwhile(FleetSimulator):
        def check_in_many(self, org: str, said: Mapping[str, CheckIn]) -> int:
            if [one.state for one in said.values()] == ["waits"]:
                heartbeats.take(stored, SAID)
            return writes.check_in_many(org, said)

        def seen_many(self, org: str, seen: Mapping[str, datetime]) -> int:
            return writes.seen_many(org, seen)

    heartbeats = Heartbeats(Meanwhile())
    heartbeats.take(stored, replace(SAID, state="waits"))
    assert heartbeats.flush() == 1
    assert writes.device("acme", "dev_1").state == "waits"
    assert heartbeats.flush() == 1
    assert writes.device("acme", "dev_1").state == "idle"


@pytest.mark.parametrize("failing", ["said", "seen"])
def test_a_batch_that_fails_in_either_part_waits_whole_or_in_what_is_left(writes: Writes, failing: str) -> None:
    heartbeats, stored = Heartbeats(writes), writes.device("acme", "dev_1")
    heartbeats.take(stored, SAID)
    heartbeats.take(replace(stored, id="dev_2"), replace(SAID, state="waits"))
    writes.failing = failing
    with pytest.raises(DatabaseBusy):
        heartbeats.flush()
    assert heartbeats.flush() == 1  # dev_2 is not there any more
    again = {"said": [("said", ["dev_2"]), ("said", ["dev_2"]), ("seen", ["dev_1"])]}
    again["seen"] = [("said", ["dev_2"]), ("seen", ["dev_1"]), ("seen", ["dev_1"])]
    assert writes.batches == again[failing]
    assert heartbeats.flush() == 0


def test_news_during_a_batch_that_then_fails_is_not_overwritten_by_it(writes: Writes) -> None:
    stored = writes.device("acme", "dev_1")
    newer = replace(SAID, running=(replace(APP, version="2"),), state="newer", at=SAID.at + timedelta(seconds=1))
    taking: list[threading.Thread] = []

    class Meanwhile(FleetSimulator):
        def check_in(self, org: str, device: str, what: CheckIn) -> None:
            writes.check_in(org, device, what)

        def check_in_many(self, org: str, said: Mapping[str, CheckIn]) -> int:
            if not taking:
                taking.append(threading.Thread(target=heartbeats.take, args=(stored, newer)))
                taking[0].start()
                taking[0].join(0.2)  # it waits for this batch
                raise DatabaseBusy("another writer has held the database for 30 seconds")
            return writes.check_in_many(org, said)

    heartbeats = Heartbeats(Meanwhile())
    heartbeats.take(stored, replace(SAID, state="older"))
    with pytest.raises(DatabaseBusy):
        heartbeats.flush()
    taking[0].join(10)
    assert heartbeats.flush() == 0
    kept = writes.device("acme", "dev_1")
    assert (kept.state, kept.running["app"].version) == ("newer", "2")


def test_stopping_writes_what_waits_and_then_everything_at_once(fleet: BusyOnce) -> None:
    fleet.is_busy = False
    heartbeats = Heartbeats(fleet, every=3_600)
    heartbeats.start()
    heartbeats.take(DEVICE, replace(SAID, state="last"))
    heartbeats.stop()
    assert fleet.device("acme", "dev_1").state == "last"
    assert heartbeats.take(DEVICE, replace(SAID, state="after")) is True
    assert fleet.device("acme", "dev_1").state == "after"


def test_as_many_as_may_wait_are_written_without_waiting_on(fleet: BusyOnce) -> None:
    fleet.is_busy = False
    heartbeats = Heartbeats(fleet, every=3_600)
    heartbeats.take(DEVICE, SAID)
    for number in range(2, MOST + 1):
        heartbeats.take(replace(DEVICE, id=f"dev_{number}"), SAID)
    heartbeats.start()
    heartbeats.stop()
    assert fleet.device("acme", "dev_1").state == "idle"


def test_the_end_of_a_silence_is_news_by_the_fleet_s_own_span() -> None:
    later = replace(SAID, at=NOON + timedelta(seconds=31))
    assert is_news(DEVICE, later, timedelta(seconds=30))
    assert not is_news(DEVICE, later, timedelta(seconds=31))
    assert is_news(DEVICE, replace(SAID, at=NOON + timedelta(minutes=16)), timedelta(hours=3)), "selectors look at it"
