"""``If-Match`` on every PATCH and DELETE, bodies with a bound, ids of requests, and nothing that a cache keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from werkzeug.test import TestResponse

from api.app import create_app
from tests.integration.api.conftest import Home, made_home

# Of those with an ETag that can be read: how one is made, where it stands, and a change that would be taken.
TAGGED: dict[str, tuple[str, dict[str, object], str, dict[str, object]]] = {
    "PATCH /groups/{id}": ("/groups", {"name": "a"}, "/groups/{}", {"description": "d"}),
    "DELETE /groups/{id}": ("/groups", {"name": "b"}, "/groups/{}", {}),
    "PATCH /webhooks/{id}": ("/webhooks", {"url": "https://example.com/1"}, "/webhooks/{}", {"description": "d"}),
    "DELETE /webhooks/{id}": ("/webhooks", {"url": "https://example.com/2"}, "/webhooks/{}", {}),
    "DELETE /trusted-publishers/{id}": (
        "/trusted-publishers",
        {"name": "ci", "provider": "gitlab", "products": ["fw"], "claims": {"namespace_id": "1", "project_id": "2"}},
        "/trusted-publishers/{}",
        {},
    ),
    "PATCH /users/{id}": (
        "/users",
        {"email": "x@example.com", "name": "X", "role": "viewer"},
        "/users/{}",
        {"name": "Y"},
    ),
    "PATCH /rollouts/{id}": (
        "/rollouts",
        {"product": "fw", "version": "1.0.0", "waves": [{"group": "all"}], "draft": True},
        "/rollouts/{}",
        {"product": "fw", "version": "1.0.0", "waves": [{"group": "all", "percent": 50}]},
    ),
    "PATCH /artifacts/{id}": ("", {}, "/artifacts/{}", {"notes": "n"}),
    "PATCH /devices/{id}/labels": ("/enroll", {}, "/devices/{}/labels", {"labels": {"site": "oslo"}}),
    "DELETE /devices/{id}": ("/enroll", {}, "/devices/{}", {}),
    "DELETE /logs/{id}": ("", {}, "", {}),  # whose making is tried in test_device_logs
    "PATCH /profile": ("", {}, "/profile", {"name": "Ada"}),
    "DELETE /repository/drafts/{id}": ("", {}, "", {}),  # whose making is tried in test_drafts
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with made_home(tmp_path_factory.mktemp("preconditions")) as home:
        home.publish()
        home.call("POST", "/groups", {"name": "all"})
        yield home


def operations(home: Home) -> dict[str, str]:
    """Every operation below /api/v1, such as ``GET /groups/{id}``, and its endpoint."""
    found = {}
    for rule in home.app.url_map.iter_rules():
        if rule.rule.startswith("/api/v1/"):
            path = re.sub(r"<(?:[a-z]+:)?([a-z]+)>", r"{\1}", rule.rule).removeprefix("/api/v1")
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                found[f"{method} {path}"] = rule.endpoint
    return found


def made(home: Home, admin: str, operation: str) -> str:
    where, body, _, _ = TAGGED[operation]
    if where == "/enroll":
        from tests.simulators.devices import new_key, request_for

        token = home.call("POST", "/enroll-tokens", {"name": "t"}, token=admin).get_json()["token"]
        asked = request_for(new_key()).decode()
        device = {"name": f"press-{operation[:5].lower()}", "platform": "linux"}
        body = {"token": token, "certificate_request": asked, **device}
        let_in = home.call("POST", "/enroll", body, token="")
        assert let_in.status_code == 201, let_in.text
        return str(let_in.get_json()["device_id"])
    if where:
        return str(home.call("POST", where, body, token=admin).get_json()["id"])
    return str(home.call("GET", "/artifacts").get_json()["items"][0]["id"])


def read(home: Home, admin: str, path: str) -> TestResponse:
    """What has the tag."""
    return home.call("GET", path, token=admin)


def test_every_patch_and_delete_with_a_tag_to_read_is_tried_here(shared: Home) -> None:
    declared = shared.app.extensions["wavegate.declarations"]
    assert {name for name, endpoint in operations(shared).items() if declared[endpoint].tagged} == set(TAGGED)
    read = {name.removeprefix("GET ") for name in operations(shared) if name.startswith("GET ")}
    for name, endpoint in operations(shared).items():
        method, _, path = name.partition(" ")
        if method in {"PATCH", "DELETE"} and path in read and not declared[endpoint].raw_body:
            assert declared[endpoint].tagged, name


@pytest.mark.parametrize("operation", [name for name, told in TAGGED.items() if told[2]])
def test_a_write_happens_to_what_was_read_and_to_nothing_else(shared: Home, operation: str) -> None:
    admin = shared.admin()
    _, _, path, body = TAGGED[operation]
    path, method = path.format(made(shared, admin, operation)), operation.partition(" ")[0]
    read_at = path.removesuffix("/labels")
    tag = read(shared, admin, read_at).headers["ETag"]

    def write(tag: str) -> int:
        return shared.call(method, path, body or None, token=admin, headers={"If-Match": tag}).status_code

    assert write('"of-something-else"') == 412
    assert write(f"W/{tag}") == 412
    assert read(shared, admin, read_at).headers["ETag"] == tag
    assert write(f'"other", {tag}') in {200, 204}
    if method == "PATCH":
        assert write(tag) == 412
        assert write("*") == 200
    else:
        assert shared.call("GET", read_at, token=admin).status_code == 404


def test_what_has_no_tag_takes_a_star_only_and_where_it_is_required_none_is_refused(shared: Home) -> None:
    admin, declared = shared.admin(), shared.app.extensions["wavegate.declarations"]
    settings = replace(shared.wiring.settings, require_if_match=True)
    app = create_app(replace(shared.wiring, settings=settings))
    strict = replace(shared, app=app, client=app.test_client())
    for name, endpoint in operations(shared).items():
        method, _, path = name.partition(" ")
        if method not in {"PATCH", "DELETE"} or declared[endpoint].raw_body:
            continue
        path = re.sub(r"\{[a-z]+\}", "nothing-here", path)
        missing = strict.call(method, path, {}, token=admin)
        assert (missing.status_code, missing.get_json()["error"]["code"]) == (428, "precondition_required"), name
        if not declared[endpoint].tagged:
            wrong = shared.call(method, path, {}, token=admin, headers={"If-Match": '"x"'})
            assert (wrong.status_code, wrong.get_json()["error"]["code"]) == (412, "precondition_failed"), name
        assert strict.call(method, path, {}, token=admin, headers={"If-Match": "*"}).status_code in {200, 204, 400, 404}


def test_every_body_that_is_no_upload_has_a_bound(shared: Home) -> None:
    admin, declared = shared.admin(), shared.app.extensions["wavegate.declarations"]
    app = create_app(replace(shared.wiring, settings=replace(shared.wiring.settings, max_body_bytes=1024)))
    small = replace(shared, app=app, client=app.test_client())
    tried = 0
    for name, endpoint in operations(shared).items():
        method, _, path = name.partition(" ")
        told = declared[endpoint]
        if method in {"GET", "DELETE"} or told.raw_body or told.body_limit or path == "/auth/logout":
            continue
        path = re.sub(r"\{[a-z]+\}", "1", path)
        large = b'{"x":"' + b"y" * 1024 + b'"}'
        answer = small.call(method, path, token=admin, data=large, content_type="application/json")
        if answer.status_code != 413:  # what takes no body reads none
            assert answer.status_code in {200, 201, 204, 400, 404, 409}, (name, answer.text)
            assert app.view_functions[endpoint].__annotations__.get("body") is None, name
            continue
        assert answer.get_json()["error"]["code"] == "body_too_large"
        tried += 1
    assert tried >= 40


def test_no_cache_keeps_what_the_api_says_and_everything_says_how_long_it_lasts(shared: Home) -> None:
    admin = shared.admin()
    for rule in shared.app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            path = re.sub(r"<[^>]+>", "1", rule.rule)
            if path.startswith("/tuf/") or rule.endpoint == "accounts.logout":
                continue
            answer = shared.client.open(path, method=method, headers={"Authorization": f"Bearer {admin}"})
            kept = answer.headers["Cache-Control"]
            if path.startswith("/api/"):
                assert kept == "no-store", (method, path)
            assert kept == "no-store" or path.startswith(("/docs", "/openapi", "/metrics")), (method, path)
    assert shared.client.get("/nothing-here").headers["Cache-Control"] == "no-cache"
    assert shared.client.get("/api/v1/nothing-here").headers["Cache-Control"] == "no-store"


def test_the_id_of_a_request_is_ours_unless_a_trusted_proxy_tells_one(shared: Home) -> None:
    told = {"X-Request-Id": "edge-7f3a.91_c"}
    ours = shared.call("GET", "/artifacts/none", headers=told)
    assert re.fullmatch(r"req_[0-9A-HJKMNP-TV-Z]{26}", ours.headers["X-Request-Id"])
    assert ours.get_json()["error"]["request_id"] == ours.headers["X-Request-Id"]
    settings = replace(shared.wiring.settings, trusted_proxies=(IPv4Network("127.0.0.1/32"),))
    app = create_app(replace(shared.wiring, settings=settings))
    behind = replace(shared, app=app, client=app.test_client())
    theirs = behind.call("GET", "/artifacts/none", headers=told)
    assert theirs.headers["X-Request-Id"] == "edge-7f3a.91_c"
    assert theirs.get_json()["error"]["request_id"] == "edge-7f3a.91_c"
    for odd in ("short", "x" * 65, "new\tline1", "ünïcödé-id"):
        again = behind.call("GET", "/artifacts/none", headers={"X-Request-Id": odd.encode().decode("latin-1")})
        assert again.headers["X-Request-Id"].startswith("req_"), odd
