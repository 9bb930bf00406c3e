from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tuf.api.metadata import SuccinctRoles

from repo_signing import roles

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("role", "hours"),
    [
        ("root", 8760),
        ("targets", 8760),
        ("timestamp", 48),
        ("snapshot", 336),
        ("decisions", 168),
        ("brakes", 168),
        ("revocations", 168),
    ],
)
def test_lives_are_those_of_the_design(role: str, hours: int) -> None:
    assert roles.life(role, 7) == timedelta(hours=hours)


def test_releases_and_bins_live_81_to_90_days_and_differ() -> None:
    lives = {roles.life(name, 1) for name in ["releases", *roles.bin_names()]}
    assert min(lives) >= timedelta(days=81)
    assert max(lives) <= timedelta(days=90)
    assert len(lives) == 65
    assert roles.life("releases-00", 1) == roles.life("releases-00", 1)


@pytest.mark.parametrize(
    ("role", "not_yet", "due"),
    [
        ("timestamp", timedelta(hours=5, minutes=59), timedelta(hours=6)),
        ("snapshot", timedelta(days=6, hours=23), timedelta(days=7)),
        ("decisions", timedelta(days=3, hours=11), timedelta(days=3, hours=12)),
        ("brakes", timedelta(days=3, hours=11), timedelta(days=3, hours=12)),
        ("releases", timedelta(days=53), timedelta(days=60)),
        ("releases-2a", timedelta(days=53), timedelta(days=60)),
    ],
)
def test_a_role_is_due_at_its_age(role: str, not_yet: timedelta, due: timedelta) -> None:
    expires = NOW + roles.life(role, 3)
    assert not roles.is_due(role, 3, expires, NOW + not_yet)
    assert roles.is_due(role, 3, expires, NOW + due)
    assert roles.is_due(role, 3, expires, NOW + timedelta(days=1000))


@pytest.mark.parametrize("role", ["root", "targets"])
def test_offline_roles_are_never_due_on_the_server(role: str) -> None:
    assert not roles.is_due(role, 1, NOW, NOW + timedelta(days=1))


def test_the_last_commit_is_told_by_the_timestamp() -> None:
    body = roles.timestamp_body(3, 100, 4, NOW.replace(microsecond=999_999))
    assert roles.signed_at(roles.time_in(body["expires"])) == NOW


def test_bins_are_named_as_clients_name_them() -> None:
    assert list(roles.bin_names()) == list(SuccinctRoles([], 1, 6, "releases").get_roles())
    first, *_, last = roles.bin_names()
    assert (first, last) == ("releases-00", "releases-3f")


def test_each_role_has_one_delegator_and_one_key() -> None:
    assert [roles.delegator(r) for r in ("timestamp", "targets", *roles.DOCUMENTS[1:], "releases", "releases-00")] == [
        "root",
        "root",
        "targets",
        "targets",
        "targets",
        "releases",
    ]
    assert [roles.key_of(r) for r in ("snapshot", *roles.DOCUMENTS, "releases", "releases-3f")] == [
        "snapshot",
        "decisions",
        "decisions",
        "decisions",
        "releases",
        "releases",
    ]
