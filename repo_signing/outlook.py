"""How long each role still lasts, in words that come well before clients notice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from repo_signing import roles
from repo_signing.model import RoleStatus

# A ceremony has to be called and people with keys have to come together.
OFFLINE_SOON: Final = timedelta(days=90)
OFFLINE_URGENT: Final = timedelta(days=14)
WAVES_SOON: Final = timedelta(days=30)  # a third of their life: approvers are asked by mail, not to a ceremony
# Online roles are signed anew by a job; what is past its due time by so much was not, and somebody has to look.
_SOON_SHARES: Final = {roles.TIMESTAMP: 2, roles.SNAPSHOT: 3, **dict.fromkeys(roles.DOCUMENTS, 3)}
_SOON_SHARE: Final = 4
_URGENT_SHARE: Final = 8


class Outlook(StrEnum):
    """``soon``: somebody should act; ``urgent``: now; ``expired``: clients refuse it."""

    OK = "ok"
    SOON = "soon"
    URGENT = "urgent"
    EXPIRED = "expired"


def outlook(role: RoleStatus, now: datetime) -> Outlook:
    """Judge the time a role has left.

    Root, targets and claimed products: soon from 90 days, urgent from 14; decisions that approvers sign: soon from 30.
    The others by their life: soon below a half (timestamp), a third (snapshot, decisions, brakes, revocations) or a
    quarter (releases and its bins), each later than the moment at which the server signs it anew; urgent below an
    eighth.
    """
    left = role.expires - now
    if left <= timedelta(0):
        return Outlook.EXPIRED
    if roles.is_offline(role.name):
        soon, urgent = WAVES_SOON if roles.is_waves(role.name) else OFFLINE_SOON, OFFLINE_URGENT
    else:
        life = roles.life(role.name, role.version)
        soon, urgent = life / _SOON_SHARES.get(role.name, _SOON_SHARE), life / _URGENT_SHARE
    if left <= urgent:
        return Outlook.URGENT
    return Outlook.SOON if left <= soon else Outlook.OK


def warnings(all_roles: Sequence[RoleStatus], now: datetime) -> list[tuple[Outlook, str]]:
    """One line for every role that is not ``ok``, the gravest first; of bins that fare alike the soonest, and how many.

    Returns:
        The outlook, and a line such as ``timestamp expires in 5 h; the server should have signed it anew …``.
    """
    found: dict[tuple[Outlook, str], list[RoleStatus]] = {}
    for role in all_roles:
        is_bin = roles.delegator(role.name) == roles.RELEASES
        found.setdefault((outlook(role, now), "bins" if is_bin else role.name), []).append(role)
    gravity = list(Outlook)
    lines = []
    for (how, _), group in found.items():
        if how is not Outlook.OK:
            first = min(group, key=lambda role: role.expires)
            lines.append((how, first.expires, _line(how, first, len(group) - 1, now)))
    lines.sort(key=lambda line: (-gravity.index(line[0]), line[1]))
    return [(how, text) for how, _, text in lines]


def advice(all_roles: Sequence[RoleStatus]) -> list[str]:
    """What somebody should do though nothing expires; one line each, none for a repository made now."""
    if any(role.name == roles.REVOCATIONS for role in all_roles):
        return []
    return [
        "revocations lie in hash bins, where a mirror could hide one from a device; "
        "the next targets gives them a role of their own: `publish repo draft new targets`"
    ]


def _line(how: Outlook, role: RoleStatus, more: int, now: datetime) -> str:
    others = f" (and {more} more)" if more else ""
    if how is Outlook.EXPIRED:
        when = f"expired on {roles.time_out(role.expires)}"
    else:
        hours = int((role.expires - now) / timedelta(hours=1))
        when = f"expires in {hours} h" if hours < 72 else f"expires in {hours // 24} d"
    if roles.is_offline(role.name):
        return f"{role.name} {when}; have it signed anew by its holders: `publish repo draft new {role.name}`"
    return f"{role.name}{others} {when}; the server should have signed it anew: see its log, run `publish repo refresh`"
