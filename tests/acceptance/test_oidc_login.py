"""People log in by a stock provider of OpenID Connect, through its own pages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from werkzeug.test import TestResponse

from api.app import create_app
from api.settings import read_settings
from api.setup import initialise
from api.wiring import open_wavegate
from evidence.model import Actor, ActorKind, AuditEvent
from evidence.people import Role
from tests.acceptance.oidc_provider.people import CLIENT_ID, CLIENT_SECRET, Provider, oidc_provider
from tests.integration.api.conftest import Home

US = "http://127.0.0.1:8080"
PEOPLE: dict[str, dict[str, Any]] = {
    "ann-1": {"email": "ann@example.com", "email_verified": True, "name": "Ann", "groups": ["wavegate-operators"]},
    "bob-1": {"email": "bob@example.com", "email_verified": True, "name": "Bob", "groups": []},
    "eve-1": {"email": "admin@example.com", "email_verified": True, "name": "Eve", "groups": ["wavegate-admins"]},
    "dan-1": {"email": "dan@example.com", "email_verified": True, "name": "Dan", "groups": []},
    "unverified": {"email": "una@example.com", "email_verified": False, "name": "Una", "groups": []},
    "elsewhere": {"email": "foe@elsewhere.example", "email_verified": True, "name": "Foe", "groups": []},
    "carl-1": {"email": "carl@example.com", "email_verified": True, "name": "Carl", "groups": []},
    "carl-2": {"email": "carl@example.com", "email_verified": True, "name": "Carla", "groups": []},
}


class Door(Home):
    """A home whose people log in by a provider."""

    provider: Provider

    def begin(self, query: str = "") -> tuple[str, dict[str, str]]:
        """Where the browser is sent, and the cookie it gets for the way."""
        answer = self.call("GET", f"/auth/oidc{query}", token="")
        assert answer.status_code == 302, answer.text
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-wavegate-oidc=")
        assert all(part in cookie for part in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"))
        return answer.headers["Location"], {"Cookie": cookie.partition(";")[0]}

    def come_back(self, place: str, cookie: dict[str, str], **changed: str) -> TestResponse:
        """The browser as the provider sends it back."""
        assert place.startswith(f"{US}/api/v1/auth/oidc/callback?"), place
        told = {name: values[0] for name, values in parse_qs(urlsplit(place).query).items()}
        return self.call("GET", f"/auth/oidc/callback?{urlencode({**told, **changed})}", token="", headers=cookie)

    def log_in(self, login: str) -> TestResponse:
        url, cookie = self.begin()
        return self.come_back(self.provider.log_in(url, login), cookie)

    def refused(self, login: str) -> tuple[int, str]:
        answer = self.log_in(login)
        return answer.status_code, answer.get_json()["error"]["code"]

    def me(self, answer: TestResponse) -> dict[str, Any]:
        """Who the cookie of a login is."""
        assert answer.status_code == 303, answer.text
        cookies = answer.headers.getlist("Set-Cookie")
        (session,) = [one for one in cookies if one.startswith("__Host-wavegate=wgs_")]
        assert all(part in session for part in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"))
        told: dict[str, Any] = self.call(
            "GET", "/auth/me", token="", headers={"Cookie": session.partition(";")[0]}
        ).get_json()
        return told


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with oidc_provider(PEOPLE, f"{US}/api/v1/auth/oidc/callback", secret=CLIENT_SECRET) as started:
        yield started


@pytest.fixture(scope="module")
def door(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("oidc")
    secret = folder / "client-secret"
    secret.write_text(f"{CLIENT_SECRET}\n")
    environ = {
        "WAVEGATE_HOME": str(folder / "home"),
        "WAVEGATE_PASSWORD_MEMORY_KIB": "8192",
        "WAVEGATE_OIDC_ISSUER": provider.issuer,
        "WAVEGATE_OIDC_CLIENT_ID": CLIENT_ID,
        "WAVEGATE_OIDC_CLIENT_SECRET_FILE": str(secret),
        "WAVEGATE_OIDC_ALLOW": "127.0.0.1",
        "WAVEGATE_OIDC_EMAIL_DOMAINS": "example.com",
        "WAVEGATE_OIDC_ROLES": '{"operator": "groups=wavegate-operators", "admin": "groups=wavegate-admins"}',
        "WAVEGATE_OIDC_DEFAULT_ROLE": "viewer",
    }
    settings = read_settings(environ)
    made = initialise(settings, org="acme", admin="admin@example.com", now=datetime.now(UTC))
    wiring = open_wavegate(settings)
    app = create_app(wiring)
    door = Door(made, wiring, app, app.test_client(use_cookies=False))
    door.provider = provider
    yield door
    wiring.close()


@pytest.fixture(scope="module")
def admin(door: Door) -> str:
    """The admin, who has chosen a password, so that their account is in use."""
    token = door.admin()
    change = {"password": "a long enough password", "current_password": door.made.admin_password}
    assert door.call("PATCH", "/profile", change, token=token).status_code == 200
    return token


def test_a_newcomer_gets_an_account_and_a_session_with_the_role_of_their_group(door: Door, admin: str) -> None:
    answer = door.log_in("ann-1")
    assert answer.headers["Location"] == "/api/v1/auth/me"
    me = door.me(answer)
    assert (me["user"]["email"], me["user"]["name"], me["user"]["role"]) == ("ann@example.com", "Ann", "operator")
    assert me["credential"]["kind"] == "session"
    again = door.me(door.log_in("ann-1"))
    assert again["user"]["id"] == me["user"]["id"]
    assert again["credential"]["id"] != me["credential"]["id"]
    events = door.call("GET", "/audit/events?limit=200", token=admin).get_json()["items"]
    (linked,) = [one for one in events if one["tag"] == "user.linked" and one["subject"] == me["user"]["id"]]
    assert linked["data"] == {"issuer": door.provider.issuer, "subject": "ann-1", "email": "ann@example.com"}


def test_who_has_no_group_of_ours_is_a_viewer_and_goes_where_they_wanted_to(door: Door) -> None:
    url, cookie = door.begin("?next=/docs")
    answer = door.come_back(door.provider.log_in(url, "bob-1"), cookie)
    assert answer.headers["Location"] == "/docs"
    assert door.me(answer)["user"]["role"] == "viewer"


def test_a_role_follows_the_provider_at_the_next_login(door: Door, provider: Provider) -> None:
    user = door.me(door.log_in("ann-1"))["user"]
    by = Actor(ActorKind.SYSTEM, "system:test", "test")
    event = AuditEvent("user.changed", user["id"], by, datetime.now(UTC))
    door.wiring.accounts.update_user("acme", user["id"], event, role=Role.VIEWER)
    assert door.me(door.log_in("ann-1"))["user"]["role"] == "operator"


def test_an_address_that_is_in_use_here_is_not_taken_over_by_whoever_has_it_there(door: Door, admin: str) -> None:
    assert door.refused("eve-1") == (409, "account_not_linked")
    assert door.call("GET", "/profile", token=admin).get_json()["email"] == "admin@example.com"


def test_an_account_made_for_somebody_is_theirs_at_their_first_login_and_nobody_elses_later(
    door: Door, admin: str
) -> None:
    body = {"email": "Carl@Example.com", "name": "Carl", "role": "approver"}
    made = door.call("POST", "/users", body, token=admin).get_json()
    me = door.me(door.log_in("carl-1"))["user"]
    assert (me["id"], me["role"], me["password_change_required"]) == (made["id"], "approver", False)
    # The one-time password that the administrator saw is worth nothing now.
    login = {"email": "carl@example.com", "password": made["password"]}
    assert door.call("POST", "/auth/token", login, token="").status_code == 401
    # The address went to somebody new at the provider.
    assert door.refused("carl-2") == (409, "account_not_linked")


def test_a_disabled_account_stays_out_and_its_sessions_end(door: Door, admin: str) -> None:
    answer = door.log_in("dan-1")
    user = door.me(answer)["user"]
    cookie = next(one for one in answer.headers.getlist("Set-Cookie") if one.startswith("__Host-wavegate=wgs_"))
    assert door.call("PATCH", f"/users/{user['id']}", {"disabled": True}, token=admin).status_code == 200
    headers = {"Cookie": cookie.partition(";")[0]}
    assert door.call("GET", "/auth/me", token="", headers=headers).status_code == 401
    assert door.refused("dan-1") == (403, "login_refused")


@pytest.mark.parametrize(
    ("login", "said"),
    [
        ("unverified", "the provider has not verified that una@example.com is yours"),
        ("elsewhere", "addresses of elsewhere.example are not let in here"),
    ],
)
def test_who_is_not_let_in_is_told_why(door: Door, login: str, said: str) -> None:
    answer = door.log_in(login)
    assert answer.status_code == 403
    assert said in answer.get_json()["error"]["message"]
    assert not [one for one in answer.headers.getlist("Set-Cookie") if one.startswith("__Host-wavegate=")]


def test_an_answer_for_another_login_is_refused(door: Door) -> None:
    (mine, my_cookie), (theirs, their_cookie) = door.begin(), door.begin()
    my_place, their_place = door.provider.log_in(mine, "bob-1"), door.provider.log_in(theirs, "ann-1")

    def code(answer: TestResponse) -> tuple[int, str]:
        return answer.status_code, answer.get_json()["error"]["code"]

    assert code(door.come_back(their_place, my_cookie)) == (403, "oidc_login_over")
    assert code(door.come_back(their_place, {})) == (403, "oidc_login_over")
    assert code(door.come_back(their_place, {"Cookie": "__Host-wavegate-oidc=nonsense"})) == (403, "oidc_login_over")
    assert code(door.come_back(their_place, their_cookie, state="another")) == (403, "oidc_login_over")
    assert code(door.come_back(their_place, their_cookie, iss="https://evil.example")) == (403, "oidc_login_over")
    # Their code with my state: the provider wants the verifier of the login that the code is for.
    stolen = parse_qs(urlsplit(their_place).query)["code"][0]
    assert code(door.come_back(my_place, my_cookie, code=stolen)) == (403, "login_refused")


def test_a_code_is_good_once(door: Door) -> None:
    url, cookie = door.begin()
    place = door.provider.log_in(url, "bob-1")
    assert door.come_back(place, cookie).status_code == 303
    again = door.come_back(place, cookie)
    assert (again.status_code, again.get_json()["error"]["code"]) == (403, "login_refused")


def test_what_is_asked_of_the_provider_has_state_nonce_and_pkce_and_differs_each_time(door: Door) -> None:
    asked = [parse_qs(urlsplit(door.begin()[0]).query) for _ in range(2)]
    assert asked[0]["response_type"] == ["code"]
    assert asked[0]["code_challenge_method"] == ["S256"]
    assert asked[0]["redirect_uri"] == [f"{US}/api/v1/auth/oidc/callback"]
    assert asked[0]["scope"] == ["openid email profile"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked[0][name][0]) == 43
        assert asked[0][name] != asked[1][name]


def test_a_refusal_of_the_provider_is_told(door: Door) -> None:
    answer = door.call("GET", "/auth/oidc/callback?error=access_denied&state=x&error_description=no", token="")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (403, "login_refused")
    assert "access_denied" in answer.get_json()["error"]["message"]


@pytest.mark.parametrize("place", ["https://evil.example/", "//evil.example", "/\\evil.example", "docs", "/a b"])
def test_after_the_login_nobody_is_sent_elsewhere(door: Door, place: str) -> None:
    answer = door.call("GET", f"/auth/oidc?{urlencode({'next': place})}", token="")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "validation_failed")


def test_somebody_logged_in_links_their_account_and_can_end_that_again(door: Door, admin: str) -> None:
    asked = {"redirect_uri": "http://127.0.0.1:51004/callback"}

    def answered(login: str) -> dict[str, str]:
        begun = door.call("POST", "/auth/oidc/authorize", asked, token="").get_json()
        place = door.provider.log_in(begun["authorization_url"], login)
        assert place.startswith("http://127.0.0.1:51004/callback?")
        told = {name: values[0] for name, values in parse_qs(urlsplit(place).query).items()}
        return {"handle": begun["handle"], **{name: told[name] for name in ("code", "state", "iss")}}

    def link(login: str, password: str) -> TestResponse:
        body = {**answered(login), "current_password": password}
        return door.call("POST", "/profile/identities", body, token=admin)

    # A session alone, perhaps a stolen one, makes no further way in.
    stolen = link("eve-1", "a guess")
    assert (stolen.status_code, stolen.get_json()["error"]["code"]) == (403, "wrong_password")
    linked = link("eve-1", "a long enough password")
    assert (linked.status_code, linked.get_json()["subject"]) == (201, "eve-1")
    # Linked, not made by the provider: its claims do not say the role.
    me = door.me(door.log_in("eve-1"))["user"]
    assert (me["email"], me["role"]) == ("admin@example.com", "admin")
    door.me(door.log_in("bob-1"))  # who has an account of his own now
    taken = link("bob-1", "a long enough password")
    assert (taken.status_code, taken.get_json()["error"]["code"]) == (409, "identity_taken")
    (first,) = door.call("GET", "/profile/identities", token=admin).get_json()["items"]
    gone = {"issuer": first["issuer"], "subject": first["subject"]}
    assert door.call("POST", "/profile/identities/unlink", gone, token=admin).status_code == 204
    assert door.refused("eve-1") == (409, "account_not_linked")


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost:5000/callback",
        "http://127.0.0.1:5000/other",
        "https://evil.example/callback",
        "app://callback",
    ],
)
def test_a_program_listens_on_loopback_by_address_only(door: Door, uri: str) -> None:
    answer = door.call("POST", "/auth/oidc/authorize", {"redirect_uri": uri}, token="")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (400, "validation_failed")


def test_a_login_by_device_waits_for_the_person(door: Door) -> None:
    begun = door.call("POST", "/auth/oidc/device", {}, token="").get_json()
    assert begun["interval"] == 5

    def ask() -> TestResponse:
        return door.call("POST", "/auth/oidc/device/token", {"handle": begun["handle"]}, token="")

    assert ask().get_json()["error"]["code"] == "authorization_pending"
    page = door.provider.log_in(begun["verification_uri_complete"], "bob-1")
    assert "Success" in page
    told = ask().get_json()
    assert told["user"]["email"] == "bob@example.com"
    assert door.call("GET", "/auth/me", token=told["token"]).get_json()["credential"]["kind"] == "token"
    assert ask().get_json()["error"]["code"] == "login_refused"
