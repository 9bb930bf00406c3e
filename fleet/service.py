"""What people do with groups, tokens and devices: the value, the rule and the audit event of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from evidence.ids import new_id
from evidence.model import Actor, AuditEvent
from fleet.errors import InvalidFleetInput
from fleet.model import Device, EnrolToken, Group
from fleet.ports import Fleet
from fleet.rules import checked_description, checked_group_name, checked_labels, checked_token_name
from fleet.token import new_token_text

MAX_TOKEN_LIFE: Final = timedelta(days=366)
MAX_TOKEN_USES: Final = 1_000_000
MAX_REASON: Final = 1_000  # characters


def create_token(
    fleet: Fleet,
    org: str,
    *,
    name: str,
    root_sha256: str,
    life: timedelta,
    max_uses: int,
    groups: Sequence[str],
    labels: Mapping[str, str],
    by: Actor,
    now: datetime,
) -> tuple[EnrolToken, str]:
    """Make an enrolment token; the second value is its text, shown once. Writes ``enroll_token.created``.

    Raises:
        InvalidFleetInput: A name, label, life (up to 366 days) or number of uses (1 to 1,000,000) out of bounds.
        UnknownGroup: One of ``groups`` (names or ids) does not exist.
    """
    checked_token_name(name)
    if not timedelta(0) < life <= MAX_TOKEN_LIFE:
        raise InvalidFleetInput(f"the token would live {life}, expected more than nothing and at most 366 days")
    if not 1 <= max_uses <= MAX_TOKEN_USES:
        raise InvalidFleetInput(f"max_uses is {max_uses}, expected 1 to {MAX_TOKEN_USES}")
    named = tuple(dict.fromkeys(fleet.group(org, group).name for group in groups))
    text = new_token_text(root_sha256)
    token = EnrolToken(
        id=new_id("tok"),
        org=org,
        name=name,
        sha256=text.sha256,
        created_by=by.id,
        created_at=now,
        expires_at=now + life,
        max_uses=max_uses,
        groups=named,
        labels=checked_labels(labels),
    )
    told = {"name": name, "max_uses": max_uses, "groups": list(named), "expires_at": token.expires_at.isoformat()}
    fleet.add_token(token, AuditEvent("enroll_token.created", token.id, by, now, told))
    return token, text.text


def delete_token(fleet: Fleet, org: str, token_id: str, *, by: Actor, now: datetime) -> None:
    """Nobody enrols with it any more; writes ``enroll_token.deleted``. Raises UnknownToken."""
    fleet.delete_token(org, token_id, AuditEvent("enroll_token.deleted", token_id, by, now))


def create_group(fleet: Fleet, org: str, *, name: str, description: str, by: Actor, now: datetime) -> Group:
    """Make an empty group; writes ``group.created``. Raises InvalidFleetInput, GroupExists."""
    group = Group(
        id=new_id("grp"),
        org=org,
        name=checked_group_name(name),
        description=checked_description(description),
        created_at=now,
    )
    fleet.add_group(group, AuditEvent("group.created", group.id, by, now, {"name": name, "description": description}))
    return group


def describe_group(fleet: Fleet, org: str, group: str, description: str, *, by: Actor, now: datetime) -> Group:
    """Change a group's description; writes ``group.described``. Raises InvalidFleetInput, UnknownGroup."""
    found = fleet.group(org, group)
    data = {"name": found.name, "description": checked_description(description)}
    fleet.describe_group(org, found.id, description, AuditEvent("group.described", found.id, by, now, data))
    return fleet.group(org, found.id)


def delete_group(fleet: Fleet, org: str, group: str, *, by: Actor, now: datetime) -> None:
    """Remove a group, not its devices; writes ``group.deleted``. Raises UnknownGroup, GroupInUse."""
    found = fleet.group(org, group)
    fleet.delete_group(org, found.id, AuditEvent("group.deleted", found.id, by, now, {"name": found.name}))


def join_group(fleet: Fleet, org: str, group: str, device: str, *, by: Actor, now: datetime) -> bool:
    """Put a device into a group; False when it was in. Writes ``group.device.added``.

    Raises UnknownGroup, UnknownDevice; both take a name or an id.
    """
    joined, member = fleet.group(org, group), fleet.device(org, device)
    return fleet.join(org, joined.id, member.id, _membership("group.device.added", joined, member, by, now))


def leave_group(fleet: Fleet, org: str, group: str, device: str, *, by: Actor, now: datetime) -> bool:
    """Take a device out of a group; False when it was not in. Writes ``group.device.removed``.

    Raises UnknownGroup, UnknownDevice; both take a name or an id.
    """
    left, member = fleet.group(org, group), fleet.device(org, device)
    return fleet.leave(org, left.id, member.id, _membership("group.device.removed", left, member, by, now))


def revoke_device(fleet: Fleet, org: str, device: str, reason: str, *, by: Actor, now: datetime) -> Device:
    """From the next call on the device is refused, on open connections too; writes ``device.revoked``.

    Raises UnknownDevice, InvalidFleetInput (no reason, or one of more than 1,000 characters).
    """
    if not reason.strip() or len(reason) > MAX_REASON:
        raise InvalidFleetInput(f"revoking needs a reason of 1 to {MAX_REASON} characters, found {len(reason)}")
    found = fleet.device(org, device)
    data = {"name": found.name, "reason": reason}
    fleet.revoke(org, found.id, AuditEvent("device.revoked", found.id, by, now, data))
    return fleet.device(org, found.id)


def delete_device(fleet: Fleet, org: str, device: str, *, by: Actor, now: datetime) -> None:
    """Remove a device; its name is free again, its audit trail stays.

    Writes ``device.deleted``; raises UnknownDevice.
    """
    found = fleet.device(org, device)
    fleet.delete(org, found.id, AuditEvent("device.deleted", found.id, by, now, {"name": found.name}))


def _membership(tag: str, group: Group, device: Device, by: Actor, now: datetime) -> AuditEvent:
    data = {"group": group.name, "device": device.id, "device_name": device.name}
    return AuditEvent(tag, group.id, by, now, data)
