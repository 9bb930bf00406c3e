"""Identity tokens are spent once and identities linked once, whichever database it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from evidence.errors import IdTokenSpent, TooManyPublishers, UnknownPublisher
from evidence.federation import Newcomer
from evidence.model import Actor, ActorKind, AuditEvent
from evidence.people import Role, User
from evidence.publishing import Provider, Publisher, PublishToken
from store.accounts import Accounts
from store.database import Database
from store.errors import AccountNotLinked, IdentityTaken, StoreError, UnknownIdentity
from store.identities import Identities
from store.publishers import Publishers

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
BY = Actor(ActorKind.USER, "usr_1", "Ann")
EVENT = AuditEvent("test.happened", "x", BY, NOON)


def publisher(number: int = 1, org: str = "acme") -> Publisher:
    return Publisher(
        id=f"pub_{number}",
        org=org,
        name="releases",
        provider=Provider.GITHUB,
        issuer="https://issuer.example",
        audience="us",
        claims={"repository_id": "74"},
        products=("gateway", "pump"),
        life=timedelta(minutes=10),
        by=BY,
        created_at=NOON,
    )


def token(number: int, of: str = "pub_1", at: datetime = NOON) -> PublishToken:
    return PublishToken(
        id=f"ptk_{number}",
        publisher=of,
        org="acme",
        sha256=f"digest {number}",
        created_at=at,
        expires_at=at + timedelta(minutes=10),
        claims={"repository": "acme/gateway"},
    )


def test_a_publisher_comes_back_as_it_was_stored(database: Database) -> None:
    publishers = Publishers(database)
    publishers.add(publisher(), EVENT, most=2)
    assert publishers.get("acme", "pub_1") == publisher()
    assert publishers.of_issuer("https://issuer.example", None) == [publisher()]
    assert publishers.of_issuer("https://issuer.example", "rival") == []
    with pytest.raises(UnknownPublisher):
        publishers.get("rival", "pub_1")
    with pytest.raises(UnknownPublisher):
        publishers.remove("rival", "pub_1", EVENT)
    publishers.add(publisher(2), EVENT, most=2)
    with pytest.raises(TooManyPublishers, match="there are 2 trusted publishers"):
        publishers.add(publisher(3), EVENT, most=2)
    assert [one.id for one in publishers.page("acme", after="pub_1", limit=5)] == ["pub_2"]
    assert publishers.count("acme") == 2


def test_of_eight_who_spend_one_identity_token_one_gets_a_publish_token(database: Database) -> None:
    publishers = Publishers(database)
    publishers.add(publisher(), EVENT, most=2)

    def spend(number: int) -> bool:
        try:
            publishers.exchange("one identity", NOON + timedelta(minutes=5), token(number), EVENT)
        except IdTokenSpent:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [*pool.map(spend, range(8))]
    assert sorted(won) == [False] * 7 + [True]
    found = [number for number in range(8) if publishers.token_by_sha256(f"digest {number}") is not None]
    assert found == [won.index(True)]
    kept = publishers.token_by_sha256(f"digest {found[0]}")
    assert kept is not None
    assert kept[0] == token(found[0])
    assert kept[1].last_used_at == NOON


def test_a_publisher_takes_its_tokens_along_and_a_spent_identity_stays_spent(database: Database) -> None:
    publishers = Publishers(database)
    publishers.add(publisher(), EVENT, most=2)
    publishers.exchange("a", NOON + timedelta(minutes=5), token(1), EVENT)
    publishers.remove("acme", "pub_1", EVENT)
    assert publishers.token_by_sha256("digest 1") is None
    with pytest.raises(UnknownPublisher):
        publishers.exchange("b", NOON + timedelta(minutes=5), token(2), EVENT)
    publishers.add(publisher(2), EVENT, most=2)
    with pytest.raises(IdTokenSpent):
        publishers.exchange("a", NOON + timedelta(minutes=5), token(3, "pub_2"), EVENT)
    # What failed above was rolled back whole.
    publishers.exchange("b", NOON + timedelta(minutes=5), token(4, "pub_2"), EVENT)


def test_what_has_ended_for_a_day_is_forgotten(database: Database) -> None:
    publishers = Publishers(database)
    publishers.add(publisher(), EVENT, most=2)
    publishers.exchange("a", NOON + timedelta(minutes=5), token(1), EVENT)
    later = NOON + timedelta(days=1, minutes=11)
    publishers.exchange("b", later + timedelta(minutes=5), token(2, at=later), EVENT)
    assert publishers.token_by_sha256("digest 1") is None
    publishers.exchange("a", later + timedelta(minutes=5), token(3, at=later), EVENT)


def person(number: int, *, password: str | None = "hash", required: bool = False) -> User:
    return User(
        id=f"usr_{number}",
        org="acme",
        email=f"person{number}@example.com",
        name="Somebody",
        kind=ActorKind.USER,
        role=Role.VIEWER,
        created_at=NOON,
        password_hash=password,
        password_change_required=required,
    )


def newcomer(subject: str) -> Newcomer:
    return Newcomer(issuer="https://login.example", subject=subject, email="x@example.com", name="X", role=Role.VIEWER)


def test_an_account_is_claimed_while_nobody_uses_it_and_by_one_person(database: Database) -> None:
    accounts, identities = Accounts(database), Identities(database)
    used, fresh, robot = person(1), person(2, required=True), person(3, required=True)
    for one in (used, fresh, replace(robot, kind=ActorKind.SERVICE)):
        accounts.add_user(one, EVENT)
    for one in (used, robot):
        with pytest.raises(AccountNotLinked):
            identities.claim(one, newcomer("a"), EVENT)

    def claim(number: int) -> bool:
        try:
            identities.claim(fresh, newcomer(f"subject {number}"), EVENT)
        except StoreError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [*pool.map(claim, range(8))]
    assert sorted(won) == [False] * 7 + [True]
    found = identities.find("acme", "https://login.example", f"subject {won.index(True)}")
    assert found is not None
    assert (found[0].id, found[0].password_hash, found[0].password_change_required) == ("usr_2", None, False)
    assert found[1].follows_roles is False
    assert identities.find("rival", "https://login.example", f"subject {won.index(True)}") is None


def test_an_identity_is_one_accounts_until_it_is_unlinked(database: Database) -> None:
    accounts, identities = Accounts(database), Identities(database)
    ann, bob = person(1), person(2)
    for one in (ann, bob):
        accounts.add_user(one, EVENT)
    identities.link(ann, newcomer("a"), EVENT)
    identities.link(ann, newcomer("a"), EVENT)
    with pytest.raises(IdentityTaken):
        identities.link(bob, newcomer("a"), EVENT)
    with pytest.raises(IdentityTaken):
        identities.create(person(3), newcomer("a"), [EVENT])
    assert [one.subject for one in identities.of("acme", "usr_1")] == ["a"]
    with pytest.raises(UnknownIdentity):
        identities.unlink("acme", "usr_2", "https://login.example", "a", EVENT)
    identities.unlink("acme", "usr_1", "https://login.example", "a", EVENT)
    identities.link(bob, newcomer("a"), EVENT)
    assert identities.of("acme", "usr_1") == []
