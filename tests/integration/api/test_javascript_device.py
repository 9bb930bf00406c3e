"""A device in another language, made of stock libraries, the protocol's page and its .proto alone, lives its life."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from api.installation import Installation
from api.serve import device_server_of
from cli.demo.product import free_addresses
from tests.acceptance.grpc_js.device import JavaScriptDevice, javascript_device
from tests.integration.api.conftest import Home, made_home

FIRMWARE = b"firmware, version one\n"
SHA256 = hashlib.sha256(FIRMWARE).hexdigest()


@contextmanager
def served(home: Home, port: int) -> Iterator[None]:
    """The home's API, repository and device port on loopback."""
    http = make_server("127.0.0.1", port, home.app, threaded=True)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    devices = device_server_of(Installation(home.wiring, home.wiring))
    devices.start()
    try:
        yield
    finally:
        devices.stop(0)
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    listen, device_listen = free_addresses(2)
    folder = tmp_path_factory.mktemp("javascript")
    with (
        made_home(folder, WAVEGATE_LISTEN=listen, WAVEGATE_DEVICE_LISTEN=device_listen) as made,
        served(made, int(listen.rpartition(":")[2])),
    ):
        made.publish(FIRMWARE)
        assert made.call("POST", "/groups", {"name": "canary"}).status_code == 201
        yield made


@pytest.fixture
def device(home: Home, tmp_path: Path) -> Iterator[JavaScriptDevice]:
    with javascript_device(tmp_path / "device") as on:
        yield on


def enroll(home: Home, device: JavaScriptDevice, name: str) -> dict[str, Any]:
    body = {"name": name, "groups": ["canary"], "max_uses": 1, "expires_in_hours": 1}
    made = home.call("POST", "/enroll-tokens", body, token=home.admin())
    assert made.status_code == 201, made.text
    told = made.get_json()
    return device.order(
        "enroll", url=home.wiring.settings.public_url, token=told["token"], name=name, platform="linux-arm64"
    )


def roll_out(home: Home) -> str:
    body = {
        "product": "fw",
        "version": "1.0.0",
        "waves": [{"group": "canary"}],
        "budget": {"label": "site", "max_updating": 1, "lease_seconds": 600},
    }
    made = home.call("POST", "/rollouts", body)
    assert made.status_code == 201, made.text
    home.wiring.rollouts.tick("acme", datetime.now(UTC))
    rollout_id: str = made.get_json()["id"]
    return rollout_id


def report(device: JavaScriptDevice, report_id: str, rollout: str, progress: str) -> dict[str, Any]:
    message = {"report_id": report_id, "rollout_id": rollout, "attempt": 1, "progress": f"PROGRESS_{progress}"}
    return device.order("report", message=message)


def test_it_enrols_installs_what_was_signed_renews_its_certificate_and_is_shut_out_when_revoked(
    home: Home, device: JavaScriptDevice, tmp_path: Path
) -> None:
    enrolled = enroll(home, device, "press-1")
    assert (enrolled["org"], enrolled["groups"]) == ("acme", ["canary"])
    rollout = roll_out(home)

    told = device.order("check_in", message={"platform": "linux-arm64", "state": "just enrolled"})
    assert (told["device_id"], told["device_name"]) == (enrolled["device_id"], "press-1")
    assert (told["groups"], told["products"]) == (["canary"], ["fw"])
    assert 240 <= told["next_check_in_seconds"] <= 360

    offered = device.order("poll", groups=told["groups"], products=told["products"])["fw"]["install"]
    assert (offered["rollout"], offered["version"], offered["attempt"]) == (rollout, "1.0.0", 1)
    assert (offered["path"], offered["sha256"]) == ("fw/1.0.0/any/fw.bin", SHA256)
    assert Path(offered["file"]).read_bytes() == FIRMWARE
    assert offered["has_budget"]

    assert report(device, "r-1", rollout, "DOWNLOADING") == {"counted": True}
    permit = device.order("permit", message={"rollout_id": rollout, "attempt": 1})
    assert (permit["granted"], permit["lease_seconds"]) == (True, 600)
    assert report(device, "r-2", rollout, "INSTALLING") == {"counted": True}
    assert report(device, "r-3", rollout, "SUCCEEDED") == {"counted": True}
    assert report(device, "r-3", rollout, "SUCCEEDED") == {"counted": False}

    running = {"product": "fw", "version": "1.0.0", "path": offered["path"], "sha256": SHA256, "rollout_id": rollout}
    assert "refused" not in device.order("check_in", message={"platform": "linux-arm64", "running": [running]})
    shown = home.call("GET", "/devices/press-1").get_json()
    assert shown["running"] == [running]
    here = {"fw": {"sha256": SHA256, "rollout": rollout}}
    assert device.order("poll", groups=["canary"], products=["fw"], running=here) == {"fw": {"waits": "done"}}

    renewed = device.order("renew")
    assert renewed["certificate"].count("BEGIN CERTIFICATE") == 2
    assert device.order("check_in", message={})["device_name"] == "press-1"
    # Switched on again it has nothing but its disk.
    with javascript_device(tmp_path / "device") as again:
        assert again.order("check_in", message={})["device_name"] == "press-1"

    assert home.call("POST", "/devices/press-1/revoke", {"reason": "stolen"}, token=home.admin()).status_code == 200
    for call in ("check_in", "report", "permit"):
        refused = device.order(call, message={})
        assert (refused["refused"], refused["wavegate_code"]) == ("UNAUTHENTICATED", "device_not_authenticated")
    assert device.order("renew")["refused"] == "UNAUTHENTICATED"


