"""A device asks of another organisation what it likes: it is answered as if there were no such thing.

Methods and fields come from the service's own description: a new one fails here until it is thought about.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor

from api.device import device_pb2
from api.serve import device_server_of
from tests.integration.orgs.filled import Organisation, Pair
from tests.integration.orgs.places import planted, unknown
from tests.simulators.devices import new_key, private_pem, request_for, stub

SERVICE = device_pb2.DESCRIPTOR.services_by_name["DeviceService"]
REFERENCES = {
    "command_id": "log",
    "held_commands": "log",
    "id": "log",  # of a command's result
    "product": "product",
    "rollout_id": "rollout",
    "sha256": "sha256",
}
PLAIN = frozenset(
    {
        "agent_version",
        "attempt",
        "boot_id",
        "certificate_request",
        "chunk",
        "code",
        "detail",
        "done",
        "files",
        "give_back",
        "hostname",
        "length",
        "os_family",
        "os_name",
        "path",
        "platform",
        "progress",
        "reboot_pending",
        "report_id",
        "state",
        "version",
    }
)
# Calls that would do something with a rollout of one's own.
MESSAGES: dict[str, dict[str, Any]] = {
    "CheckIn": {"running": [{"product": "fw", "version": "1", "path": "x", "sha256": "ab" * 32}]},
    "Report": {"report_id": "rep_9", "attempt": 1, "progress": device_pb2.PROGRESS_SUCCEEDED},
    "Permit": {"attempt": 1},
    "UploadLogs": {},
    "RenewCertificate": {},
}


@pytest.fixture(scope="module")
def port(pair: Pair) -> Iterator[int]:
    server = device_server_of(pair.installation)
    yield server.start()
    server.stop(0)


def fields_of(message: Descriptor) -> Iterator[str]:
    for one in message.fields:
        if one.message_type is None:
            yield one.name
        else:
            in_list = "[]." if one.is_repeated else ""
            yield from (f"{one.name}.{in_list}{name}" for name in fields_of(one.message_type))


def called(pair: Pair, port: int, one: Organisation, method: str, message: dict[str, Any]) -> tuple[object, ...]:
    """What the device of an organisation is answered."""
    request = getattr(device_pb2, SERVICE.methods_by_name[method].input_type.name)(**message)
    trusted = pair.installation.shared.device_ca.certificate_pem.encode()
    with stub(port, trusted, private_pem(one.device_key), one.chain.encode()) as device:
        try:
            asked = iter([request]) if SERVICE.methods_by_name[method].client_streaming else request
            answer = getattr(device, method)(asked, timeout=10)
        except grpc.RpcError as error:
            error_: Any = error
            return error_.code(), error_.details(), sorted(error_.trailing_metadata())
    if hasattr(answer, "next_check_in_seconds"):
        answer.next_check_in_seconds = 0  # spread at random
    return (answer.SerializeToString(deterministic=True),)


def test_every_method_and_every_field_is_thought_about() -> None:
    assert list(device_pb2.DESCRIPTOR.services_by_name) == ["DeviceService"]
    assert {method.name for method in SERVICE.methods} == set(MESSAGES)
    names = {name.rpartition(".")[2] for method in SERVICE.methods for name in fields_of(method.input_type)}
    assert names - set(REFERENCES) - PLAIN == set()


def test_what_is_another_organisations_is_unknown_to_a_device(pair: Pair, port: int) -> None:
    before = pair.rows("beta"), pair.files("beta")
    tried = []
    for method in SERVICE.methods:
        repeated = {one.name for one in method.input_type.fields if one.is_repeated}
        for name in fields_of(method.input_type):
            kind = REFERENCES.get(name.rpartition(".")[2])
            if kind is None:
                continue
            theirs = pair.beta.things[kind]
            answers = []
            for value in (theirs, unknown(theirs)):
                message = planted(MESSAGES[method.name], name, [value] if name in repeated else value)
                answer = called(pair, port, pair.acme, method.name, message)
                answers.append(tuple(str(part).replace(value, "<asked>") for part in answer))
            assert answers[0] == answers[1], (method.name, name)
            tried.append((method.name, name, answers[0][0]))
    assert tried == [
        ("CheckIn", "running.[].product", tried[0][2]),
        ("CheckIn", "running.[].sha256", tried[1][2]),
        ("CheckIn", "running.[].rollout_id", tried[2][2]),
        ("CheckIn", "held_commands", tried[3][2]),
        ("CheckIn", "command_results.[].id", tried[4][2]),
        ("Report", "rollout_id", "StatusCode.NOT_FOUND"),
        ("Permit", "rollout_id", "StatusCode.NOT_FOUND"),
        ("UploadLogs", "head.command_id", "StatusCode.NOT_FOUND"),
        ("UploadLogs", "end.sha256", "StatusCode.INVALID_ARGUMENT"),
    ]
    assert all(isinstance(one[2], str) and one[2].startswith("b") for one in tried[:5]), "a check-in is answered"
    assert (pair.rows("beta"), pair.files("beta")) == before


def test_a_certificate_makes_its_device_one_of_its_own_organisation(pair: Pair, port: int) -> None:
    for one in (pair.acme, pair.beta):
        (answer,) = called(pair, port, one, "CheckIn", {})
        assert isinstance(answer, bytes)
        told = device_pb2.CheckInResponse.FromString(answer)
        assert (told.device_name, list(told.groups)) == (f"{one.slug}-press", [f"{one.slug}-field"])
        assert list(told.products) == [f"{one.slug}-fw"]


def test_a_certificate_of_one_that_was_never_enrolled_is_nobodys(pair: Pair, port: int) -> None:
    key, ca = new_key(), pair.installation.shared.device_ca
    issued = ca.issue(request_for(key), pair.beta.things["device"], now=pair.made_at, organisation="beta")
    shown = stub(port, ca.certificate_pem.encode(), private_pem(key), issued.chain_pem.encode())
    with shown as device, pytest.raises(grpc.RpcError) as refused:
        device.CheckIn(device_pb2.CheckInRequest(), timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
