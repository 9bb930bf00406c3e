"""Devices that are known before they come: each is pending, with a code of its own, until somebody enrols with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from evidence.ids import new_id
from evidence.model import Actor, AuditEvent
from evidence.times import rfc3339
from fleet.model import Device, DeviceCode, DeviceStatus
from fleet.ports import Fleet
from fleet.rules import checked_device_name, checked_labels, checked_platform
from fleet.service import static_groups
from fleet.token import new_token_text

CODE_LIFE: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A device to make. ``platform`` may be empty: the device tells it when it comes. ``groups`` are names or ids."""

    name: str
    platform: str = ""
    groups: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """A device, and the code that enrols as it; the code's text is told this once and kept nowhere."""

    device: Device
    code: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"Provisioned(device={self.device.id!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A device that is not stored yet, with its code, the code's text and the event of its making."""

    device: Device
    code: DeviceCode
    text: str = field(repr=False)
    event: AuditEvent


def create_device(fleet: Fleet, org: str, wanted: Wanted, *, root_sha256: str, by: Actor, now: datetime) -> Provisioned:
    """Make a pending device and its code, good once for 30 days. Writes ``device.created``.

    Raises:
        InvalidFleetInput: Name, platform or a label do not do.
        DeviceExists: The name is taken.
        UnknownGroup: One of the groups does not exist.
        WrongGroupKind: One of them is made by a selector; give labels that meet it instead.
    """
    checked = replace(wanted, groups=static_groups(fleet, org, wanted.groups))
    plan = planned_device(org, checked, root_sha256=root_sha256, by=by, now=now)
    fleet.add_devices(org, [(plan.device, plan.code)], [plan.event])
    return Provisioned(device=fleet.device(org, plan.device.id), code=plan.text, expires_at=plan.code.expires_at)


def planned_device(org: str, wanted: Wanted, *, root_sha256: str, by: Actor, now: datetime) -> Planned:
    """A pending device as it will be stored; ``groups`` are names of static groups. Raises InvalidFleetInput."""
    device = Device(
        id=new_id("dev"),
        org=org,
        name=checked_device_name(wanted.name),
        status=DeviceStatus.PENDING,
        platform=checked_platform(wanted.platform) if wanted.platform else "",
        created_at=now,
        labels=checked_labels(wanted.labels),
        groups=tuple(wanted.groups),
    )
    code, text = _new_code(device, root_sha256, by, now)
    told = {"name": device.name, "platform": device.platform, "groups": list(device.groups), **_told(code)}
    return Planned(device=device, code=code, text=text, event=AuditEvent("device.created", device.id, by, now, told))


def renew_code(fleet: Fleet, org: str, device: str, *, root_sha256: str, by: Actor, now: datetime) -> Provisioned:
    """Make a code for a device that is there, in place of the one it has. Writes ``device.code.created``.

    Also for a device that is active or revoked and must get a new identity: it keeps the one it has until the code is
    used, and loses it then. Raises UnknownDevice.
    """
    found = fleet.device(org, device)
    code, text = _new_code(found, root_sha256, by, now)
    told = {"name": found.name, "status": found.status.value, **_told(code)}
    fleet.put_code(code, AuditEvent("device.code.created", found.id, by, now, told))
    return Provisioned(device=found, code=text, expires_at=code.expires_at)


def _new_code(device: Device, root_sha256: str, by: Actor, now: datetime) -> tuple[DeviceCode, str]:
    text = new_token_text(root_sha256)
    code = DeviceCode(
        id=new_id("cod"),
        org=device.org,
        device=device.id,
        sha256=text.sha256,
        created_by=by.id,
        created_at=now,
        expires_at=now + CODE_LIFE,
    )
    return code, text.text


def _told(code: DeviceCode) -> dict[str, str]:
    return {"code": code.id, "expires_at": rfc3339(code.expires_at)}
