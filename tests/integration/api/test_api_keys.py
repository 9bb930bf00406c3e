"""API keys: narrowed, never above their owner, rotated with an overlap."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from api.auth.permissions import of_key
from evidence.people import Role
from tests.integration.api.conftest import Home, ShiftedClock

pytestmark = pytest.mark.postgresql


def make(home: Home, token: str, **more: object) -> dict[str, Any]:
    answer = home.call("POST", "/api-keys", {"name": "ci", **more}, token=token)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


def status(home: Home, key: str, path: str = "/artifacts") -> int:
    return home.call("GET", path, token=key).status_code


def test_a_narrowed_key_may_what_it_was_narrowed_to_and_nothing_else(home: Home) -> None:
    made = make(home, home.admin(), permissions=["artifacts:read"])
    assert (made["scope"], made["permissions"]) == (["artifacts:read"], ["artifacts:read"])
    assert status(home, made["key"]) == 200
    refused = home.call("GET", "/groups", token=made["key"])
    assert refused.status_code == 403
    assert refused.get_json()["error"]["permission"] == "groups:read"


@pytest.mark.parametrize("beyond", ["users:admin", "api-keys:admin", "enroll-tokens:admin", "rollouts:approve"])
def test_no_key_is_made_for_what_no_key_may(home: Home, beyond: str) -> None:
    body = {"name": "ci", "permissions": ["artifacts:read", beyond]}
    refused = home.call("POST", "/api-keys", body, token=home.admin())
    assert refused.status_code == 403
    error = refused.get_json()["error"]
    assert (error["code"], error["permission"]) == ("scope_too_wide", beyond)
    assert [key["name"] for key in home.call("GET", "/api-keys", token=home.admin()).get_json()["items"]] == [
        "first key"
    ]


@pytest.mark.parametrize("permissions", [[], ["artifacts:everything"], "artifacts:read"])
def test_a_scope_of_nothing_or_of_what_does_not_exist_is_refused(home: Home, permissions: object) -> None:
    body = {"name": "ci", "permissions": permissions}
    assert home.call("POST", "/api-keys", body, token=home.admin()).status_code == 400


def test_a_key_loses_with_its_owner_at_once_and_gets_no_more_than_its_scope_back(home: Home) -> None:
    admin, owner = home.admin(), home.person("ann@example.com", "admin")
    wide = make(home, owner)["key"]
    narrow = make(home, owner, permissions=["groups:write", "groups:read"])["key"]
    user = home.call("GET", "/auth/me", token=owner).get_json()["user"]["id"]

    def held(key: str) -> set[str]:
        return set(home.call("GET", "/auth/me", token=key).get_json()["permissions"])

    home.call("PATCH", f"/users/{user}", {"role": "viewer"}, token=admin)
    assert held(wide) == {permission.value for permission in of_key(Role.VIEWER)}
    assert held(narrow) == {"groups:read"}
    assert home.call("POST", "/groups", {"name": "g"}, token=wide).status_code == 403
    home.call("PATCH", f"/users/{user}", {"role": "operator"}, token=admin)
    assert held(narrow) == {"groups:read", "groups:write"}


def test_after_a_rotation_both_keys_work_for_the_overlap_and_then_the_new_one(
    home: Home, clock: type[ShiftedClock]
) -> None:
    old = make(home, home.admin(), permissions=["artifacts:read"], expires_in_days=30)
    answer = home.call("POST", f"/api-keys/{old['id']}/rotate", {"overlap_hours": 2}, token=home.admin())
    assert answer.status_code == 201
    new = answer.get_json()
    assert (new["name"], new["scope"], new["user"]) == ("ci", ["artifacts:read"], old["user"])
    assert (new["replaced_by"], new["last_used_at"]) == (None, None)
    assert datetime.fromisoformat(new["expires_at"]) - datetime.fromisoformat(new["created_at"]) == timedelta(days=30)
    assert (status(home, old["key"]), status(home, new["key"])) == (200, 200)
    clock.ahead = timedelta(hours=3)
    assert (status(home, old["key"]), status(home, new["key"])) == (401, 200)
    listed = {key["id"]: key for key in home.call("GET", "/api-keys", token=home.admin()).get_json()["items"]}
    assert listed[old["id"]]["replaced_by"] == new["id"]
    events = home.call("GET", "/audit/events?tag=api_key.rotated").get_json()["items"]
    assert [(event["subject"], event["data"]["by"]) for event in events] == [(old["id"], new["id"])]


def test_without_an_overlap_the_old_key_ends_at_once(home: Home) -> None:
    old = make(home, home.admin())
    new = home.call("POST", f"/api-keys/{old['id']}/rotate", {"overlap_hours": 0}, token=home.admin()).get_json()
    assert (status(home, old["key"]), status(home, new["key"])) == (401, 200)


def test_an_overlap_never_lengthens_the_old_key_s_life(home: Home) -> None:
    old = make(home, home.admin(), expires_in_days=1)
    home.call("POST", f"/api-keys/{old['id']}/rotate", {"overlap_hours": 720}, token=home.admin())
    listed = {key["id"]: key for key in home.call("GET", "/api-keys", token=home.admin()).get_json()["items"]}
    assert listed[old["id"]]["expires_at"] == old["expires_at"]


def test_a_key_is_rotated_once_and_a_revoked_one_never(home: Home) -> None:
    admin = home.admin()
    old = make(home, admin)
    rotate = f"/api-keys/{old['id']}/rotate"
    assert home.call("POST", rotate, {}, token=admin).status_code == 201
    again = home.call("POST", rotate, {}, token=admin)
    assert (again.status_code, again.get_json()["error"]["code"]) == (409, "api_key_replaced")
    revoked = make(home, admin)
    home.call("DELETE", f"/api-keys/{revoked['id']}", token=admin)
    gone = home.call("POST", f"/api-keys/{revoked['id']}/rotate", {}, token=admin)
    assert (gone.status_code, gone.get_json()["error"]["code"]) == (404, "api_key_not_found")
    assert home.call("GET", "/api-keys?total=true", token=admin).get_json()["total"] == 3


@pytest.mark.parametrize("body", [{"overlap_hours": -1}, {"overlap_hours": 721}, {"expires_in_days": 367}])
def test_a_rotation_beyond_the_limits_is_refused(home: Home, body: dict[str, int]) -> None:
    old = make(home, home.admin())
    assert home.call("POST", f"/api-keys/{old['id']}/rotate", body, token=home.admin()).status_code == 400
    assert status(home, old["key"]) == 200


def test_nobody_gets_a_key_that_speaks_for_another_person(home: Home) -> None:
    key = make(home, home.person("ann@example.com", "admin"))
    refused = home.call("POST", f"/api-keys/{key['id']}/rotate", {}, token=home.admin())
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "not_your_key")
    assert status(home, key["key"]) == 200


def test_an_admin_rotates_the_key_of_automation(home: Home) -> None:
    admin = home.admin()
    (first,) = home.call("GET", "/api-keys", token=admin).get_json()["items"]
    new = home.call("POST", f"/api-keys/{first['id']}/rotate", {}, token=admin).get_json()
    assert home.call("GET", "/auth/me", token=new["key"]).get_json()["user"]["name"] == "automation"


def test_a_key_rotates_no_key(home: Home) -> None:
    (first,) = home.call("GET", "/api-keys", token=home.admin()).get_json()["items"]
    refused = home.call("POST", f"/api-keys/{first['id']}/rotate", {})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "session_required")


def test_a_use_is_noted(home: Home) -> None:
    key = make(home, home.admin())
    assert key["last_used_at"] is None
    status(home, key["key"])
    (newest, _) = home.call("GET", "/api-keys", token=home.admin()).get_json()["items"]
    assert newest["last_used_at"] is not None


def test_a_list_shows_what_to_know_a_key_by_and_never_its_text(home: Home) -> None:
    made = make(home, home.admin())
    assert made["key"].startswith(made["prefix"])
    answer = home.call("GET", "/api-keys", token=home.admin())
    assert [one["key"] for one in answer.get_json()["items"]] == [None, None]
    assert made["key"] not in answer.text
    assert answer.get_json()["items"][0]["prefix"] == made["prefix"]
