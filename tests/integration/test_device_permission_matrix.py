"""Every method of the device port as every kind of caller: what is answered is what docs/permissions.md says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from api.device.server import DeviceServer, DeviceServerSettings
from api.permission_matrix import device_methods
from evidence.model import Actor, ActorKind
from fleet import service
from keys.device_ca import create_device_ca
from tests.simulators.devices import channel, enrol_device, new_key, new_token, private_pem, request_for, utc_now
from tests.simulators.fleet import FleetSimulator
from tests.simulators.permits import DevicePermitsSimulator

PAGE = Path(__file__).parents[2] / "docs" / "permissions.md"
ADMIN = Actor(ActorKind.USER, "usr_admin", "Ada")
DEADLINE = 20  # seconds; a call that needs longer on loopback has hung

Shown = tuple[bytes | None, bytes | None]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, bytes, dict[str, Shown]]]:
    """A running device port, the CA to trust it by, and what each kind of caller shows."""
    folder = tmp_path_factory.mktemp("device-cas")
    fleet, ca, now = FleetSimulator(), create_device_ca(folder / "ours", now=utc_now()), utc_now()
    token = new_token(fleet, max_uses=3)
    device, revoked, deleted = (enrol_device(fleet, ca, token, name, now=now) for name in ("one", "two", "three"))
    service.revoke_device(fleet, "acme", revoked.id, "stolen", by=ADMIN, now=now)
    service.delete_device(fleet, "acme", deleted.id, by=ADMIN, now=now)
    key = new_key()
    foreign = create_device_ca(folder / "foreign", now=now).issue(request_for(key), device.id, now=now)
    expired = ca.issue(request_for(key), device.id, now=now - timedelta(days=31), days=30)
    ghost = ca.issue(request_for(key), "dev_ghost", now=now)
    callers: dict[str, Shown] = {
        "no certificate": (None, None),
        "certificate of another CA": (private_pem(key), foreign.chain_pem.encode()),
        "expired certificate": (private_pem(key), expired.chain_pem.encode()),
        "certificate of no device": (private_pem(key), ghost.chain_pem.encode()),
        "revoked device": (private_pem(revoked.key), revoked.chain),
        "deleted device": (private_pem(deleted.key), deleted.chain),
        "device": (private_pem(device.key), device.chain),
    }
    server = DeviceServer(
        fleet,
        ca,
        lambda org, device, report, groups: True,
        lambda org, device: [],
        DevicePermitsSimulator(),
        DeviceServerSettings(listen="127.0.0.1:0"),
        utc_now,
    )
    yield server.start(), ca.certificate_pem.encode(), callers
    server.stop(0)


@pytest.fixture(scope="module")
def published() -> dict[str, dict[str, str]]:
    """The page's table, by caller, then by method."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    head = next(cells for cells in lines if cells[0] == "method" and cells[1] != "path")
    told = [cells for cells in lines if cells[0].startswith("`/") and len(cells) == len(head)]
    return {kind: {cells[0].strip("`"): cells[place] for cells in told} for place, kind in enumerate(head) if place > 0}


def call(channel_: grpc.Channel, method: str, streams: tuple[bool, bool]) -> str:
    """The page's word for the answer to an empty message."""
    opened: Any = channel_  # the stubs know messages only, and here it is bytes
    try:
        if streams == (False, False):
            opened.unary_unary(method)(b"", timeout=DEADLINE)
        elif streams == (False, True):
            next(opened.unary_stream(method)(b"", timeout=DEADLINE))
        else:
            list(opened.stream_stream(method)(iter([b""]), timeout=DEADLINE))
    except grpc.RpcError as error:
        code = error.code()
        return {
            grpc.StatusCode.UNAVAILABLE: "no connection",
            grpc.StatusCode.UNAUTHENTICATED: "UNAUTHENTICATED",
            grpc.StatusCode.INVALID_ARGUMENT: "yes",
            grpc.StatusCode.UNIMPLEMENTED: "yes",
        }.get(code, code.name)
    return "yes"


@pytest.mark.parametrize(
    "kind",
    [
        "no certificate",
        "certificate of another CA",
        "expired certificate",
        "certificate of no device",
        "revoked device",
        "deleted device",
        "device",
    ],
)
def test_every_method_answers_a_caller_as_the_page_says(
    port: tuple[int, bytes, dict[str, Shown]], published: dict[str, dict[str, str]], kind: str
) -> None:
    number, trusted, callers = port
    with channel(number, trusted, *callers[kind]) as opened:
        found = {method: call(opened, method, (sent, got)) for method, sent, got in device_methods()}
    assert set(callers) == set(published)
    assert found == published[kind]


def test_the_port_has_no_other_service(port: tuple[int, bytes, dict[str, Shown]]) -> None:
    number, trusted, callers = port
    with channel(number, trusted, *callers["device"]) as opened:
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(opened)
        (answer,) = stub.ServerReflectionInfo(iter([asked]), timeout=DEADLINE)
    served = {one.name for one in answer.list_services_response.service}
    assert served == {method.split("/")[1] for method, _, _ in device_methods()}
