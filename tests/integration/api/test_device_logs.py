"""Log bundles and reboots over the API: asked for, delivered, ended, put away; on both databases."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.setup import Initialised
from fleet.command import Result
from fleet.commanding import Commands
from fleet.errors import CommandOver, LogQuotaReached
from fleet.model import CheckIn
from tests.databases import Databases
from tests.integration.api.conftest import Home, copied_home
from tests.integration.api.tour_reports import send_logs


@pytest.fixture(scope="module")
def home(databases: Databases, first_home: Initialised, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with copied_home(databases, first_home, tmp_path_factory.mktemp("device-logs") / "home") as home:
        yield home


@pytest.fixture
def press(home: Home, request: pytest.FixtureRequest) -> str:
    """The id of a device of its own for each test."""
    name = f"press-{abs(hash(request.node.name)) % 10**9}"
    made = home.call("POST", "/devices", {"name": name})
    assert made.status_code == 201, made.text
    return str(made.get_json()["id"])


def told(home: Home, method: str, path: str, body: object = None, *, status: int = 200, **more: Any) -> Any:
    answer = home.call(method, path, body, **more)
    assert answer.status_code == status, answer.text
    return answer.get_json() if answer.is_json else None


def events(home: Home, device: str) -> list[tuple[str, dict[str, Any]]]:
    items = told(home, "GET", f"/audit/events?subject={device}&limit=200")["items"]
    return [(one["tag"], one["data"]) for one in items if one["tag"] != "device.created"]


def refused(home: Home, method: str, path: str, body: object = None) -> tuple[int, str]:
    answer = home.call(method, path, body)
    return answer.status_code, answer.get_json()["error"]["code"]


def test_a_bundle_is_asked_for_once_sent_and_downloaded_as_it_was_sent(home: Home, press: str) -> None:
    asked = told(home, "POST", f"/devices/{press}/logs", {"reason": "it flickers"}, status=201)
    again = told(home, "POST", f"/devices/{press}/logs", {}, status=200)
    assert (asked["state"], again["id"]) == ("waiting", asked["id"])
    assert refused(home, "GET", f"/logs/{asked['id']}") == (404, "logs_not_here")

    send_logs(home.wiring, press, asked["id"], b"\x1f\x8b\x00bytes")

    [listed] = told(home, "GET", f"/devices/{press}/logs")["items"]
    assert (listed["state"], listed["length"], listed["files"]) == ("done", 8, 3)
    answer = home.call("GET", f"/logs/{asked['id']}")
    assert (answer.data, answer.mimetype) == (b"\x1f\x8b\x00bytes", "application/gzip")
    assert answer.headers["Content-Disposition"] == f"attachment; filename={asked['id']}.tar.gz"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    answer.close()
    assert [tag for tag, _ in events(home, press)] == ["device.logs_requested", "device.logs_uploaded"]
    assert events(home, press)[1][1] == {
        "command": asked["id"],
        "files": 3,
        "length": 8,
        "sha256": listed["sha256"],
    }
    told(home, "DELETE", f"/logs/{asked['id']}", status=204)


def test_a_bundle_is_deleted_and_a_request_taken_back(home: Home, press: str) -> None:
    asked = told(home, "POST", f"/devices/{press}/logs", {}, status=201)
    send_logs(home.wiring, press, asked["id"])
    stale = home.call("DELETE", f"/logs/{asked['id']}", headers={"If-Match": '"ab"'})
    assert stale.status_code == 412
    told(home, "DELETE", f"/logs/{asked['id']}", status=204)
    assert refused(home, "GET", f"/logs/{asked['id']}") == (404, "logs_not_here")
    assert refused(home, "DELETE", f"/logs/{asked['id']}") == (409, "command_over")

    more = told(home, "POST", f"/devices/{press}/logs", {}, status=201)
    told(home, "DELETE", f"/logs/{more['id']}", status=204)

    assert [one["state"] for one in told(home, "GET", f"/devices/{press}/logs")["items"]] == ["cancelled", "done"]
    assert [tag for tag, _ in events(home, press)][2:] == [
        "device.logs_deleted",
        "device.logs_requested",
        "device.logs_cancelled",
    ]
    assert list(folder_of(home)) == []


def folder_of(home: Home) -> list[str]:
    return [path.name for path in (home.wiring.settings.storage / "acme" / "logs").glob("*")]


def test_a_viewer_sees_that_there_are_logs_and_does_not_read_them(home: Home, press: str) -> None:
    asked = told(home, "POST", f"/devices/{press}/logs", {}, status=201)
    send_logs(home.wiring, press, asked["id"])
    viewer = home.person("v@example.com", "viewer")

    told(home, "GET", f"/devices/{press}/logs", token=viewer)
    answer = home.call("GET", f"/logs/{asked['id']}", token=viewer)

    assert (answer.status_code, answer.get_json()["error"]["permission"]) == (403, "device-logs:download")
    told(home, "DELETE", f"/logs/{asked['id']}", status=204)


def test_what_is_overdue_ends_and_bundles_are_put_away_after_their_days(home: Home, press: str) -> None:
    commands, now = home.wiring.commands, datetime.now(UTC)
    done = told(home, "POST", f"/devices/{press}/logs", {}, status=201)
    send_logs(home.wiring, press, done["id"])
    waiting = told(home, "POST", f"/devices/{press}/logs", {"expires_in_hours": 1}, status=201)

    assert commands.sweep("acme", now=now + timedelta(minutes=59)) == 0
    assert commands.sweep("acme", now=now + timedelta(minutes=61)) == 1
    assert [one["state"] for one in told(home, "GET", f"/devices/{press}/logs")["items"]] == ["expired", "done"]
    assert not home.wiring.fleet.device("acme", press).has_commands
    assert events(home, press)[-1] == ("device.logs_expired", {"command": waiting["id"]})

    assert commands.sweep("acme", now=now + timedelta(days=31)) == 1
    assert folder_of(home) == []
    assert told(home, "GET", f"/devices/{press}/logs")["items"][1]["sha256"] is None


def test_a_reboot_is_scheduled_once_replaced_and_taken_back(home: Home, press: str) -> None:
    path = f"/reboots/{press}/schedule"
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    night = {"starts": tomorrow.isoformat(), "ends": (tomorrow + timedelta(hours=2)).isoformat()}
    first = told(home, "POST", path, night, status=201)
    assert told(home, "POST", path, night)["id"] == first["id"]
    now = told(home, "POST", path, {}, status=201)
    assert told(home, "POST", path, {})["id"] == now["id"]

    soon = told(home, "POST", path, {"maintenance_window": True}, status=201)
    assert told(home, "POST", path, {"maintenance_window": True})["id"] == soon["id"]
    [pending] = [one for one in told(home, "GET", "/reboots")["items"] if one["device_id"] == press]
    assert (pending["why"], pending["scheduled"]["id"]) == ("", soon["id"])

    told(home, "DELETE", path, status=204)
    assert refused(home, "DELETE", path) == (404, "command_not_found")
    assert press not in [one["device_id"] for one in told(home, "GET", "/reboots")["items"]]
    assert [(tag, data["command"]) for tag, data in events(home, press)] == [
        ("device.reboot_scheduled", first["id"]),
        ("device.reboot_cancelled", first["id"]),
        ("device.reboot_scheduled", now["id"]),
        ("device.reboot_cancelled", now["id"]),
        ("device.reboot_scheduled", soon["id"]),
        ("device.reboot_cancelled", soon["id"]),
    ]


def test_a_device_that_needs_a_reboot_is_listed_until_it_needs_none(home: Home, press: str) -> None:
    def says(why: str) -> None:
        what = CheckIn(
            agent_version="1",
            hostname="h",
            os_family="linux",
            os_name="",
            platform="linux",
            running=(),
            state="",
            at=datetime.now(UTC),
            reboot_pending=why,
        )
        home.wiring.fleet.check_in("acme", press, what)

    says("*** System restart required ***")
    [pending] = [one for one in told(home, "GET", "/reboots")["items"] if one["device_id"] == press]
    assert (pending["why"], pending["scheduled"], pending["online"]) == ("*** System restart required ***", None, True)

    says("")
    assert press not in [one["device_id"] for one in told(home, "GET", "/reboots")["items"]]


def test_a_reboot_that_a_device_made_counts_though_it_was_taken_back(home: Home, press: str) -> None:
    made = told(home, "POST", f"/reboots/{press}/schedule", {}, status=201)
    fleet, commands, now = home.wiring.fleet, home.wiring.commands, datetime.now(UTC)
    assert [one.id for one in commands.exchange(fleet.device("acme", press), [], [], now=now).deliver] == [made["id"]]
    held = commands.exchange(fleet.device("acme", press), [made["id"]], [], now=now)
    assert (held.deliver, held.drop) == ((), ())
    told(home, "DELETE", f"/reboots/{press}/schedule", status=204)
    assert commands.exchange(fleet.device("acme", press), [made["id"]], [], now=now).drop == (made["id"],)

    result = Result(id=made["id"], done=True, boot_id="b2")
    for _ in range(2):
        commands.exchange(fleet.device("acme", press), [], [result], now=now)

    assert [(tag, data.get("boot_id")) for tag, data in events(home, press)] == [
        ("device.reboot_scheduled", None),
        ("device.reboot_cancelled", None),
        ("device.rebooted", "b2"),
    ]


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("/reboots/{}/schedule", {"ends": "2020-01-01T00:00:00Z"}, (400, "invalid_fleet_input")),
        (
            "/reboots/{}/schedule",
            {"starts": "2030-01-02T00:00:00Z", "ends": "2030-01-01T00:00:00Z"},
            (400, "invalid_fleet_input"),
        ),
        ("/reboots/{}/schedule", {"starts": "9999-12-31T23:59:59Z"}, (400, "invalid_fleet_input")),
        ("/reboots/{}/schedule", {"starts": "tomorrow"}, (400, "validation_failed")),
        ("/reboots/{}/schedule", {"reason": "a\nb"}, (400, "invalid_fleet_input")),
        ("/devices/{}/logs", {"expires_in_hours": 0}, (400, "validation_failed")),
        ("/devices/{}0/logs", {}, (404, "device_not_found")),
    ],
)
def test_what_makes_no_sense_is_refused(
    home: Home, press: str, path: str, body: dict[str, Any], answer: tuple[int, str]
) -> None:
    assert refused(home, "POST", path.format(press), body) == answer
    assert events(home, press) == []


def test_a_revoked_device_is_asked_for_nothing(home: Home, press: str) -> None:
    told(home, "POST", f"/devices/{press}/revoke", {"reason": "stolen"})

    assert refused(home, "POST", f"/devices/{press}/logs", {}) == (409, "device_revoked")
    assert refused(home, "POST", f"/reboots/{press}/schedule", {}) == (409, "device_revoked")


def test_a_deleted_device_takes_its_commands_and_bundles_with_it(home: Home, press: str) -> None:
    asked = told(home, "POST", f"/devices/{press}/logs", {}, status=201)
    send_logs(home.wiring, press, asked["id"])
    told(home, "DELETE", f"/devices/{press}", status=204)

    assert refused(home, "GET", f"/logs/{asked['id']}") == (404, "command_not_found")
    home.wiring.commands.sweep("acme", now=datetime.now(UTC) + timedelta(days=2))
    assert folder_of(home) == []


def test_a_bundle_beyond_the_quota_is_refused_and_leaves_nothing(home: Home, press: str) -> None:
    commands, now = home.wiring.commands, datetime.now(UTC)
    tight = replace(commands.terms, quota_bytes=commands.rows.bytes_kept("acme") + 100)
    full = Commands(home.wiring.fleet, commands.rows, commands._files, tight)
    asked = told(home, "POST", f"/devices/{press}/logs", {}, status=201)
    device = home.wiring.fleet.device("acme", press)
    content = b"x" * 101
    sha256 = hashlib.sha256(content).hexdigest()

    with full.stage(device) as staged:
        staged.write(content)
        with pytest.raises(LogQuotaReached):
            full.take_bundle(device, asked["id"], staged, sha256=sha256, length=101, files=1, now=now)

    assert [name for name in folder_of(home) if name.startswith((asked["id"], ".part"))] == []
    assert told(home, "GET", f"/devices/{press}/logs")["items"][0]["state"] == "waiting"


def test_of_two_streams_of_one_bundle_one_is_kept(home: Home, press: str) -> None:
    commands, now = home.wiring.commands, datetime.now(UTC)
    asked = told(home, "POST", f"/devices/{press}/logs", {}, status=201)
    device = home.wiring.fleet.device("acme", press)
    began = threading.Barrier(4)

    def send(number: int) -> str:
        content = b"the same" if number < 2 else f"of {number}".encode()
        with commands.stage(device) as staged:
            staged.write(content)
            began.wait(20)
            sha256 = hashlib.sha256(content).hexdigest()
            try:
                commands.take_bundle(device, asked["id"], staged, sha256=sha256, length=len(content), files=1, now=now)
            except CommandOver:
                return ""
            return sha256

    with ThreadPoolExecutor(4) as pool:
        kept = [one for one in pool.map(send, range(4)) if one]

    assert [name for name in folder_of(home) if name.startswith(asked["id"])] == [f"{asked['id']}.{kept[0]}"]
    assert len(kept) == 1
    assert [tag for tag, _ in events(home, press)] == ["device.logs_requested", "device.logs_uploaded"]
    told(home, "DELETE", f"/logs/{asked['id']}", status=204)


def test_two_people_who_ask_at_once_get_the_same_request(home: Home, press: str) -> None:
    def ask(_: int) -> str:
        client = home.app.test_client()
        headers = {"Authorization": f"Bearer {home.made.api_key}"}
        return str(client.post(f"/api/v1/devices/{press}/logs", json={}, headers=headers).get_json()["id"])

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert [tag for tag, _ in events(home, press)] == ["device.logs_requested"]
