"""People and automation accounts, and the credentials that speak for them, as values.

No secret is in here: a password only as its argon2id hash, a key or session only as the SHA-256 of its text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from evidence.model import Actor, ActorKind


class Role(StrEnum):
    """What an account may do, each role with all that the one before it may, but ``approver`` and ``operator``
    differ: see the permission table of the API."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


class InvitationState(StrEnum):
    """``pending`` ones can be accepted; none of the others ever can again."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REVOKED = "revoked"
    EXPIRED = "expired"


class SessionKind(StrEnum):
    """``session`` lives in a browser's cookie, ``token`` is a program's bearer."""

    SESSION = "session"
    TOKEN = "token"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One person (``kind`` user) or automation account (``kind`` service); both have ``usr_`` ids.

    ``email`` is unique in the organisation without regard to case, and empty for a service account.
    ``password_hash`` is argon2id's encoded form, None for who cannot log in by password; it is kept out of ``repr``.
    ``second_factor`` says whether a login needs a code, too; it is read here and changed elsewhere.
    """

    id: str
    org: str
    email: str
    name: str
    kind: ActorKind
    role: Role
    created_at: datetime
    password_hash: str | None = field(default=None, repr=False)
    password_change_required: bool = False
    disabled: bool = False
    second_factor: bool = False

    def actor(self, credential: str) -> Actor:
        """The account as the doer of something, told apart by ``id`` and never by the credential it used."""
        return Actor(self.kind, self.id, self.name, credential)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key that speaks for ``user``. ``prefix`` is the first characters of its text, to recognise it in a list.

    ``scope`` names the permissions it was narrowed to, None for all that a key of its owner has; it takes away and
    never adds. ``replaced_by`` is the key that rotation put in its place.
    """

    id: str
    org: str
    user: str
    name: str
    prefix: str
    sha256: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    scope: frozenset[str] | None = None
    replaced_by: str | None = None

    def is_live(self, now: datetime) -> bool:
        """Whether the key counts at ``now``: neither revoked nor expired."""
        return self.revoked_at is None and now < self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A login that speaks for ``user`` until it expires or is ended."""

    id: str
    org: str
    user: str
    kind: SessionKind
    sha256: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None
    ended_at: datetime | None = None

    def is_live(self, now: datetime) -> bool:
        """Whether the login counts at ``now``: neither ended nor expired."""
        return self.ended_at is None and now < self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """An address that may make itself an account of one role, by a code that is good once.

    It rests on ``invited_by``: while they are disabled, or may not give the role, it cannot be accepted.
    """

    id: str
    org: str
    email: str
    role: Role
    sha256: str
    invited_by: str
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None = None
    accepted_by: str | None = None
    revoked_at: datetime | None = None

    def state(self, now: datetime) -> InvitationState:
        """What it is at ``now``, by itself; whether its inviter still may is another question."""
        if self.accepted_at is not None:
            return InvitationState.ACCEPTED
        if self.revoked_at is not None:
            return InvitationState.REVOKED
        return InvitationState.PENDING if now < self.expires_at else InvitationState.EXPIRED
