"""Rollouts as people see them over HTTP: rates, silence, failures by reason, devices as CSV, lists, previews."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Engine, event
from werkzeug.test import TestResponse

from fleet.model import CheckIn, Running
from rollout.model import DeviceProgress, Progress, Report
from tests.integration.api.conftest import Home
from tests.simulators.devices import enrol_device

pytestmark = pytest.mark.postgresql

START = datetime.now(UTC)
NUMBERS = count(1)
FORMULA = "=HYPERLINK(1)"


@dataclass
class Field:
    """A home with a release and devices in the group ``field``; time is the scheduler's and moves when told."""

    home: Home
    devices: list[str]

    def submit(self, *waves: dict[str, Any]) -> str:
        plan = {"product": "fw", "version": "1.0.0", "waves": list(waves) or [{"group": "field"}]}
        made = self.home.call("POST", "/rollouts", plan)
        assert made.status_code == 201, made.text
        rollout_id: str = made.get_json()["id"]
        return rollout_id

    def tick(self, after: timedelta = timedelta(0)) -> None:
        self.home.wiring.rollouts.tick("acme", datetime.now(UTC) + after)

    def report(self, rollout_id: str, device: int, progress: Progress, code: str = "", detail: str = "") -> None:
        told = Report(
            id=f"rep_{next(NUMBERS)}",
            rollout=rollout_id,
            attempt=1,
            progress=progress,
            at=datetime.now(UTC),
            code=code,
            detail=detail,
        )
        assert self.home.wiring.rollouts.record_report("acme", self.devices[device], told)

    def get(self, path: str, **more: Any) -> Any:
        answer = self.home.call("GET", path, **more)
        assert answer.status_code == 200, answer.text
        return answer.get_json()


@pytest.fixture
def field(home: Home) -> Field:
    assert home.publish().status_code == 201
    for name in ("field", "other"):
        assert home.call("POST", "/groups", {"name": name}).status_code == 201
    token = home.call(
        "POST", "/enroll-tokens", {"name": "line", "groups": ["field"], "max_uses": 10}, token=home.admin()
    )
    assert token.status_code == 201, token.text
    fleet, issuer = home.wiring.fleet, home.wiring.device_ca
    names = [f"gate-{number}" for number in range(5)]
    devices = [enrol_device(fleet, issuer, token.get_json()["token"], name, now=START).id for name in names]
    return Field(home, devices)


LENIENT = {"max_failure_rate_percent": None, "success_percent": 100}


def test_an_open_wave_shows_rates_with_their_interval_and_its_clocks(field: Field) -> None:
    rollout_id = field.submit({"group": "field", "gate": {**LENIENT, "soak_seconds": 3600, "deadline_seconds": 7200}})
    assert field.get(f"/rollouts/{rollout_id}")["waves"][0]["outlook"] is None
    field.tick()
    for device in range(3):
        field.report(rollout_id, device, Progress.SUCCEEDED)
    field.report(rollout_id, 3, Progress.FAILED, code="install_failed")
    [wave] = field.get(f"/rollouts/{rollout_id}")["waves"]
    outlook = wave["outlook"]
    assert outlook["success"] == {"hits": 3, "results": 4, "percent": 75.0, "low": 30.1, "high": 95.4}
    assert outlook["failure"] == {"hits": 1, "results": 4, "percent": 25.0, "low": 4.6, "high": 69.9}
    opened = datetime.fromisoformat(wave["opened_at"])
    assert datetime.fromisoformat(outlook["soaks_until"]) == opened + timedelta(hours=1)
    assert datetime.fromisoformat(outlook["deadline_at"]) == opened + timedelta(hours=2)
    assert (outlook["unheard"], outlook["stalled"], outlook["silent_from"]) == (0, 0, None)


def test_silent_devices_pause_the_rollout_after_their_timeout(field: Field) -> None:
    rollout_id = field.submit({"group": "field", "gate": {"report_timeout_seconds": 600, "max_failures": 2}})
    field.tick()
    for device in range(3):
        field.report(rollout_id, device, Progress.SUCCEEDED)
    field.report(rollout_id, 3, Progress.INSTALLING)
    field.tick(timedelta(seconds=590))
    told = field.get(f"/rollouts/{rollout_id}")
    assert told["state"] == "running"
    assert told["why"].startswith("wave 1: 3 of 4 acting devices succeeded, 90 % needed")
    field.tick(timedelta(seconds=610))
    told = field.get(f"/rollouts/{rollout_id}")
    assert told["why"] == (
        "paused: wave 1: 2 of 5 devices failed (2 of them silent), limit 2 (an approver must resume)"
    )
    assert told["plan"]["waves"][0]["gate"]["report_timeout_seconds"] == 600
    gate = told["waves"][0]["gate"]
    assert (gate["report_timeout_seconds"], gate["silent"]) == (600, "fail")


