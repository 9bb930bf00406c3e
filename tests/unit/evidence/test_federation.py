"""Whom of those a provider vouches for we let in, and as what."""

from __future__ import annotations

from typing import Any

import pytest

from evidence.errors import LoginRefused
from evidence.federation import Admission, Newcomer, Wanted, introduce
from evidence.people import Role

ANN: dict[str, Any] = {"sub": "ann-1", "email": "Ann@Example.com", "email_verified": True, "name": " Ann "}
ROLES = {Role.OPERATOR: Wanted("groups", "ops"), Role.ADMIN: Wanted("groups", "admins")}


def introduced(admission: Admission, **changed: object) -> Newcomer:
    return introduce({**ANN, **changed}, admission, issuer="https://login.example")


def test_somebody_is_who_the_provider_says() -> None:
    assert introduced(Admission()) == Newcomer(
        issuer="https://login.example", subject="ann-1", email="Ann@Example.com", name="Ann", role=None
    )
    assert introduced(Admission(), name=None).name == "Ann"
    assert introduced(Admission(), name="x" * 200).name == "x" * 100


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["ops"], Role.OPERATOR),
        (["ops", "admins"], Role.ADMIN),
        ("admins", Role.ADMIN),
        (["others"], Role.VIEWER),
        (None, Role.VIEWER),
        ({"admins": True}, Role.VIEWER),
        ([["admins"]], Role.VIEWER),
    ],
)
def test_the_highest_role_that_a_claim_gives_else_the_default(groups: object, role: Role) -> None:
    assert introduced(Admission(roles=ROLES, default=Role.VIEWER), groups=groups).role is role


def test_a_domain_is_let_in_whatever_its_case_and_no_subdomain_with_it() -> None:
    admission = Admission(domains=frozenset({"example.com"}))
    assert introduced(admission).subject == "ann-1"
    for email in ("ann@sub.example.com", "ann@example.com.evil.example", "ann@evil-example.com"):
        with pytest.raises(LoginRefused, match="are not let in here"):
            introduced(admission, email=email)


def test_a_claim_that_everybody_must_have() -> None:
    admission = Admission(required=Wanted("staff", "true"))
    assert introduced(admission, staff=True).subject == "ann-1"
    refused: tuple[object, ...] = (False, None, "yes", [], "True")
    for value in refused:
        with pytest.raises(LoginRefused, match="is not among those who are let in"):
            introduced(admission, staff=value)


@pytest.mark.parametrize("email", [None, "", "ann", "a@b@c", 7, ["ann@example.com"], "x" * 250 + "@b.example"])
def test_without_an_address_nobody_comes_in(email: object) -> None:
    with pytest.raises(LoginRefused, match="no e-mail address"):
        introduced(Admission(), email=email)
