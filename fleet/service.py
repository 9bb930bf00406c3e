"""What people do with groups, tokens and devices: the value, the rule and the audit event of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from evidence.ids import new_id
from evidence.model import Actor, AuditEvent
from fleet.errors import GroupChanged, InvalidFleetInput, WrongGroupKind
from fleet.model import Device, EnrolToken, Group, Preview
from fleet.ports import Fleet
from fleet.rules import checked_description, checked_group_name, checked_labels, checked_token_name
from fleet.selector import parse
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
        WrongGroupKind: One of them is made by a selector; give its labels instead.
    """
    checked_token_name(name)
    if not timedelta(0) < life <= MAX_TOKEN_LIFE:
        raise InvalidFleetInput(f"the token would live {life}, expected more than nothing and at most 366 days")
    if not 1 <= max_uses <= MAX_TOKEN_USES:
        raise InvalidFleetInput(f"max_uses is {max_uses}, expected 1 to {MAX_TOKEN_USES}")
    named = static_groups(fleet, org, groups)
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


def static_groups(fleet: Fleet, org: str, groups: Sequence[str]) -> tuple[str, ...]:
    """The names of groups that devices may be put into when they are made, each once; names or ids are given.

    Raises:
        UnknownGroup: One of them does not exist.
        WrongGroupKind: One of them is made by a selector.
    """
    found = [fleet.group(org, group) for group in groups]
    for group in found:
        if group.selector:
            raise WrongGroupKind(
                f"the group {group.name} is made by the selector {group.selector!r}; give labels that meet it"
            )
    return tuple(dict.fromkeys(group.name for group in found))


def delete_token(fleet: Fleet, org: str, token_id: str, *, by: Actor, now: datetime) -> None:
    """Nobody enrols with it any more; writes ``enroll_token.deleted``. Raises UnknownToken."""
    fleet.delete_token(org, token_id, AuditEvent("enroll_token.deleted", token_id, by, now))


def create_group(
    fleet: Fleet, org: str, *, name: str, description: str, selector: str = "", by: Actor, now: datetime
) -> Group:
    """Make a group: empty and static, or of all devices that ``selector`` finds, now and later.

    Writes ``group.created``. Raises InvalidFleetInput, InvalidSelector, GroupExists, and for groups that the selector
    names UnknownGroup or WrongGroupKind.
    """
    group = Group(
        id=new_id("grp"),
        org=org,
        name=checked_group_name(name),
        description=checked_description(description),
        created_at=now,
        selector=str(parse(selector)) if selector else "",
    )
    told = {"name": name, "description": description} | ({"selector": group.selector} if group.selector else {})
    fleet.add_group(group, AuditEvent("group.created", group.id, by, now, told))
    return fleet.group(org, group.id)


def edit_group(
    fleet: Fleet,
    org: str,
    group: str,
    *,
    description: str | None = None,
    selector: str | None = None,
    seen: int | None = None,
    by: Actor,
    now: datetime,
) -> Group:
    """Change what is given; ``seen`` is the revision looked at, None for any. Writes ``group.described``, or
    ``group.selected`` with both selectors when that changes; nothing when nothing changes.

    Raises:
        InvalidFleetInput, InvalidSelector, UnknownGroup: As it says.
        GroupChanged: Somebody else was first.
        WrongGroupKind: A selector for a static group, an empty one for a selector's, or one that names such a group.
    """
    found = fleet.group(org, group)
    if seen is not None and seen != found.revision:
        raise GroupChanged(f"the group {found.name} is at revision {found.revision}, you saw {seen}; look again")
    after = replace(
        found,
        description=found.description if description is None else checked_description(description),
        selector=found.selector if selector is None else str(parse(selector)) if selector else "",
    )
    if after == found:
        return found
    told = {"name": found.name, "description": after.description}
    if after.selector == found.selector:
        event = AuditEvent("group.described", found.id, by, now, told)
    else:
        told |= {"selector": after.selector, "before": found.selector}
        event = AuditEvent("group.selected", found.id, by, now, told)
    fleet.edit_group(after, event, seen=found.revision)
    return fleet.group(org, found.id)


def delete_group(fleet: Fleet, org: str, group: str, *, seen: int | None = None, by: Actor, now: datetime) -> None:
    """Remove a group, not its devices; writes ``group.deleted``. Raises UnknownGroup, GroupChanged, GroupInUse."""
    found = fleet.group(org, group)
    event = AuditEvent("group.deleted", found.id, by, now, {"name": found.name})
    fleet.delete_group(org, found.id, event, seen=seen)


def preview(fleet: Fleet, org: str, selector: str, *, now: datetime, limit: int) -> Preview:
    """Who a selector would find, with the first ``limit`` devices; nothing is stored.

    Raises InvalidSelector, and for groups that it names UnknownGroup or WrongGroupKind.
    """
    return fleet.preview(org, parse(selector), now=now, limit=limit)


def label_device(
    fleet: Fleet,
    org: str,
    device: str,
    labels: Mapping[str, str | None],
    *,
    keep: bool = True,
    by: Actor,
    now: datetime,
) -> Device:
    """Set labels; None takes one away. ``keep`` those that are not named, else they go too.

    Writes ``device.labelled`` with what was asked, unless nothing changes. Raises UnknownDevice, InvalidFleetInput.
    """
    found = fleet.device(org, device)
    given = checked_labels({name: value for name, value in labels.items() if value is not None})

    def change(before: Mapping[str, str]) -> Mapping[str, str]:
        kept = {name: value for name, value in before.items() if name not in labels} if keep else {}
        return checked_labels(kept | given)

    event = AuditEvent("device.labelled", found.id, by, now, {"name": found.name, "labels": dict(labels), "kept": keep})
    fleet.relabel(org, found.id, change, event)
    return fleet.device(org, found.id)


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