def test_a_policy_without_a_timeout_is_refused_with_its_place(field: Field) -> None:
    plan = {"product": "fw", "version": "1.0.0", "waves": [{"group": "field", "gate": {"silent": "ignore"}}]}
    refused = field.home.call("POST", "/rollouts", plan)
    assert refused.status_code == 400
    assert "waves.1.gate.silent" in refused.text


def failing(field: Field) -> str:
    rollout_id = field.submit({"group": "field", "gate": LENIENT})
    field.tick()
    field.report(rollout_id, 0, Progress.FAILED, code="install_failed", detail="exit 1")
    field.report(rollout_id, 1, Progress.FAILED, code="install_failed", detail="exit 2")
    field.report(rollout_id, 2, Progress.ROLLED_BACK, code="health_failed")
    field.report(rollout_id, 3, Progress.SUCCEEDED)
    field.report(rollout_id, 4, Progress.FAILED, code="install_failed", detail=FORMULA)
    return rollout_id


def test_failures_are_grouped_by_reason_the_most_frequent_first(field: Field) -> None:
    rollout_id = failing(field)
    told = field.get(f"/rollouts/{rollout_id}/failures")
    assert (told["devices"], told["more"]) == (4, 0)
    assert [(one["code"], one["progress"], one["devices"]) for one in told["reasons"]] == [
        ("install_failed", "failed", 3),
        ("health_failed", "rolled_back", 1),
    ]
    assert told["reasons"][1]["example"]["device_name"] == "gate-2"
    assert field.get(f"/rollouts/{rollout_id}/failures?wave=2") == {"devices": 0, "reasons": [], "more": 0}
    assert field.home.call("GET", "/rollouts/rol_none/failures").status_code == 404


def test_devices_are_filtered_by_code_and_counted(field: Field) -> None:
    rollout_id = failing(field)
    wanted = f"/rollouts/{rollout_id}/devices?code=install_failed&progress=failed&wave=1&limit=2"
    told = field.get(f"{wanted}&total=true")
    assert (len(told["items"]), told["total"]) == (2, 3)
    rest = field.get(f"{wanted}&cursor={told['next_cursor']}")
    assert [one["detail"] for one in rest["items"]] != []
    assert rest["next_cursor"] is None


def rows(answer: TestResponse) -> list[dict[str, str]]:
    assert answer.status_code == 200
    assert answer.mimetype == "text/csv"
    return list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))


def test_devices_come_as_one_csv_that_no_spreadsheet_calculates(field: Field) -> None:
    rollout_id = failing(field)
    told = field.home.call("GET", f"/rollouts/{rollout_id}/devices?format=csv")
    assert told.headers["Content-Disposition"] == f'attachment; filename="{rollout_id}-devices.csv"'
    found = rows(told)
    assert [one["device_id"] for one in found] == sorted(field.devices)
    by_device = {one["device_id"]: one for one in found}
    bad = by_device[field.devices[4]]
    assert (bad["device_name"], bad["detail"]) == ("gate-4", f"'{FORMULA}")
    assert by_device[field.devices[3]]["progress"] == "succeeded"
    path = f"/rollouts/{rollout_id}/devices?progress=rolled_back"
    only = field.home.call("GET", path, headers={"Accept": "text/csv"})
    assert [one["code"] for one in rows(only)] == ["health_failed"]
    assert field.home.call("GET", "/rollouts/rol_none/devices?format=csv").status_code == 404


def test_a_csv_of_more_devices_than_are_read_at_once_is_whole(field: Field) -> None:
    rollout_id = field.submit()
    for number in range(1_001):
        step = DeviceProgress(device=f"dev_{number:04}", wave=1, attempt=1, progress=Progress.DOWNLOADING, at=START)
        field.home.wiring.rollout_store.update_progress("acme", rollout_id, step.device, lambda *_, to=step: to)
    found = rows(field.home.call("GET", f"/rollouts/{rollout_id}/devices?format=csv"))
    assert [one["device_id"] for one in found] == [f"dev_{number:04}" for number in range(1_001)]


def test_json_goes_before_csv_for_who_takes_anything(field: Field) -> None:
    rollout_id = failing(field)
    for accept in ("*/*", "application/json, text/csv", "text/html"):
        assert field.home.call("GET", f"/rollouts/{rollout_id}/devices", headers={"Accept": accept}).is_json


