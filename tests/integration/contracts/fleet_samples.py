"""What the contract of the fleet's stores is tested with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from evidence.model import Actor, ActorKind, AuditEvent
from fleet.model import Certificate, CheckIn, Device, DeviceStatus, EnrolToken, Group
from fleet.ports import Fleet

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ADA = Actor(ActorKind.USER, "usr_ADA", "Ada", "ses_1")

TOKEN = EnrolToken(
    id="tok_1",
    org="acme",
    name="line 3",
    sha256="0a" * 32,
    created_by="usr_ADA",
    created_at=NOON,
    expires_at=NOON + timedelta(days=1),
    max_uses=100,
)

SAID = CheckIn(
    agent_version="0.1.0",
    hostname="h",
    os_family="linux",
    os_name="Debian 12",
    platform="linux-arm64",
    running=(),
    state="nothing to do",
    at=NOON,
)


def enrol(fleet: Fleet, device: Device, *, number: int = 1) -> None:
    certificate = replace(a_certificate(number), device=device.id)
    fleet.enrol("acme", TOKEN.sha256, device, certificate, an_event("device.enrolled"), now=NOON)


def a_device(number: int) -> Device:
    return Device(
        id=f"dev_{number}",
        org="acme",
        name=f"device-{number}",
        status=DeviceStatus.ACTIVE,
        platform="linux-amd64",
        created_at=NOON,
    )


def a_certificate(number: int) -> Certificate:
    return Certificate(
        fingerprint=f"f{number}" * 32,
        serial=f"{number:x}",
        device=f"dev_{number}",
        not_before=NOON,
        not_after=NOON + timedelta(days=30),
    )


def a_group(number: int) -> Group:
    return Group(id=f"grp_{number}", org="acme", name=f"group-{number}", description="", created_at=NOON)


def an_event(tag: str) -> AuditEvent:
    return AuditEvent(tag, "subject", ADA, NOON)
