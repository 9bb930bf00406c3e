"""Devices that are known before they come, through the API, on a real home."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from fleet.errors import UnknownDevice
from tests.databases import Databases
from tests.integration.api.conftest import Home, copied_home
from tests.simulators.devices import new_key, request_for

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def lab(databases: Databases, first_home: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with copied_home(databases, first_home, tmp_path_factory.mktemp("lab") / "home") as home:
        home.call("POST", "/groups", {"name": "canary"})
        home.call("POST", "/groups", {"name": "berlin", "selector": "labels.site = berlin"})
        yield home


def error(answer: TestResponse) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def create(home: Home, name: str, **more: object) -> dict[str, Any]:
    answer = home.call("POST", "/devices", {"name": name, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


def enroll(home: Home, code: str, **more: str) -> TestResponse:
    body = {"token": code, "certificate_request": request_for(new_key()).decode(), "name": "said", "platform": "said"}
    return home.call("POST", "/enroll", {**body, **more}, token="")


def test_a_device_is_made_with_its_code_and_becomes_active_by_it(lab: Home) -> None:
    made = create(lab, "press-1", platform="linux-x86_64", groups=["canary"], labels={"site": "berlin"})
    assert (made["status"], made["groups"], made["online"], made["last_seen_at"]) == (
        "pending",
        ["berlin", "canary"],
        False,
        None,
    )
    life = datetime.fromisoformat(made["code_expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert life == timedelta(days=30)
    assert "code" not in lab.call("GET", "/devices/press-1").get_json()
    assert made["code"].encode() not in lab.stored()

    let_in = enroll(lab, made["code"])

    assert let_in.status_code == 201, let_in.text
    answer = let_in.get_json()
    assert (answer["device_id"], answer["name"], answer["groups"]) == (made["id"], "press-1", ["berlin", "canary"])
    there = lab.call("GET", f"/devices/{made['id']}").get_json()
    assert (there["status"], there["platform"], there["labels"]) == ("active", "linux-x86_64", {"site": "berlin"})
    refused = enroll(lab, made["code"])
    assert error(refused) == (403, "enrolment_refused")
    assert "was used at" in refused.get_json()["error"]["message"]
    assert made["code"] not in refused.text


def test_a_device_without_a_platform_has_the_one_its_agent_tells(lab: Home) -> None:
    made = create(lab, "press-2")
    assert made["platform"] == ""
    assert error(enroll(lab, made["code"], platform="any")) == (400, "invalid_fleet_input")
    assert enroll(lab, made["code"], platform="linux-arm64").status_code == 201
    assert lab.call("GET", "/devices/press-2").get_json()["platform"] == "linux-arm64"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"name": "two words"}, (400, "invalid_fleet_input")),
        ({"name": "x", "platform": "any"}, (400, "invalid_fleet_input")),
        ({"name": "x", "labels": {"Not good": ""}}, (400, "invalid_fleet_input")),
        ({"name": "x", "groups": ["nobody"]}, (404, "group_not_found")),
        ({"name": "x", "groups": ["berlin"]}, (409, "wrong_group_kind")),
        ({"name": "taken"}, (409, "device_exists")),
        ({}, (400, "validation_failed")),
    ],
)
def test_a_device_that_cannot_be_is_not_made(lab: Home, body: dict[str, object], expected: tuple[int, str]) -> None:
    lab.call("POST", "/devices", {"name": "taken"})
    before = lab.call("GET", "/devices?total=true").get_json()["total"]
    assert error(lab.call("POST", "/devices", body)) == expected
    assert lab.call("GET", "/devices?total=true").get_json()["total"] == before


def test_fifty_racers_on_one_code_have_one_winner_and_are_told_so(lab: Home) -> None:
    code = create(lab, "raced")["code"]

    def race(number: int) -> TestResponse:
        client = lab.app.test_client()
        body = {"token": code, "certificate_request": request_for(new_key()).decode(), "name": f"r{number}"}
        return client.post("/api/v1/enroll", json={**body, "platform": "linux-x86_64"})

    with ThreadPoolExecutor(16) as pool:
        answers = [*pool.map(race, range(50))]
    assert sorted(answer.status_code for answer in answers) == [201] + [403] * 49
    for answer in answers:
        if answer.status_code == 403:
            assert error(answer) == (403, "enrolment_refused")
            assert "used" in answer.get_json()["error"]["message"]


def test_a_new_code_ends_the_earlier_one_and_its_use_the_old_certificates(lab: Home) -> None:
    first = create(lab, "moved")
    second = lab.call("POST", "/devices/moved/enroll-code").get_json()
    assert (second["id"], second["status"]) == (first["id"], "pending")
    assert error(enroll(lab, first["code"])) == (403, "enrolment_refused")
    assert enroll(lab, second["code"]).status_code == 201
    (old,) = certificates(lab, first["id"])

    third = lab.call("POST", "/devices/moved/enroll-code").get_json()["code"]
    assert lab.wiring.fleet.device_by_fingerprint(old)[0].name == "moved"
    assert enroll(lab, third).status_code == 201

    with pytest.raises(UnknownDevice):
        lab.wiring.fleet.device_by_fingerprint(old)
    assert lab.call("GET", "/devices/moved").get_json()["status"] == "active"


def test_a_revoked_device_comes_back_by_a_new_code_only(lab: Home) -> None:
    made = create(lab, "lost")
    lab.call("POST", "/devices/lost/revoke", {"reason": "stolen on the way"})
    assert error(enroll(lab, made["code"])) == (403, "enrolment_refused")
    found = lab.call("POST", "/devices/lost/enroll-code").get_json()
    assert found["status"] == "revoked"
    assert enroll(lab, found["code"]).status_code == 201
    assert lab.call("GET", "/devices/lost").get_json()["status"] == "active"


def test_a_deleted_device_takes_its_code_along(lab: Home) -> None:
    made = create(lab, "gone")
    assert lab.call("DELETE", "/devices/gone", headers={"If-Match": "*"}).status_code == 204
    assert error(enroll(lab, made["code"])) == (403, "enrolment_refused")
    assert error(lab.call("POST", "/devices/gone/enroll-code")) == (404, "device_not_found")


def test_who_made_and_used_which_code_stands_in_the_audit_trail(lab: Home) -> None:
    made = create(lab, "told")
    code = lab.call("POST", "/devices/told/enroll-code").get_json()["code"]
    enroll(lab, code)
    mine = lab.call("GET", f"/audit/events?subject={made['id']}").get_json()["items"]
    by_tag = {one["tag"]: one for one in mine}
    assert sorted(by_tag) == ["device.code.created", "device.created", "device.enrolled"]
    assert by_tag["device.enrolled"]["data"]["before"] == "pending"
    assert by_tag["device.enrolled"]["data"]["code"] == by_tag["device.code.created"]["data"]["code"]
    assert code not in str(mine)


def certificates(home: Home, device: str) -> list[str]:
    """Fingerprints of what it enrolled with, by the audit trail."""
    events = home.call("GET", f"/audit/events?tag=device.enrolled&subject={device}").get_json()["items"]
    return [one["data"]["certificate"] for one in events]
