"""Invitations at rest: used up once, on both databases, and only while who gave them may."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from evidence.model import Actor, ActorKind, AuditEvent
from evidence.people import Invitation, InvitationState, Role, User
from store.accounts import Accounts
from store.audit import AuditLog
from store.database import Database
from store.errors import InvitationRefused, UnknownInvitation, UserExists
from store.invitations import Invitations

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ADA = User(
    id="usr_ada", org="acme", email="ada@x.org", name="Ada", kind=ActorKind.USER, role=Role.ADMIN, created_at=NOON
)
GUEST = replace(ADA, id="usr_guest", email="guest@x.org", name="Guest", role=Role.VIEWER)
INVITATION = Invitation(
    id="inv_1",
    org="acme",
    email="guest@x.org",
    role=Role.VIEWER,
    sha256="ab" * 32,
    invited_by="usr_ada",
    created_at=NOON,
    expires_at=NOON + timedelta(days=1),
)
ADMINS = (Role.ADMIN,)


def an_event(tag: str, at: datetime = NOON) -> AuditEvent:
    return AuditEvent(tag, "subject", Actor(ActorKind.USER, "usr_ada", "Ada", "ses_1"), at)


@pytest.fixture
def kept(database: Database) -> Invitations:
    Accounts(database).add_user(ADA, an_event("user.created"))
    kept = Invitations(database)
    kept.add(INVITATION, an_event("invitation.created"))
    return kept


def accept(kept: Invitations, user: User) -> bool:
    try:
        kept.accept(INVITATION, user, [an_event("invitation.accepted")], inviters=ADMINS)
    except InvitationRefused:
        return False
    return True


def test_of_eight_who_accept_at_once_one_does(kept: Invitations, database: Database) -> None:
    racers = [replace(GUEST, id=f"usr_{number}", email=f"guest-{number}@x.org") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda one: accept(kept, one), racers)) == [False] * 7 + [True]
    found = kept.by_sha256("ab" * 32)
    assert found is not None
    assert found.state(NOON) is InvitationState.ACCEPTED
    (guest,) = [user for user in Accounts(database).users("acme") if user.id != "usr_ada"]
    assert found.accepted_by == guest.id
    assert [one.event.tag for one in AuditLog(database).events("acme")].count("invitation.accepted") == 1


def test_a_taken_address_leaves_the_invitation_as_it_was(kept: Invitations, database: Database) -> None:
    Accounts(database).add_user(replace(GUEST, id="usr_other"), an_event("user.created"))
    with pytest.raises(UserExists):
        kept.accept(INVITATION, GUEST, [an_event("invitation.accepted")], inviters=ADMINS)
    assert kept.by_sha256("ab" * 32) == INVITATION
    with pytest.raises(UserExists):
        kept.add(replace(INVITATION, id="inv_2", sha256="cd" * 32), an_event("invitation.created"))


def test_it_rests_on_who_gave_it(kept: Invitations, database: Database) -> None:
    accounts = Accounts(database)
    for change in ({"disabled": True}, {"disabled": False, "role": Role.OPERATOR}):
        accounts.update_user("acme", "usr_ada", an_event("user.changed"), **change)
        assert not accept(kept, GUEST)
    assert not accept(kept, replace(GUEST, created_at=NOON + timedelta(days=1)))
    accounts.update_user("acme", "usr_ada", an_event("user.changed"), role=Role.ADMIN)
    assert not accept(kept, replace(GUEST, created_at=NOON + timedelta(days=1)))
    assert accept(kept, GUEST)


def test_it_is_revoked_once_by_its_own_organisation(kept: Invitations) -> None:
    with pytest.raises(UnknownInvitation):
        kept.revoke("rival", "inv_1", an_event("invitation.revoked"))
    kept.revoke("acme", "inv_1", an_event("invitation.revoked"))
    assert not accept(kept, GUEST)
    with pytest.raises(UnknownInvitation):
        kept.revoke("acme", "inv_1", an_event("invitation.revoked"))


def test_they_are_listed_by_what_they_are_at_a_moment(kept: Invitations) -> None:
    kept.add(
        replace(INVITATION, id="inv_2", email="b@x.org", sha256="cd" * 32, expires_at=NOON + timedelta(days=9)),
        an_event("invitation.created"),
    )
    later = NOON + timedelta(days=2)
    assert [one.id for one in kept.invitations("acme", now=later)] == ["inv_2", "inv_1"]
    for state, ids in ((InvitationState.PENDING, ["inv_2"]), (InvitationState.EXPIRED, ["inv_1"])):
        assert [one.id for one in kept.invitations("acme", now=later, state=state)] == ids
        assert [one.id for one in kept.invitations("acme", now=later) if one.state(later) is state] == ids
        assert kept.count("acme", now=later, state=state) == 1
    assert [one.id for one in kept.invitations("acme", now=later, after="inv_2", limit=1)] == ["inv_1"]
    assert kept.invitations("rival", now=later) == []
