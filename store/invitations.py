"""Invitations at rest: made by one account, accepted once by a code whose digest is kept."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, RowMapping, func, insert, select, update

from evidence.model import AuditEvent
from evidence.people import Invitation, InvitationState, Role, User
from store.account_models import invitations, users
from store.accounts import insert_user
from store.audit import append
from store.chosen_accounts import email_key
from store.database import Database
from store.errors import InvitationRefused, UnknownInvitation, UserExists

_OPEN: Final = invitations.c.accepted_at.is_(None) & invitations.c.revoked_at.is_(None)


class Invitations:
    """Every method is one transaction, with its audit events in it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, invitation: Invitation, event: AuditEvent) -> None:
        """Raises UserExists when the address has an account already."""
        with self._database.write() as connection:
            key = email_key(invitation.email)
            taken = select(users.c.id).where(users.c.org == invitation.org, users.c.email_key == key)
            if connection.execute(taken).first() is not None:
                raise UserExists(f"an account with the address {invitation.email} exists already")
            connection.execute(insert(invitations), _row(invitation))
            append(connection, invitation.org, [event])

    def by_sha256(self, sha256: str) -> Invitation | None:
        """The invitation with this digest in any organisation, whatever its state; None when there is none."""
        query = select(invitations).where(invitations.c.sha256 == sha256)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
            return None if row is None else _to_invitation(row)

    def invitations(
        self,
        org: str,
        *,
        now: datetime,
        state: InvitationState | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> Sequence[Invitation]:
        """Newest first, beginning behind the id ``after``; only those in ``state`` at ``now``, if asked."""
        query = select(invitations).where(invitations.c.org == org, *_in_state(state, now))
        query = query.order_by(invitations.c.id.desc()).limit(limit)
        if after is not None:
            query = query.where(invitations.c.id < after)
        with self._database.read() as connection:
            return [_to_invitation(row) for row in connection.execute(query).mappings()]

    def count(self, org: str, *, now: datetime, state: InvitationState | None = None) -> int:
        """How many there are, in ``state`` at ``now`` if asked."""
        query = select(func.count()).select_from(invitations).where(invitations.c.org == org, *_in_state(state, now))
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def revoke(self, org: str, invitation_id: str, event: AuditEvent) -> None:
        """Make the code worthless; raises UnknownInvitation, also for one that was accepted or revoked."""
        mine = (invitations.c.org == org) & (invitations.c.id == invitation_id)
        with self._database.write() as connection:
            ended = connection.execute(update(invitations).where(mine, _OPEN).values(revoked_at=event.at)).rowcount
            if not ended:
                raise UnknownInvitation(f"no invitation {invitation_id} that could be revoked")
            append(connection, org, [event])

    def accept(
        self, invitation: Invitation, user: User, events: Sequence[AuditEvent], *, inviters: Collection[Role]
    ) -> None:
        """Add ``user``, who used the code up; of any number of callers at once one succeeds.

        Args:
            inviters: The roles that may give the invitation's; its inviter must have one of them, and not be disabled.

        Raises:
            InvitationRefused: It was accepted, revoked or has expired, or its inviter may not any more.
            UserExists: The address has got an account in another way; the invitation is left as it is.
        """
        may = select(users.c.id).where(
            users.c.org == invitation.org,
            users.c.disabled.is_(False),
            users.c.role.in_([role.value for role in inviters]),
        )
        use = (
            update(invitations)
            .where(invitations.c.id == invitation.id, _OPEN, invitations.c.expires_at > user.created_at)
            .where(invitations.c.invited_by.in_(may))
            .values(accepted_at=user.created_at)
        )
        with self._database.write() as connection:
            if not connection.execute(use).rowcount:
                raise InvitationRefused("the code was used, revoked or has expired, or who made it may not any more")
            insert_user(connection, user)
            mine = invitations.c.id == invitation.id
            connection.execute(update(invitations).where(mine).values(accepted_by=user.id))
            append(connection, invitation.org, events)


def _in_state(state: InvitationState | None, now: datetime) -> list[ColumnElement[bool]]:
    """:meth:`Invitation.state` as a condition."""
    if state is None:
        return []
    conditions: dict[InvitationState, ColumnElement[bool]] = {
        InvitationState.PENDING: _OPEN & (invitations.c.expires_at > now),
        InvitationState.EXPIRED: _OPEN & (invitations.c.expires_at <= now),
        InvitationState.ACCEPTED: invitations.c.accepted_at.is_not(None),
        InvitationState.REVOKED: invitations.c.revoked_at.is_not(None),
    }
    return [conditions[state]]


def _row(invitation: Invitation) -> dict[str, object]:
    return {
        "id": invitation.id,
        "org": invitation.org,
        "email": invitation.email,
        "role": invitation.role.value,
        "sha256": invitation.sha256,
        "invited_by": invitation.invited_by,
        "created_at": invitation.created_at,
        "expires_at": invitation.expires_at,
    }


def _to_invitation(row: RowMapping) -> Invitation:
    return Invitation(
        id=row["id"],
        org=row["org"],
        email=row["email"],
        role=Role(row["role"]),
        sha256=row["sha256"],
        invited_by=row["invited_by"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        accepted_at=row["accepted_at"],
        accepted_by=row["accepted_by"],
        revoked_at=row["revoked_at"],
    )
