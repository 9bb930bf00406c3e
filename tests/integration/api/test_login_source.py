"""Where a login comes from: failures are counted for the caller's address, which nobody writes for themselves."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from api.app import create_app
from api.auth.source import source_of
from api.settings import InvalidSettings, read_settings
from tests.integration.api.conftest import Home

TRUSTED = (IPv4Network("127.0.0.1/32"), IPv4Network("10.0.0.0/8"), IPv6Network("fd00::/8"))


def source(peer: str, *forwarded: str) -> str:
    builder = EnvironBuilder(
        headers=[("X-Forwarded-For", one) for one in forwarded], environ_base={"REMOTE_ADDR": peer}
    )
    return source_of(Request(builder.get_environ()), TRUSTED)


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        ("203.0.113.9", ("198.51.100.1",), "203.0.113.9"),  # no proxy of ours: whatever it says
        ("127.0.0.1", (), "127.0.0.1"),
        ("127.0.0.1", ("203.0.113.9",), "203.0.113.9"),
        ("127.0.0.1", ("198.51.100.1, 203.0.113.9",), "203.0.113.9"),  # the left one the caller wrote
        ("127.0.0.1", ("198.51.100.1", "203.0.113.9"), "203.0.113.9"),  # in a header of its own, too
        ("127.0.0.1", ("127.0.0.1, 10.0.0.1, 203.0.113.9, 10.2.3.4",), "203.0.113.9"),
        ("127.0.0.1", ("203.0.113.9:4711",), "203.0.113.9"),
        ("127.0.0.1", ("unknown",), "127.0.0.1"),
        ("127.0.0.1", ("203.0.113.9, <script>",), "127.0.0.1"),
        ("127.0.0.1", ("10.1.1.1, 10.1.1.2",), "10.1.1.1"),
        ("::ffff:127.0.0.1", ("203.0.113.9",), "203.0.113.9"),
        ("fd00::1", ("2001:db8:1:2:3:4:5:6",), "2001:db8:1:2::/64"),
        ("127.0.0.1", ("[2001:db8:1:2::77]:443",), "2001:db8:1:2::/64"),
        ("", ("203.0.113.9",), ""),
    ],
)
def test_the_source_is_the_last_address_that_no_trusted_proxy_has(
    peer: str, forwarded: tuple[str, ...], expected: str
) -> None:
    assert source(peer, *forwarded) == expected


def test_a_header_of_thousands_of_addresses_is_not_walked_through() -> None:
    assert source("127.0.0.1", ",".join(["203.0.113.9", *["10.0.0.1"] * 5000])) == "10.0.0.1"


def guess(home: Home, number: int, forwarded: str) -> int:
    body = {"email": f"nobody-{number}@example.com", "password": "guess"}
    headers = {"X-Forwarded-For": forwarded}
    return home.app.test_client().post("/api/v1/auth/token", json=body, headers=headers).status_code


def test_a_made_up_address_does_not_escape_the_count_nor_fall_upon_somebody_else(home: Home) -> None:
    settings = replace(home.wiring.settings, trusted_proxies=(IPv4Network("127.0.0.0/8"),))
    proxied = replace(home, app=create_app(replace(home.wiring, settings=settings)))
    statuses = [guess(proxied, number, f"192.0.2.{number}, 203.0.113.9") for number in range(101)]
    assert statuses == [401] * 100 + [429]
    assert guess(proxied, 1, "203.0.113.10") == 401  # behind the same proxy
    assert guess(proxied, 1, "192.0.2.1, 203.0.113.9") == 429
    # Without the setting the header counts for nothing: the proxy is one source.
    assert guess(home, 1, "203.0.113.9") == 401


def test_the_setting_takes_addresses_and_networks_and_nothing_else() -> None:
    assert read_settings({}).trusted_proxies == ()
    read = read_settings({"WAVEGATE_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8,fd00::/8"})
    assert read.trusted_proxies == TRUSTED
    for wrong in ("proxy.example", "10.0.0.1/8", "10.0.0.0/33"):
        with pytest.raises(InvalidSettings, match=r"trusted_proxies: .*expected addresses or networks"):
            read_settings({"WAVEGATE_TRUSTED_PROXIES": wrong})


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_no_other_site_logs_a_browser_in(home: Home, site: str) -> None:
    body = {"email": home.made.admin_email, "password": home.made.admin_password}
    for headers in ({"Sec-Fetch-Site": site}, {"Origin": "https://evil.example"}, {"Origin": "null"}):
        refused = home.call("POST", "/auth/login", body, token="", headers=headers)
        assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "cross_site_request")
        assert "Set-Cookie" not in refused.headers
    assert (
        home.call("POST", "/auth/login", body, token="", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    )


def test_a_one_time_password_is_a_mark_unless_a_change_is_required(home: Home) -> None:
    assert home.call("GET", "/users", token=home.admin()).status_code == 200
    settings = replace(home.wiring.settings, require_password_change=True)
    strict = replace(home, app=(app := create_app(replace(home.wiring, settings=settings))), client=app.test_client())
    token = strict.admin()
    for method, path in (("GET", "/users"), ("GET", "/artifacts"), ("POST", "/profile/second-factor")):
        refused = strict.call(method, path, token=token)
        assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "password_change_required")
    assert strict.call("GET", "/auth/me", token=token).status_code == 200
    assert strict.call("GET", "/artifacts").status_code == 200  # the API key of automation
    change = {"password": "a better long password", "current_password": home.made.admin_password}
    assert strict.call("PATCH", "/profile", change, token=token).status_code == 200
    assert strict.call("GET", "/users", token=token).status_code == 200
