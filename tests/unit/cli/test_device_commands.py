"""`publish device logs`, `reboot`, `reboots`: what is asked for, waited for and written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.simulators.api_server import ApiServerSimulator, Reply
from tests.unit.cli.conftest import Publish

WAITING: dict[str, Any] = {
    "id": "log_1",
    "device_id": "dev_1",
    "state": "waiting",
    "reason": "",
    "by": {"kind": "user", "id": "usr_1", "name": "Ada"},
    "requested_at": "2026-11-21T12:00:00Z",
    "expires_at": "2026-11-22T12:00:00Z",
    "delivered_at": None,
    "ended_at": None,
    "code": "",
    "detail": "",
    "length": None,
    "sha256": None,
    "files": None,
    "kept_until": None,
}
DONE = {**WAITING, "state": "done", "length": 5, "sha256": "ab" * 32, "files": 2, "kept_until": "2026-12-21T12:00:00Z"}
REBOOT = {
    "id": "rbt_1",
    "device_id": "dev_1",
    "state": "waiting",
    "starts": "2026-11-21T12:00:00Z",
    "ends": "2026-11-22T12:00:00Z",
    "maintenance_window": True,
    "reason": "",
    "by": {"kind": "user", "id": "usr_1", "name": "Ada"},
    "at": "2026-11-21T12:00:00Z",
    "delivered_at": None,
}
LOGS = "/api/v1/devices/kiosk-2/logs"


def page(*items: dict[str, Any]) -> Reply:
    return Reply(200, {"items": list(items), "next_cursor": None})


def test_a_bundle_is_asked_for_waited_for_and_written_into_a_new_file(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    server.on("POST", LOGS, Reply(201, WAITING))
    server.on("GET", LOGS, page(WAITING), page(DONE), page(DONE))
    server.on("GET", "/api/v1/logs/log_1", Reply(200, b"bytes"))
    file = tmp_path / "kiosk.tar.gz"

    done = publish("device", "logs", "kiosk-2", "--request", "--reason", "it flickers", "--wait", "--to", str(file))

    assert (done.code, file.read_bytes()) == (0, b"bytes")
    assert done.json == {"file": str(file), "length": 5, "id": "log_1", "sha256": "ab" * 32}
    assert server.requests[0].json == {"reason": "it flickers"}
    again = publish("device", "logs", "kiosk-2", "--to", str(file))
    assert (again.code != 0, file.read_bytes()) == (True, b"bytes")


def test_a_bundle_that_will_not_come_ends_the_waiting_with_the_reason(
    publish: Publish, server: ApiServerSimulator
) -> None:
    failed = {**WAITING, "state": "failed", "code": "upload_refused", "detail": "too large"}
    server.on("GET", LOGS, page(failed))

    done = publish("device", "logs", "kiosk-2", "--wait")

    assert done.code == 5
    assert "log_1 is failed: upload_refused too large" in done.err


def test_what_was_asked_for_is_listed(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", LOGS, page(DONE))
    line = publish("device", "logs", "kiosk-2", "-o", "table").out.splitlines()[-1]
    assert line.split()[:2] == ["log_1", "done"]
    assert "5 B" in line


def test_a_reason_without_a_request_is_a_mistake(publish: Publish, server: ApiServerSimulator) -> None:
    assert publish("device", "logs", "kiosk-2", "--reason", "it flickers").code == 2
    assert server.requests == []


def test_a_reboot_is_scheduled_as_said_and_taken_back(publish: Publish, server: ApiServerSimulator) -> None:
    path = "/api/v1/reboots/kiosk-2/schedule"
    server.on("POST", path, Reply(201, REBOOT))
    server.on("DELETE", path, Reply(204, None))
    said = ("--from", "2026-11-21T12:00:00Z", "--maintenance-window")

    done = publish("device", "reboot", "kiosk-2", *said, "-o", "table")
    assert done.out.strip() == (
        "rbt_1: kiosk-2 reboots from 2026-11-21 12:00:00Z to 2026-11-22 12:00:00Z in its own window"
    )
    assert server.requests[0].json == {"starts": "2026-11-21T12:00:00Z", "maintenance_window": True, "reason": ""}

    assert publish("device", "reboot", "kiosk-2", "--cancel").json == {"device": "kiosk-2", "cancelled": True}
    assert publish("device", "reboot", "kiosk-2", "--cancel", "--to", "2026-11-22T12:00:00Z").code == 2


def test_devices_that_need_a_reboot_are_listed_with_why(publish: Publish, server: ApiServerSimulator) -> None:
    one = {"device_id": "dev_1", "device_name": "kiosk-2", "online": True, "last_seen_at": None}
    server.on("GET", "/api/v1/reboots", page({**one, "why": "a new kernel", "scheduled": REBOOT}))
    line = publish("device", "reboots", "-o", "table").out.splitlines()[-1]
    assert line.startswith("kiosk-2")
    assert "a new kernel" in line
    assert line.endswith("waiting")
