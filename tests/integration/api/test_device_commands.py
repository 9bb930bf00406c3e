"""Commands from the API to devices and back, over the real port: by hand, and by a real agent in a process."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from api.device import device_pb2, device_pb2_grpc
from cli.demo.product import free_addresses
from tests.integration.api.conftest import Home, made_home
from tests.integration.api.test_javascript_device import served
from tests.simulators.devices import new_key, private_pem, request_for, stub

DEADLINE = 20  # seconds; a call that needs longer on loopback has hung
AGENT = Path(sys.executable).with_name("wavegate-agent")
MOST = 1_000_000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    listen, device_listen = free_addresses(2)
    more = {"WAVEGATE_DEVICE_LOG_BYTES": str(MOST), "WAVEGATE_DEVICE_LOG_QUOTA_BYTES": str(10 * MOST)}
    folder = tmp_path_factory.mktemp("commands")
    with (
        made_home(folder, WAVEGATE_LISTEN=listen, WAVEGATE_DEVICE_LISTEN=device_listen, **more) as made,
        served(made, int(listen.rpartition(":")[2])),
    ):
        yield made


@dataclass
class Caller:
    """A device by hand."""

    id: str
    device: device_pb2_grpc.DeviceServiceStub

    def check_in(self, **more: Any) -> device_pb2.CheckInResponse:
        answer: device_pb2.CheckInResponse = self.device.CheckIn(
            device_pb2.CheckInRequest(platform="linux", **more), timeout=DEADLINE
        )
        return answer

    def upload(self, *parts: device_pb2.UploadLogsRequest) -> bool:
        return bool(self.device.UploadLogs(iter(parts), timeout=DEADLINE).taken)


@pytest.fixture
def caller(home: Home, request: pytest.FixtureRequest) -> Iterator[Caller]:
    token = home.call("POST", "/enroll-tokens", {"name": "t"}, token=home.admin()).get_json()["token"]
    key = new_key()
    name = f"press-{abs(hash(request.node.name)) % 10**9}"
    body = {"token": token, "certificate_request": request_for(key).decode(), "name": name, "platform": "linux"}
    enrolled = home.call("POST", "/enroll", body, token="").get_json()
    port = int(home.wiring.settings.device_endpoint.rpartition(":")[2])
    chain = enrolled["certificate_chain"].encode()
    with stub(port, enrolled["device_ca"].encode(), private_pem(key), chain) as device:
        yield Caller(enrolled["device_id"], device)


def head(command: str) -> device_pb2.UploadLogsRequest:
    return device_pb2.UploadLogsRequest(head=device_pb2.UploadLogsHead(command_id=command))


def chunk(content: bytes) -> device_pb2.UploadLogsRequest:
    return device_pb2.UploadLogsRequest(chunk=content)


def end(content: bytes, sha256: str = "", files: int = 1) -> device_pb2.UploadLogsRequest:
    sha256 = sha256 or hashlib.sha256(content).hexdigest()
    return device_pb2.UploadLogsRequest(end=device_pb2.UploadLogsEnd(sha256=sha256, length=len(content), files=files))


def asked(home: Home, device: str) -> str:
    made = home.call("POST", f"/devices/{device}/logs", {})
    assert made.status_code == 201, made.text
    found: str = made.get_json()["id"]
    return found


def state_of(home: Home, device: str) -> str:
    return str(home.call("GET", f"/devices/{device}/logs").get_json()["items"][0]["state"])


def files_of(home: Home) -> list[str]:
    return [path.name for path in (home.wiring.settings.storage / "acme" / "logs").glob("*")]


def refusal(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    told: Any = raised.value.trailing_metadata() or ()
    return raised.value.code().name, dict(told).get("wavegate-code", "")


def test_a_command_is_answered_until_the_device_holds_it_and_no_more(home: Home, caller: Caller) -> None:
    assert list(caller.check_in().commands) == []
    log = asked(home, caller.id)

    first = caller.check_in()
    again = caller.check_in()  # the answer got lost
    held = caller.check_in(held_commands=[log])

    assert [one.id for one in first.commands] == [one.id for one in again.commands] == [log]
    assert (first.commands[0].kind, first.commands[0].max_bytes) == (device_pb2.COMMAND_KIND_LOGS, MOST)
    assert (list(held.commands), list(held.dropped_commands)) == ([], [])
    home.call("DELETE", f"/logs/{log}")
    assert list(caller.check_in(held_commands=[log]).dropped_commands) == [log]


def test_a_check_in_of_a_device_without_commands_asks_the_database_nothing_for_them(home: Home, caller: Caller) -> None:
    caller.check_in()
    statements: list[str] = []
    home.wiring.db.observe(lambda statement, _: statements.append(statement))
    for _ in range(5):
        caller.check_in()
    assert [one for one in statements if "device_commands" in one] == []

    asked(home, caller.id)
    caller.check_in()
    assert [one for one in statements if "device_commands" in one] != []


def test_a_bundle_that_arrived_is_kept_once_and_a_repetition_is_told_so(home: Home, caller: Caller) -> None:
    log, content = asked(home, caller.id), os.urandom(100_000)
    caller.check_in()
    parts = [head(log), chunk(content[:60_000]), chunk(content[60_000:]), end(content)]

    assert caller.upload(*parts)
    assert not caller.upload(*parts)

    with home.call("GET", f"/logs/{log}") as answer:
        assert answer.data == content
    assert list(caller.check_in().commands) == []


BYTES = b"b" * 1000


@pytest.mark.parametrize(
    ("parts", "refused"),
    [
        ([], ("INVALID_ARGUMENT", "invalid_call")),
        ([chunk(BYTES), end(BYTES)], ("INVALID_ARGUMENT", "invalid_call")),
        ([head("log_unknown"), chunk(BYTES), end(BYTES)], ("NOT_FOUND", "command_not_found")),
        ([head("{}"), chunk(BYTES)], ("INVALID_ARGUMENT", "invalid_call")),
        ([head("{}"), head("{}"), chunk(BYTES), end(BYTES)], ("INVALID_ARGUMENT", "invalid_call")),
        ([head("{}"), chunk(BYTES), end(BYTES, "ab" * 32)], ("DATA_LOSS", "logs_damaged")),
        ([head("{}"), chunk(BYTES), end(BYTES, "AB")], ("INVALID_ARGUMENT", "invalid_call")),
        ([head("{}"), chunk(BYTES), end(BYTES, files=2**32 - 1)], ("INVALID_ARGUMENT", "invalid_call")),
        ([head("{}"), chunk(BYTES), end(BYTES * 2, "ab" * 32)], ("DATA_LOSS", "logs_damaged")),
        ([head("{}"), *[chunk(BYTES * 50)] * 21, end(BYTES)], ("INVALID_ARGUMENT", "logs_too_large")),
        ([head("{}"), chunk(BYTES * 70), end(BYTES * 70)], ("RESOURCE_EXHAUSTED", "")),
    ],
)
def test_a_bundle_that_does_not_arrive_whole_leaves_nothing(
    home: Home, caller: Caller, parts: list[device_pb2.UploadLogsRequest], refused: tuple[str, str]
) -> None:
    log, before = asked(home, caller.id), files_of(home)
    sent = [head(log) if part.head.command_id == "{}" else part for part in parts]

    assert refusal(lambda: caller.upload(*sent)) == refused

    assert (files_of(home), state_of(home, caller.id)) == (before, "waiting")


def test_a_device_answers_no_command_of_another_and_none_that_is_over(home: Home, caller: Caller) -> None:
    other = home.call("POST", "/devices", {"name": f"other-{caller.id[-8:]}"}).get_json()["id"]
    foreign = asked(home, other)
    assert refusal(lambda: caller.upload(head(foreign), chunk(BYTES), end(BYTES))) == ("NOT_FOUND", "command_not_found")
    caller.check_in(command_results=[device_pb2.CommandResult(id=foreign, code="no")])
    assert state_of(home, other) == "waiting"

    own = asked(home, caller.id)
    home.call("DELETE", f"/logs/{own}")
    assert refusal(lambda: caller.upload(head(own), chunk(BYTES), end(BYTES))) == (
        "FAILED_PRECONDITION",
        "command_over",
    )


@pytest.mark.parametrize("sends_on", [True, False], ids=["sending", "silent"])
def test_a_device_that_is_revoked_while_it_sends_is_cut_off(home: Home, caller: Caller, sends_on: bool) -> None:
    log, before = asked(home, caller.id), files_of(home)
    revoked = threading.Event()
    over = threading.Event()

    def parts() -> Iterator[device_pb2.UploadLogsRequest]:
        yield head(log)
        yield chunk(b"x")
        home.call("POST", f"/devices/{caller.id}/revoke", {"reason": "stolen"})
        revoked.set()
        while sends_on and not over.wait(0.05):
            yield chunk(b"x")
        over.wait(DEADLINE)

    call = caller.device.UploadLogs.future(parts(), timeout=DEADLINE)
    assert revoked.wait(DEADLINE)
    status = call.exception(timeout=DEADLINE).code().name
    over.set()

    assert status in {"UNAUTHENTICATED", "CANCELLED"}
    for _ in range(100):
        if files_of(home) == before:
            break
        over.wait(0.05)
        threading.Event().wait(0.05)
    assert files_of(home) == before


def test_a_device_that_hangs_up_while_it_sends_leaves_nothing_and_no_error_in_the_log(
    home: Home, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    log, before, over = asked(home, caller.id), files_of(home), threading.Event()
    came = threading.Event()

    def parts() -> Iterator[device_pb2.UploadLogsRequest]:
        yield head(log)
        yield chunk(b"x")
        came.set()
        over.wait(DEADLINE)

    call = caller.device.UploadLogs.future(parts(), timeout=DEADLINE)
    assert came.wait(DEADLINE)
    call.cancel()
    over.set()
    for _ in range(200):
        if any("UploadLogs INVALID_ARGUMENT" in record.message for record in caplog.records):
            break
        threading.Event().wait(0.05)

    assert files_of(home) == before
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_results_with_odd_fields_are_refused(caller: Caller) -> None:
    for odd in (
        device_pb2.CommandResult(id="no id!"),
        device_pb2.CommandResult(id="rbt_1", code="Not a code"),
        device_pb2.CommandResult(id="rbt_1", boot_id="\n"),
    ):
        assert refusal(lambda odd=odd: caller.check_in(command_results=[odd])) == ("INVALID_ARGUMENT", "invalid_call")
    assert refusal(lambda: caller.check_in(held_commands=["log_1"] * 65)) == ("INVALID_ARGUMENT", "invalid_call")


def agent(*arguments: str | Path, folder: Path) -> None:
    command = [str(AGENT), *map(str, arguments), "--home", str(folder / "device")]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_real_agent_sends_its_logs_and_reboots_once(home: Home, tmp_path: Path) -> None:
    token = home.call("POST", "/enroll-tokens", {"name": "t"}, token=home.admin()).get_json()["token"]
    url = home.wiring.settings.public_url
    agent("enroll", "--url", url, "--token", token, "--name", "press-real", "--platform", "linux", folder=tmp_path)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "press.log").write_text("it flickered at noon\n")
    (tmp_path / "boot_id").write_text("boot-1\n")
    (tmp_path / "reboot-required").write_text("*** System restart required ***\n")
    script = tmp_path / "reboot.sh"
    script.write_text(
        f"#!/bin/sh\necho ran >> {tmp_path}/ran\necho boot-2 > {tmp_path}/boot_id\nrm {tmp_path}/reboot-required\n"
    )
    script.chmod(0o755)
    settings = {
        "log_paths = []": f'log_paths = ["{tmp_path}/log/*.log"]',
        'reboot_command = ""': f'reboot_command = "{script}"',
        'boot_id_file = "/proc/sys/kernel/random/boot_id"': f'boot_id_file = "{tmp_path}/boot_id"',
        'reboot_required_file = "/run/reboot-required"': f'reboot_required_file = "{tmp_path}/reboot-required"',
        "log_files = 200": "log_files = 5",
        "log_bytes = 33554432": "log_bytes = 20000",
    }
    config = (tmp_path / "device" / "agent.toml").read_text()
    for before, after in settings.items():
        assert before in config
        config = config.replace(before, after)
    (tmp_path / "device" / "agent.toml").write_text(config)

    log = asked(home, "press-real")
    agent("run", "--once", folder=tmp_path)
    with home.call("GET", f"/logs/{log}") as answer, tarfile.open(fileobj=io.BytesIO(answer.data)) as archive:
        [name] = [one for one in archive.getnames() if one.endswith("press.log")]
        file = archive.extractfile(name)
        assert file is not None
        assert file.read() == b"it flickered at noon\n"
    [pending] = [one for one in home.call("GET", "/reboots").get_json()["items"] if one["device_name"] == "press-real"]
    assert pending["why"] == "*** System restart required ***"

    assert home.call("POST", "/reboots/press-real/schedule", {"reason": "kernel"}).status_code == 201
    for _ in range(3):
        agent("run", "--once", folder=tmp_path)

    assert (tmp_path / "ran").read_text() == "ran\n"
    told = home.call("GET", f"/audit/events?subject={pending['device_id']}&tag=device.rebooted").get_json()["items"]
    assert [one["data"]["boot_id"] for one in told] == ["boot-2"]
    assert "press-real" not in [one["device_name"] for one in home.call("GET", "/reboots").get_json()["items"]]
