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


def test_an_api_key_sees_no_logins(home: Home) -> None:
    assert home.call("GET", "/profile/sessions").get_json()["error"]["code"] == "session_required"
