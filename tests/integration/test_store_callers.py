"""The device port over the real store: what another process commits about a caller counts from the next call on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from api.device import device_pb2
from api.device.server import DeviceServer, DeviceServerSettings
from evidence.model import Actor, ActorKind
from fleet import service
from keys.device_ca import DeviceCa, create_device_ca
from store.database import Database
from store.errors import DatabaseUnreachable
from store.fleet import SqlFleet
from tests.simulators.devices import EnrolledDevice, channel, enrol_device, new_token, private_pem, stub, utc_now
from tests.simulators.permits import DevicePermitsSimulator

ADMIN = Actor(ActorKind.USER, "usr_admin", "Ada")
STREAM_DEADLINE = 40  # seconds; less than any stream may last without being revoked
DEADLINE = 10  # seconds; a call that needs longer on loopback has hung


@dataclass
class Port:
    """A running device port with one device."""

    number: int
    ca: DeviceCa
    device: EnrolledDevice


@pytest.fixture
def port(database: Database, tmp_path: Path) -> Iterator[Port]:
    fleet, ca = SqlFleet(database), create_device_ca(tmp_path / "device-ca", now=utc_now())
    for group in ("lab", "canary"):
        service.create_group(fleet, "acme", name=group, description="", by=ADMIN, now=utc_now())
    token = new_token(fleet, groups=["lab"])
    device = enrol_device(fleet, ca, token, "press-1", now=utc_now())
    server = DeviceServer(
        fleet,
        ca,
        lambda org, device, report, groups: True,
        lambda org, groups: sorted(groups),
        DevicePermitsSimulator(),
        DeviceServerSettings(listen="127.0.0.1:0"),
        utc_now,
    )
    yield Port(server.start(), ca, device)
    server.stop(0)


def elsewhere(url: str, change: str) -> None:
    """Runs in a process of its own."""
    database = Database(url)
    fleet = SqlFleet(database)
    if change == "revoke":
        service.revoke_device(fleet, "acme", "press-1", "stolen", by=ADMIN, now=utc_now())
    elif change == "delete":
        service.delete_device(fleet, "acme", "press-1", by=ADMIN, now=utc_now())
    else:
        service.join_group(fleet, "acme", change, "press-1", by=ADMIN, now=utc_now())
    database.close()


def in_another_process(url: str, change: str) -> None:
    process = multiprocessing.get_context("spawn").Process(target=elsewhere, args=(url, change))
    process.start()
    process.join(60)
    assert process.exitcode == 0


@pytest.mark.parametrize("change", ["revoke", "delete"])
def test_a_device_ended_by_another_process_is_refused_at_its_next_call_on_its_open_connection(
    port: Port, database_url: str, change: str
) -> None:
    with stub(port.number, port.ca.certificate_pem.encode(), private_pem(port.device.key), port.device.chain) as caller:
        for _ in range(40):  # every thread that answers, and its database connection, has seen the device
            caller.CheckIn(device_pb2.CheckInRequest(state="idle"), timeout=DEADLINE)
        in_another_process(database_url, change)

        for _ in range(40):
            with pytest.raises(grpc.RpcError) as refused:
                caller.CheckIn(device_pb2.CheckInRequest(state="idle"), timeout=DEADLINE)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_an_open_stream_ends_when_another_process_revokes_its_device(port: Port, database_url: str) -> None:
    trusted, key = port.ca.certificate_pem.encode(), private_pem(port.device.key)
    with channel(port.number, trusted, key, port.device.chain) as line:
        watched = health_pb2_grpc.HealthStub(line).Watch(health_pb2.HealthCheckRequest(), timeout=STREAM_DEADLINE)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        in_another_process(database_url, "revoke")

        with pytest.raises(grpc.RpcError) as ended:
            next(watched)
        assert ended.value.code() is grpc.StatusCode.CANCELLED

        with pytest.raises(grpc.RpcError) as refused:
            next(health_pb2_grpc.HealthStub(line).Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_group_that_another_process_puts_a_device_into_is_told_at_its_next_call(
    port: Port, database_url: str
) -> None:
    with stub(port.number, port.ca.certificate_pem.encode(), private_pem(port.device.key), port.device.chain) as caller:
        before = caller.CheckIn(device_pb2.CheckInRequest(state="idle"), timeout=DEADLINE)
        in_another_process(database_url, "canary")
        after = caller.CheckIn(device_pb2.CheckInRequest(state="idle"), timeout=DEADLINE)

    assert (list(before.groups), list(before.products)) == (["lab"], ["lab"])
    assert (list(after.groups), list(after.products)) == (["canary", "lab"], ["canary", "lab"])


def test_a_caller_cannot_be_looked_up_in_a_database_that_is_not_there(tmp_path: Path) -> None:
    fleet = SqlFleet(Database(f"sqlite:///{tmp_path}/missing/wavegate.db"))
    with pytest.raises(DatabaseUnreachable, match=r"missing/wavegate\.db does not answer: unable to open"):
        fleet.device_by_fingerprint("f1" * 32)
