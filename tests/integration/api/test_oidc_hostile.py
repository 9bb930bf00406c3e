"""A provider of logins that lies, breaks or mixes people up, and newcomers at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from werkzeug.test import TestResponse

from api.auth.federation import account_of, admission_of
from evidence.federation import introduce
from tests.integration.api.conftest import Home, ShiftedClock, made_home
from tests.simulators.oidc_issuer import OidcIssuer, new_key, oidc_issuer

US = "wavegate-at-the-provider"
ANN: Mapping[str, Any] = {"sub": "ann-1", "email": "ann@example.com", "email_verified": True, "name": "Ann"}


class Door(Home):
    """A home whose provider does as a test says."""

    provider: OidcIssuer

    def begin(self) -> tuple[dict[str, str], dict[str, str]]:
        """What was asked of the provider, and the browser's cookie."""
        answer = self.call("GET", "/auth/oidc", token="")
        assert answer.status_code == 302, answer.text
        asked = {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}
        return asked, {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}

    def come_back(self, asked: Mapping[str, str], cookie: dict[str, str]) -> TestResponse:
        query = urlencode({"code": "any", "state": asked["state"]})
        return self.app.test_client(use_cookies=False).get(f"/api/v1/auth/oidc/callback?{query}", headers=cookie)

    def log_in(self, **changed: Any) -> TestResponse:
        """A login whose identity token has these claims besides those it should have."""
        asked, cookie = self.begin()
        text = self.provider.token(US, ANN, **{"nonce": asked["nonce"], **changed})
        self.provider.answers["/token"] = (200, {"id_token": text, "access_token": "at", "token_type": "Bearer"})
        return self.come_back(asked, cookie)

    def refused(self, **changed: Any) -> tuple[int, str]:
        answer = self.log_in(**changed)
        return answer.status_code, answer.get_json()["error"]["code"]


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcIssuer]:
    with oidc_issuer("ES256") as started:
        started.document = {
            name: f"{started.url}/{path}"
            for name, path in (
                ("authorization_endpoint", "authorize"),
                ("token_endpoint", "token"),
                ("userinfo_endpoint", "userinfo"),
            )
        }
        yield started


@pytest.fixture(scope="module")
def house(provider: OidcIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    environ = {
        "WAVEGATE_OIDC_ISSUER": provider.url,
        "WAVEGATE_OIDC_CLIENT_ID": US,
        "WAVEGATE_OIDC_ALLOW": "127.0.0.1",
        "WAVEGATE_OIDC_EMAIL_DOMAINS": "example.com",
        "WAVEGATE_OIDC_DEFAULT_ROLE": "viewer",
    }
    with made_home(tmp_path_factory.mktemp("oidc"), **environ) as home:
        door = Door(home.made, home.wiring, home.app, home.app.test_client(use_cookies=False))
        door.provider = provider
        yield door


@pytest.fixture
def door(house: Door) -> Door:
    house.provider.answers = {"/userinfo": (200, {"sub": "ann-1"})}
    return house


def test_an_honest_answer_is_a_login(door: Door) -> None:
    assert door.log_in().status_code == 303


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"nonce": "of another login"}, "login_refused"),
        ({"nonce": None}, "login_refused"),
        ({"aud": "another client"}, "id_token_invalid"),
        ({"aud": [US, "another client"]}, "id_token_invalid"),
        ({"azp": "another client"}, "login_refused"),
        ({"iss": "https://accounts.example"}, "id_token_invalid"),
        ({"exp": 1_700_000_000}, "id_token_invalid"),
        ({"sub": None}, "login_refused"),
        ({"sub": "x" * 256}, "login_refused"),
        ({"email_verified": False}, "login_refused"),
        ({"email_verified": "false"}, "login_refused"),
        ({"email_verified": None}, "login_refused"),
        ({"email": None}, "login_refused"),
        ({"email": "ann@example.com@evil.example"}, "login_refused"),
        ({"email": "ann@sub.example.com"}, "login_refused"),
        ({"key": new_key("ES256")}, "id_token_invalid"),
        ({"headers": {"kid": "made-up"}}, "id_token_key_unknown"),
    ],
)
def test_an_answer_that_is_not_for_this_login_is_refused(door: Door, changed: dict[str, Any], code: str) -> None:
    if "sub" in changed:
        door.provider.answers["/userinfo"] = (200, {"sub": str(changed["sub"])})
    assert door.refused(**changed) == (403, code)


def test_what_is_told_of_another_user_is_not_mixed_in(door: Door) -> None:
    door.provider.answers["/userinfo"] = (200, {"sub": "eve-1", "email": "ann@example.com", "email_verified": True})
    assert door.refused() == (403, "login_refused")


@pytest.mark.parametrize(
    ("path", "answer", "expected"),
    [
        ("/token", (400, {"error": "invalid_grant"}), (403, "login_refused")),
        ("/token", (401, {"error": "invalid_client"}), (403, "login_refused")),
        ("/token", (500, b"<html>"), (503, "issuer_unreachable")),
        ("/token", (200, {}), (403, "login_refused")),
        ("/token", (200, b"[" * 100_000), (403, "login_refused")),
        ("/token", (200, {"id_token": 7}), (403, "login_refused")),
        ("/token", (302, {}), (403, "login_refused")),
        ("/userinfo", (500, {}), (503, "issuer_unreachable")),
    ],
)
def test_a_provider_that_breaks_is_told_and_logs_nobody_in(
    door: Door, path: str, answer: tuple[int, Any], expected: tuple[int, str]
) -> None:
    asked, cookie = door.begin()
    text = door.provider.token(US, ANN, nonce=asked["nonce"])
    door.provider.answers["/token"] = (200, {"id_token": text, "access_token": "at"})
    door.provider.answers[path] = answer
    told = door.come_back(asked, cookie)
    assert (told.status_code, told.get_json()["error"]["code"]) == expected
    assert "__Host-wavegate=" not in str(told.headers)


def test_a_login_that_took_longer_than_ten_minutes_is_over(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, cookie = door.begin()
    monkeypatch.setattr("api.operator.routes.datetime", ShiftedClock)
    monkeypatch.setattr(ShiftedClock, "ahead", timedelta(minutes=10))
    told = door.come_back(asked, cookie)
    assert (told.status_code, told.get_json()["error"]["code"]) == (403, "oidc_login_over")


def test_a_newcomer_in_eight_windows_gets_one_account(door: Door) -> None:
    zoe = {"sub": "zoe-1", "email": "zoe@example.com", "email_verified": True}
    wiring = door.wiring
    newcomer = introduce(zoe, admission_of(wiring.settings, makes_accounts=True), issuer=wiring.settings.oidc_issuer)

    def account(_: int) -> str:
        found = account_of(
            newcomer, org="acme", accounts=wiring.accounts, identities=wiring.identities, now=datetime.now(UTC)
        )
        return found.id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(account, range(8)))) == 1


def test_without_a_provider_the_routes_say_so(home: Home) -> None:
    for method, path, body in (
        ("GET", "/auth/oidc", None),
        ("POST", "/auth/oidc/device", {}),
        ("POST", "/auth/oidc/authorize", {"redirect_uri": "http://127.0.0.1:1/callback"}),
    ):
        answer = home.call(method, path, body, token="")
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (404, "oidc_not_configured"), path
