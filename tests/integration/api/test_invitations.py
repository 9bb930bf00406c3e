"""Invitations: a code shown once, good once, as long as who made it may; and never for more than they have."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from api.auth.permissions import inviters
from evidence.people import Role
from store.models import metadata
from tests.integration.api.conftest import Home, ShiftedClock

PASSWORD = "a long enough password"
_numbers = count()


@pytest.fixture(scope="module")
def admin(shared_home: Home) -> str:
    return shared_home.admin()


def invite(home: Home, token: str, role: str = "viewer", **more: object) -> dict[str, Any]:
    body = {"email": f"guest-{next(_numbers)}@example.com", "role": role, **more}
    made = home.call("POST", "/invitations", body, token=token)
    assert made.status_code == 201, made.text
    told: dict[str, Any] = made.get_json()
    return told


def accept(home: Home, code: str, password: str = PASSWORD) -> tuple[int, dict[str, Any]]:
    answer = home.app.test_client().post(
        "/api/v1/auth/accept-invitation", json={"code": code, "name": "Guest", "password": password}
    )
    return answer.status_code, answer.get_json()


def refused(home: Home, code: str) -> bool:
    status, told = accept(home, code)
    return (status, told.get("error", {}).get("code")) == (403, "invitation_refused")


def test_who_accepts_sets_name_and_password_and_logs_in(shared_home: Home, admin: str) -> None:
    made = invite(shared_home, admin, "approver")
    assert made["code"].startswith("wgi_")
    assert (made["state"], made["role"]) == ("pending", "approver")
    status, user = accept(shared_home, made["code"])
    assert (status, user["email"], user["name"], user["role"]) == (201, made["email"], "Guest", "approver")
    assert user["password_change_required"] is False
    me = shared_home.call("GET", "/auth/me", token=shared_home.login(made["email"], PASSWORD)).get_json()
    assert me["user"]["id"] == user["id"]
    (told,) = shared_home.call("GET", f"/audit/events?tag=invitation.accepted&subject={made['id']}").get_json()["items"]
    assert (told["by"]["id"], told["data"]) == (user["id"], {"user": user["id"]})


def test_a_code_is_good_once(shared_home: Home, admin: str) -> None:
    made = invite(shared_home, admin)
    assert accept(shared_home, made["code"])[0] == 201
    assert refused(shared_home, made["code"])


def test_of_fifty_who_accept_at_once_one_gets_the_account(shared_home: Home, admin: str) -> None:
    made = invite(shared_home, admin)
    with ThreadPoolExecutor(50) as pool:
        statuses = sorted(status for status, _ in pool.map(lambda _: accept(shared_home, made["code"]), range(50)))
    assert statuses == [201] + [403] * 49
    found = shared_home.call("GET", f"/users?email={made['email']}", token=admin).get_json()["items"]
    assert len(found) == 1


def test_a_code_is_shown_once_and_kept_nowhere(shared_home: Home, admin: str) -> None:
    made = invite(shared_home, admin)
    listed = shared_home.call("GET", "/invitations", token=admin).get_json()["items"][0]
    assert (listed["id"], listed["code"]) == (made["id"], None)
    with shared_home.wiring.db.read() as connection:
        kept = [str(row) for table in metadata.sorted_tables for row in connection.execute(table.select())]
    assert any(made["id"] in row for row in kept)
    assert [row for row in kept if made["code"] in row] == []
    key = {"Idempotency-Key": "invite"}
    body = {"email": "once@example.com", "role": "viewer"}
    first = shared_home.call("POST", "/invitations", body, token=admin, headers=key).get_json()
    again = shared_home.call("POST", "/invitations", body, token=admin, headers=key).get_json()
    assert (again["id"], again["code"]) == (first["id"], None)


def test_a_revoked_one_is_worthless_and_revoked_once(shared_home: Home, admin: str) -> None:
    made = invite(shared_home, admin)
    path = f"/invitations/{made['id']}"
    assert shared_home.call("DELETE", path, token=admin).status_code == 204
    assert refused(shared_home, made["code"])
    again = shared_home.call("DELETE", path, token=admin)
    assert (again.status_code, again.get_json()["error"]["code"]) == (404, "invitation_not_found")


def test_one_expires_and_lasts_thirty_days_at_most(home: Home, clock: type[ShiftedClock]) -> None:
    admin = home.admin()
    week, day = invite(home, admin), invite(home, admin, expires_in_days=1)
    clock.ahead = timedelta(days=2)
    assert refused(home, day["code"])
    assert accept(home, week["code"])[0] == 201
    states = {
        one["id"]: one["state"] for one in home.call("GET", "/invitations", token=home.admin()).get_json()["items"]
    }
    assert states == {week["id"]: "accepted", day["id"]: "expired"}
    for days in (0, 31):
        body = {"email": "x@example.com", "role": "viewer", "expires_in_days": days}
        assert home.call("POST", "/invitations", body, token=home.admin()).status_code == 400


def test_the_list_is_filtered_by_state_and_paged(home: Home) -> None:
    admin = home.admin()
    made = [invite(home, admin)["id"] for _ in range(3)]
    home.call("DELETE", f"/invitations/{made[1]}", token=admin)
    page = home.call("GET", "/invitations?state=pending&limit=1&total=true", token=admin).get_json()
    assert ([one["id"] for one in page["items"]], page["total"]) == ([made[2]], 2)
    rest = home.call("GET", f"/invitations?state=pending&cursor={page['next_cursor']}", token=admin).get_json()
    assert [one["id"] for one in rest["items"]] == [made[0]]
    revoked = home.call("GET", "/invitations?state=revoked", token=admin).get_json()["items"]
    assert [one["id"] for one in revoked] == [made[1]]
    assert home.call("GET", "/invitations?state=lost", token=admin).status_code == 400


@pytest.mark.parametrize("change", [{"disabled": True}, {"role": "operator"}])
def test_it_cannot_be_accepted_while_who_made_it_may_not_invite(
    shared_home: Home, admin: str, change: dict[str, object]
) -> None:
    inviter = shared_home.person(f"inviter-{next(_numbers)}@example.com", "admin")
    who = shared_home.call("GET", "/auth/me", token=inviter).get_json()["user"]["id"]
    made = invite(shared_home, inviter)
    assert shared_home.call("PATCH", f"/users/{who}", change, token=admin).status_code == 200
    assert refused(shared_home, made["code"])
    back = {"disabled": False, "role": "admin"}
    assert shared_home.call("PATCH", f"/users/{who}", back, token=admin).status_code == 200
    assert accept(shared_home, made["code"])[0] == 201


def test_nobody_invites_to_more_than_they_have() -> None:
    given = {role: sorted(inviters(role)) for role in Role}
    assert given == {
        Role.VIEWER: [Role.ADMIN],
        Role.OPERATOR: [Role.ADMIN],
        Role.APPROVER: [Role.ADMIN],
        Role.ADMIN: [Role.ADMIN],
    }


def test_who_has_an_account_is_not_invited_and_a_late_account_keeps_the_invitation_from_being_accepted(
    shared_home: Home, admin: str
) -> None:
    body = {"email": shared_home.made.admin_email.upper(), "role": "viewer"}
    taken = shared_home.call("POST", "/invitations", body, token=admin)
    assert (taken.status_code, taken.get_json()["error"]["code"]) == (409, "user_exists")
    made = invite(shared_home, admin)
    shared_home.call("POST", "/users", {"email": made["email"], "name": "G", "role": "viewer"}, token=admin)
    status, told = accept(shared_home, made["code"])
    assert (status, told["error"]["code"]) == (409, "user_exists")
    path = "/invitations?state=pending"
    assert made["id"] in [one["id"] for one in shared_home.call("GET", path, token=admin).get_json()["items"]]


def test_a_weak_password_is_refused_and_leaves_the_code_good(shared_home: Home, admin: str) -> None:
    made = invite(shared_home, admin)
    status, told = accept(shared_home, made["code"], password="short")
    assert (status, told["error"]["code"]) == (400, "weak_password")
    assert accept(shared_home, made["code"])[0] == 201


@pytest.mark.parametrize("code", ["", "wgi_", "wgi_" + "0" * 49, "wgk_" + "0" * 49, "nonsense"])
def test_what_is_no_code_is_refused_alike(shared_home: Home, code: str) -> None:
    assert refused(shared_home, code)


def test_an_api_key_invites_nobody(shared_home: Home) -> None:
    answer = shared_home.call("POST", "/invitations", {"email": "x@example.com", "role": "viewer"})
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (403, "session_required")
