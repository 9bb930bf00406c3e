"""CI jobs that publish by their own identity: who is trusted, for what, how long, and how often."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

import api.auth.issuers
from api.app import create_app
from api.settings import read_settings
from api.setup import initialise
from api.wiring import open_wavegate
from tests.integration.api.conftest import Home, ShiftedClock
from tests.simulators.hostile_urls import HOSTILE
from tests.simulators.oidc_issuer import GITHUB_JOB, GITLAB_JOB, OidcIssuer, new_key, oidc_issuer

US = "http://127.0.0.1:8080"  # the default of public_url
GITHUB = {"repository_id": "74", "repository_owner_id": "65", "workflow": "release.yml", "environment": "release"}
SBOM = b'{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"components":[{"type":"library","name":"zlib"}]}'


@pytest.fixture(scope="module")
def ci_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose operator allows issuers on loopback, without TLS."""
    folder = tmp_path_factory.mktemp("ci") / "home"
    environ = {
        "WAVEGATE_HOME": str(folder),
        "WAVEGATE_PASSWORD_MEMORY_KIB": "8192",
        "WAVEGATE_OIDC_ALLOW": "127.0.0.1",
    }
    settings = read_settings(environ)
    made = initialise(settings, org="acme", admin="admin@example.com", now=datetime.now(UTC))
    wiring = open_wavegate(settings)
    app = create_app(wiring)
    yield Home(made, wiring, app, app.test_client())
    wiring.close()


@pytest.fixture(scope="module")
def admin(ci_home: Home) -> str:
    return ci_home.admin()


@pytest.fixture
def issuer() -> Iterator[OidcIssuer]:
    """An issuer of each test's own, so that each starts with publishers that nobody else has."""
    with oidc_issuer("ES256") as started:
        yield started


class Trust:
    """Makes publishers of an issuer and exchanges its tokens."""

    def __init__(self, home: Home, admin: str, issuer: OidcIssuer) -> None:
        self.home, self.admin, self.issuer = home, admin, issuer

    def create(self, **changed: Any) -> TestResponse:
        body = {
            "name": "gateway releases",
            "provider": "github",
            "issuer": self.issuer.url,
            "claims": GITHUB,
            "products": ["gateway"],
            **changed,
        }
        return self.home.call("POST", "/trusted-publishers", body, token=self.admin)

    def made(self, **changed: Any) -> str:
        answer = self.create(**changed)
        assert answer.status_code == 201, answer.text
        made: str = answer.get_json()["id"]
        return made

    def exchange(self, id_token: str, **more: Any) -> TestResponse:
        return self.home.call("POST", "/auth/publish-token", {"id_token": id_token, **more}, token="")

    def refused(self, id_token: str, **more: Any) -> tuple[int, str]:
        answer = self.exchange(id_token, **more)
        return answer.status_code, answer.get_json()["error"]["code"]

    def token(self, **changed: Any) -> str:
        answer = self.exchange(self.issuer.token(US, **changed))
        assert answer.status_code == 201, answer.text
        text: str = answer.get_json()["token"]
        return text

    def publish(self, token: str, product: str = "gateway", version: str = "1.0.0", **more: Any) -> TestResponse:
        staged = self.home.call("PUT", "/artifacts/content", data=f"{product} {version}".encode(), token=token)
        assert staged.status_code == 201, staged.text
        body = {"upload_id": staged.get_json()["upload_id"], "product": product, "version": version}
        return self.home.call(
            "POST", "/artifacts", {**body, "platform": "any", "file_name": "fw.bin", **more}, token=token
        )

    def events(self, tag: str) -> list[dict[str, Any]]:
        found = self.home.call("GET", "/audit/events?limit=200&tag=" + tag, token=self.admin).get_json()["items"]
        return [one for one in found if one["tag"] == tag]


@pytest.fixture
def trust(ci_home: Home, admin: str, issuer: OidcIssuer) -> Trust:
    return Trust(ci_home, admin, issuer)


def test_a_job_publishes_by_its_identity_and_the_log_names_its_claims(trust: Trust, issuer: OidcIssuer) -> None:
    publisher = trust.made(lifetime_minutes=10)
    answer = trust.exchange(issuer.token(US), product="gateway")
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


