"""Bad input of every kind gets the error shape, never a 500."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.integration.api.conftest import Home, routes

BODIES: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("null", b"null"),
    ("a list", b"[]"),
    ("a number", b"7"),
    ("text", b'"text"'),
    ("cut short", b'{"name": "x'),
    ("not UTF-8", b'{"name": "\xff\xfe"}'),
    ("UTF-16", '{"name": "x"}'.encode("utf-16")),
    ("deeply nested", b'{"name":' * 20_000 + b"1" + b"}" * 20_000),
    ("nested lists", b'{"name": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
    ("a huge integer", b'{"limit": ' + b"9" * 5000 + b"}"),
    ("infinity", b'{"percent": 1e999}'),
    ("NaN", b'{"percent": NaN}'),
    ("a lone surrogate", b'{"name": "\\ud800", "email": "\\ud800@x", "password": "\\ud800"}'),
    ("NUL", b'{"name": "a\\u0000b", "reason": "a\\u0000b", "email": "a\\u0000@b", "password": "\\u0000"}'),
    ("unknown fields", b'{"surprise": true, "is_admin": true}'),
    ("wrong types", b'{"name": {"a": 1}, "waves": "all", "labels": [1], "reason": 5, "groups": {"a": []}}'),
    ("long text", b'{"name": "' + b"x" * 500_000 + b'", "reason": "' + b"y" * 400_000 + b'"}'),
]
QUERIES = [
    "limit=0",
    "limit=-1",
    "limit=abc",
    "limit=99999999999999999999",
    "cursor=!!!",
    "cursor=" + "A" * 399,
    "cursor=LTE",
    "after_seq=-5",
    "total=maybe",
    "surprise=1",
    "state=nowhere",
    "status=%00",
    "name=%ff%fe",
    "product=%00",
    "group=%00",
    "channel=%00",
    "code=%00",
    "format=xml",
    "sort=%27",
    "after_seq=99999999999999999999999",
    "wave=0",
]
IDS = [
    "%00",
    "%ff",
    "..%2f..%2fetc",
    "a" * 5000,
    "art_" + "0" * 26,
    "%F0%9F%98%80",
    "'; drop table users; --",
    "%0d%0aX: y",
]


def check(answer: Any, told: object) -> None:
    assert answer.status_code < 500, (told, answer.text)
    if answer.status_code >= 400:
        error = answer.get_json()["error"]
        assert set(error) <= {"code", "message", "request_id", "permission", "details"}, told
        assert re.fullmatch(r"[a-z0-9_]+", error["code"]), told
        assert error["request_id"].startswith("req_"), told
        assert error["message"], told


@pytest.fixture
def token(home: Home) -> str:
    return home.admin()


def test_hostile_bodies(home: Home, token: str) -> None:
    for endpoint, method, path in routes(home):
        if method == "GET" or endpoint.endswith(".logout"):
            continue
        for name, body in BODIES:
            answer = home.call(method, path, token=token, data=body, headers={"Content-Type": "application/json"})
            check(answer, (method, path, name))


def test_hostile_queries(home: Home, token: str) -> None:
    for _, method, path in routes(home):
        if method == "GET":
            for query in QUERIES:
                check(home.call("GET", f"{path}?{query}", token=token), (path, query))


def test_hostile_ids(home: Home, token: str) -> None:
    for _, method, path in routes(home):
        if "nothing-here" in path and method != "POST":
            for name in IDS:
                check(home.call(method, path.replace("nothing-here", name), token=token), (method, path, name))


def test_other_media_types_methods_and_paths(home: Home, token: str) -> None:
    form = home.call("POST", "/groups", token=token, data={"name": "x"})
    check(form, "form")
    assert form.status_code == 415
    assert home.call("TRACE", "/groups", token=token).status_code == 405
    missing = home.call("GET", "/no-such-thing", token=token)
    check(missing, "missing")
    assert missing.status_code == 404
    check(home.call("GET", "//groups", token=token), "slashes")


def test_hostile_credentials(home: Home) -> None:
    for header in ("Bearer", "Bearer ", "Basic YTpi", "Bearer wgk_x", f"Bearer {'x' * 100_000}", "Bearer é", "\x7f"):
        answer = home.call("GET", "/artifacts", token="", headers={"Authorization": header})
        check(answer, header[:40])
        assert answer.status_code == 401


def test_the_repository_answers_hostile_names_with_an_empty_404(home: Home) -> None:
    for name in ("..%2fkeys", "%2e%2e/keys", "timestamp.json%00", "9.root.json", "x" * 3000, "lock", ".", "%ff"):
        answer = home.client.get(f"/tuf/acme/metadata/{name}")
        assert answer.status_code == 404, name
        assert answer.data == b""
        assert home.client.get(f"/tuf/acme/targets/{name}").status_code == 404
    assert home.client.get("/tuf/other/metadata/timestamp.json").status_code == 404


def test_a_body_that_is_too_large_is_413(home: Home, token: str) -> None:
    answer = home.call("POST", "/groups", {"name": "x" * 2_000_000}, token=token)
    check(answer, "large")
    assert answer.status_code == 413


def test_a_response_is_never_cached_and_carries_its_request_id(home: Home) -> None:
    answer = home.call("GET", "/artifacts")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Request-Id"].startswith("req_")
    assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"]
    assert answer.headers.getlist("Referrer-Policy") == ["no-referrer"]
    assert answer.headers.getlist("X-Frame-Options") == ["DENY"]


def test_a_read_that_asks_for_a_state_that_is_gone_gets_the_error_shape_and_not_the_resource(home: Home) -> None:
    home.publish(sboms=[home.upload(b'{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}')])
    [artifact] = home.call("GET", "/artifacts").get_json()["items"]
    for path in ("/profile", f"/artifacts/{artifact['id']}", f"/sboms/{artifact['sboms'][0]['id']}"):
        answer = home.call("GET", path, token=home.admin(), headers={"If-Match": '"another"'})
        check(answer, path)
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (412, "precondition_failed"), path
        answer.close()
