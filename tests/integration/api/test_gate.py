"""Who may do what: permissions, credentials and sessions. Every route as every caller: test_permission_matrix.py."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from api.auth.permissions import SESSION_ONLY, Permission, of_key
from evidence.people import Role
from tests.integration.api.conftest import Home


def test_an_api_key_never_administers_keys_users_or_enrolment_tokens(home: Home) -> None:
    for path in ("/api-keys", "/users", "/enroll-tokens"):
        answer = home.call("POST", path, {})
        assert answer.status_code == 403
        assert answer.get_json()["error"]["code"] == "session_required"


def test_an_admins_api_key_has_an_operators_permissions_only(home: Home) -> None:
    made = home.call("POST", "/api-keys", {"name": "ci"}, token=home.admin()).get_json()
    me = home.call("GET", "/auth/me", token=made["key"]).get_json()
    assert set(me["permissions"]) == {permission.value for permission in of_key(Role.ADMIN)}
    assert Permission.ROLLOUTS_APPROVE.value not in me["permissions"]
    assert not SESSION_ONLY & {Permission(one) for one in me["permissions"]}


def test_a_revoked_key_stops_at_once_and_its_text_is_stored_nowhere(home: Home) -> None:
    admin = home.admin()
    made = home.call("POST", "/api-keys", {"name": "ci"}, token=admin).get_json()
    assert home.call("GET", "/artifacts", token=made["key"]).status_code == 200
    assert home.call("DELETE", f"/api-keys/{made['id']}", token=admin).status_code == 204
    assert home.call("GET", "/artifacts", token=made["key"]).status_code == 401
    assert made["key"].encode() not in home.stored()


def test_disabling_a_user_kills_their_login_and_their_key(home: Home) -> None:
    admin, token = home.admin(), home.person("op@example.com", "admin")
    key = home.call("POST", "/api-keys", {"name": "ci"}, token=token).get_json()["key"]
    user = home.call("GET", "/auth/me", token=token).get_json()["user"]
    assert home.call("PATCH", f"/users/{user['id']}", {"disabled": True}, token=admin).status_code == 200
    assert home.call("GET", "/artifacts", token=token).status_code == 401
    assert home.call("GET", "/artifacts", token=key).status_code == 401


def test_logging_out_ends_the_token(home: Home) -> None:
    token = home.admin()
    assert home.call("POST", "/auth/logout", token=token).status_code == 204
    assert home.call("GET", "/auth/me", token=token).status_code == 401


def test_a_wrong_password_and_an_unknown_account_get_the_same_answer(home: Home) -> None:
    bodies = [
        {"email": home.made.admin_email, "password": "wrong"},
        {"email": "nobody@example.com", "password": "wrong"},
    ]
    errors = [home.call("POST", "/auth/login", body, token="").get_json()["error"] for body in bodies]
    for error in errors:
        del error["request_id"]
    assert errors[0] == errors[1]
    assert errors[0]["code"] == "login_failed"


def test_guessing_is_slowed_down_after_ten_failures(home: Home) -> None:
    body = {"email": home.made.admin_email, "password": "guess"}
    statuses = [home.call("POST", "/auth/token", body, token="").status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]


def test_a_browser_session_is_a_host_cookie_and_unsafe_requests_from_elsewhere_are_refused(home: Home) -> None:
    body = {"email": home.made.admin_email, "password": home.made.admin_password}
    answer = home.call("POST", "/auth/login", body, token="")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-wavegate=wgs_")
    assert all(part in cookie for part in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"))
    headers = {"Cookie": cookie.partition(";")[0]}
    assert home.call("GET", "/auth/me", token="", headers=headers).status_code == 200
    foreign = {**headers, "Sec-Fetch-Site": "cross-site"}
    refused = home.call("POST", "/groups", {"name": "g"}, token="", headers=foreign)
    assert refused.get_json()["error"]["code"] == "cross_site_request"
    ours = {**headers, "Sec-Fetch-Site": "same-origin"}
    assert home.call("POST", "/groups", {"name": "g"}, token="", headers=ours).status_code == 201


def test_changing_the_password_ends_the_other_sessions_and_clears_the_demand(home: Home) -> None:
    first, second = home.admin(), home.admin()
    change = {"password": "a better long password", "current_password": home.made.admin_password}
    changed = home.call("PATCH", "/profile", change, token=first)
    assert changed.status_code == 200
    assert changed.get_json()["password_change_required"] is False
    assert home.call("GET", "/auth/me", token=first).status_code == 200
    assert home.call("GET", "/auth/me", token=second).status_code == 401


def test_another_organisations_prefix_is_refused_and_ones_own_is_the_same_route(home: Home) -> None:
    assert home.call("GET", "/orgs/acme/artifacts").get_json() == home.call("GET", "/artifacts").get_json()
    answer = home.call("GET", "/orgs/other/artifacts")
    assert answer.status_code == 403
    assert answer.get_json()["error"]["code"] == "wrong_organization"


def test_an_idempotent_replay_does_not_show_a_secret_again(home: Home) -> None:
    admin, key = home.admin(), {"Idempotency-Key": "mint"}
    first = home.call("POST", "/api-keys", {"name": "ci"}, token=admin, headers=key).get_json()
    again = home.call("POST", "/api-keys", {"name": "ci"}, token=admin, headers=key).get_json()
    assert first["key"].startswith("wgk_")
    assert again["key"] is None
    assert again["id"] == first["id"]


def test_an_expired_key_is_refused(home: Home) -> None:
    made = home.call("POST", "/api-keys", {"name": "ci", "expires_in_days": 1}, token=home.admin()).get_json()
    assert datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC) < timedelta(days=1)
    too_long = home.call("POST", "/api-keys", {"name": "ci", "expires_in_days": 367}, token=home.admin())
    assert too_long.status_code == 400