@pytest.mark.parametrize(
    "changed",
    [
        {"repository_id": "75"},  # the name was given up, and somebody registered it anew
        {"repository_owner_id": "66"},  # likewise the owner's
        {"repository_id": None},
        {"job_workflow_ref": "acme/gateway/.github/workflows/test.yml@refs/tags/v1.0.0"},
        {"job_workflow_ref": "evil/shared/.github/workflows/release.yml@refs/tags/v1.0.0"},
        {"job_workflow_ref": "acme/gateway/.github/workflows/release.yml@refs/heads/other"},
        {"job_workflow_ref": "acme/gateway/.github/workflows/../x/release.yml@refs/tags/v1.0.0"},
        {"job_workflow_ref": None},
        {"environment": None},
        {"environment": "staging"},
        {"repository_id": 74.0},
        {"repository_id": ["74"]},
    ],
)
def test_a_job_that_is_not_quite_the_one_trusted_is_refused(
    trust: Trust, issuer: OidcIssuer, changed: dict[str, Any]
) -> None:
    trust.made()
    assert trust.refused(issuer.token(US, **changed)) == (403, "no_trusted_publisher")


def test_a_refusal_tells_a_job_its_own_claims_and_nothing_of_ours(trust: Trust, issuer: OidcIssuer) -> None:
    trust.made()
    answer = trust.exchange(issuer.token(US, repository="evil/gateway", repository_id="75"))
    message = answer.get_json()["error"]["message"]
    assert "repository=evil/gateway" in message
    assert "release.yml" not in message.replace(str(GITHUB_JOB["job_workflow_ref"]), "")
    assert "gateway releases" not in message


def test_a_renamed_repository_stays_the_same(trust: Trust, issuer: OidcIssuer) -> None:
    trust.made()
    moved = {
        "repository": "acme/new-name",
        "job_workflow_ref": "acme/new-name/.github/workflows/release.yml@" + "a" * 40,
    }
    assert trust.exchange(issuer.token(US, **moved)).status_code == 201


def test_gitlab_and_any_other_issuer(trust: Trust, issuer: OidcIssuer) -> None:
    trust.made(provider="gitlab", claims={"project_id": "22", "namespace_id": "72", "ref": "main"})
    assert trust.exchange(issuer.token(US, GITLAB_JOB)).status_code == 201
    for changed in ({"project_id": "23"}, {"namespace_id": "73"}, {"ref": "feature"}):
        assert trust.refused(issuer.token(US, GITLAB_JOB, **changed)) == (403, "no_trusted_publisher")
    trust.made(provider="generic", claims={"team": "firmware", "protected": "true"})
    assert trust.exchange(issuer.token(US, {"team": "firmware", "protected": True})).status_code == 201
    assert trust.refused(issuer.token(US, {"team": "firmware", "protected": False})) == (403, "no_trusted_publisher")


def test_of_several_publishers_the_one_for_the_product_is_taken_else_the_one_that_asks_most(
    trust: Trust, issuer: OidcIssuer
) -> None:
    loose = {name: GITHUB[name] for name in ("repository_id", "repository_owner_id", "workflow")}
    pump = trust.made(claims=loose, products=["pump"])
    gateway = trust.made()
    assert trust.exchange(issuer.token(US), product="pump").get_json()["publisher"] == pump
    assert trust.exchange(issuer.token(US)).get_json()["publisher"] == gateway
    assert trust.refused(issuer.token(US), product="lamp") == (403, "no_trusted_publisher")


def test_each_publisher_has_its_audience(trust: Trust, issuer: OidcIssuer) -> None:
    own = trust.made(audience="wavegate-acme")
    assert trust.exchange(issuer.token("wavegate-acme")).get_json()["publisher"] == own
    assert trust.refused(issuer.token(US)) == (403, "id_token_invalid")
    trust.made()
    assert trust.exchange(issuer.token(US)).status_code == 201
    assert trust.refused(issuer.token("https://elsewhere.example")) == (403, "id_token_invalid")


def test_tokens_that_are_forged_late_or_enormous_are_refused(trust: Trust, issuer: OidcIssuer) -> None:
    trust.made()
    assert trust.refused(issuer.token(US, key=new_key("ES256"))) == (403, "id_token_invalid")
    assert trust.refused(issuer.token(US, exp=1_700_000_000)) == (403, "id_token_invalid")
    assert trust.refused("no token") == (403, "id_token_invalid")
    assert trust.refused("A" * 16_385) == (400, "validation_failed")
    assert trust.refused(issuer.token(US, iss="https://foreign.example")) == (403, "no_trusted_publisher")


