"""Which role lasts how long, and the words that come before clients notice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from repo_signing import roles
from repo_signing.model import RoleStatus
from repo_signing.outlook import Outlook, advice, outlook, warnings

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def role(name: str, hours: float) -> RoleStatus:
    return RoleStatus(name=name, version=7, expires=NOW + timedelta(hours=hours), targets=None)


@pytest.mark.parametrize(
    ("name", "hours", "expected"),
    [
        ("timestamp", 41, Outlook.OK),
        ("timestamp", 24, Outlook.SOON),
        ("timestamp", 6, Outlook.URGENT),
        ("timestamp", 0, Outlook.EXPIRED),
        ("snapshot", 24 * 7, Outlook.OK),
        ("snapshot", 24 * 4, Outlook.SOON),
        ("snapshot", 24, Outlook.URGENT),
        ("decisions", 24 * 3, Outlook.OK),
        ("brakes", 24 * 2, Outlook.SOON),
        ("releases", 24 * 25, Outlook.OK),
        ("releases-0a", 24 * 15, Outlook.SOON),
        ("releases-0a", 24 * 9, Outlook.URGENT),
        ("root", 24 * 91, Outlook.OK),
        ("targets", 24 * 90, Outlook.SOON),
        ("root", 24 * 14, Outlook.URGENT),
        ("root", -1, Outlook.EXPIRED),
    ],
)
def test_each_role_is_judged_by_its_own_life(name: str, hours: float, expected: Outlook) -> None:
    assert outlook(role(name, hours), NOW) is expected


@pytest.mark.parametrize("name", ["timestamp", "snapshot", *roles.DOCUMENTS, "releases", "releases-3f"])
def test_nothing_is_told_of_a_role_that_the_server_has_not_even_had_to_sign_anew(name: str) -> None:
    for hour in range(24 * 91):
        one = role(name, hour)
        if outlook(one, NOW) is not Outlook.OK:
            assert roles.is_due(name, 7, one.expires, NOW)


def test_only_a_repository_without_a_role_for_revocations_is_advised_to_get_one() -> None:
    (line,) = advice([role("targets", 24 * 300), role("decisions", 24 * 7)])
    assert "`publish repo draft new targets`" in line
    assert advice([role("targets", 24 * 300), role("revocations", 24 * 7)]) == []


def test_warnings_name_the_roles_gravest_first_and_put_bins_together() -> None:
    told = warnings(
        [
            role("root", 24 * 30),
            role("timestamp", 5),
            role("snapshot", 24 * 10),
            role("releases-00", 24 * 15),
            role("releases-01", 24 * 16),
            role("releases-02", 24 * 80),
        ],
        NOW,
    )
    assert told == [
        (
            Outlook.URGENT,
            "timestamp expires in 5 h; the server should have signed it anew: see its log, run `publish repo refresh`",
        ),
        (
            Outlook.SOON,
            "releases-00 (and 1 more) expires in 15 d; the server should have signed it anew: see its log, "
            "run `publish repo refresh`",
        ),
        (Outlook.SOON, "root expires in 30 d; have it signed anew by its holders: `publish repo draft new root`"),
    ]
