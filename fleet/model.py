"""Devices, groups and enrolment tokens as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class DeviceStatus(StrEnum):
    """``pending`` has a name and no certificate yet, and counts in no wave; ``revoked`` credentials stop at once."""

    PENDING = "pending"
    ACTIVE = "active"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a device says it runs of one product."""

    product: str
    version: str
    path: str
    sha256: str
    rollout: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device. ``name`` is unique in the organisation; ``running`` maps product to what runs.

    ``groups`` are all it is in, ``held_back`` those of them it is not told yet, because somebody's edit put it there
    while a wave was open: docs/adr/0095-edits-never-widen-an-open-wave.md. A pending one may have no ``platform`` yet.
    ``reboot_pending`` is why it needs a reboot, empty when it needs none; ``has_commands`` whether one is open.
    """

    id: str
    org: str
    name: str
    status: DeviceStatus
    platform: str
    created_at: datetime
    hostname: str = ""
    os_family: str = ""
    os_name: str = ""
    agent_version: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    held_back: tuple[str, ...] = ()
    last_seen_at: datetime | None = None
    running: Mapping[str, Running] = field(default_factory=dict)
    state: str = ""
    reboot_pending: str = ""
    has_commands: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A named set of devices. ``name`` is a slug, unique, and never changes: decisions are signed under it.

    ``selector`` is empty for a static group; a group does not change from one kind to the other. ``revision`` counts
    people's edits from 1: description, selector, devices put in and taken out by hand. ``devices`` counts the pending
    and the revoked too.
    """

    id: str
    org: str
    name: str
    description: str
    created_at: datetime
    devices: int = 0
    selector: str = ""
    revision: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Who a selector finds now: all ``devices``, the ``active`` ones of them, and the first few in order of id."""

    devices: int
    active: int
    sample: tuple[Device, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolToken:
    """Lets up to ``max_uses`` devices enrol until ``expires_at``; the secret itself is not kept, only its SHA-256."""

    id: str
    org: str
    name: str
    sha256: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    max_uses: int
    uses: int = 0
    groups: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode:
    """Lets one known device, and nobody else, get an identity, once, until ``expires_at``. Kept as its SHA-256."""

    id: str
    org: str
    device: str
    sha256: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEdit:
    """What an import changes of a device that is there: ``labels`` in place of its own (None: they stay), and names of
    static groups that it joins and leaves."""

    device: str
    labels: Mapping[str, str] | None = None
    joins: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A device certificate as issued: ``fingerprint`` is the lower-case hex SHA-256 of its DER form."""

    fingerprint: str
    serial: str
    device: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckIn:
    """What a device says when it calls: what it runs, how it is, and in plain words why it does what it does.

    ``reboot_pending`` is why it needs a reboot, empty when it needs none.
    """

    agent_version: str
    hostname: str
    os_family: str
    os_name: str
    platform: str
    running: tuple[Running, ...]
    state: str
    at: datetime
    reboot_pending: str = ""
