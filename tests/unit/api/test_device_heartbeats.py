"""What is stored before a device is answered, and what within a second."""

from __future__ import annotations

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


@pytest.fixture
def fleet() -> BusyOnce:
    fleet = BusyOnce()
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
    return fleet


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


def test_stopping_writes_what_waits_and_then_everything_at_once(fleet: BusyOnce) -> None:
    fleet.is_busy = False
    heartbeats = Heartbeats(fleet, every=3_600)
    heartbeats.start()
    heartbeats.take(DEVICE, replace(SAID, state="last"))
    heartbeats.stop()
    assert fleet.device("acme", "dev_1").state == "last"
    assert heartbeats.take(DEVICE, replace(SAID, state="after")) is True
    assert fleet.device("acme", "dev_1").state == "after"


def test_a_thousand_that_wait_are_written_without_waiting_on(fleet: BusyOnce) -> None:
    fleet.is_busy = False
    heartbeats = Heartbeats(fleet, every=3_600)
    heartbeats.take(DEVICE, SAID)
    for number in range(2, MOST + 1):
        heartbeats.take(replace(DEVICE, id=f"dev_{number}"), SAID)
    heartbeats.start()
    heartbeats.stop()
    assert fleet.device("acme", "dev_1").state == "idle"