def test_it_goes_back_when_the_release_it_runs_is_taken_back(home: Home, device: JavaScriptDevice) -> None:
    enroll(home, device, "press-2")
    rollout = roll_out(home)
    told = device.order("check_in", message={})
    offered = device.order("poll", groups=told["groups"], products=told["products"])["fw"]["install"]
    assert offered["rollout"] == rollout
    done = home.call(
        "POST", f"/rollouts/{rollout}/abort", {"reason": "it overheats", "mode": "roll_back"}, token=home.admin()
    )
    assert done.status_code == 200, done.text
    home.wiring.rollouts.tick("acme", datetime.now(UTC))

    here = {"fw": {"sha256": SHA256, "rollout": rollout}}
    assert device.order("poll", groups=["canary"], products=["fw"], running=here)["fw"] == {"go_back": "it overheats"}
    assert device.order("poll", groups=["canary"], products=["fw"])["fw"] == {"waits": "it overheats"}


def test_it_is_refused_what_is_not_its_to_do(home: Home, device: JavaScriptDevice) -> None:
    wrong = {"url": home.wiring.settings.public_url, "name": "press-3", "platform": "linux-arm64"}
    unknown = device.order("enroll", token=f"wge_{'ab' * 32}_{'A' * 43}", **wrong)
    assert unknown["refused"] == "enrolment_refused"
    enroll(home, device, "press-3")
    assert enroll(home, device, "press-3")["refused"] == "device_exists"
    assert report(device, "r-1", "rol_none", "SUCCEEDED")["refused"] == "NOT_FOUND"
    assert device.order("report", message={"report_id": "r-2", "rollout_id": "rol_1"})["refused"] == "INVALID_ARGUMENT"
    assert device.order("check_in", message={"state": "x" * 70_000})["refused"] == "RESOURCE_EXHAUSTED"
    assert device.order("check_in", message={})["device_name"] == "press-3"


def test_it_carries_out_commands_and_tells_what_came_of_them(home: Home, device: JavaScriptDevice) -> None:
    enroll(home, device, "press-9")
    log = home.call("POST", "/devices/press-9/logs", {}).get_json()["id"]
    reboot = home.call("POST", "/reboots/press-9/schedule", {}).get_json()["id"]

    told = device.order("check_in", message={"reboot_pending": "a new kernel"})["commands"]
    kinds = {one["id"]: one["kind"] for one in told}
    assert kinds == {log: "COMMAND_KIND_LOGS", reboot: "COMMAND_KIND_REBOOT"}
    assert {one["max_bytes"] for one in told} == {64 * 1024**2, 0}
    assert device.order("check_in", message={"held_commands": [log, reboot]})["commands"] == []

    sent = {"command_id": log, "name": "app.log", "text": "it flickered\n" * 20_000}
    assert device.order("upload_logs", **sent) == {"taken": True}
    assert device.order("upload_logs", **sent) == {"taken": False}
    with home.call("GET", f"/logs/{log}") as answer, tarfile.open(fileobj=io.BytesIO(answer.data)) as archive:
        file = archive.extractfile("app.log")
        assert file is not None
        assert file.read() == b"it flickered\n" * 20_000

    result = {"id": reboot, "done": True, "boot_id": "b-2"}
    for _ in range(2):
        assert device.order("check_in", message={"command_results": [result]})["commands"] == []
    [event] = home.call("GET", "/audit/events?tag=device.rebooted").get_json()["items"]
    assert event["data"] == {"boot_id": "b-2", "command": reboot}
