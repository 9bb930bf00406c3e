"""A device's timeline and the metered nights as `publish` shows them."""

from __future__ import annotations

import json

from tests.simulators.api_server import ApiServerSimulator, Reply
from tests.unit.cli.conftest import Publish

STEP = {
    "id": "stp_1",
    "at": "2026-11-21T12:00:00.250Z",
    "kind": "device.update.succeeded",
    "text": "runs app 1.3 (wave 1)",
    "by": None,
    "details": {"rollout_id": "rol_1", "target_path": "app/1.3/any/app", "serial": 42},
}
LABELLED = {
    "id": "evt_1",
    "at": "2026-11-21T11:00:00Z",
    "kind": "device.labelled",
    "text": "labelled site=oslo",
    "by": {"kind": "user", "id": "usr_1", "name": "Ada", "credential": None},
    "details": {"labels": {"site": "oslo"}},
}
METERED = {
    "org": "acme",
    "month": "2026-11",
    "most": 12,
    "average": 11.5,
    "device_nights": 23,
    "nights": [{"date": "2026-11-19", "active": 11, "counted_at": "2026-11-20T00:12:08Z"}],
}


def test_the_history_of_a_device_is_a_table_or_json(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/devices/press-1/history", Reply(200, {"items": [STEP, LABELLED], "next_cursor": None}))
    shown = publish("device", "history", "press-1", "-o", "table")
    assert shown.code == 0
    first, second = shown.out.splitlines()[1:]
    assert first.split()[2:] == ["runs", "app", "1.3", "(wave", "1)", "app/1.3/any/app", "rol_1", "42", "-"]
    assert second.split() == ["2026-11-21", "11:00:00Z", "labelled", "site=oslo", "-", "-", "-", "Ada"]
    assert json.loads(publish("device", "history", "press-1", "-o", "json").out)["items"] == [STEP, LABELLED]


def test_a_device_without_such_entries_says_so(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/devices/press-1/history", Reply(200, {"items": [], "next_cursor": None}))
    shown = publish("device", "history", "press-1", "--kind", "device.danced", "-o", "table")
    assert shown.out.strip() == "nothing of that kind has happened to it"


def test_metering_shows_the_month_and_its_nights(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/metering", Reply(200, METERED))
    shown = publish("metering", "--month", "2026-11", "-o", "table")
    assert shown.code == 0
    assert "most devices   12" in shown.out
    assert shown.out.splitlines()[-1].split() == ["2026-11-19", "11", "2026-11-20", "00:12:08Z"]
    assert server.requests[0].query == {"month": "2026-11"}
    assert json.loads(publish("metering", "-o", "json").out) == METERED


def test_metering_as_csv_is_what_the_server_sent(publish: Publish, server: ApiServerSimulator) -> None:
    sent = "org,date,active,counted_at\r\nacme,2026-11-19,11,2026-11-20T00:12:08Z\r\n"
    server.on("GET", "/api/v1/metering", Reply(200, sent.encode()))
    assert publish("metering", "-o", "csv").out.split() == sent.split()
    assert server.requests[0].query == {"format": "csv"}
