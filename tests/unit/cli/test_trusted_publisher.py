"""`publish trusted-publisher`, and `publish push` by a job's own identity."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.ambient import Ambient
from tests.simulators.api_server import CUT, ApiServerSimulator, Reply, refusal
from tests.unit.cli.conftest import Publish
from tests.unit.cli.samples import ARTIFACT

PUBLISHER = {
    "id": "pub_01",
    "name": "gateway releases",
    "provider": "github",
    "issuer": "https://token.actions.githubusercontent.com",
    "audience": "https://wavegate.example",
    "claims": {"repository_id": "74"},
    "products": ["app"],
    "lifetime_minutes": 15,
    "last_used_at": None,
}
TRADED = Reply(201, {"token": "wgp_traded", "expires_at": "2999-01-01T00:00:00Z"})
SPENT = refusal(403, "id_token_spent")
EXCHANGE = ("POST", "/api/v1/auth/publish-token")


@pytest.fixture
def artifact(tmp_path: Path, server: ApiServerSimulator) -> str:
    """A file that the server will take."""
    path = tmp_path / "app.bin"
    path.write_bytes(b"hello")
    told = {"upload_id": "upl_1", "sha256": "a" * 64, "length": 5}
    server.on("PUT", "/api/v1/artifacts/content", Reply(201, told))
    server.on("POST", "/api/v1/artifacts", Reply(201, ARTIFACT))
    server.on(*EXCHANGE, TRADED)
    return str(path)


@pytest.fixture
def job(publish: Publish, monkeypatch: pytest.MonkeyPatch, server: ApiServerSimulator) -> None:
    """A GitHub job without a key."""
    monkeypatch.delenv("WAVEGATE_API_KEY", raising=False)
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{server.url}/job?api-version=2.0")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-this-job")
    server.on("GET", "/job", Reply(200, {"value": "first.id.token"}), Reply(200, {"value": "second.id.token"}))


PUSH = ("--product", "app", "--version", "1.0.0")


def test_options_and_claims_are_what_the_publisher_is_made_of(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("POST", "/api/v1/trusted-publishers", Reply(201, PUBLISHER))
    done = publish(
        "trusted-publisher", "create", "gateway releases", "--provider", "github", "--product", "app",
        "--repository-id", "74", "--owner-id", "65", "--workflow", "release.yml", "--environment", "release",
        "--claim", "ref_protected=true", "--lifetime-minutes", "5",
    )  # fmt: skip
    assert done.code == 0
    assert server.requests[-1].json == {
        "name": "gateway releases",
        "provider": "github",
        "claims": {
            "ref_protected": "true",
            "repository_id": "74",
            "repository_owner_id": "65",
            "workflow": "release.yml",
            "environment": "release",
        },
        "products": ["app"],
        "lifetime_minutes": 5,
    }
    assert done.json == PUBLISHER


def test_publishers_are_listed_shown_and_deleted(publish: Publish, server: ApiServerSimulator) -> None:
    server.on("GET", "/api/v1/trusted-publishers", Reply(200, {"items": [PUBLISHER], "next_cursor": None}))
    server.on("GET", "/api/v1/trusted-publishers/pub_01", Reply(200, PUBLISHER))
    server.on("DELETE", "/api/v1/trusted-publishers/pub_01", Reply(204))
    assert publish("trusted-publisher", "list").json == {"items": [PUBLISHER]}
    assert "repository_id=74" in publish("trusted-publisher", "list", "-o", "table").out
    assert "gateway releases" in publish("trusted-publisher", "show", "pub_01", "-o", "table").out
    assert publish("trusted-publisher", "delete", "pub_01").json == {"id": "pub_01", "deleted": True}


@pytest.mark.usefixtures("job")
def test_a_github_job_without_a_key_publishes_by_its_identity(
    publish: Publish, server: ApiServerSimulator, artifact: str
) -> None:
    assert publish("push", artifact, *PUSH).code == 0
    (asked,) = server.asked("GET", "/job")
    assert asked.query == {"api-version": "2.0", "audience": server.url}
    assert asked.headers["authorization"] == "Bearer of-this-job"
    (traded,) = server.asked(*EXCHANGE)
    assert traded.json == {"id_token": "first.id.token", "products": ["app"]}
    assert "authorization" not in traded.headers
    assert server.requests[-1].headers["authorization"] == "Bearer wgp_traded"


@pytest.mark.usefixtures("job")
def test_an_answer_that_was_lost_costs_a_new_identity_token_and_no_failure(
    publish: Publish, server: ApiServerSimulator, artifact: str
) -> None:
    server.on(*EXCHANGE, CUT, SPENT, TRADED)
    assert publish("push", artifact, *PUSH).code == 0
    assert [seen.json["id_token"] for seen in server.asked(*EXCHANGE)] == [
        "first.id.token",
        "first.id.token",
        "second.id.token",
    ]


def test_a_token_of_any_ci_system_is_taken_from_the_environment(
    publish: Publish, server: ApiServerSimulator, artifact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAVEGATE_API_KEY")
    monkeypatch.setenv("WAVEGATE_ID_TOKEN", "gitlab.id.token\n")
    assert publish("push", artifact, *PUSH).code == 0
    assert server.asked(*EXCHANGE)[0].json["id_token"] == "gitlab.id.token"


@pytest.mark.usefixtures("job")
def test_the_audience_can_be_named(
    publish: Publish, server: ApiServerSimulator, artifact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAVEGATE_AUDIENCE", "wavegate-acme")
    assert publish("push", artifact, *PUSH).code == 0
    assert server.asked("GET", "/job")[0].query["audience"] == "wavegate-acme"


@pytest.mark.usefixtures("job")
def test_a_server_of_several_organisations_is_told_whose_publisher_is_meant(
    publish: Publish, server: ApiServerSimulator, artifact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on(*EXCHANGE, refusal(400, "organization_required"))
    unnamed = publish("push", artifact, *PUSH)
    assert unnamed.code == 2
    assert "WAVEGATE_ORG" in unnamed.err
    server.on("POST", "/api/v1/orgs/globex/auth/publish-token", TRADED)
    monkeypatch.setenv("WAVEGATE_ORG", "globex")
    assert publish("push", artifact, *PUSH).code == 0
    assert server.requests[-1].headers["authorization"] == "Bearer wgp_traded"


@pytest.mark.usefixtures("job")
def test_a_key_goes_before_the_identity_unless_the_identity_is_asked_for(
    publish: Publish, server: ApiServerSimulator, artifact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAVEGATE_API_KEY", "wgk_test")
    assert publish("push", artifact, *PUSH).code == 0
    assert server.asked(*EXCHANGE) == []
    assert server.requests[-1].headers["authorization"] == "Bearer wgk_test"
    assert publish("push", artifact, *PUSH, "--trusted").code == 0
    assert server.requests[-1].headers["authorization"] == "Bearer wgp_traded"


@pytest.mark.usefixtures("job")
def test_without_trusted_the_identity_stays_at_home(
    publish: Publish, server: ApiServerSimulator, artifact: str
) -> None:
    publish("push", artifact, *PUSH, "--no-trusted")
    assert server.asked("GET", "/job") == []


def test_outside_of_a_ci_system_trusted_says_what_is_missing(publish: Publish, artifact: str) -> None:
    done = publish("push", artifact, *PUSH, "--trusted")
    assert done.code == 3
    assert "no CI system offers an identity here" in done.err
    assert "id-token: write" in done.err


@pytest.mark.usefixtures("job")
def test_a_server_that_does_not_trust_the_job_ends_it_with_3(
    publish: Publish, server: ApiServerSimulator, artifact: str
) -> None:
    server.on(*EXCHANGE, refusal(403, "no_trusted_publisher", "no trusted publisher matches this identity"))
    done = publish("push", artifact, *PUSH)
    assert done.code == 3
    assert "publish trusted-publisher create" in done.err
    assert server.asked("PUT", "/api/v1/artifacts/content") == []


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("reply", [Reply(403, {}), Reply(200, {}), Reply(200, b"no JSON"), Reply(302)])
def test_a_ci_system_that_gives_no_token_is_told(
    publish: Publish, server: ApiServerSimulator, artifact: str, reply: Reply
) -> None:
    server.on("GET", "/job", reply)
    done = publish("push", artifact, *PUSH)
    assert done.code == 1
    assert f"it answered {reply.status}" in done.err


def test_the_request_token_is_sent_over_tls_only(
    publish: Publish, artifact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WAVEGATE_API_KEY")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "http://ci.example/job")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-this-job")
    done = publish("push", artifact, *PUSH)
    assert done.code == 2
    assert "is not https" in done.err


def test_an_identity_does_not_show_itself() -> None:
    found = Ambient.found({"WAVEGATE_ID_TOKEN": "secret.id.token"})
    assert repr(found) == "Ambient(origin='the identity in WAVEGATE_ID_TOKEN')"
    assert Ambient.found({"ACTIONS_ID_TOKEN_REQUEST_URL": "https://ci.example"}) is None
