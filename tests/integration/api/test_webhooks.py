"""Webhooks end to end on one machine: the REST API, the stored event, a real receiver that checks the signature."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from api.webhook_round import WebhookRound
from api.webhook_sender import GuardedSender
from evidence.webhooks.addresses import Allowed
from evidence.webhooks.model import Outcome
from evidence.webhooks.ports import Sender
from keys.seal import Seal
from tests.integration.api.conftest import Home
from tests.simulators.hostile_urls import HOSTILE
from tests.simulators.webhook_receiver import WebhookReceiver, webhook_receiver

LOOPBACK = Allowed.parse(["127.0.0.1"])
UNKNOWN = "whk_01K9N0ZQ3V8M4S2T6W7X9Y0A1B"


@dataclass
class Hooked:
    """A home whose webhooks may reach loopback, its admin, and a clock that a test moves."""

    home: Home
    receiver: WebhookReceiver
    admin: str
    ahead: timedelta = timedelta(0)

    def call(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        return self.home.call(method, path, body, token=self.admin, **more)

    def create(self, *events: str, url: str = "") -> dict[str, Any]:
        made = self.call("POST", "/webhooks", {"url": url or self.receiver.url, "events": list(events) or ["*"]})
        assert made.status_code == 201, made.text
        told: dict[str, Any] = made.get_json()
        return told

    def round(self, sender: Sender | None = None) -> int:
        return WebhookRound(self.home.wiring, sender).turn(
            clock=lambda: datetime.now(UTC) + self.ahead, stop=lambda: False
        )

    def deliveries(self, webhook: str, query: str = "") -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.call("GET", f"/webhooks/{webhook}/deliveries{query}").get_json()["items"]
        return items

    def group(self, name: str) -> None:
        """One event: ``group.created``."""
        made = self.home.call("POST", "/groups", {"name": name})
        assert made.status_code == 201, made.text

    def tags(self) -> list[str]:
        return [one.event.tag for one in self.home.wiring.audit.events(self.home.wiring.org)]


@pytest.fixture
def hooked(home: Home) -> Iterator[Hooked]:
    wiring = replace(home.wiring, webhooks=replace(home.wiring.webhooks, allowed=LOOPBACK))
    app = create_app(wiring)
    open_home = replace(home, wiring=wiring, app=app, client=app.test_client())
    with webhook_receiver() as receiver:
        yield Hooked(open_home, receiver, open_home.admin())


def test_an_event_reaches_the_receiver_signed_with_the_secret_that_was_shown(hooked: Hooked) -> None:
    hook = hooked.create("group")
    hooked.group("canary")
    assert hooked.round() == 1
    (got,) = hooked.receiver.got
    assert got.path == "/hook"
    assert got.headers["content-type"] == "application/json"
    assert got.signatures == [got.signature_by(hook["secret"])]
    assert abs(int(got.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    (event,) = [one for one in hooked.home.wiring.audit.events("acme") if one.event.tag == "group.created"]
    message = json.loads(got.body)
    assert got.headers["webhook-id"] == event.id == message["data"]["id"]
    assert message == {
        "type": "group.created",
        "timestamp": event.event.at.isoformat().replace("+00:00", "Z"),
        "data": {
            "id": event.id,
            "seq": event.seq,
            "org": "acme",
            "subject": event.event.subject,
            "by": {"kind": event.event.by.kind.value, "id": event.event.by.id, "name": event.event.by.name},
            "details": dict(event.event.data),
        },
    }
    (delivery,) = hooked.deliveries(hook["id"])
    assert (delivery["state"], delivery["message"], delivery["type"]) == ("delivered", event.id, "group.created")
    assert [one["status"] for one in delivery["attempts"]] == [204]
    assert hooked.round() == 0


def test_a_webhook_gets_the_events_it_named_from_its_making_on(hooked: Hooked) -> None:
    hooked.group("before")
    everything, groups, exact, elsewhere = (
        hooked.create("*"),
        hooked.create("group", "freeze"),
        hooked.create("group.created"),
        hooked.create("grou", "rollout"),
    )
    hooked.group("after")
    hooked.round()
    seen = {
        one["id"]: [got["type"] for got in hooked.deliveries(one["id"])]
        for one in (everything, groups, exact, elsewhere)
    }
    assert seen == {
        everything["id"]: ["group.created", "webhook.created", "webhook.created", "webhook.created"],
        groups["id"]: ["group.created"],
        exact["id"]: ["group.created"],
        elsewhere["id"]: [],
    }


class CutOff:
    """Sends, and then the process is gone before it could store what came of it."""

    def __init__(self) -> None:
        self.inner = GuardedSender(LOOPBACK)

    def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        self.inner.send(url, headers, body)
        raise KeyboardInterrupt


def test_a_crash_between_sending_and_storing_sends_the_same_message_again(hooked: Hooked) -> None:
    hook = hooked.create("group")
    hooked.group("canary")
    with pytest.raises(KeyboardInterrupt):
        hooked.round(CutOff())
    assert [one["state"] for one in hooked.deliveries(hook["id"])] == ["waiting"]
    assert hooked.round() == 1
    first, second = hooked.receiver.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert [one["state"] for one in hooked.deliveries(hook["id"])] == ["delivered"]


def test_a_failure_is_tried_again_for_three_days_and_then_given_up_until_it_is_replayed(hooked: Hooked) -> None:
    hook = hooked.create("group")
    hooked.group("canary")
    hooked.receiver.answers += [500] * 10
    waits = [0, 6, 360, 2160, 8640, 21_600, 43_200, 60_480, 86_400, 103_680]  # seconds, the jitter at its longest
    for wait in waits:
        hooked.ahead += timedelta(seconds=wait)
        assert hooked.round() == 1
        assert hooked.round() == 0
    (delivery,) = hooked.deliveries(hook["id"])
    assert (delivery["state"], delivery["next_at"]) == ("failed", None)
    assert [one["trouble"] for one in delivery["attempts"]] == ["it answered 500"] * 10
    assert len({one.headers["webhook-id"] for one in hooked.receiver.got}) == 1
    assert hooked.call("GET", f"/webhooks/{hook['id']}").get_json()["failing_since"] is not None
    replayed = hooked.call("POST", f"/webhooks/{hook['id']}/deliveries/{delivery['id']}/replay", {})
    assert (replayed.status_code, replayed.get_json()["state"]) == (202, "waiting")
    assert hooked.round() == 1
    assert {one.headers["webhook-id"] for one in hooked.receiver.got} == {delivery["message"]}
    (delivery,) = hooked.deliveries(hook["id"], "?state=delivered")
    assert [one["status"] for one in delivery["attempts"]] == [*[500] * 10, 204]
    assert hooked.call("GET", f"/webhooks/{hook['id']}").get_json()["failing_since"] is None
    assert hooked.tags()[-1] == "webhook.replayed"


def test_gone_disables_at_once_and_says_so_in_the_log(hooked: Hooked) -> None:
    hook = hooked.create("group")
    hooked.receiver.answers.append(410)
    hooked.group("one")
    assert hooked.round() == 1
    hooked.group("two")
    assert hooked.round() == 0
    shown = hooked.call("GET", f"/webhooks/{hook['id']}").get_json()
    assert (shown["enabled"], shown["disabled_because"]) == (False, "the receiver answered 410: it is gone")
    assert [one["state"] for one in hooked.deliveries(hook["id"])] == ["failed"]
    (event,) = [one.event for one in hooked.home.wiring.audit.events("acme") if one.event.tag == "webhook.disabled"]
    assert (event.subject, event.by.id) == (hook["id"], "system:webhooks")
    refused = hooked.call("POST", f"/webhooks/{hook['id']}/test", {})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (409, "webhook_disabled")


def test_five_days_without_a_success_disable_and_enabling_begins_from_now(hooked: Hooked) -> None:
    hook = hooked.create("group")
    hooked.receiver.answers += [500] * 3
    hooked.group("one")
    hooked.round()
    hooked.ahead = timedelta(days=4, hours=23)
    hooked.group("two")
    hooked.round()
    assert hooked.call("GET", f"/webhooks/{hook['id']}").get_json()["enabled"] is True
    hooked.ahead = timedelta(days=5, seconds=1)
    hooked.group("three")
    hooked.receiver.answers[:] = [500] * 3
    hooked.round()
    shown = hooked.call("GET", f"/webhooks/{hook['id']}").get_json()
    assert shown["disabled_because"].startswith("no delivery has succeeded since ")
    assert {one["state"] for one in hooked.deliveries(hook["id"])} == {"failed"}
    hooked.group("unseen")
    before = len(hooked.receiver.got)
    enabled = hooked.call("PATCH", f"/webhooks/{hook['id']}", {"enabled": True}).get_json()
    assert (enabled["enabled"], enabled["disabled_because"], enabled["failing_since"]) == (True, "", None)
    hooked.group("four")
    hooked.receiver.answers.clear()
    assert hooked.round() == 1
    names = [json.loads(one.body)["data"]["details"]["name"] for one in hooked.receiver.got[before:]]
    assert names == ["four"]


def test_after_a_rotation_both_secrets_sign_and_then_the_new_one_alone(hooked: Hooked) -> None:
    hook = hooked.create("group")
    rotated = hooked.call("POST", f"/webhooks/{hook['id']}/rotate-secret", {"overlap_hours": 2}).get_json()
    assert rotated["secret"] != hook["secret"]
    assert [one["ends_at"] is None for one in rotated["secrets"]] == [True, False]
    hooked.group("one")
    hooked.round()
    hooked.ahead = timedelta(hours=2)
    hooked.group("two")
    hooked.round()
    during, after = hooked.receiver.got
    assert during.signatures == [during.signature_by(rotated["secret"]), during.signature_by(hook["secret"])]
    assert after.signatures == [after.signature_by(rotated["secret"])]


def test_the_test_button_sends_a_stored_event_to_this_webhook_alone(hooked: Hooked) -> None:
    tested, other = hooked.create("rollout"), hooked.create("*")
    queued = hooked.call("POST", f"/webhooks/{tested['id']}/test", {})
    assert (queued.status_code, queued.get_json()["type"]) == (202, "webhook.tested")
    hooked.round()
    (got,) = [one for one in hooked.receiver.got if json.loads(one.body)["type"] == "webhook.tested"]
    assert got.signatures == [got.signature_by(tested["secret"])]
    assert json.loads(got.body)["data"]["subject"] == tested["id"]
    assert [one["type"] for one in hooked.deliveries(other["id"])] == []
    assert hooked.tags()[-1] == "webhook.tested"


def test_no_hostile_url_is_stored(home: Home) -> None:
    admin, body = home.admin(), {"url": "https://hooks.example.com/"}
    hook = home.call("POST", "/webhooks", body, token=admin).get_json()
    before = home.wiring.audit.count("acme")
    for url in HOSTILE:
        for method, path in (("POST", "/webhooks"), ("PATCH", f"/webhooks/{hook['id']}")):
            refused = home.call(method, path, {"url": url}, token=admin)
            assert refused.status_code == 400, (method, url)
    assert home.wiring.audit.count("acme") == before
    listed = home.call("GET", "/webhooks", token=admin).get_json()["items"]
    assert [one["url"] for one in listed] == ["https://hooks.example.com/"]


def test_a_receiver_that_is_no_longer_allowed_gets_nothing(hooked: Hooked) -> None:
    hook = hooked.create("group")
    hooked.group("canary")
    assert hooked.round(GuardedSender(Allowed())) == 1
    assert hooked.receiver.got == []
    (delivery,) = hooked.deliveries(hook["id"])
    assert delivery["state"] == "waiting"
    assert delivery["attempts"][0]["trouble"].startswith("127.0.0.1 is not a public address")


def test_a_secret_is_shown_once_and_nowhere_else(hooked: Hooked) -> None:
    headers = {"Idempotency-Key": "one"}
    body = {"url": hooked.receiver.url}
    made = hooked.call("POST", "/webhooks", body, headers=headers).get_json()
    again = hooked.call("POST", "/webhooks", body, headers=headers).get_json()
    assert (again["id"], again["secret"]) == (made["id"], None)
    secret = made["secret"].removeprefix("whsec_")
    seen = [
        hooked.call("GET", path).text
        for path in ("/webhooks", f"/webhooks/{made['id']}", f"/webhooks/{made['id']}/deliveries", "/audit/events")
    ]
    home = Path(hooked.home.made.home)
    stored = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert [text for text in seen if secret in text] == []
    assert [1 for content in stored if secret.encode() in content] == []


def test_a_secret_that_no_longer_opens_is_told_and_healed_by_a_rotation(hooked: Hooked) -> None:
    hook = hooked.create("group")
    hooked.group("one")
    with pytest.MonkeyPatch.context() as another_home:
        another_home.setattr("api.wiring.Seal.open", Seal(b"another home", purpose="webhook secrets").open)
        hooked.round()
    (delivery,) = hooked.deliveries(hook["id"])
    assert delivery["attempts"][0]["trouble"].startswith("the secret cannot be opened, rotate it: ")
    assert hooked.receiver.got == []
    rotated = hooked.call("POST", f"/webhooks/{hook['id']}/rotate-secret", {"overlap_hours": 0}).get_json()
    hooked.ahead = timedelta(seconds=10)
    hooked.round()
    (got,) = hooked.receiver.got
    assert got.signatures == [got.signature_by(rotated["secret"])]


def test_a_webhook_is_an_administrator_s_own(hooked: Hooked) -> None:
    hook = hooked.create("group")
    path = f"/webhooks/{hook['id']}"
    operator = hooked.home.person("op@example.com", "operator")
    for method, where in (("GET", "/webhooks"), ("POST", "/webhooks"), ("GET", path), ("DELETE", path)):
        by_key = hooked.home.call(method, where)
        assert by_key.get_json()["error"]["code"] == "session_required"
        refused = hooked.home.call(method, where, token=operator)
        assert refused.get_json()["error"]["permission"] == "webhooks:admin"


def unknown_to(method: str, path: str) -> Callable[[Hooked], tuple[int, str]]:
    def ask(hooked: Hooked) -> tuple[int, str]:
        answer = hooked.call(method, path, {} if method in ("POST", "PATCH") else None)
        return answer.status_code, answer.get_json()["error"]["code"]

    return ask


def test_an_unknown_webhook_is_not_found_everywhere(hooked: Hooked) -> None:
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/deliveries"),
        ("POST", "/test"),
        ("POST", "/rotate-secret"),
        ("POST", "/deliveries/dlv_x/replay"),
    ):
        assert unknown_to(method, f"/webhooks/{UNKNOWN}{path}")(hooked) == (404, "webhook_not_found"), path


def test_a_delivery_is_not_replayed_by_another_webhook_s_name(hooked: Hooked) -> None:
    mine, other = hooked.create("group"), hooked.create("rollout")
    hooked.group("one")
    hooked.round()
    (delivery,) = hooked.deliveries(mine["id"])
    path = f"/webhooks/{other['id']}/deliveries/{delivery['id']}/replay"
    assert unknown_to("POST", path)(hooked) == (404, "webhook_delivery_not_found")


def test_a_change_decided_on_what_was_before_is_refused(hooked: Hooked) -> None:
    hook = hooked.create("group")
    path = f"/webhooks/{hook['id']}"
    seen = hooked.call("GET", path).headers["ETag"]
    changed = hooked.call("PATCH", path, {"events": ["rollout", "rollout"]}, headers={"If-Match": seen})
    assert (changed.status_code, changed.get_json()["events"]) == (200, ["rollout"])
    stale = hooked.call("DELETE", path, headers={"If-Match": seen})
    assert stale.status_code == 412
    assert hooked.call("DELETE", path).status_code == 204
    assert unknown_to("GET", path)(hooked) == (404, "webhook_not_found")


@pytest.mark.parametrize("events", [[], ["Rollout"], ["rollout."], ["*", "a b"], ["rollout.*"], ["x" * 101]])
def test_events_that_are_no_tags_are_refused(hooked: Hooked, events: list[str]) -> None:
    refused = hooked.call("POST", "/webhooks", {"url": hooked.receiver.url, "events": events})
    assert refused.status_code == 400


def test_the_delivery_log_has_pages_newest_first_and_is_forgotten_after_a_month(hooked: Hooked) -> None:
    hook = hooked.create("group")
    for name in ("one", "two", "three"):
        hooked.group(name)
    hooked.round()
    first = hooked.call("GET", f"/webhooks/{hook['id']}/deliveries?limit=2&total=true").get_json()
    rest = hooked.call("GET", f"/webhooks/{hook['id']}/deliveries?limit=2&cursor={first['next_cursor']}").get_json()
    ids = [one["id"] for one in (*first["items"], *rest["items"])]
    assert ids == sorted(ids, reverse=True)
    assert (len(ids), first["total"], rest["next_cursor"]) == (3, 3, None)
    wiring = hooked.home.wiring
    assert wiring.deliveries.forget(wiring.org, datetime.now(UTC) - timedelta(days=30)) == 0
    assert wiring.deliveries.forget(wiring.org, datetime.now(UTC) + timedelta(days=1)) == 3
    assert hooked.deliveries(hook["id"]) == []


def test_a_slow_receiver_s_backlog_leaves_room_for_another(hooked: Hooked) -> None:
    slow = hooked.create("group")
    for number in range(6):
        hooked.group(f"g{number}")
    quick = hooked.create("group")
    hooked.group("last")
    store = hooked.home.wiring.deliveries
    WebhookRound(hooked.home.wiring, NoAnswer()).turn(clock=lambda: datetime.now(UTC), stop=lambda: True)
    due = store.due("acme", datetime.now(UTC) + timedelta(seconds=1), limit=32, each=4)
    assert [one.webhook for one in due] == [slow["id"]] * 4 + [quick["id"]]


class NoAnswer:
    """Sends nothing."""

    def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        return Outcome(None, "no answer", 0)
