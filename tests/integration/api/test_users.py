"""People's accounts: their profile, lists of them, roles, disabling, one-time passwords, and the last administrator."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from evidence.model import Actor, ActorKind, AuditEvent
from evidence.people import Role, User
from store.accounts import Accounts
from store.audit import AuditLog
from store.chosen_accounts import Chosen
from store.database import Database
from store.errors import LastAdmin
from tests.integration.api.conftest import Home

PASSWORD = "a long enough password"
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def home(shared_home: Home) -> Home:
    """One for all tests here: each makes people of its own."""
    return shared_home


def me(home: Home, token: str) -> dict[str, Any]:
    user: dict[str, Any] = home.call("GET", "/auth/me", token=token).get_json()["user"]
    return user


def cookie_of(home: Home, email: str) -> dict[str, str]:
    answer = home.app.test_client(use_cookies=False).post(
        "/api/v1/auth/login", json={"email": email, "password": PASSWORD}
    )
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


def test_the_list_is_filtered_by_role_kind_state_and_address(home: Home) -> None:
    admin = home.admin()
    ann, bob = home.person("ann@example.com", "approver"), home.person("bob@example.com", "approver")
    home.call("PATCH", f"/users/{me(home, bob)['id']}", {"disabled": True}, token=admin)

    def listed(query: str) -> list[str]:
        answer = home.call("GET", f"/users?total=true&{query}", token=admin).get_json()
        assert answer["total"] == len(answer["items"])
        return [one["email"] or one["name"] for one in answer["items"]]

    assert listed("role=approver") == ["ann@example.com", "bob@example.com"]
    assert listed("role=approver&disabled=false") == ["ann@example.com"]
    assert listed("role=approver&disabled=true") == ["bob@example.com"]
    assert listed("kind=service") == ["automation"]
    assert listed("email=ANN@example.com") == ["ann@example.com"]
    assert listed("email=an@example.com") == []
    for query in ("role=owner", "kind=device", "disabled=perhaps", "sort=email"):
        assert home.call("GET", f"/users?{query}", token=admin).status_code == 400
    assert home.call("GET", f"/users/{me(home, ann)['id']}", token=admin).get_json()["email"] == "ann@example.com"
    assert home.call("GET", "/users/usr_nobody", token=admin).get_json()["error"]["code"] == "user_not_found"


def test_a_change_of_a_user_goes_by_the_etag_of_what_was_read(home: Home) -> None:
    admin, path = home.admin(), f"/users/{me(home, home.person('p2@example.com', 'viewer'))['id']}"
    etag = {"If-Match": home.call("GET", path, token=admin).headers["ETag"]}
    assert home.call("PATCH", path, {"role": "operator"}, token=admin, headers=etag).status_code == 200
    stale = home.call("PATCH", path, {"name": "Ann"}, token=admin, headers=etag)
    assert (stale.status_code, stale.get_json()["error"]["code"]) == (412, "precondition_failed")


def test_a_changed_role_counts_for_logins_that_exist(home: Home) -> None:
    admin, ann = home.admin(), home.person("p3@example.com", "viewer")
    assert home.call("POST", "/groups", {"name": "g3"}, token=ann).status_code == 403
    home.call("PATCH", f"/users/{me(home, ann)['id']}", {"role": "operator"}, token=admin)
    assert home.call("POST", "/groups", {"name": "g3"}, token=ann).status_code == 201
    home.call("PATCH", f"/users/{me(home, ann)['id']}", {"role": "viewer"}, token=admin)
    assert home.call("POST", "/groups", {"name": "h"}, token=ann).status_code == 403


def test_every_credential_of_a_disabled_account_is_dead_at_once(home: Home) -> None:
    admin, token = home.admin(), home.person("p4@example.com", "admin")
    cookie, user = cookie_of(home, "p4@example.com"), me(home, token)
    key = home.call("POST", "/api-keys", {"name": "ci"}, token=token).get_json()["key"]
    body = {"email": "guest@example.com", "role": "viewer"}
    code = home.call("POST", "/invitations", body, token=token).get_json()["code"]
    bare = home.app.test_client(use_cookies=False)

    def statuses() -> dict[str, int]:
        login = {"email": "p4@example.com", "password": PASSWORD}
        acceptance = {"code": code, "name": "Guest", "password": PASSWORD}
        return {
            "token": home.call("GET", "/auth/me", token=token).status_code,
            "session": bare.get("/api/v1/auth/me", headers=cookie).status_code,
            "api key": home.call("GET", "/auth/me", token=key).status_code,
            "new session": bare.post("/api/v1/auth/login", json=login).status_code,
            "new token": bare.post("/api/v1/auth/token", json=login).status_code,
            "invitation": bare.post("/api/v1/auth/accept-invitation", json=acceptance).status_code,
        }

    disabled = home.call("PATCH", f"/users/{user['id']}", {"disabled": True}, token=admin)
    assert disabled.get_json()["disabled"] is True
    dead = {"token": 401, "session": 401, "api key": 401, "new session": 401, "new token": 401, "invitation": 403}
    assert statuses() == dead
    # Given back, the account has what speaks for it again, but no login that somebody may have left open.
    home.call("PATCH", f"/users/{user['id']}", {"disabled": False}, token=admin)
    back = {"token": 401, "session": 401, "api key": 200, "new session": 200, "new token": 200, "invitation": 201}
    assert statuses() == back


def test_nobody_disables_or_demotes_themselves(home: Home) -> None:
    admin = home.admin()
    for change in ({"disabled": True}, {"role": "operator"}):
        refused = home.call("PATCH", f"/users/{me(home, admin)['id']}", change, token=admin)
        assert (refused.status_code, refused.get_json()["error"]["code"]) == (409, "own_account")


def test_of_two_administrators_who_disable_each_other_at_once_one_remains(home: Home) -> None:
    first = me(home, home.admin())["id"]
    for other in home.wiring.accounts.users("acme", chosen=Chosen(role=Role.ADMIN)):
        home.wiring.accounts.update_user("acme", other.id, an_event(), disabled=other.id != first)
    for number in range(5):
        tokens = [home.admin(), home.person(f"second-{number}@example.com", "admin")]
        ids = [me(home, token)["id"] for token in tokens]

        def disable(pair: tuple[str, str]) -> int:
            token, other = pair
            return (
                home.app.test_client()
                .patch(f"/api/v1/users/{other}", json={"disabled": True}, headers={"Authorization": f"Bearer {token}"})
                .status_code
            )

        with ThreadPoolExecutor(2) as pool:
            statuses = sorted(pool.map(disable, zip(tokens, reversed(ids), strict=True)))
        # The slower one is nobody any more when they are asked who they are, or would leave nobody.
        assert statuses in ([200, 401], [200, 409])
        users = (home.wiring.accounts.user("acme", user_id) for user_id in ids)
        assert [one.disabled for one in users].count(False) == 1
        for user_id in ids:
            home.wiring.accounts.update_user("acme", user_id, an_event(), disabled=user_id != ids[0])


def test_the_last_administrator_is_neither_disabled_nor_demoted(database: Database) -> None:
    accounts = Accounts(database)
    accounts.add_user(ADMIN, an_event())
    accounts.add_user(replace(ADMIN, id="usr_2", email="b@example.org", role=Role.OPERATOR), an_event())
    for change in ({"disabled": True}, {"role": Role.APPROVER}):
        with pytest.raises(LastAdmin, match=r"a@example\.org is the last admin; give somebody else that role first"):
            accounts.update_user("acme", "usr_1", an_event(), keep=Role.ADMIN, **change)
    assert accounts.user("acme", "usr_1") == ADMIN
    assert len(AuditLog(database).events("acme")) == 2
    assert accounts.update_user("acme", "usr_1", an_event(), keep=Role.ADMIN, name="Ada").name == "Ada"
    accounts.update_user("acme", "usr_2", an_event(), keep=Role.ADMIN, role=Role.ADMIN)
    assert accounts.update_user("acme", "usr_1", an_event(), keep=Role.ADMIN, disabled=True).disabled


def test_two_who_demote_each_other_in_the_database_leave_one(database: Database) -> None:
    accounts = Accounts(database)
    for number in (1, 2):
        accounts.add_user(replace(ADMIN, id=f"usr_{number}", email=f"{number}@example.org"), an_event())

    def demote(user_id: str) -> bool:
        try:
            accounts.update_user("acme", user_id, an_event(), role=Role.VIEWER, keep=Role.ADMIN)
        except LastAdmin:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(demote, ("usr_1", "usr_2"))) == [False, True]


def test_an_administrator_gives_a_one_time_password_and_the_logins_end(home: Home) -> None:
    admin, ann = home.admin(), home.person("p9@example.com", "viewer")
    path = f"/users/{me(home, ann)['id']}/reset-password"
    given = home.call("POST", path, {}, token=admin).get_json()
    assert given["password_change_required"] is True
    assert home.call("GET", "/auth/me", token=ann).status_code == 401
    old = home.call("POST", "/auth/token", {"email": "p9@example.com", "password": PASSWORD}, token="")
    assert old.status_code == 401
    again = home.login("p9@example.com", given["password"])
    change = {"password": "another long password", "current_password": given["password"]}
    assert home.call("PATCH", "/profile", change, token=again).get_json()["password_change_required"] is False


def test_a_one_time_password_is_neither_for_oneself_nor_for_automation(home: Home) -> None:
    admin = home.admin()
    own = home.call("POST", f"/users/{me(home, admin)['id']}/reset-password", {}, token=admin)
    assert (own.status_code, own.get_json()["error"]["code"]) == (409, "own_account")
    automation = me(home, home.made.api_key)["id"]
    refused = home.call("POST", f"/users/{automation}/reset-password", {}, token=admin)
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (409, "no_password")


def test_one_s_own_name_is_changed_and_neither_role_nor_address(home: Home) -> None:
    ann = home.person("p11@example.com", "viewer")
    assert home.call("PATCH", "/profile", {"name": "Ann Other"}, token=ann).get_json()["name"] == "Ann Other"
    assert home.call("GET", "/profile", token=ann).get_json()["name"] == "Ann Other"
    for change in ({"role": "admin"}, {"email": "x@example.com"}, {"disabled": False}):
        assert home.call("PATCH", "/profile", change, token=ann).status_code == 400
    wrong = {"password": "another long password", "current_password": "not mine at all"}
    refused = home.call("PATCH", "/profile", wrong, token=ann)
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "wrong_password")
    weak = {"password": "short", "current_password": PASSWORD}
    assert home.call("PATCH", "/profile", weak, token=ann).get_json()["error"]["code"] == "weak_password"
    assert home.call("PATCH", "/profile", {"name": "CI"}).get_json()["error"]["code"] == "session_required"


ADMIN = User(
    id="usr_1",
    org="acme",
    email="a@example.org",
    name="A",
    kind=ActorKind.USER,
    role=Role.ADMIN,
    created_at=NOON,
)


def an_event() -> AuditEvent:
    return AuditEvent("user.changed", "usr_1", Actor(ActorKind.USER, "usr_1", "A", "ses_1"), NOON)
