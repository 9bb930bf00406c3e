"""A call that stays open is ended when its device is, and not when the database is away."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from api.device.identity import DeviceIdentity
from evidence.model import Actor, ActorKind
from fleet import service
from fleet.model import Certificate, Device
from keys.device_ca import create_device_ca
from store.errors import DatabaseUnreachable
from tests.simulators.devices import enrol_device, new_token, utc_now
from tests.simulators.fleet import FleetSimulator

ADMIN = Actor(ActorKind.USER, "usr_admin", "Ada")
SECONDS = 10  # more than enough for what happens twice a second


class Fleet(FleetSimulator):
    """A fleet whose database can be away; it notes that it was asked then."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away, self.asked = False, threading.Event()

    def device_by_fingerprint(self, fingerprint: str) -> tuple[Device, Certificate]:
        if self.is_away:
            self.asked.set()
            raise DatabaseUnreachable("the database is away")
        return super().device_by_fingerprint(fingerprint)


@dataclass
class Call:
    """As much of gRPC's context as whoever holds a call open needs."""

    chain: bytes
    ended: threading.Event = field(default_factory=threading.Event)

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self.chain]}

    def cancel(self) -> None:
        self.ended.set()


@pytest.fixture
def open_call(tmp_path: Path) -> tuple[Fleet, Call, DeviceIdentity]:
    fleet, ca, now = Fleet(), create_device_ca(tmp_path / "ca", now=utc_now()), utc_now()
    token = new_token(fleet)
    device = enrol_device(fleet, ca, token, "press-1", now=now)
    leaf = device.chain.partition(b"-----END CERTIFICATE-----")[0] + b"-----END CERTIFICATE-----\n"
    return fleet, Call(leaf), DeviceIdentity(fleet, utc_now, lambda *_: None)


def test_a_call_is_held_open_while_the_database_is_away_and_ends_once_it_says_revoked(
    open_call: tuple[Fleet, Call, DeviceIdentity],
) -> None:
    fleet, call, identity = open_call
    with identity.while_active(call, 60):  # type: ignore[arg-type]  # all of a context that is needed
        fleet.is_away = True
        assert fleet.asked.wait(SECONDS)
        service.revoke_device(fleet, "acme", "press-1", "stolen", by=ADMIN, now=utc_now())
        assert not call.ended.is_set()

        fleet.is_away = False

        assert call.ended.wait(SECONDS)


def test_a_call_ends_when_its_time_is_over(open_call: tuple[Fleet, Call, DeviceIdentity]) -> None:
    _, call, identity = open_call
    with identity.while_active(call, 0):  # type: ignore[arg-type]  # all of a context that is needed
        assert call.ended.wait(SECONDS)


def test_a_call_that_answered_is_not_ended_afterwards(open_call: tuple[Fleet, Call, DeviceIdentity]) -> None:
    fleet, call, identity = open_call
    with identity.while_active(call, 60):  # type: ignore[arg-type]  # all of a context that is needed
        pass
    service.revoke_device(fleet, "acme", "press-1", "stolen", by=ADMIN, now=utc_now())
    assert not call.ended.wait(1.2)
