"""Logging in by a provider of OpenID Connect: whom of those that the provider knows we let in, and as what.

A person is who the provider says by ``sub``, for good; an e-mail address is passed on from one person to another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from evidence.errors import LoginRefused
from evidence.people import Role

_LONGEST_SUBJECT: Final = 255  # characters, OpenID Connect Core section 2
_LONGEST_EMAIL: Final = 254
_LONGEST_NAME: Final = 100
_HIGHEST_FIRST: Final = (Role.ADMIN, Role.APPROVER, Role.OPERATOR, Role.VIEWER)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A claim and the value it must be, or have among its values."""

    claim: str
    value: str

    def __str__(self) -> str:
        return f"{self.claim}={self.value}"

    def holds(self, claims: Mapping[str, Any]) -> bool:
        """Whether these claims have it."""
        found = claims.get(self.claim)
        values = found if isinstance(found, list) else [found]
        return any(_text(one) == self.value for one in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Who may come in. ``domains`` empty: any address. ``default`` None: only who has an account or a role by claim."""

    domains: frozenset[str] = frozenset()
    required: Wanted | None = None
    roles: Mapping[Role, Wanted] = field(default_factory=dict)
    default: Role | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """Somebody the provider vouches for. ``role`` is what the claims or the default give, None for nothing."""

    issuer: str
    subject: str
    email: str
    name: str
    role: Role | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who an account is at a provider. ``follows_roles``: the account was made by it, so claims say its role."""

    org: str
    issuer: str
    subject: str
    user: str
    follows_roles: bool
    linked_at: datetime


def introduce(claims: Mapping[str, Any], admission: Admission, *, issuer: str) -> Newcomer:
    """Judge verified claims.

    Raises:
        LoginRefused: The address is not verified or of another domain, or the required claim is missing. The message
            tells what was found and not what the operator demands.
    """
    subject, email = claims.get("sub"), claims.get("email")
    if not isinstance(subject, str) or not 1 <= len(subject) <= _LONGEST_SUBJECT:
        raise LoginRefused("the provider does not say who you are (sub)")
    if not isinstance(email, str) or not 3 <= len(email) <= _LONGEST_EMAIL or email.count("@") != 1:
        raise LoginRefused("the provider tells no e-mail address of yours; it has to be in the scope `email`")
    if _text(claims.get("email_verified")) != "true":
        raise LoginRefused(f"the provider has not verified that {email} is yours; verify it there first")
    domain = email.rpartition("@")[2].lower()
    if admission.domains and domain not in admission.domains:
        raise LoginRefused(f"addresses of {domain} are not let in here")
    if admission.required is not None and not admission.required.holds(claims):
        raise LoginRefused(f"{email} is not among those who are let in here; ask whoever runs the provider")
    role = next((one for one in _HIGHEST_FIRST if one in admission.roles and admission.roles[one].holds(claims)), None)
    name = claims.get("name")
    shown = name.strip()[:_LONGEST_NAME] if isinstance(name, str) else ""
    return Newcomer(
        issuer=issuer,
        subject=subject,
        email=email,
        name=shown or email.partition("@")[0],
        role=role or admission.default,
    )


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int) else None
