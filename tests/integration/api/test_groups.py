"""Groups by selector, labels and previews through the API, on a real home."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from werkzeug.test import TestResponse

from evidence.model import Actor, ActorKind, AuditEvent
from fleet.model import Certificate, Device, DeviceStatus
from tests.integration.api.conftest import Home

pytestmark = [pytest.mark.postgresql, pytest.mark.pooler]

ADA = Actor(ActorKind.USER, "usr_ADA", "Ada")
NOW = datetime.now(UTC)


@pytest.fixture
def gateways(home: Home) -> Home:
    """Three devices ``gw-1`` to ``gw-3`` with the label ``site=berlin`` from their token."""
    admin = home.admin()
    asked = {"name": "line", "max_uses": 10, "labels": {"site": "berlin"}}
    made = home.call("POST", "/enroll-tokens", asked, token=admin).get_json()
    token = next(one for one in home.wiring.fleet.tokens("acme", after=None, limit=10) if one.id == made["id"])
    for number in (1, 2, 3):
        device = Device(
            id=f"dev_{number}",
            org="acme",
            name=f"gw-{number}",
            status=DeviceStatus.ACTIVE,
            platform="linux-amd64" if number < 3 else "linux-arm64",
            created_at=NOW,
        )
        certificate = Certificate(
            fingerprint=f"{number:064x}",
            serial="1",
            device=device.id,
            not_before=NOW,
            not_after=NOW + timedelta(days=30),
        )
        event = AuditEvent("device.enrolled", device.id, ADA, NOW)
        home.wiring.fleet.enrol("acme", token.sha256, device, certificate, event, now=NOW)
    return home


def error(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def members(home: Home, group: str) -> list[str]:
    return [one["name"] for one in home.call("GET", f"/groups/{group}/devices").get_json()["items"]]


def test_a_group_by_selector_has_who_meets_it_and_follows_labels(gateways: Home) -> None:
    asked = {"name": "berlin", "selector": "labels.site=berlin and platform=linux-amd64"}
    made = gateways.call("POST", "/groups", asked)
    assert made.status_code == 201
    told = made.get_json()
    assert (told["selector"], told["revision"], told["devices"]) == (
        "labels.site = berlin and platform = linux-amd64",
        1,
        2,
    )
    assert members(gateways, "berlin") == ["gw-1", "gw-2"]
    changed = gateways.call("PATCH", "/devices/gw-1/labels", {"labels": {"site": "munich", "ring": "1"}})
    assert (changed.get_json()["labels"], changed.get_json()["groups"]) == ({"site": "munich", "ring": "1"}, [])
    assert members(gateways, "berlin") == ["gw-2"]
    gateways.call("PATCH", "/devices/gw-1/labels", {"labels": {"site": "berlin", "ring": None}})
    assert gateways.call("GET", "/devices/gw-1").get_json()["labels"] == {"site": "berlin"}
    assert members(gateways, "berlin") == ["gw-1", "gw-2"]
    gateways.call("PUT", "/devices/gw-1/labels", {"labels": {"rack": "7"}})
    assert gateways.call("GET", "/devices/gw-1").get_json()["labels"] == {"rack": "7"}
    wider = gateways.call("PATCH", "/groups/berlin", {"selector": "labels.rack exists"})
    assert (wider.get_json()["revision"], members(gateways, "berlin")) == (2, ["gw-1"])
    tags = [one.event.tag for one in gateways.wiring.audit.events("acme", limit=200)]
    assert tags.count("device.labelled") == 3
    assert tags.count("group.selected") == 1


def test_a_preview_counts_shows_and_places_but_stores_nothing(gateways: Home) -> None:
    gateways.call("POST", "/groups", {"name": "field"})
    gateways.publish()
    asked = {"product": "fw", "version": "1.0.0", "waves": [{"group": "field"}], "draft": True}
    rollout = gateways.call("POST", "/rollouts", asked).get_json()
    body = {"selector": "labels.site in(berlin)", "sample": 2, "percents": [100, 50], "rollout_id": rollout["id"]}
    found = gateways.call("POST", "/groups/preview", body).get_json()
    assert (found["selector"], found["devices"], found["active"]) == ("labels.site = berlin", 3, 3)
    assert found["shares"] == [{"percent": 50, "devices": 1}, {"percent": 100, "devices": 3}]
    assert [placed["device"]["name"] for placed in found["sample"]] == ["gw-1", "gw-2"]
    for placed in found["sample"]:
        assert placed["percent"] == (50 if placed["bucket"] < 5_000 else 100)
    without = gateways.call("POST", "/groups/preview", {"selector": "platform = linux-arm64"}).get_json()
    assert [(one["device"]["name"], one["bucket"]) for one in without["sample"]] == [("gw-3", None)]
    assert len(gateways.call("GET", "/groups").get_json()["items"]) == 1


def test_a_change_names_the_revision_it_was_decided_on(gateways: Home) -> None:
    made = gateways.call("POST", "/groups", {"name": "field"})
    seen = {"If-Match": made.headers["ETag"]}
    assert gateways.call("PUT", "/groups/field/devices/gw-1").status_code == 204
    late = gateways.call("PATCH", "/groups/field", {"description": "x"}, headers=seen)
    assert error(late) == (412, "precondition_failed")
    assert error(gateways.call("DELETE", "/groups/field", headers=seen)) == (412, "precondition_failed")
    now = {"If-Match": gateways.call("GET", "/groups/field").headers["ETag"]}
    assert gateways.call("PATCH", "/groups/field", {"description": "x"}, headers=now).get_json()["revision"] == 3
    again = {"If-Match": gateways.call("GET", "/groups/field").headers["ETag"]}
    assert gateways.call("DELETE", "/groups/field", headers=again).status_code == 204


def test_who_joins_by_enrolling_does_not_change_the_tag(gateways: Home) -> None:
    made = gateways.call("POST", "/groups", {"name": "berlin", "selector": "labels.site = berlin"})
    gateways.call("PUT", "/devices/gw-1/labels", {"labels": {}})
    assert gateways.call("GET", "/groups/berlin").headers["ETag"] == made.headers["ETag"]


def test_a_group_in_use_is_refused_with_what_uses_it(gateways: Home) -> None:
    gateways.call("POST", "/groups", {"name": "field"})
    gateways.call("POST", "/groups", {"name": "rest", "selector": "group != field"})
    asked = {"name": "press", "groups": ["field"]}
    token = gateways.call("POST", "/enroll-tokens", asked, token=gateways.admin()).get_json()
    gateways.publish()
    gateways.call("POST", "/rollouts", {"product": "fw", "version": "1.0.0", "waves": [{"group": "field"}]})
    refused = gateways.call("DELETE", "/groups/field")
    assert error(refused) == (409, "group_in_use")
    message = refused.get_json()["error"]["message"]
    assert "in use by rol_" in message
    assert f"enrolment token {token['id']} (press)" in message
    assert "the selector of group rest" in message


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/groups", {"name": "g", "selector": "hostname = x"}, 400, "invalid_selector"),
        ("POST", "/groups", {"name": "g", "selector": ""}, 400, "validation_failed"),
        ("POST", "/groups", {"name": "g", "selector": "group = nobody"}, 404, "group_not_found"),
        ("POST", "/groups/preview", {"selector": "x"}, 400, "invalid_selector"),
        ("POST", "/groups/preview", {"selector": "platform = x", "rollout_id": "rol_0"}, 404, "rollout_not_found"),
        ("POST", "/groups/preview", {"selector": "platform = x", "percents": [0]}, 400, "validation_failed"),
        ("PATCH", "/groups/static", {"selector": "platform = x"}, 409, "wrong_group_kind"),
        ("PUT", "/groups/made/devices/gw-1", None, 409, "wrong_group_kind"),
        ("DELETE", "/groups/made/devices/gw-1", None, 409, "wrong_group_kind"),
        ("PATCH", "/devices/gw-1/labels", {"labels": {}}, 400, "validation_failed"),
        ("PATCH", "/devices/gw-1/labels", {"labels": {"Site": "x"}}, 400, "invalid_fleet_input"),
        ("PATCH", "/devices/gw-1/labels", {"labels": {"site": "a\u0007"}}, 400, "invalid_fleet_input"),
        ("PUT", "/devices/gw-9/labels", {"labels": {}}, 404, "device_not_found"),
        ("PUT", "/devices/gw-1/labels", {"labels": {f"k{n}": "" for n in range(33)}}, 400, "validation_failed"),
        ("PATCH", "/devices/gw-1/labels", {"labels": {f"k{n}": "" for n in range(32)}}, 400, "invalid_fleet_input"),
    ],
)
def test_bad_input_gets_a_clear_error_and_changes_nothing(
    gateways: Home, method: str, path: str, body: dict[str, object] | None, status: int, code: str
) -> None:
    gateways.call("POST", "/groups", {"name": "static"})
    gateways.call("POST", "/groups", {"name": "made", "selector": "labels.site = berlin"})
    before = [gateways.call("GET", name).get_json() for name in ("/groups", "/devices")]
    assert error(gateways.call(method, path, body)) == (status, code)
    assert [gateways.call("GET", name).get_json() for name in ("/groups", "/devices")] == before


def test_a_token_may_not_name_a_group_made_by_a_selector(gateways: Home) -> None:
    gateways.call("POST", "/groups", {"name": "made", "selector": "labels.site = berlin"})
    asked = {"name": "press", "groups": ["made"]}
    assert error(gateways.call("POST", "/enroll-tokens", asked, token=gateways.admin())) == (409, "wrong_group_kind")


def test_a_viewer_may_preview_and_not_label(gateways: Home) -> None:
    viewer = gateways.person("eve@example.com", "viewer")
    assert gateways.call("POST", "/groups/preview", {"selector": "platform = x"}, token=viewer).status_code == 200
    refused = gateways.call("PATCH", "/devices/gw-1/labels", {"labels": {"a": "b"}}, token=viewer)
    assert error(refused) == (403, "permission_denied")
