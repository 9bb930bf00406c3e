"""Which accounts a list is about, and who is left with a role."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, select

from evidence.model import ActorKind
from evidence.people import Role
from store.account_models import users


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which accounts are wanted: all that is not None must hold. ``email`` is compared whole, without case."""

    kind: ActorKind | None = None
    role: Role | None = None
    disabled: bool | None = None
    email: str | None = None


def email_key(email: str) -> str | None:
    """What addresses are compared by; None for an account without one."""
    return email.strip().casefold() or None


def conditions(chosen: Chosen | None) -> list[ColumnElement[bool]]:
    """What a row must meet to be among the chosen."""
    if chosen is None:
        return []
    found: list[ColumnElement[bool]] = []
    if chosen.kind is not None:
        found.append(users.c.kind == chosen.kind.value)
    if chosen.role is not None:
        found.append(users.c.role == chosen.role.value)
    if chosen.disabled is not None:
        found.append(users.c.disabled.is_(chosen.disabled))
    if chosen.email is not None:
        found.append(users.c.email_key == email_key(chosen.email))
    return found


def others_hold(connection: Connection, org: str, user_id: str, role: Role) -> bool:
    """Whether taking the role from this account leaves somebody with it, or changes nothing about that."""
    persons = (users.c.org == org) & (users.c.kind == ActorKind.USER.value) & users.c.disabled.is_(False)
    # Locked in one order: of two administrators who demote each other at once, the second sees what the first did.
    query = select(users.c.id).where(persons, users.c.role == role.value).order_by(users.c.id).with_for_update()
    return list(connection.execute(query).scalars()) != [user_id]
