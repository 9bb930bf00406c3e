"""Trusted publishers as values: which issuers may be asked, and whose job a token is."""

from __future__ import annotations

import pytest

from evidence.errors import InvalidPublisher
from evidence.publishing import Provider, check_issuer, telling
from evidence.webhooks.addresses import Allowed
from tests.simulators.hostile_urls import HOSTILE


@pytest.mark.parametrize("url", HOSTILE)
def test_no_issuer_leads_the_server_into_its_own_network(url: str) -> None:
    with pytest.raises(InvalidPublisher, match="cannot be asked for its keys"):
        check_issuer(url, Allowed(setting="oidc_allow"))


def test_the_public_services_and_what_the_operator_allows_are_asked() -> None:
    for url in ("https://token.actions.githubusercontent.com", "https://gitlab.com", "https://ci.example.com:8443/a"):
        check_issuer(url, Allowed())
    check_issuer("http://ci.internal/oidc", Allowed.parse(["ci.internal"]))
    with pytest.raises(InvalidPublisher, match="has a query"):
        check_issuer("https://ci.example.com/?tenant=1", Allowed())


def test_what_is_logged_of_a_job_is_short_and_plain() -> None:
    claims = {"repository": "x" * 1000, "ref": ["a list"], "run_id": 7, "sub": "not logged", "team": True}
    assert telling(Provider.GITHUB, claims, ["team"]) == {"repository": "x" * 500, "run_id": "7", "team": "true"}
