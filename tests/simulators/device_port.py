"""A device port over real TLS on loopback with a fleet in memory, and calls to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest

from api.device import device_pb2
from api.device.server import DeviceServer, DeviceServerSettings
from evidence.model import Actor, ActorKind
from fleet import service
from keys.device_ca import DeviceCa, create_device_ca
from rollout.errors import ReportRefused, UnknownRollout
from rollout.model import Report
from tests.simulators.devices import EnrolledDevice, enrol_device, new_token, stub, utc_now
from tests.simulators.fleet import FleetSimulator
from tests.simulators.permits import DevicePermitsSimulator

ADMIN = Actor(ActorKind.USER, "usr_admin", "Ada")
ROOT_SHA256 = "5f" * 32
DEADLINE = 10  # seconds; a call that needs longer on loopback has hung


@dataclass
class Port:
    """A running device port and everything behind it."""

    fleet: FleetSimulator
    ca: DeviceCa
    port: int
    token: str
    reports: list[tuple[str, str, Report]] = field(default_factory=list)
    late_by: timedelta = timedelta(0)
    permits: DevicePermitsSimulator = field(default_factory=DevicePermitsSimulator)
    calls: list[tuple[str, str]] = field(default_factory=list)

    def now(self) -> datetime:
        return utc_now() + self.late_by

    @property
    def trusted(self) -> bytes:
        return self.ca.certificate_pem.encode()

    def enrol(self, name: str, *, now: datetime | None = None) -> EnrolledDevice:
        return enrol_device(self.fleet, self.ca, self.token, name, now=now or self.now())

    def report(self, org: str, device: str, report: Report, groups: frozenset[str]) -> bool:
        if report.rollout == "rol_unknown":
            raise UnknownRollout("no rollout rol_unknown in acme")
        if report.rollout == "rol_of_others":
            raise ReportRefused(f"device {device} is in no open wave of rol_of_others")
        if report.rollout == "rol_boom":
            raise ZeroDivisionError("the secret is 1234")
        self.reports.append((org, device, report))
        return True

    def revoke(self, device: str) -> None:
        service.revoke_device(self.fleet, "acme", device, "stolen", by=ADMIN, now=self.now())

    def delete(self, device: str) -> None:
        service.delete_device(self.fleet, "acme", device, by=ADMIN, now=self.now())


@contextmanager
def open_port(folder: Path) -> Iterator[Port]:
    """A port with the group ``canary`` and a token for it, until the block ends."""
    fleet, ca = FleetSimulator(), create_device_ca(folder / "device-ca", now=utc_now())
    service.create_group(fleet, "acme", name="canary", description="", by=ADMIN, now=utc_now())
    token = new_token(fleet, max_uses=20, groups=["canary"])
    running = Port(fleet=fleet, ca=ca, port=0, token=token)
    server = DeviceServer(
        fleet,
        ca,
        running.report,
        lambda org, device: ["app"],
        running.permits,
        DeviceServerSettings(listen="127.0.0.1:0", check_in_seconds=100, jitter_percent=20),
        running.now,
        lambda method, status, seconds: running.calls.append((method, status)),
    )
    running.port = server.start()
    try:
        yield running
    finally:
        server.stop(0)


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), str(raised.value.details())


def check_in(port: Port, key: bytes | None, chain: bytes | None) -> device_pb2.CheckInResponse:
    with stub(port.port, port.trusted, key, chain) as device:
        answer: device_pb2.CheckInResponse = device.CheckIn(device_pb2.CheckInRequest(state="idle"), timeout=DEADLINE)
        return answer
