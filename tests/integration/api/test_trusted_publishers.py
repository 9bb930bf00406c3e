"""CI jobs that publish by their own identity: who is trusted."""

from __future__ import annotations

from typing import Any

import pytest

import api.auth.issuers
from tests.integration.api.trusting import GITHUB, US, Trust, admin, ci_home, issuer, trust
from tests.simulators.oidc_issuer import GITHUB_JOB, GITLAB_JOB, OidcIssuer, new_key

__all__ = ("admin", "ci_home", "issuer", "trust")  # fixtures


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
    moved: dict[str, Any] = {
        "repository": "acme/new-name",
        "job_workflow_ref": "acme/new-name/.github/workflows/release.yml@" + "a" * 40,
    }
    assert trust.exchange(issuer.token(US, **moved)).status_code == 201


def test_gitlab_and_any_other_issuer(trust: Trust, issuer: OidcIssuer) -> None:
    trust.made(provider="gitlab", claims={"project_id": "22", "namespace_id": "72", "ref": "main"})
    assert trust.exchange(issuer.token(US, GITLAB_JOB)).status_code == 201
    for changed in ({"project_id": "23"}, {"namespace_id": "73"}, {"ref": "feature"}):
        assert trust.refused(issuer.token(US, {**GITLAB_JOB, **changed})) == (403, "no_trusted_publisher")
    trust.made(provider="generic", claims={"team": "firmware", "protected": "true"})
    assert trust.exchange(issuer.token(US, {"team": "firmware", "protected": True})).status_code == 201
    assert trust.refused(issuer.token(US, {"team": "firmware", "protected": False})) == (403, "no_trusted_publisher")


def test_of_several_publishers_the_one_for_the_product_is_taken_else_the_one_that_asks_most(
    trust: Trust, issuer: OidcIssuer
) -> None:
    loose = {name: GITHUB[name] for name in ("repository_id", "repository_owner_id", "workflow")}
    pump = trust.made(claims=loose, products=["pump"])
    gateway = trust.made()
    assert trust.exchange(issuer.token(US), products=["pump"]).get_json()["publisher"] == pump
    assert trust.exchange(issuer.token(US)).get_json()["publisher"] == gateway
    assert trust.refused(issuer.token(US), products=["gateway", "pump"]) == (403, "no_trusted_publisher")


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
    # Whoever sends more such tokens does not make us ask again at once.
    asked = [*issuer.asked]
    assert trust.refused(issuer.token(US)) == (503, "issuer_unreachable")
    assert issuer.asked == asked


def test_an_issuer_at_a_private_place_takes_the_operators_word(trust: Trust) -> None:
    answer = trust.create(issuer="https://ci.internal")
    assert answer.status_code == 400
    assert "the server's operator can allow it with `oidc_allow`" in answer.get_json()["error"]["message"]


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
