"""Invitations: an administrator asks somebody in, who sets name and password by a code that is good once.

No mail is sent: whoever invites hands the code on, by a way they trust.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Final

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission, inviters
from api.errors import ApiError
from api.operator import accounts
from api.operator.accounts import Email, Name, Password
from api.operator.routes import (
    Body,
    IdPath,
    Page,
    PageQuery,
    Routes,
    caller,
    decode_cursor,
    named_organisation,
    now,
    page,
    reply,
    reply_page,
    services,
    shared,
)
from evidence import people
from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from keys.secret import INVITATION, check_form, digest, new_secret
from store.errors import InvitationRefused

api = Routes("invitations", "Accounts")

MAX_DAYS: Final = 30


class Invitation(BaseModel):
    """An invitation; its `code` is shown once, in the answer that made it.

    While the account `invited_by` is disabled, or may not give the role any more, it cannot be accepted.
    """

    id: str
    email: str
    role: people.Role
    state: people.InvitationState
    code: str | None = None
    invited_by: str
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    accepted_by: str | None
    revoked_at: datetime | None


class NewInvitation(Body):
    """Whom to invite, and as what."""

    email: Email
    role: people.Role
    expires_in_days: Annotated[int, Field(ge=1, le=MAX_DAYS)] = 7


class InvitationQuery(PageQuery):
    """Filter of the list."""

    state: people.InvitationState | None = Field(None, description="in this state")


class Acceptance(Body):
    """The code of an invitation, and what its address's account is to have."""

    code: str = Field(max_length=200)
    name: Name
    password: Password


@api.on("GET", "/invitations", Page[Invitation], permission=Permission.USERS_ADMIN)
def list_invitations(query: InvitationQuery) -> Response:
    """List invitations, newest first"""
    kept, org, after = services().invitations, services().org, decode_cursor(query.cursor)
    found = kept.invitations(org, now=now(), state=query.state, after=after, limit=query.limit + 1)
    total = kept.count(org, now=now(), state=query.state) if query.total else None
    return reply_page(page([_shown(one) for one in found], query.limit, lambda item: item.id, total))


@api.on(
    "POST",
    "/invitations",
    Invitation,
    permission=Permission.USERS_ADMIN,
    status=201,
    shown_once="code",
    errors=("role_too_high", "user_exists"),
)
def create_invitation(body: NewInvitation) -> Response:
    """Invite somebody; hand the code on yourself, no mail is sent"""
    me = caller()
    if me.user.role not in inviters(body.role):
        raise ApiError(403, "role_too_high", f"your role {me.user.role} does not have all that {body.role} has")
    secret = new_secret(INVITATION)
    made = people.Invitation(
        id=new_id("inv"),
        org=services().org,
        email=body.email,
        role=body.role,
        sha256=secret.sha256,
        invited_by=me.user.id,
        created_at=now(),
        expires_at=now() + timedelta(days=body.expires_in_days),
    )
    told = {"role": made.role.value, "expires_at": made.expires_at.isoformat()}
    services().invitations.add(made, AuditEvent("invitation.created", made.id, me.actor, now(), told))
    return reply(_shown(made, secret.text), 201)


@api.on(
    "DELETE", "/invitations/{id}", None, permission=Permission.USERS_ADMIN, status=204, errors=("invitation_not_found",)
)
def revoke_invitation(path: IdPath) -> Response:
    """Revoke an invitation; its code is worthless at once"""
    event = AuditEvent("invitation.revoked", path.id, caller().actor, now())
    services().invitations.revoke(services().org, path.id, event)
    return reply(None)


@api.on(
    "POST",
    "/auth/accept-invitation",
    accounts.User,
    public=True,
    status=201,
    errors=("invitation_refused", "user_exists", "weak_password"),
)
def accept_invitation(body: Acceptance) -> Response:
    """Make the account one was invited to; log in with it afterwards"""
    kept = shared().invitations
    found = kept.by_sha256(digest(body.code)) if check_form(body.code, INVITATION) else None
    # Before the password costs a hash: nobody without a code makes the server work.
    elsewhere = found is not None and named_organisation() not in {None, found.org}
    if found is None or elsewhere or found.state(now()) is not people.InvitationState.PENDING:
        raise InvitationRefused("the code is unknown, was used or revoked, or has expired; ask for a new invitation")
    made = people.User(
        id=new_id("usr"),
        org=found.org,
        email=found.email,
        name=body.name,
        kind=ActorKind.USER,
        role=found.role,
        created_at=now(),
        password_hash=shared().passwords.hash(accounts.acceptable(body.password)),
    )
    by = Actor(ActorKind.USER, made.id, made.name, found.id)
    events = [
        AuditEvent("invitation.accepted", found.id, by, now(), {"user": made.id}),
        AuditEvent("user.created", made.id, by, now(), {"name": made.name, "role": made.role.value}),
    ]
    kept.accept(found, made, events, inviters=inviters(found.role))
    return reply(accounts.user(made), 201)


def _shown(found: people.Invitation, code: str | None = None) -> Invitation:
    return Invitation(
        id=found.id,
        email=found.email,
        role=found.role,
        state=found.state(now()),
        code=code,
        invited_by=found.invited_by,
        created_at=found.created_at,
        expires_at=found.expires_at,
        accepted_at=found.accepted_at,
        accepted_by=found.accepted_by,
        revoked_at=found.revoked_at,
    )
