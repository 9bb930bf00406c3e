"""From somebody a provider vouches for to an account: theirs, one made for them, or a new one."""

from __future__ import annotations

from datetime import datetime

from api.settings import Settings
from evidence.errors import LoginRefused
from evidence.federation import Admission, Identity, Newcomer
from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from evidence.people import Role, User
from store.accounts import Accounts
from store.errors import AccountNotLinked, IdentityTaken, StoreError, UserExists
from store.identities import Identities


def admission_of(settings: Settings, *, makes_accounts: bool) -> Admission:
    """Who may come in, as the settings say.

    Args:
        makes_accounts: Whether the provider gives accounts and roles in the organisation; else it only says who is
            who, and an account is needed beforehand.
    """
    if not makes_accounts:
        return Admission(
            domains=frozenset(settings.oidc_email_domains),
            required=settings.oidc_required_claim,
            roles={},
            default=None,
        )
    return Admission(
        domains=frozenset(settings.oidc_email_domains),
        required=settings.oidc_required_claim,
        roles=settings.oidc_roles,
        default=settings.oidc_default_role,
    )


def account_of(newcomer: Newcomer, *, org: str, accounts: Accounts, identities: Identities, now: datetime) -> User:
    """The account that somebody at a provider logs into; made, claimed or brought up to date where that is due.

    Raises:
        LoginRefused: The account is disabled, or there is none and none is made.
        AccountNotLinked: The address has an account that is in use.
    """
    found = identities.find(org, newcomer.issuer, newcomer.subject)
    if found is None:
        found = _first_login(newcomer, org, accounts, identities, now)
    user, identity = found
    if user.disabled:
        raise LoginRefused("the account is disabled; ask an administrator")
    if identity.follows_roles and newcomer.role not in (None, user.role):
        by = Actor(ActorKind.SYSTEM, "system:oidc", "oidc")
        told = {"role": str(newcomer.role), "because": "claims of the provider"}
        event = AuditEvent("user.changed", user.id, by, now, told)
        user = accounts.update_user(org, user.id, event, role=newcomer.role)
    return user


def _first_login(
    newcomer: Newcomer, org: str, accounts: Accounts, identities: Identities, now: datetime
) -> tuple[User, Identity]:
    standing = accounts.user_by_email(org, newcomer.email)
    refusal: StoreError | None = None
    try:
        if standing is not None:
            if standing.disabled:
                raise LoginRefused("the account is disabled; ask an administrator")
            by = Actor(ActorKind.USER, standing.id, standing.name)
            identities.claim(standing, newcomer, linked(newcomer, standing, by, now))
        else:
            _create(newcomer, org, identities, now)
    except (AccountNotLinked, IdentityTaken, UserExists) as error:
        refusal = error  # perhaps for the same person was first in another window
    found = identities.find(org, newcomer.issuer, newcomer.subject)
    if found is None:
        raise refusal or LoginRefused("the account was unlinked meanwhile; log in again")
    return found


def _create(newcomer: Newcomer, org: str, identities: Identities, now: datetime) -> None:
    role: Role | None = newcomer.role
    if role is None:
        raise LoginRefused(f"{newcomer.email} has no account here; ask an administrator for one")
    user = User(
        id=new_id("usr"),
        org=org,
        email=newcomer.email,
        name=newcomer.name,
        kind=ActorKind.USER,
        role=role,
        created_at=now,
    )
    by = Actor(ActorKind.SYSTEM, "system:oidc", "oidc")
    told = {"name": user.name, "role": role.value, "issuer": newcomer.issuer}
    created = AuditEvent("user.created", user.id, by, now, told)
    identities.create(user, newcomer, [created, linked(newcomer, user, by, now)])


def linked(newcomer: Newcomer, user: User, by: Actor, now: datetime) -> AuditEvent:
    """The event of an account that gets an identity."""
    told = {"issuer": newcomer.issuer, "subject": newcomer.subject, "email": newcomer.email}
    return AuditEvent("user.linked", user.id, by, now, told)
