"""A second factor at the login: set up, asked for, taken once, recovered from, removed, reset."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import text
from werkzeug.test import TestResponse

from keys.second_factor import code_at
from tests.integration.api.conftest import Home, ShiftedClock

EMAIL, PASSWORD = "ann@example.com", "a long enough password"


class Person:
    """Ann, an approver with an authenticator app."""

    def __init__(self, home: Home, clock: type[ShiftedClock]) -> None:
        self.home, self.clock = home, clock
        self.token = home.person(EMAIL, "approver")
        self.id: str = home.call("GET", "/auth/me", token=self.token).get_json()["user"]["id"]
        self.secret = b""
        self.recovery: list[str] = []

    def begin(self) -> None:
        begun = self.home.call(
            "POST", "/profile/second-factor", {"current_password": PASSWORD}, token=self.token
        ).get_json()
        (told,) = parse_qs(urlsplit(begun["otpauth_uri"]).query)["secret"]
        self.secret = base64.b32decode(told)

    def enable(self) -> None:
        self.begin()
        answer = self.home.call("POST", "/profile/second-factor/confirm", {"code": self.code()}, token=self.token)
        assert answer.status_code == 200, answer.text
        self.recovery = answer.get_json()["recovery_codes"]
        self.wait()

    def code(self) -> str:
        return code_at(self.secret, self.clock.now(UTC))

    def wrong(self) -> str:
        return f"{(int(self.code()) + 1) % 1_000_000:06}"

    def wait(self) -> None:
        self.clock.ahead += timedelta(minutes=2)

    def log_in(self, code: str | None = None, password: str = PASSWORD) -> TestResponse:
        body = {"email": EMAIL, "password": password, "code": code}
        return self.home.call("POST", "/auth/token", body, token="")


@pytest.fixture
def ann(home: Home, clock: type[ShiftedClock]) -> Person:
    # Away from a step's edge, so that no test depends on when it runs: the next whole minute plus ten seconds.
    now = datetime.now(UTC)
    clock.ahead = (now + timedelta(minutes=1)).replace(second=10, microsecond=0) - now
    return Person(home, clock)


def outcome(answer: TestResponse) -> tuple[int, str | None]:
    return answer.status_code, answer.get_json().get("error", {}).get("code")


def test_it_counts_from_its_first_code_on(ann: Person) -> None:
    ann.begin()
    assert outcome(ann.log_in()) == (200, None)
    wrong = ann.home.call("POST", "/profile/second-factor/confirm", {"code": ann.wrong()}, token=ann.token)
    assert outcome(wrong) == (403, "code_refused")
    ann.enable()
    told = ann.home.call("GET", "/profile/second-factor", token=ann.token).get_json()
    assert (told["enabled"], told["recovery_codes_left"]) == (True, 10)
    refused = ann.log_in()
    assert outcome(refused) == (401, "code_required")
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert outcome(ann.log_in(ann.wrong())) == (401, "code_refused")
    assert outcome(ann.log_in(ann.code())) == (200, None)


def test_a_code_is_asked_for_only_of_who_knows_the_password(ann: Person) -> None:
    ann.enable()
    assert outcome(ann.log_in(password="wrong")) == (401, "login_failed")
    assert outcome(ann.log_in(ann.code(), password="wrong")) == (401, "login_failed")


def test_a_browser_s_login_needs_the_code_too(ann: Person) -> None:
    ann.enable()
    body = {"email": EMAIL, "password": PASSWORD}
    assert outcome(ann.home.call("POST", "/auth/login", body, token="")) == (401, "code_required")
    answer = ann.home.call("POST", "/auth/login", {**body, "code": ann.code()}, token="")
    assert answer.status_code == 200
    assert answer.get_json()["user"]["second_factor"] is True


def test_a_code_is_taken_once_and_none_before_it_afterwards(ann: Person) -> None:
    ann.enable()
    earlier = ann.code()
    ann.clock.ahead += timedelta(seconds=30)
    code = ann.code()
    assert outcome(ann.log_in(code)) == (200, None)
    assert outcome(ann.log_in(code)) == (401, "code_refused")
    assert outcome(ann.log_in(earlier)) == (401, "code_refused")


def test_of_many_logins_at_once_with_one_code_one_gets_in(ann: Person) -> None:
    ann.enable()
    code = ann.code()
    with ThreadPoolExecutor(4) as pool:
        statuses = [
            *pool.map(
                lambda _: (
                    ann.home.app.test_client()
                    .post("/api/v1/auth/token", json={"email": EMAIL, "password": PASSWORD, "code": code})
                    .status_code
                ),
                range(4),
            )
        ]
    assert sorted(statuses) == [200, 401, 401, 401]


def test_the_confirming_code_does_not_log_in(ann: Person) -> None:
    ann.begin()
    code = ann.code()
    ann.home.call("POST", "/profile/second-factor/confirm", {"code": code}, token=ann.token)
    assert outcome(ann.log_in(code)) == (401, "code_refused")


def test_a_recovery_code_is_good_for_one_login(ann: Person) -> None:
    ann.enable()
    first = ann.recovery[0]
    assert outcome(ann.log_in(first.upper())) == (200, None)
    assert outcome(ann.log_in(first)) == (401, "code_refused")
    assert outcome(ann.log_in(ann.recovery[1])) == (200, None)
    told = ann.home.call("GET", "/profile/second-factor", token=ann.token).get_json()
    assert told["recovery_codes_left"] == 8
    events = ann.home.call("GET", "/audit/events?tag=user.recovery_code_used").get_json()["items"]
    assert [event["subject"] for event in events] == [ann.id, ann.id]


def test_guessing_codes_is_stopped_from_all_addresses_together(ann: Person) -> None:
    ann.enable()
    client, found = ann.home.app.test_client(), []
    for number in range(11):
        body = {"email": EMAIL, "password": PASSWORD, "code": ann.wrong()}
        source = {"REMOTE_ADDR": f"192.0.2.{number}"}
        found.append(client.post("/api/v1/auth/token", json=body, environ_base=source).status_code)
    assert found == [401] * 10 + [429]
    assert outcome(ann.log_in(ann.code())) == (429, "too_many_failures")
    ann.clock.ahead += timedelta(minutes=17)
    assert outcome(ann.log_in(ann.code())) == (200, None)


def test_enabling_ends_the_other_logins(ann: Person) -> None:
    other = ann.home.login(EMAIL, PASSWORD)
    ann.enable()
    assert ann.home.call("GET", "/auth/me", token=other).status_code == 401
    assert ann.home.call("GET", "/auth/me", token=ann.token).status_code == 200


def test_a_second_one_is_not_put_over_the_first(ann: Person) -> None:
    ann.enable()
    again = ann.home.call("POST", "/profile/second-factor", {"current_password": PASSWORD}, token=ann.token)
    assert outcome(again) == (409, "second_factor_exists")
    none = ann.home.call("POST", "/profile/second-factor/confirm", {"code": ann.code()}, token=ann.token)
    assert outcome(none) == (409, "second_factor_not_begun")
    assert outcome(ann.log_in(ann.code())) == (200, None)


def test_setting_up_and_removing_need_the_password_and_removing_the_code_too(ann: Person) -> None:
    path = "/profile/second-factor"
    assert outcome(ann.home.call("POST", path, {"current_password": "wrong"}, token=ann.token)) == (
        403,
        "wrong_password",
    )
    ann.enable()
    for body, code in (
        ({"current_password": "wrong", "code": ann.code()}, "wrong_password"),
        ({"current_password": PASSWORD, "code": ann.wrong()}, "code_refused"),
    ):
        assert outcome(ann.home.call("POST", f"{path}/remove", body, token=ann.token)) == (403, code)
    body = {"current_password": PASSWORD, "code": ann.code()}
    assert ann.home.call("POST", f"{path}/remove", body, token=ann.token).status_code == 204
    assert outcome(ann.log_in()) == (200, None)
    gone = ann.home.call("POST", f"{path}/remove", body, token=ann.token)
    assert outcome(gone) == (409, "no_second_factor")


def test_a_stolen_session_does_not_get_to_guess_the_password(ann: Person) -> None:
    body = {"current_password": "guess"}
    statuses = [ann.home.call("POST", "/profile/second-factor", body, token=ann.token).status_code for _ in range(11)]
    assert statuses == [403] * 10 + [429]


def test_an_admin_resets_what_somebody_lost_and_their_logins_end(ann: Person) -> None:
    ann.enable()
    admin = ann.home.admin()
    reset = ann.home.call("POST", f"/users/{ann.id}/reset-second-factor", {}, token=admin)
    assert (reset.status_code, reset.get_json()["second_factor"]) == (200, False)
    assert ann.home.call("GET", "/auth/me", token=ann.token).status_code == 401
    assert outcome(ann.log_in()) == (200, None)
    assert outcome(ann.log_in(ann.recovery[0])) == (200, None)  # nobody asks for one any more
    again = ann.home.call("POST", f"/users/{ann.id}/reset-second-factor", {}, token=admin)
    assert outcome(again) == (409, "no_second_factor")


def test_an_admin_does_not_reset_their_own(home: Home) -> None:
    admin = home.admin()
    me = home.call("GET", "/auth/me", token=admin).get_json()["user"]["id"]
    assert outcome(home.call("POST", f"/users/{me}/reset-second-factor", {}, token=admin)) == (409, "own_account")


def test_an_api_key_has_nothing_to_do_with_it(ann: Person) -> None:
    for method, path in (("POST", "/profile/second-factor"), ("POST", "/profile/second-factor/remove")):
        body = (
            {"current_password": PASSWORD, "code": "000000"} if path.endswith("remove") else {"current_password": "x"}
        )
        assert outcome(ann.home.call(method, path, body)) == (403, "session_required")


def test_the_secret_is_nowhere_in_the_database_nor_in_the_trail(ann: Person) -> None:
    ann.enable()
    told = base64.b32encode(ann.secret)
    ann.home.wiring.db.close()
    stored = ann.home.stored()
    assert ann.id.encode() in stored
    for secret in (told, ann.secret, base64.b64encode(ann.secret), *(code.encode() for code in ann.recovery)):
        assert secret not in stored


def test_a_secret_of_another_home_is_told_as_such_and_recovery_codes_still_work(ann: Person) -> None:
    ann.enable()
    with ann.home.wiring.db.write() as connection:
        connection.execute(text("UPDATE users SET totp_secret = 'AAAA' WHERE id = :id"), {"id": ann.id})
    assert outcome(ann.log_in(ann.code())) == (503, "seal_broken")
    assert outcome(ann.log_in(ann.recovery[0])) == (200, None)
