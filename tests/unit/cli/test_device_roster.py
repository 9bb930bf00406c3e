"""Lists of devices as files: what is sent, and where codes go."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.simulators.api_server import CUT, ApiServerSimulator, Reply, refusal
from tests.unit.cli.conftest import Publish

IMPORT = "/api/v1/devices/import"
DONE = {
    "dry_run": False,
    "created": 1,
    "updated": 0,
    "unchanged": 1,
    "items": [
        {"line": 2, "name": "press-1", "outcome": "created", "id": "dev_01"},
        {"line": 3, "name": "press-2", "outcome": "unchanged", "id": "dev_02"},
    ],
    "codes": {"press-1": "wge_secret"},
    "codes_expire_at": "2026-12-21T10:00:00Z",
}


def test_a_file_is_sent_as_it_is_and_again_when_the_line_breaks(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    (tmp_path / "devices.csv").write_bytes(b"\xef\xbb\xbfname\r\npress-1\r\n")
    server.on("POST", IMPORT, CUT, Reply(200, DONE))
    done = publish("device", "import", str(tmp_path / "devices.csv"), "--update", "-o", "table")
    assert (done.code, done.out.splitlines()) == (
        0,
        [
            "LINE  NAME     OUTCOME    ID      CODE",
            "2     press-1  created    dev_01  wge_secret",
            "3     press-2  unchanged  dev_02  -",
            "1 created, 0 updated, 1 unchanged",
            "The codes are shown this once.",
        ],
    )
    first, again = server.asked("POST", IMPORT)
    assert first.body == again.body == b"\xef\xbb\xbfname\r\npress-1\r\n"
    assert first.query == {"existing": "update", "dry_run": "false"}
    assert first.headers["content-type"] == "text/csv"
    assert first.headers["idempotency-key"] == again.headers["idempotency-key"]


def test_codes_go_into_a_file_of_their_owner_and_are_printed_nowhere(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    (tmp_path / "devices.csv").write_bytes(b"name\npress-1\n")
    server.on("POST", IMPORT, Reply(200, DONE))
    said = ("device", "import", str(tmp_path / "devices.csv"), "--codes-file", str(tmp_path / "codes.csv"))
    done = publish(*said)
    assert (done.code, done.json) == (0, {**DONE, "codes": None})
    assert (tmp_path / "codes.csv").read_bytes() == b"name,code\r\npress-1,wge_secret\r\n"
    assert stat.S_IMODE((tmp_path / "codes.csv").stat().st_mode) == 0o600
    assert publish(*said).code == 2
    assert len(server.requests) == 1


def test_a_refused_list_leaves_no_file_and_is_told_by_line(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    (tmp_path / "devices.csv").write_bytes(b"name\na b\n")
    details = [{"loc": "line 2, name", "message": "not a name"}, {"loc": "line 3, labels", "message": "no label"}]
    server.on("POST", IMPORT, refusal(400, "invalid_device_list", "line 2, name: not a name", details=details))
    refused = publish(
        "device", "import", str(tmp_path / "devices.csv"), "--codes-file", str(tmp_path / "codes.csv"), "-o", "table"
    )
    assert (refused.code, (tmp_path / "codes.csv").exists()) == (2, False)
    assert "line 3, labels" in refused.err


def test_an_answer_that_got_lost_says_how_to_get_codes(
    publish: Publish, server: ApiServerSimulator, tmp_path: Path
) -> None:
    (tmp_path / "devices.csv").write_bytes(b"name\npress-1\n")
    server.on("POST", IMPORT, Reply(200, {**DONE, "codes": None}))
    done = publish("device", "import", str(tmp_path / "devices.csv"), "-o", "table")
    assert done.out.splitlines()[-1] == (
        "The answer with the codes got lost; make new ones with `publish device code`."
    )


def test_an_export_is_the_server_s_bytes_of_the_filters_given(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/devices", Reply(200, b"name,platform\r\npress-1,\r\n"))
    done = publish("device", "export", "--offline", "--search", "hall 3", "--group", "canary")
    assert (done.code, done.out) == (0, "name,platform\r\npress-1,\r\n")
    [asked] = server.asked("GET", "/api/v1/devices")
    assert asked.query == {"format": "csv", "online": "false", "q": "hall 3", "group": "canary"}
