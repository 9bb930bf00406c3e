"""Accounts and credentials as values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from evidence.model import Actor, ActorKind
from evidence.people import ApiKey, Role, Session, SessionKind, User

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ADA = User(
    id="usr_1",
    org="acme",
    email="ada@example.org",
    name="Ada",
    kind=ActorKind.USER,
    role=Role.ADMIN,
    created_at=NOON,
    password_hash="$argon2id$secret",
)


def test_two_credentials_of_one_person_are_one_actor() -> None:
    assert ADA.actor("key_1") == Actor(ActorKind.USER, "usr_1", "Ada", "key_1")
    assert ADA.actor("key_1").id == ADA.actor("ses_1").id


def test_a_password_hash_is_not_shown() -> None:
    assert "argon2id" not in repr(ADA)


@pytest.mark.parametrize(
    ("seconds", "revoked", "live"), [(-1, False, True), (0, False, False), (-1, True, False), (1, True, False)]
)
def test_a_credential_counts_until_it_expires_or_is_ended(seconds: int, revoked: bool, live: bool) -> None:
    ended = NOON if revoked else None
    key = ApiKey(
        id="key_1",
        org="acme",
        user="usr_1",
        name="ci",
        prefix="wgk_",
        sha256="ab" * 32,
        created_by="usr_1",
        created_at=NOON,
        expires_at=NOON,
        revoked_at=ended,
    )
    session = Session(
        id="ses_1",
        org="acme",
        user="usr_1",
        kind=SessionKind.SESSION,
        sha256="ab" * 32,
        created_at=NOON,
        expires_at=NOON,
        ended_at=ended,
    )
    now = NOON + timedelta(seconds=seconds)
    assert key.is_live(now) is live
    assert session.is_live(now) is live
