"""``Idempotency-Key``: one effect and one answer, whoever races, whichever server is asked, whatever stops."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from werkzeug.test import TestResponse

from api.app import create_app
from api.wiring import open_wavegate
from store.idempotency import Answer, Claim, IdempotencyKeys, Request
from tests.integration.api.conftest import Home, made_home
from tests.simulators.devices import new_key, request_for


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    more = {}
    if request.param == "postgresql":
        more["WAVEGATE_DATABASE_URL"] = request.getfixturevalue("empty_postgresql_url")
    with made_home(tmp_path, **more) as home:
        yield home


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with made_home(tmp_path_factory.mktemp("idempotency")) as home:
        yield home


def race(site: Home, path: str, body: dict[str, Any]) -> list[TestResponse]:
    """The same request eight times at once, to two servers of one home in turn."""
    other = open_wavegate(site.wiring.settings)
    apps = [site.app, create_app(other)]
    start = threading.Barrier(8)

    def post(number: int) -> TestResponse:
        client = apps[number % 2].test_client()
        headers = {"Authorization": f"Bearer {site.made.api_key}", "Idempotency-Key": path}
        start.wait(10)
        return client.post(f"/api/v1{path}", json=body, headers=headers)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(8)))
    other.close()
    return answers


def test_of_eight_racers_at_two_servers_one_has_an_effect_and_all_have_one_answer(site: Home) -> None:
    release = {"upload_id": site.upload(b"raced"), "product": "fw", "version": "9", "file_name": "fw.bin"}
    for path, body in (("/groups", {"name": "canary"}), ("/artifacts", release)):
        answers = race(site, path, body)
        told = {(one.status_code, one.data, one.headers["ETag"], one.headers["Content-Type"]) for one in answers}
        assert len(told) == 1, told
        assert answers[0].status_code == 201
        replayed = sorted(one.headers.get("Idempotency-Replayed", "first") for one in answers)
        assert replayed == ["first", *["true"] * 7]
        assert site.call("GET", f"{path}?total=true").get_json()["total"] == 1
    events = [one["tag"] for one in site.call("GET", "/audit/events?limit=200", token=site.admin()).get_json()["items"]]
    assert (events.count("group.created"), events.count("artifact.published")) == (1, 1)


class PulledPlug(BaseException):
    """The process ends here."""


def pull_the_plug(*_: object) -> bool:
    raise PulledPlug


def test_a_server_that_stops_between_effect_and_answer_leaves_an_unknown_outcome_and_one_effect(
    site: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, body, headers = site.admin(), {"url": "https://example.com/hook"}, {"Idempotency-Key": "crash"}
    with monkeypatch.context() as patch:
        patch.setattr(IdempotencyKeys, "finish", pull_the_plug)
        with pytest.raises(PulledPlug):
            site.call("POST", "/webhooks", body, token=admin, headers=headers)
    with site.wiring.db.write() as connection:
        begun = datetime.now(UTC) - timedelta(minutes=2, seconds=1)
        shown = f"{begun:%Y-%m-%d %H:%M:%S.%f}" if site.wiring.db.is_sqlite else begun.isoformat()
        connection.execute(text("UPDATE idempotency_keys SET claimed_at = :begun"), {"begun": shown})
    again = site.call("POST", "/webhooks", body, token=admin, headers=headers)
    assert (again.status_code, again.get_json()["error"]["code"]) == (409, "idempotency_outcome_unknown")
    assert site.call("GET", "/webhooks?total=true", token=admin).get_json()["total"] == 1


def posts(home: Home) -> list[tuple[str, str]]:
    """Every POST as (endpoint, path with nothing in its places)."""
    return [
        (rule.endpoint, re.sub(r"<[^>]+>", "1", rule.rule))
        for rule in home.app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/") and "POST" in (rule.methods or ())
    ]


def test_every_post_that_has_an_account_behind_it_takes_a_key_and_of_the_others_none_that_hands_out_a_secret(
    shared: Home,
) -> None:
    declared = shared.app.extensions["wavegate.declarations"]
    for endpoint, _ in posts(shared):
        assert declared[endpoint].once or declared[endpoint].public, endpoint
    assert declared["devices.enroll_device"].once
    assert not declared["accounts.create_login_token"].once
    assert not any(one.once for endpoint, one in declared.items() if endpoint not in dict(posts(shared)))


def test_every_post_with_a_key_replays_its_answer_refuses_another_body_and_a_key_that_is_none(shared: Home) -> None:
    declared = shared.app.extensions["wavegate.declarations"]
    admin = shared.admin()
    user = shared.call("GET", "/auth/me", token=admin).get_json()["user"]["id"]
    now = datetime.now(UTC)
    asked = [(endpoint, path) for endpoint, path in posts(shared) if declared[endpoint].once]
    assert len(asked) >= 50
    for endpoint, path in asked:
        told = Answer(status=201, body=b'{"of":"yesterday"}')
        body = b'{"n":1}'
        claim = shared.wiring.idempotency.claim(
            Request(
                org="acme",
                actor="-" if declared[endpoint].public else user,
                key=path,
                route=f"POST {path}",
                body_sha256=hashlib.sha256(body).hexdigest(),
            ),
            now=now,
        )
        assert isinstance(claim, Claim)
        shared.wiring.idempotency.finish(claim, told)

        def post(body: bytes, key: str, path: str = path) -> TestResponse:
            headers = {"Idempotency-Key": key}
            path = path.removeprefix("/api/v1")
            return shared.call("POST", path, token=admin, data=body, headers=headers, content_type="application/json")

        again = post(body, path)
        assert (again.status_code, again.data) == (201, told.body), path
        assert again.headers["Idempotency-Replayed"] == "true"
        other = post(b'{"n":2}', path)
        assert (other.status_code, other.get_json()["error"]["code"]) == (422, "idempotency_key_reused"), path
        for none in ("", "k" * 201, "ключ".encode().decode("latin-1")):
            refused = post(body, none)
            assert refused.get_json()["error"]["code"] == "invalid_idempotency_key", (path, none)


def test_a_device_that_lost_its_answer_gets_the_same_certificate_again_for_the_same_request(shared: Home) -> None:
    token = shared.call("POST", "/enroll-tokens", {"name": "lab"}, token=shared.admin()).get_json()["token"]
    body = {
        "token": token,
        "certificate_request": request_for(new_key()).decode(),
        "name": "pump-7",
        "platform": "linux",
    }
    headers = {"Idempotency-Key": "first-boot"}
    first, again = [shared.call("POST", "/enroll", body, token="", headers=headers) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.data == first.data
    assert again.headers["Idempotency-Replayed"] == "true"
    stolen = {**body, "certificate_request": request_for(new_key()).decode()}
    assert shared.call("POST", "/enroll", stolen, token="", headers=headers).status_code == 422
    assert shared.call("POST", "/enroll", body, token="").status_code == 403


def test_a_refusal_leaves_the_key_unused(shared: Home) -> None:
    headers = {"Idempotency-Key": "refused-first"}
    body = {"name": "once-more"}
    shared.call("POST", "/groups", body)
    refused = shared.call("POST", "/groups", body, headers=headers)
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (409, "group_exists")
    group = next(one for one in shared.call("GET", "/groups").get_json()["items"] if one["name"] == "once-more")
    assert shared.call("DELETE", f"/groups/{group['id']}").status_code == 204
    made = shared.call("POST", "/groups", body, headers=headers)
    assert (made.status_code, "Idempotency-Replayed" in made.headers) == (201, False)


def test_after_a_day_a_key_is_new_again(shared: Home) -> None:
    headers = {"Idempotency-Key": "daily"}
    assert shared.call("POST", "/groups", {"name": "monday"}, headers=headers).status_code == 201
    shared.wiring.idempotency.forget(now=datetime.now(UTC) + timedelta(days=1, seconds=1))
    assert shared.call("POST", "/groups", {"name": "tuesday"}, headers=headers).status_code == 201
