"""What a CI job may do with the token it got for its identity, how long, and how often."""

from __future__ import annotations

import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from cli.main import run
from tests.integration.api.conftest import ShiftedClock
from tests.integration.api.trusting import US, Trust, admin, ci_home, issuer, trust
from tests.simulators.oidc_issuer import OidcIssuer

__all__ = ("admin", "ci_home", "issuer", "trust")  # fixtures

SBOM = b'{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"components":[{"type":"library","name":"zlib"}]}'


def test_a_job_publishes_by_its_identity_and_the_log_names_its_claims(trust: Trust, issuer: OidcIssuer) -> None:
    publisher = trust.made(lifetime_minutes=10)
    answer = trust.exchange(issuer.token(US), products=["gateway"])
    assert answer.status_code == 201
    told = answer.get_json()
    assert (told["publisher"], told["products"]) == (publisher, ["gateway"])
    assert told["permissions"] == ["artifacts:publish", "artifacts:read", "sboms:write"]
    left = datetime.fromisoformat(told["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=9) < left <= timedelta(minutes=10)
    published = trust.publish(told["token"], version="1.1.0")
    assert published.status_code == 201, published.text
    assert published.get_json()["publisher"] == {"kind": "service", "id": publisher, "name": "gateway releases"}
    used = trust.events("trusted_publisher.used")[-1]
    assert used["subject"] == publisher
    assert used["data"]["claims"] == {
        "repository": "acme/gateway",
        "repository_id": "74",
        "repository_owner_id": "65",
        "job_workflow_ref": "acme/gateway/.github/workflows/release.yml@refs/tags/v1.0.0",
        "workflow": "Release",
        "ref": "refs/tags/v1.0.0",
        "sha": "a" * 40,
        "environment": "Release",
        "run_id": "4711",
        "actor": "ann",
    }


def test_a_publish_token_does_its_products_and_nothing_else(trust: Trust) -> None:
    trust.made()
    token, home = trust.token(), trust.home
    key = home.call("POST", "/api-keys", {"name": "others"}, token=trust.admin).get_json()["key"]
    other = trust.publish(key, product="pump", version="2.0.0").get_json()
    mine = trust.publish(token, version="2.0.0").get_json()

    def refusal(method: str, path: str, body: object = None, **more: Any) -> tuple[int, str]:
        answer = home.call(method, path, body, token=token, **more)
        return answer.status_code, answer.get_json()["error"]["code"]

    denied = trust.publish(token, product="pump", version="2.0.1")
    assert (denied.status_code, denied.get_json()["error"]["code"]) == (403, "permission_denied")
    assert denied.get_json()["error"]["message"] == "this trusted publisher may publish gateway, not 'pump'"
    upload = home.call("PUT", "/artifacts/content", data=b"x", token=token).get_json()["upload_id"]
    item = {"upload_id": upload, "product": "pump", "version": "3", "platform": "any", "file_name": "a"}
    assert refusal("POST", "/artifacts/batch", {"items": [item], "partial": True}) == (403, "permission_denied")
    assert refusal("POST", "/artifacts/drafts", item) == (403, "permission_denied")
    assert refusal("GET", f"/artifacts/{other['id']}") == (404, "artifact_not_found")
    assert refusal("PUT", f"/artifacts/{other['id']}/sboms", data=SBOM) == (404, "artifact_not_found")
    assert home.call("PUT", f"/artifacts/{mine['id']}/sboms", data=SBOM, token=token).status_code == 201
    listed = home.call("GET", "/artifacts?total=true", token=token).get_json()
    assert {one["product"] for one in listed["items"]} == {"gateway"}
    assert listed["total"] == len(listed["items"])
    assert home.call("GET", "/artifacts?product=pump", token=token).get_json()["items"] == []
    assert refusal("POST", f"/artifacts/{mine['id']}/yank", {"reason": "no"}) == (403, "permission_denied")
    assert refusal("GET", "/rollouts") == (403, "permission_denied")
    assert refusal("GET", "/sboms/sbm_1") == (403, "permission_denied")
    assert refusal("POST", "/api-keys", {"name": "more"}) == (403, "session_required")
    assert refusal("GET", "/trusted-publishers") == (403, "session_required")
    assert refusal("PATCH", "/profile", {"name": "me"}) == (403, "session_required")
    assert refusal("POST", "/auth/logout") == (400, "not_a_session")
    assert home.call("GET", "/auth/me", token=token).get_json()["credential"]["kind"] == "publish_token"


def test_every_route_refuses_a_publish_token_but_those_of_publishing(trust: Trust) -> None:
    trust.made()
    token = trust.token()
    declared = trust.home.app.extensions["wavegate.declarations"]
    allowed = {"artifacts:publish", "artifacts:read", "sboms:write"}
    seen = set()
    for rule in trust.home.app.url_map.iter_rules():
        declaration = declared.get(rule.endpoint)
        if declaration is None or declaration.public or declaration.permission is None:
            continue
        path = rule.rule.removeprefix("/api/v1").replace("<int:n>", "1")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            status = trust.home.call(method, path.replace("<", "").replace(">", ""), {}, token=token).status_code
            assert (status != 403) == (declaration.permission.value in allowed), (method, path, status)
            seen.add(declaration.permission.value)
    assert allowed < seen


def test_an_identity_token_is_good_once_and_of_eight_at_once_one_wins(trust: Trust, issuer: OidcIssuer) -> None:
    trust.made()
    id_token = issuer.token(US)

    def race(_: int) -> int:
        body = {"id_token": id_token}
        return trust.home.app.test_client().post("/api/v1/auth/publish-token", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(race, range(8)))
    assert statuses == [201] + [403] * 7
    assert trust.refused(id_token) == (403, "id_token_spent")
    # Another token with the same jti is the same identity.
    again = issuer.token(US, jti="the-same")
    assert trust.exchange(again).status_code == 201
    assert trust.refused(issuer.token(US, jti="the-same")) == (403, "id_token_spent")


def test_deleting_the_publisher_kills_its_tokens_at_once(trust: Trust) -> None:
    publisher = trust.made()
    token = trust.token()
    assert trust.home.call("GET", "/artifacts", token=token).status_code == 200
    path = f"/trusted-publishers/{publisher}"
    assert trust.home.call("DELETE", path, token=trust.admin).status_code == 204
    assert trust.home.call("GET", "/artifacts", token=token).status_code == 401
    assert trust.home.call("GET", path, token=trust.admin).status_code == 404
    assert trust.home.call("DELETE", path, token=trust.admin).status_code == 404
    assert trust.refused(trust.issuer.token(US)) == (403, "no_trusted_publisher")
    assert trust.events("trusted_publisher.deleted")[-1]["subject"] == publisher


def test_a_publish_token_ends_by_itself_and_only_its_digest_is_stored(
    trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust.made(lifetime_minutes=15)
    token = trust.token()
    monkeypatch.setattr("api.operator.routes.datetime", ShiftedClock)
    monkeypatch.setattr(ShiftedClock, "ahead", timedelta(minutes=14))
    assert trust.home.call("GET", "/artifacts", token=token).status_code == 200
    monkeypatch.setattr(ShiftedClock, "ahead", timedelta(minutes=15))
    assert trust.home.call("GET", "/artifacts", token=token).status_code == 401
    database = Path(trust.home.made.home) / "wavegate.db"
    with sqlite3.connect(database) as connection:
        dump = "\n".join(connection.iterdump())
    assert token not in dump


@pytest.mark.parametrize("minutes", [0, 16])
def test_a_publish_token_lasts_a_quarter_of_an_hour_at_most(trust: Trust, minutes: int) -> None:
    assert trust.create(lifetime_minutes=minutes).get_json()["error"]["code"] == "validation_failed"


def test_a_job_pushes_with_nothing_but_what_its_ci_system_gives_it(
    trust: Trust,
    issuer: OidcIssuer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "gateway.bin"
    file.write_bytes(b"built by a job")
    for name in ("WAVEGATE_API_KEY", "WAVEGATE_API_KEY_FILE", "WAVEGATE_ID_TOKEN", "GITHUB_OUTPUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WAVEGATE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{issuer.url}/job?api-version=2.0")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-this-job")
    server = make_server("127.0.0.1", 0, trust.home.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.port}"
        trust.made(audience=url)
        push = ("push", str(file), "--version", "7.0.0", "--url", url, "--product")
        assert run([*push, "gateway"]) == 0
        assert json.loads(capsys.readouterr().out)["target_path"] == "gateway/7.0.0/any/gateway.bin"
        assert run([*push, "pump"]) == 3
        assert "no trusted publisher matches this identity and may publish pump" in capsys.readouterr().err
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