def test_a_list_is_filtered_sorted_counted_and_places_no_device(field: Field) -> None:
    assert field.home.publish(b"two", product="app").status_code == 201
    first = field.submit({"group": "field", "gate": {"soak_seconds": 3600}})
    field.tick()
    field.report(first, 0, Progress.SUCCEEDED)
    plan = {"product": "app", "version": "1.0.0", "waves": [{"group": "other"}], "draft": True}
    second = field.home.call("POST", "/rollouts", plan).get_json()["id"]

    def ids(query: str) -> list[str]:
        return [one["id"] for one in field.get(f"/rollouts?{query}")["items"]]

    assert ids("") == [second, first]
    assert ids("sort=created_at") == [first, second]
    assert ids("sort=product") == [second, first]
    assert ids("sort=-product") == [first, second]
    assert ids("group=field") == [first]
    assert ids("group=other&state=draft&product=app&channel=stable") == [second]
    assert ids("group=other&state=running") == []
    page = field.get("/rollouts?sort=product&limit=1&total=true&group=field")
    assert (page["total"], page["next_cursor"]) == (1, None)
    page = field.get("/rollouts?sort=product&limit=1&total=true")
    assert page["total"] == 2
    assert ids(f"sort=product&limit=1&cursor={page['next_cursor']}") == [first]
    crossed = field.home.call("GET", f"/rollouts?sort=created_at&cursor={page['next_cursor']}")
    assert (crossed.status_code, crossed.get_json()["error"]["code"]) == (400, "invalid_cursor")
    assert field.home.call("GET", "/rollouts?sort=why").status_code == 400
    asked: list[str] = []

    def listen(*call: Any) -> None:
        asked.append(call[2])

    event.listen(Engine, "before_cursor_execute", listen)
    told = {one["id"]: one for one in field.get("/rollouts")["items"]}
    event.remove(Engine, "before_cursor_execute", listen)
    assert any("rollout_counters" in statement for statement in asked)
    assert told[first]["why"] == "wave 1 is open: 1 succeeded, 0 failed, 0 under way"
    assert told[first]["waves"][0]["counters"]["expected"] is None
    assert not [statement for statement in asked if "group_devices" in statement or "rollout_devices" in statement]


def test_a_plan_is_previewed_and_not_stored(field: Field) -> None:
    old = Running(product="fw", version="2.0.0", path="p", sha256="ab" * 32)
    said = CheckIn(
        at=START,
        agent_version="1",
        hostname="h",
        os_family="linux",
        os_name="",
        platform="riscv64",
        running=(old,),
        state="",
    )
    field.home.wiring.fleet.check_in("acme", field.devices[0], said)
    waves: list[dict[str, Any]] = [
        {"group": "field", "gate": {"approvals": 1, "soak_seconds": 60}},
        {"group": "other"},
    ]
    plan = {"product": "fw", "version": "1.0.0", "waves": waves}
    answer = field.home.call("POST", "/rollouts/preview", plan)
    assert answer.status_code == 200, answer.text
    told = answer.get_json()
    assert (told["devices"], told["cohorts_known"]) == (5, True)
    first, second = told["waves"]
    assert (first["devices"], first["exact"], first["newer"], first["already"]) == (5, True, 1, 0)
    assert first["platforms"]["riscv64"] == 1
    assert {one["device_name"] for one in first["sample"]} == {"gate-0", "gate-1", "gate-2", "gate-3", "gate-4"}
    opens = datetime.fromisoformat(first["opens_at"])
    assert datetime.fromisoformat(second["opens_at"]) == opens + timedelta(seconds=60)
    assert [one["code"] for one in told["blocks"]] == ["approvals_missing"]
    assert [one["code"] for one in told["notes"]] == ["downgrade", "empty_wave"]
    assert field.get("/rollouts")["items"] == []
    made = field.submit(*waves)
    assert field.get(f"/rollouts/{made}")["plan_hash"] == told["plan_hash"]
    again = field.get(f"/rollouts/{made}/preview")
    assert [wave["devices"] for wave in again["waves"]] == [5, 0]
    assert [one["code"] for one in again["blocks"]] == ["approvals_missing"]


def test_a_preview_of_what_cannot_be_says_why(field: Field) -> None:
    plan = {"product": "fw", "version": "9.9", "waves": [{"group": "field"}, {"group": "nobody"}]}
    told = field.home.call("POST", "/rollouts/preview", plan).get_json()
    assert [one["code"] for one in told["blocks"]] == ["release_not_found", "group_unknown"]
    assert field.home.call("GET", "/rollouts/rol_none/preview").status_code == 404
    bad = {"product": "fw", "version": "1.0.0", "waves": [{"group": "field"}, {"group": "field"}]}
    refused = field.home.call("POST", "/rollouts/preview", bad)
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (400, "invalid_plan")
