"""One device's life as the API tells it, the events that receivers get of it, and the nights that are metered."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.app import create_app
from api.organisation_jobs import OrganisationJobs
from api.webhook_round import WebhookRound
from evidence.model import Actor, ActorKind, AuditEvent
from evidence.webhooks.addresses import Allowed
from fleet.metering import active_at, count_nights
from fleet.model import CheckIn
from rollout.model import Progress, Report
from tests.databases import Databases
from tests.integration.api.conftest import Home, copied_home
from tests.simulators.devices import new_key, request_for
from tests.simulators.webhook_receiver import WebhookReceiver, webhook_receiver

pytestmark = pytest.mark.postgresql

ADA = Actor(ActorKind.USER, "usr_ADA", "Ada")


class Lab:
    """A home whose background does only what a test asks it to, and a receiver of its events about devices."""

    def __init__(self, home: Home, receiver: WebhookReceiver) -> None:
        wiring = replace(home.wiring, webhooks=replace(home.wiring.webhooks, allowed=Allowed.parse(["127.0.0.1"])))
        self.home = replace(home, wiring=wiring, client=create_app(wiring).test_client())
        self.receiver = receiver
        self.jobs = OrganisationJobs(wiring, lambda: False)
        self.made("POST", "/groups", {"name": "field"})
        assert self.home.publish().status_code in {200, 201}
        hook = {"url": receiver.url, "events": ["device.online", "device.update.failed"]}
        self.made("POST", "/webhooks", hook, token=self.home.admin())

    def made(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        answer = self.home.call(method, path, body, **more)
        assert answer.status_code < 300, (path, answer.text)
        return answer.get_json()

    def enrolled(self, name: str) -> str:
        code = self.made("POST", "/devices", {"name": name, "platform": "linux-x86_64", "groups": ["field"]})["code"]
        asked = {"token": code, "certificate_request": request_for(new_key()).decode(), "name": "x", "platform": "y"}
        device: str = self.made("POST", "/enroll", asked, token="")["device_id"]
        return device

    def call(self, device: str, at: datetime) -> None:
        said = CheckIn(
            agent_version="1",
            hostname="h",
            os_family="linux",
            os_name="Debian",
            platform="linux-x86_64",
            running=(),
            state="idle",
            at=at,
        )
        self.home.wiring.fleet.check_in("acme", device, said)

    def rollout(self) -> str:
        plan = {"product": "fw", "version": "1.0.0", "waves": [{"group": "field", "gate": {"soak_seconds": 86_400}}]}
        rollout: str = self.made("POST", "/rollouts", plan)["id"]
        for _ in range(2):
            self.home.wiring.rollouts.tick("acme", datetime.now(UTC))
        return rollout

    def report(self, device: str, rollout: str, progress: Progress, code: str = "") -> None:
        report = Report(
            id=f"{progress}-{device}",
            rollout=rollout,
            attempt=1,
            progress=progress,
            at=datetime.now(UTC),
            code=code,
            detail="port 80 is closed" if code else "",
        )
        groups = frozenset({"field"})
        assert self.home.wiring.rollouts.record_report("acme", device, report, groups=groups)

    def history(self, device: str, query: str = "") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.made("GET", f"/devices/{device}/history{query}")["items"]
        return items

    def active(self) -> list[str]:
        items = self.made("GET", "/devices?status=active&limit=200")["items"]
        return [one["id"] for one in items]

    def tell(self) -> list[dict[str, Any]]:
        """Let the background tell of devices and send it; what the receiver got."""
        self.jobs.judge()  # who leads does the rest
        self.jobs.announce()
        WebhookRound(self.home.wiring).turn(clock=lambda: datetime.now(UTC), stop=lambda: False)
        got = sorted((json.loads(one.body) for one in self.receiver.got), key=lambda told: str(told["timestamp"]))
        self.receiver.got.clear()
        return got


@pytest.fixture(scope="module")
def lab(databases: Databases, first_home: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("history") / "home"
    with copied_home(databases, first_home, folder) as home, webhook_receiver() as receiver:
        lab = Lab(home, receiver)
        yield lab
        lab.jobs.step_down()


def test_a_device_s_life_is_told_from_the_newest_back_and_its_changes_to_receivers(lab: Lab) -> None:
    began = datetime.now(UTC)
    device = lab.enrolled("press-1")
    lab.made("PATCH", f"/devices/{device}/labels", {"labels": {"site": "oslo"}})
    lab.made("POST", "/groups", {"name": "canary"})
    lab.made("PUT", f"/groups/canary/devices/{device}")
    lab.call(device, began)
    rollout = lab.rollout()
    lab.report(device, rollout, Progress.DOWNLOADING)
    lab.report(device, rollout, Progress.FAILED, "health_failed")
    lab.made("POST", "/exclusions", {"device": "press-1", "product": "fw", "reason": "on the bench"})
    lab.home.wiring.audit.append("acme", [AuditEvent("device.danced", device, ADA, datetime.now(UTC), {"to": "jazz"})])
    lab.made("DELETE", f"/groups/canary/devices/{device}", headers={"If-Match": "*"})
    lab.made("POST", f"/devices/{device}/revoke", {"reason": "stolen"})

    told = lab.history("press-1")

    assert [one["text"] for one in told if one["kind"] != "device.online"] == [
        "revoked: stolen",
        "taken out of group canary",
        "device.danced",
        "excluded from fw: on the bench",
        "failed to update to fw 1.0.0 (wave 1): health_failed: port 80 is closed",
        "downloads fw 1.0.0 (wave 1)",
        "put into group canary",
        "labelled site=oslo",
        "enrolled by its code into field",
        "made, waits to enrol",
    ]
    (online,) = [one for one in told if one["kind"] == "device.online"]
    assert online["text"].startswith("online; last call ")
    artifact = lab.made("GET", "/artifacts")["items"][0]
    failed = next(one for one in told if one["kind"] == "device.update.failed")
    assert failed["by"] is None
    assert failed["details"] == {
        "rollout_id": rollout,
        "wave": 1,
        "attempt": 1,
        "code": "health_failed",
        "detail": "port 80 is closed",
        "product": "fw",
        "version": "1.0.0",
        "artifact_id": artifact["id"],
        "target_path": artifact["target_path"],
        "sha256": artifact["sha256"],
        "serial": artifact["serial"],
    }
    assert next(one for one in told if one["kind"] == "device.revoked")["by"]["kind"] == "service"

    got = lab.tell()
    assert sorted((one["type"], one["data"]["subject"]) for one in got) == [
        ("device.online", device),
        ("device.update.failed", device),
    ]
    failure = next(one for one in got if one["type"] == "device.update.failed")
    assert failure["data"]["details"]["code"] == "health_failed"
    assert failure["timestamp"] == failed["at"]
    assert lab.tell() == []
    assert [one["id"] for one in lab.history(device)] == [one["id"] for one in told]


def test_heartbeats_are_no_events_and_a_return_after_a_silence_is_one(lab: Lab) -> None:
    device, began = lab.enrolled("press-2"), datetime.now(UTC)
    for minute in (0, 5, 19, 60):
        lab.call(device, began + timedelta(minutes=minute))
    first, back = [one["data"]["details"] for one in lab.tell()]
    assert (first["silent_seconds"], back["silent_seconds"]) == (None, 41 * 60)
    later, earlier = lab.history(device, "?kind=device.online")
    assert later["text"].startswith("online again, silent since ")
    assert earlier["details"]["last_at"] == later["details"]["silent_since"]


def test_many_devices_that_come_back_together_are_one_event(lab: Lab) -> None:
    names = [lab.enrolled(f"storm-{number}") for number in range(21)]
    for device in names:
        lab.call(device, datetime.now(UTC))
    (told,) = lab.tell()
    assert (told["type"], told["data"]["subject"]) == ("device.online.many", "acme")
    assert told["data"]["details"]["devices"] == 21
    assert [len(lab.history(device, "?kind=device.online")) for device in names] == [1] * 21


def test_the_history_of_no_device_and_of_odd_questions_is_refused(lab: Lab) -> None:
    for path, code in (
        ("/devices/nobody/history", (404, "device_not_found")),
        ("/devices/press-9/history?since=yesterday", (400, "validation_failed")),
        ("/devices/press-9/history?cursor=AAAA", (400, "invalid_cursor")),
        ("/metering?month=2026-13", (400, "invalid_fleet_input")),
        ("/metering?month=November", (400, "validation_failed")),
    ):
        lab.home.call("POST", "/devices", {"name": "press-9"})
        answer = lab.home.call("GET", path)
        assert (answer.status_code, answer.get_json()["error"]["code"]) == code, path


def test_nights_are_metered_as_anybody_counts_them_from_the_audit_trail(lab: Lab) -> None:
    device = lab.enrolled("metered")
    lab.made("DELETE", f"/devices/{device}", headers={"If-Match": "*"})
    lab.enrolled("metered")
    wiring, now = lab.home.wiring, datetime.now(UTC)
    assert lab.made("GET", "/metering")["nights"] == []
    count_nights(wiring.meter, "acme", now + timedelta(days=3))
    today = now.date().isoformat()
    told = lab.made("GET", f"/metering?month={today[:7]}")
    night = next(one for one in told["nights"] if one["date"] == today)
    events, asked = [], "/audit/events?tag=device&limit=200"
    while asked:
        page = lab.made("GET", asked)
        events += [(one["tag"], one["subject"]) for one in page["items"]]
        asked = page["next_cursor"] and f"/audit/events?tag=device&limit=200&cursor={page['next_cursor']}"
    assert night["active"] == active_at(events) == len(lab.active())
    assert told["most"] == night["active"]
    for asked in (f"/metering?format=csv&month={today[:7]}", f"/metering?month={today[:7]}"):
        answer = lab.home.call("GET", asked, headers={"Accept": "text/csv"})
        assert answer.mimetype == "text/csv"
        lines = [*csv.reader(io.StringIO(answer.text))]
        assert lines[0] == ["org", "date", "active", "counted_at"]
        assert ["acme", today, str(night["active"]), night["counted_at"]] in lines
