"""One's own logins: listed, ended, and ended by themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.integration.api.conftest import Home, ShiftedClock

pytestmark = pytest.mark.postgresql


def listed(home: Home, token: str, query: str = "") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = home.call("GET", f"/profile/sessions{query}", token=token).get_json()["items"]
    return items


def browser(home: Home) -> dict[str, str]:
    """The cookie of a new login."""
    body = {"email": home.made.admin_email, "password": home.made.admin_password}
    answer = home.app.test_client(use_cookies=False).post("/api/v1/auth/login", json=body)
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


def ask(home: Home, path: str, cookie: dict[str, str]) -> TestResponse:
    return home.app.test_client(use_cookies=False).get(f"/api/v1{path}", headers=cookie)


def test_one_s_own_logins_are_listed_newest_first_and_nobody_else_s(home: Home) -> None:
    first = home.admin()
    cookie = browser(home)
    home.person("ann@example.com", "viewer")
    shown = listed(home, first)
    assert [one["kind"] for one in shown] == ["token", "session", "token"]  # the first is the one that made Ann
    assert [one["current"] for one in shown] == [False, False, True]
    answer = ask(home, "/profile/sessions?limit=1&total=true", cookie).get_json()
    assert (answer["total"], [one["id"] for one in answer["items"]]) == (3, [shown[0]["id"]])
    rest = listed(home, first, f"?cursor={answer['next_cursor']}")
    assert [one["id"] for one in rest] == [shown[1]["id"], shown[2]["id"]]


def test_a_login_ends_at_once_and_only_one_s_own(home: Home) -> None:
    mine, cookie = home.admin(), browser(home)
    ann = home.person("ann@example.com", "admin")
    session = next(one for one in listed(home, mine) if one["kind"] == "session")
    foreign = home.call("DELETE", f"/profile/sessions/{session['id']}", token=ann)
    assert (foreign.status_code, foreign.get_json()["error"]["code"]) == (404, "session_not_found")
    assert ask(home, "/auth/me", cookie).status_code == 200
    assert home.call("DELETE", f"/profile/sessions/{session['id']}", token=mine).status_code == 204
    assert ask(home, "/auth/me", cookie).status_code == 401
    assert session["id"] not in [one["id"] for one in listed(home, mine)]


def test_a_browser_s_session_ends_unused_after_an_hour_and_used_after_twelve(
    home: Home, clock: type[ShiftedClock]
) -> None:
    idle, used = browser(home), browser(home)
    for minutes in range(50, 12 * 60, 50):
        clock.ahead = timedelta(minutes=minutes)
        assert ask(home, "/auth/me", used).status_code == 200
    assert ask(home, "/auth/me", idle).status_code == 401
    clock.ahead = timedelta(hours=12, minutes=1)
    assert ask(home, "/auth/me", used).status_code == 401
    assert listed(home, home.admin())[0]["current"] is True
    assert [one["kind"] for one in listed(home, home.admin())] == ["token", "token"]


def test_a_login_gets_a_new_id_whatever_cookie_was_sent_with_it(home: Home) -> None:
    before = browser(home)
    body = {"email": home.made.admin_email, "password": home.made.admin_password}
    client = home.app.test_client(use_cookies=False)
    after = client.post("/api/v1/auth/login", json=body, headers=before).headers["Set-Cookie"].partition(";")[0]
    assert after.startswith("__Host-wavegate=wgs_")
    assert after != before["Cookie"]
    assert ask(home, "/auth/me", before).status_code == 401
    assert ask(home, "/auth/me", {"Cookie": after}).status_code == 200


@pytest.mark.parametrize("planted", ["chosen-by-somebody", "wgs_" + "0" * 49])
def test_a_cookie_that_somebody_planted_is_never_the_session(home: Home, planted: str) -> None:
    body = {"email": home.made.admin_email, "password": home.made.admin_password}
    cookie = {"Cookie": f"__Host-wavegate={planted}"}
    answer = home.app.test_client(use_cookies=False).post("/api/v1/auth/login", json=body, headers=cookie)
    assert planted not in answer.headers["Set-Cookie"]
    assert ask(home, "/auth/me", cookie).status_code == 401


def test_an_api_key_sees_no_logins(home: Home) -> None:
    assert home.call("GET", "/profile/sessions").get_json()["error"]["code"] == "session_required"


def test_logging_out_ends_the_browser_s_session_and_takes_its_cookie_away(home: Home) -> None:
    cookie = browser(home)
    answer = home.app.test_client(use_cookies=False).post("/api/v1/auth/logout", headers=cookie)
    assert answer.status_code == 204
    assert answer.headers["Set-Cookie"].startswith("__Host-wavegate=; Expires=Thu, 01 Jan 1970")
    assert ask(home, "/auth/me", cookie).status_code == 401


def test_a_changed_password_ends_every_other_session_and_token_but_not_the_one_at_work(home: Home) -> None:
    here, there, token = browser(home), browser(home), home.admin()
    change = {"password": "a better long password", "current_password": home.made.admin_password}
    changed = home.app.test_client(use_cookies=False).patch("/api/v1/profile", json=change, headers=here)
    assert changed.status_code == 200
    assert [ask(home, "/auth/me", cookie).status_code for cookie in (here, there)] == [200, 401]
    assert home.call("GET", "/auth/me", token=token).status_code == 401


def test_a_program_s_token_lasts_a_day_and_says_whose_it_is(home: Home, clock: type[ShiftedClock]) -> None:
    home.person("ann@example.com", "approver")
    body = {"email": "ann@example.com", "password": "a long enough password"}
    told = home.call("POST", "/auth/token", body, token="").get_json()
    assert told["token"].startswith("wgl_")
    assert told["user"]["role"] == "approver"
    me = home.call("GET", "/auth/me", token=told["token"]).get_json()
    assert (me["org"], me["credential"]["kind"]) == ("acme", "token")
    foreign = home.call("GET", "/orgs/other/devices", token=told["token"])
    assert (foreign.status_code, foreign.get_json()["error"]["code"]) == (403, "wrong_organization")
    clock.ahead = timedelta(hours=23, minutes=59)
    assert home.call("GET", "/auth/me", token=told["token"]).status_code == 200
    clock.ahead = timedelta(hours=24, minutes=1)
    assert home.call("GET", "/auth/me", token=told["token"]).status_code == 401


def test_who_is_guessed_at_from_elsewhere_still_logs_in(home: Home, clock: type[ShiftedClock]) -> None:
    def attempt(password: str, source: str) -> int:
        body = {"email": home.made.admin_email, "password": password}
        client = home.app.test_client(use_cookies=False)
        return client.post("/api/v1/auth/login", json=body, environ_base={"REMOTE_ADDR": source}).status_code

    assert [attempt("guess", "203.0.113.9") for _ in range(10)] == [401] * 10
    assert attempt(home.made.admin_password, "203.0.113.9") == 429
    assert attempt(home.made.admin_password, "203.0.113.10") == 200
    assert attempt("guess", "203.0.113.9") == 401  # a login that succeeds clears the account's count
    assert [attempt("guess", "203.0.113.9") for _ in range(9)] == [401] * 9
    assert attempt("guess", "203.0.113.9") == 429
    clock.ahead = timedelta(minutes=17)
    assert attempt("guess", "203.0.113.9") == 401