def test_an_issuer_nobody_trusts_is_not_even_asked(trust: Trust, issuer: OidcIssuer) -> None:
    assert trust.refused(issuer.token(US)) == (403, "no_trusted_publisher")
    assert issuer.asked == []


def test_new_keys_of_the_issuer_count_and_old_ones_no_more(
    trust: Trust, issuer: OidcIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust.made()
    old = issuer.token(US)
    assert trust.exchange(issuer.token(US)).status_code == 201
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    issuer.rotate("RS256", "second")
    new = issuer.token(US, headers={"kid": "second"})
    # Asked a moment ago: whoever makes up keys must not make us ask again and again.
    assert trust.refused(new) == (403, "id_token_key_unknown")
    assert len(issuer.asked) == 2
    monkeypatch.setattr(api.auth.issuers, "_AGAIN_AFTER_SECONDS", 0.0)
    assert trust.exchange(new).status_code == 201
    assert len(issuer.asked) == 4
    assert trust.refused(old) == (403, "id_token_key_unknown")


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://token.actions.githubusercontent.com"},
        {"jwks_uri": None},
        {"jwks_uri": "http://127.0.0.1:1/keys"},
        {"jwks_uri": "http://169.254.169.254/latest/meta-data"},
        {"jwks_uri": "http://localhost/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "https://10.0.0.1/keys"},
    ],
)
def test_an_issuer_that_lies_about_itself_or_leads_inside_is_unreachable(
    trust: Trust, issuer: OidcIssuer, document: dict[str, Any]
) -> None:
    trust.made()
    issuer.document = document
    answer = trust.exchange(issuer.token(US))
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "issuer_unreachable")
    assert answer.headers["Retry-After"] == "5"


def test_no_publisher_is_made_whose_issuer_the_server_must_not_ask(home: Home) -> None:
    admin = home.admin()
    body = {"name": "x", "provider": "generic", "claims": {"sub": "x"}, "products": ["gateway"]}
    for url in HOSTILE:
        answer = home.call("POST", "/trusted-publishers", {**body, "issuer": url}, token=admin)
        assert answer.status_code == 400, url
    told = home.call("POST", "/trusted-publishers", {**body, "issuer": "https://ci.internal"}, token=admin)
    assert "the server's operator can allow it with `oidc_allow`" in told.get_json()["error"]["message"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"claims": {**GITHUB, "repository_id": "acme/gateway"}}, "expected the number, not the name"),
        ({"claims": {"repository": "acme/gateway"}}, "repository_id, repository_owner_id, workflow"),
        ({"claims": {**GITHUB, "workflow": "../release.yml"}}, "a file in .github/workflows"),
        ({"claims": {**GITHUB, "aud": "x"}}, "'aud' is no claim that tells jobs apart"),
        ({"claims": {**GITHUB, "ref": ""}}, "the claim ref has to have 1 to 500 characters"),
        ({"provider": "gitlab", "claims": {"project_path": "acme/gateway"}}, "project_id, namespace_id"),
        ({"provider": "generic", "claims": {}}, "0 claims are named"),
        ({"provider": "generic", "issuer": None, "claims": {"sub": "x"}}, "has to name its issuer"),
        ({"products": ["Gate Way"]}, "product"),
        ({"products": ["decisions"]}, "reserved"),
        ({"audience": " "}, "the audience has to have"),
    ],
)
def test_what_would_trust_too_much_or_cannot_be_is_refused(trust: Trust, changed: dict[str, Any], said: str) -> None:
    answer = trust.create(**changed)
    assert answer.status_code == 400
    assert answer.get_json()["error"]["code"] == "invalid_trusted_publisher"
    assert said in answer.get_json()["error"]["message"]


@pytest.mark.parametrize("minutes", [0, 16])
def test_a_publish_token_lasts_a_quarter_of_an_hour_at_most(trust: Trust, minutes: int) -> None:
    assert trust.create(lifetime_minutes=minutes).get_json()["error"]["code"] == "validation_failed"


def test_publishers_are_listed_oldest_first_in_pages(trust: Trust) -> None:
    made = [trust.made(name=f"publisher {number}") for number in range(3)]
    home, admin = trust.home, trust.admin
    ids, cursor = [], ""
    while True:
        told = home.call("GET", f"/trusted-publishers?limit=1{cursor}", token=admin).get_json()
        ids += [one["id"] for one in told["items"]]
        if told["next_cursor"] is None:
            break
        cursor = f"&cursor={told['next_cursor']}"
    assert ids[-3:] == made
    assert ids == sorted(ids)
