"""Organisations, accounts, keys, logins and failed logins at rest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from evidence.model import Actor, ActorKind, AuditEvent
from evidence.people import ApiKey, Role, Session, SessionKind, User
from store.accounts import Accounts
from store.audit import AuditLog
from store.chosen_accounts import Chosen
from store.database import Database
from store.errors import OrgExists, UnknownApiKey, UnknownSession, UnknownUser, UserExists
from store.login_failures import LoginFailures
from store.organisations import Organisations

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ADMIN = Actor(ActorKind.USER, "usr_ADMIN", "Admin", "ses_1")


@pytest.fixture
def accounts(database: Database) -> Accounts:
    return Accounts(database)


def test_an_organisation_s_slug_is_unique(database: Database, accounts: Accounts) -> None:
    accounts.add_org("third", "Third", now=NOON)
    with pytest.raises(OrgExists, match="the organisation third exists already"):
        accounts.add_org("third", "Again", now=NOON)
    assert [one.slug for one in Organisations(database).all()] == ["acme", "rival", "third"]


def test_an_account_is_read_back_whole(accounts: Accounts) -> None:
    accounts.add_user(ADA, an_event("user.created"))
    assert accounts.user("acme", "usr_1") == ADA
    assert accounts.user_by_email("acme", "ada@example.org") == ADA


def test_an_address_is_found_and_taken_in_whatever_case(accounts: Accounts) -> None:
    accounts.add_user(replace(ADA, email="Jürgen@Straße.example"), an_event("user.created"))
    found = accounts.user_by_email("acme", "JÜRGEN@STRASSE.EXAMPLE")
    assert found is not None
    assert found.email == "Jürgen@Straße.example"
    with pytest.raises(UserExists):
        accounts.add_user(replace(ADA, id="usr_2", email="jürgen@strasse.EXAMPLE"), an_event("user.created"))
    accounts.add_user(replace(ADA, id="usr_3", org="rival", email="jürgen@strasse.example"), an_event("user.created"))


def test_any_number_of_service_accounts_have_no_address(accounts: Accounts) -> None:
    for number in (1, 2):
        service = replace(ADA, id=f"usr_{number}", email="", kind=ActorKind.SERVICE, password_hash=None)
        accounts.add_user(service, an_event("user.created"))
    assert accounts.count_users("acme") == 2
    assert accounts.user_by_email("acme", "") is None


def test_a_refused_account_leaves_no_event(accounts: Accounts, database: Database) -> None:
    accounts.add_user(ADA, an_event("user.created"))
    with pytest.raises(UserExists):
        accounts.add_user(replace(ADA, id="usr_2"), an_event("user.created"))
    assert tags(database) == ["user.created"]


def test_only_what_is_named_changes(accounts: Accounts, database: Database) -> None:
    accounts.add_user(ADA, an_event("user.created"))
    changed = accounts.update_user("acme", "usr_1", an_event("user.changed"), role=Role.APPROVER, disabled=True)
    assert changed == replace(ADA, role=Role.APPROVER, disabled=True)
    back = accounts.update_user(
        "acme", "usr_1", an_event("user.changed"), disabled=False, password_hash="new", password_change_required=False
    )
    assert back == replace(ADA, role=Role.APPROVER, password_hash="new", password_change_required=False)
    assert accounts.user("acme", "usr_1") == back
    assert tags(database) == ["user.created", "user.changed", "user.changed"]


def test_another_organisation_s_account_is_unknown(accounts: Accounts) -> None:
    accounts.add_user(ADA, an_event("user.created"))
    with pytest.raises(UnknownUser):
        accounts.user("rival", "usr_1")
    with pytest.raises(UnknownUser):
        accounts.update_user("rival", "usr_1", an_event("user.changed"), name="Eve")
    assert accounts.user_by_email("rival", ADA.email) is None
    assert accounts.user("acme", "usr_1").name == "Ada"


def test_accounts_are_listed_by_id_and_counted_by_kind_and_role(accounts: Accounts) -> None:
    for number in (3, 1, 2):
        accounts.add_user(replace(ADA, id=f"usr_{number}", email=f"{number}@example.org"), an_event("user.created"))
    accounts.update_user("acme", "usr_2", an_event("user.changed"), role=Role.VIEWER)
    accounts.update_user("acme", "usr_3", an_event("user.changed"), disabled=True)
    assert [user.id for user in accounts.users("acme", limit=2)] == ["usr_1", "usr_2"]
    assert [user.id for user in accounts.users("acme", after="usr_2")] == ["usr_3"]
    assert [user.id for user in accounts.users("acme", chosen=Chosen(disabled=True))] == ["usr_3"]
    assert accounts.count_users("acme") == 3
    assert accounts.count_users("acme", Chosen(disabled=False)) == 2
    assert accounts.count_users("acme", Chosen(kind=ActorKind.SERVICE)) == 0
    assert accounts.count_users("acme", Chosen(role=Role.ADMIN)) == 2
    assert accounts.count_users("acme", Chosen(role=Role.ADMIN, disabled=False)) == 1
    assert [user.id for user in accounts.users("acme", chosen=Chosen(email="2@EXAMPLE.org"))] == ["usr_2"]


def test_a_key_is_found_with_its_account(accounts: Accounts) -> None:
    accounts.add_key(KEY, an_event("api_key.created"), owner=ADA)
    assert accounts.key_by_sha256(KEY.sha256) == (KEY, ADA)
    assert accounts.key_by_sha256("00" * 32) is None


def test_a_key_that_was_looked_up_before_is_found_with_its_account_as_that_is_now(
    accounts: Accounts, database_url: str
) -> None:
    accounts.add_user(ADA, an_event("user.created"))
    accounts.add_key(KEY, an_event("api_key.created"))
    assert accounts.key_by_sha256(KEY.sha256) == (KEY, ADA)
    elsewhere = Database(database_url)
    Accounts(elsewhere).update_user("acme", "usr_1", an_event("user.changed"), role=Role.VIEWER, disabled=True)
    elsewhere.close()
    assert accounts.key_by_sha256(KEY.sha256) == (KEY, replace(ADA, role=Role.VIEWER, disabled=True))


def test_a_key_needs_an_account_of_its_organisation(accounts: Accounts, database: Database) -> None:
    accounts.add_user(replace(ADA, org="rival"), an_event("user.created"))
    with pytest.raises(UnknownUser):
        accounts.add_key(KEY, an_event("api_key.created"))
    assert accounts.key_by_sha256(KEY.sha256) is None
    assert tags(database) == []


def test_keys_are_listed_newest_first_without_revoked_ones(accounts: Accounts) -> None:
    accounts.add_user(ADA, an_event("user.created"))
    for number in (1, 2, 3):
        key = replace(KEY, id=f"key_{number}", sha256=f"{number}" * 64)
        accounts.add_key(key, an_event("api_key.created"))
    accounts.revoke_key("acme", "key_2", an_event("api_key.revoked"))
    assert [key.id for key, _ in accounts.keys("acme")] == ["key_3", "key_1"]
    assert [key.id for key, _ in accounts.keys("acme", after="key_3", limit=1)] == ["key_1"]
    assert accounts.keys("rival") == []
    assert accounts.count_keys("acme") == 2


def test_a_key_is_revoked_once_and_from_then_on_dead(accounts: Accounts, database: Database) -> None:
    accounts.add_key(KEY, an_event("api_key.created"), owner=ADA)
    with pytest.raises(UnknownApiKey):
        accounts.revoke_key("rival", "key_1", an_event("api_key.revoked"))
    accounts.revoke_key("acme", "key_1", an_event("api_key.revoked"))
    with pytest.raises(UnknownApiKey):
        accounts.revoke_key("acme", "key_1", an_event("api_key.revoked"))
    found = accounts.key_by_sha256(KEY.sha256)
    assert found is not None
    assert found[0] == replace(KEY, revoked_at=NOON)
    assert not found[0].is_live(NOON)
    assert tags(database) == ["api_key.created", "api_key.revoked"]


def test_the_use_of_a_key_is_noted_to_the_minute(accounts: Accounts) -> None:
    accounts.add_key(KEY, an_event("api_key.created"), owner=ADA)

    def noted(seconds: int) -> datetime | None:
        found = accounts.key_by_sha256(KEY.sha256)
        assert found is not None
        accounts.touch_key(found[0], now=NOON + timedelta(seconds=seconds))
        again = accounts.key_by_sha256(KEY.sha256)
        assert again is not None
        return again[0].last_used_at

    assert noted(0) == NOON
    assert noted(59) == NOON
    assert noted(60) == NOON + timedelta(seconds=60)


def test_a_login_is_found_with_its_account_until_it_is_ended(accounts: Accounts, database: Database) -> None:
    accounts.add_user(ADA, an_event("user.created"))
    accounts.add_session(SESSION, an_event("user.logged_in"))
    assert accounts.session_by_sha256(SESSION.sha256) == (SESSION, ADA)
    accounts.touch_session(SESSION, now=NOON)
    accounts.end_session("acme", "ses_1", an_event("user.logged_out"))
    ended = replace(SESSION, last_used_at=NOON, ended_at=NOON)
    assert accounts.session_by_sha256(SESSION.sha256) == (ended, ADA)
    assert not ended.is_live(NOON)
    with pytest.raises(UnknownSession):
        accounts.end_session("acme", "ses_1", an_event("user.logged_out"))
    assert accounts.session_by_sha256("00" * 32) is None
    assert tags(database) == ["user.created", "user.logged_in", "user.logged_out"]


def test_all_logins_of_an_account_end_but_the_one_kept(accounts: Accounts, database: Database) -> None:
    accounts.add_user(ADA, an_event("user.created"))
    for number in (1, 2, 3):
        session = replace(SESSION, id=f"ses_{number}", sha256=f"{number}" * 64)
        accounts.add_session(session, an_event("user.logged_in"))
    assert accounts.end_sessions_of("acme", "usr_1", an_event("user.logged_out"), keep="ses_2") == 2
    assert accounts.end_sessions_of("acme", "usr_1", an_event("user.logged_out"), keep="ses_2") == 0
    found = [accounts.session_by_sha256(f"{number}" * 64) for number in (1, 2, 3)]
    assert [one is not None and one[0].is_live(NOON) for one in found] == [False, True, False]
    assert tags(database).count("user.logged_out") == 1


def test_failures_are_counted_by_account_and_by_source(database: Database) -> None:
    failures = LoginFailures(database)
    for account, source, minutes in (
        ("ada@example.org", "192.0.2.1", 0),
        ("ADA@example.org", "192.0.2.1", 0),
        ("ada@example.org", "192.0.2.2", 5),
        ("bob@example.org", "192.0.2.1", 9),
    ):
        failures.add_failure("acme", account, source, now=NOON + timedelta(minutes=minutes, seconds=7))
    assert failures.count_failures("acme", account="ada@example.org", since=NOON) == 3
    assert failures.count_failures("acme", source="192.0.2.1", since=NOON) == 3
    assert failures.count_failures("acme", account="Ada@Example.org", source="192.0.2.1", since=NOON) == 2
    assert failures.count_failures("acme", account="ada@example.org", since=NOON + timedelta(minutes=5)) == 1
    assert failures.count_failures("rival", account="ada@example.org", since=NOON) == 0
    failures.clear_failures("acme", "Ada@example.org")
    assert failures.count_failures("acme", since=NOON) == 1


def test_failures_are_forgotten_after_a_day(database: Database) -> None:
    failures = LoginFailures(database)
    failures.add_failure("acme", "ada@example.org", "192.0.2.1", now=NOON)
    failures.add_failure("acme", "bob@example.org", "192.0.2.1", now=NOON + timedelta(days=1, minutes=1))
    assert failures.count_failures("acme", since=NOON - timedelta(days=9)) == 1


ADA = User(
    id="usr_1",
    org="acme",
    email="ada@example.org",
    name="Ada",
    kind=ActorKind.USER,
    role=Role.ADMIN,
    password_hash="$argon2id$…",
    password_change_required=True,
    created_at=NOON,
)

KEY = ApiKey(
    id="key_1",
    org="acme",
    user="usr_1",
    name="ci",
    prefix="wgk_abcd",
    sha256="ab" * 32,
    created_by="usr_ADMIN",
    created_at=NOON,
    expires_at=NOON + timedelta(days=90),
)

SESSION = Session(
    id="ses_1",
    org="acme",
    user="usr_1",
    kind=SessionKind.TOKEN,
    sha256="cd" * 32,
    created_at=NOON,
    expires_at=NOON + timedelta(hours=24),
)


def an_event(tag: str) -> AuditEvent:
    return AuditEvent(tag, "subject", ADMIN, NOON)


def tags(database: Database) -> list[str]:
    return [one.event.tag for one in AuditLog(database).events("acme")]
