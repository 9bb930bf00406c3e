"""A home that may ask issuers on loopback, and somebody who makes trusted publishers there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.integration.api.conftest import Home, made_home
from tests.simulators.oidc_issuer import OidcIssuer, oidc_issuer

US = "http://127.0.0.1:8080"  # the default of public_url
GITHUB = {"repository_id": "74", "repository_owner_id": "65", "workflow": "release.yml", "environment": "release"}


@pytest.fixture(scope="module")
def ci_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose operator allows issuers on loopback, without TLS."""
    with made_home(tmp_path_factory.mktemp("ci"), WAVEGATE_OIDC_ALLOW="127.0.0.1") as home:
        yield home


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
