"""Where the code of a device goes, and where it does not."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.simulators.api_server import ApiServerSimulator, Reply, refusal
from tests.unit.cli.conftest import Publish
from tests.unit.cli.test_commands import DEVICE

CODED = {**DEVICE, "status": "pending", "code": "wge_secret", "code_expires_at": "2026-12-21T10:00:00Z"}


def test_a_code_goes_into_a_file_of_its_owner_and_is_printed_nowhere(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    server.on("POST", "/api/v1/devices", Reply(201, CODED))
    done = publish("device", "create", "kiosk-2", "--code-file", str(tmp_path / "code"), "-o", "table")
    assert (done.code, "wge_" in done.out, done.out.splitlines()[-1]) == (
        0,
        False,
        f"The code is in {tmp_path / 'code'}.",
    )
    assert (tmp_path / "code").read_text() == "wge_secret\n"
    assert stat.S_IMODE((tmp_path / "code").stat().st_mode) == 0o600

    again = publish("device", "create", "kiosk-3", "--code-file", str(tmp_path / "code"))
    assert (again.code, len(server.requests)) == (2, 1)
    assert (tmp_path / "code").read_text() == "wge_secret\n"


def test_a_refused_code_leaves_no_file(publish: Publish, server: ApiServerSimulator, tmp_path: Path) -> None:
    server.on("POST", "/api/v1/devices", refusal(409, "device_exists", "a device named kiosk-2 exists already"))
    refused = publish("device", "create", "kiosk-2", "--code-file", str(tmp_path / "code"))
    assert (refused.code, list(tmp_path.glob("code"))) == (5, [])


def test_a_code_without_a_file_is_shown_once(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/devices/kiosk-2/enroll-code", Reply(201, CODED))
    assert publish("device", "code", "kiosk-2", "-o", "table").out.splitlines()[-2:] == [
        "code        wge_secret",
        "The code is shown this once.",
    ]


def test_a_device_is_made_of_what_was_said(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/devices", Reply(201, CODED))
    said = ("--platform", "linux-x86_64", "--group", "canary", "--label", "site=zrh")
    done = publish("device", "create", "kiosk-2", *said)
    body = {"name": "kiosk-2", "platform": "linux-x86_64", "groups": ["canary"], "labels": {"site": "zrh"}}
    assert (done.code, server.requests[0].json, done.json) == (0, body, CODED)
