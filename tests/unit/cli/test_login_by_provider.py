"""`publish login --oidc` and `--device`: the command's half, against a server that does as told."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.client import Client
from cli.config import Config
from cli.errors import ApiRefusal, NotLoggedIn
from cli.federated import by_device
from tests.simulators.api_server import ApiServerSimulator, Reply, refusal
from tests.unit.cli.conftest import Publish

USER = {"id": "usr_01", "email": "ann@example.com", "name": "Ann", "role": "admin"}
TOKEN = {"token": "wgl_token", "expires_at": "2999-01-01T00:00:00Z", "user": USER}
DEVICE = {
    "user_code": "ABCD-EFGH",
    "verification_uri": "https://login.example/device",
    "verification_uri_complete": None,
    "interval": 5,
    "handle": "sealed",
    "expires_at": "2999-01-01T00:00:00Z",
}
BEGIN, ASK = ("POST", "/api/v1/auth/oidc/device"), ("POST", "/api/v1/auth/oidc/device/token")
PENDING, SLOWER = refusal(400, "authorization_pending"), refusal(400, "slow_down")


def test_a_code_is_shown_and_asked_about_until_the_person_says_yes(
    publish: Publish, server: ApiServerSimulator, config_dir: Path
) -> None:
    pauses: list[float] = []
    server.on(*BEGIN, Reply(200, DEVICE))
    server.on(*ASK, PENDING, SLOWER, Reply(200, TOKEN))
    told = by_device(Client(server.url, None), sleep=pauses.append)
    assert told == TOKEN
    assert pauses == [5.0, 5.0, 10.0]
    assert [seen.json for seen in server.asked(*ASK)] == [{"handle": "sealed"}] * 3

    server.on(*ASK, Reply(200, TOKEN))
    server.on(*BEGIN, Reply(200, {**DEVICE, "interval": 0}))
    done = publish("login", "--device")
    assert done.code == 0, done.err
    assert "open https://login.example/device in any browser, the code is ABCD-EFGH" in done.err
    assert done.json["user"] == USER
    assert "wgl_token" not in done.out + done.err
    stored = Config(config_dir).login(server.url)
    assert stored is not None
    assert (stored.token, stored.email) == ("wgl_token", "ann@example.com")


def test_a_login_by_device_ends_by_a_no_and_by_itself(server: ApiServerSimulator) -> None:
    server.on(*BEGIN, Reply(200, DEVICE))
    server.on(*ASK, refusal(403, "login_refused", "the provider refuses the login"))
    with pytest.raises(ApiRefusal, match="refuses the login"):
        by_device(Client(server.url, None), sleep=lambda _: None)
    server.on(*ASK, PENDING)
    clock = iter(range(0, 10_000, 200))
    with pytest.raises(NotLoggedIn, match="nobody typed the code in in time"):
        by_device(Client(server.url, None), sleep=lambda _: None, clock=lambda: next(clock))


def test_without_a_terminal_no_browser_is_opened(publish: Publish, server: ApiServerSimulator) -> None:
    done = publish("login", "--oidc")
    assert done.code == 2
    assert "nobody sits here" in done.err
    assert server.requests == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--oidc", "--device"), "--oidc and --device exclude each other"),
        (("--email", "a@b.example", "--device"), "--email and --device exclude each other"),
        (("--password-stdin", "--oidc"), "--password-stdin and --oidc exclude each other"),
        (("--link",), "--link goes with --oidc"),
    ],
)
def test_ways_to_log_in_exclude_each_other(publish: Publish, words: tuple[str, ...], said: str) -> None:
    done = publish("login", *words)
    assert done.code == 2
    assert said in done.err


def test_a_server_without_a_provider_says_so(publish: Publish, server: ApiServerSimulator) -> None:
    server.on(*BEGIN, refusal(404, "oidc_not_configured", "no provider is set up here"))
    done = publish("login", "--device")
    assert (done.code, done.err.splitlines()[0]) == (5, "error: no provider is set up here")
