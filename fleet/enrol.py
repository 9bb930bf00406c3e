"""How a device gets its identity, and how it keeps it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from evidence.ids import new_id
from evidence.model import Actor, ActorKind, AuditEvent
from evidence.times import rfc3339
from fleet.errors import DeviceRevoked, EnrolmentRefused, InvalidFleetInput
from fleet.model import Certificate, Device, DeviceCode, DeviceStatus
from fleet.ports import Fleet
from fleet.rules import checked_device_name, checked_platform, told
from fleet.token import TokenText, parse_token_text
from keys.device_ca import IssuedCertificate
from keys.errors import InvalidCertificateRequest

CERTIFICATE_DAYS = 30  # short, since it is renewed by itself; revocation does not wait for it


class Issuer(Protocol):
    """What certifies keys; ``keys.device_ca.DeviceCa`` does."""

    @property
    def certificate_pem(self) -> str:
        """What devices trust the device port by, PEM."""

    def issue(
        self, request: bytes, device_id: str, *, now: datetime, days: int = ..., organisation: str | None = ...
    ) -> IssuedCertificate:
        """Raises InvalidCertificateRequest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolRequest:
    """What a device sends: the token's or code's text, a PKCS #10 request (PEM or DER), and what it says of itself.

    A code is one device's, whose name and platform stand already: what is sent counts only where nothing stands.
    """

    token: str
    certificate_request: bytes
    name: str
    platform: str
    hostname: str = ""
    os_family: str = ""
    os_name: str = ""
    agent_version: str = ""

    def __repr__(self) -> str:
        return f"EnrolRequest(name={self.name!r}, platform={self.platform!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A device with its identity, as it is stored: with the token's labels, and the groups that these bring.

    ``root_sha256`` is the digest its token holds: hand it the root with this digest.
    """

    device: Device
    certificate_chain: str
    device_ca: str
    root_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """A device's next certificate with its issuer, and whom to trust the device port by, PEM."""

    certificate_chain: str
    device_ca: str


def organisation_of(token: str, *, fleet: Fleet) -> str:
    """Whose token or code this is; raises EnrolmentRefused for one that is malformed or unknown."""
    sha256 = parse_token_text(token).sha256
    code = fleet.code(sha256)
    return fleet.token(sha256).org if code is None else code.org


def enrol(
    request: EnrolRequest, *, fleet: Fleet, issuer: Issuer, now: datetime, days: int = CERTIFICATE_DAYS
) -> Enrolled:
    """Take one place of a token, add the device and its certificate; one transaction, with ``device.enrolled``.

    With a device's code it is that device which becomes active, with this certificate and no other.
    The token is looked at before the request is, so that strangers cannot make the server do public key work.

    Raises:
        EnrolmentRefused: The token or code is malformed, unknown, expired or used up.
        InvalidFleetInput: Name, platform or certificate request do not do.
        DeviceExists: The name is taken. Nothing is stored in any of these cases and the token keeps its place.
    """
    text = parse_token_text(request.token)
    code = fleet.code(text.sha256)
    if code is not None:
        return _enrol_by_code(request, text, code, fleet=fleet, issuer=issuer, now=now, days=days)
    token = fleet.token(text.sha256)
    if now >= token.expires_at:
        raise EnrolmentRefused(f"the enrolment token {token.name!r} expired at {token.expires_at:%Y-%m-%d %H:%M} UTC")
    if token.uses >= token.max_uses:
        raise EnrolmentRefused(f"the enrolment token {token.name!r} is used up: {token.uses} of {token.max_uses}")
    name, platform = checked_device_name(request.name), checked_platform(request.platform)
    device_id = new_id("dev")
    issued = _issue(issuer, request.certificate_request, device_id, token.org, now=now, days=days)
    device = Device(
        id=device_id,
        org=token.org,
        name=name,
        status=DeviceStatus.ACTIVE,
        platform=platform,
        created_at=now,
        hostname=told(request.hostname),
        os_family=told(request.os_family),
        os_name=told(request.os_name),
        agent_version=told(request.agent_version),
    )
    event = AuditEvent(
        "device.enrolled",
        device_id,
        Actor(ActorKind.DEVICE, device_id, name, credential=token.id),
        now,
        {
            "name": name,
            "platform": platform,
            "token": token.id,
            "groups": list(token.groups),
            **_told(issued),
        },
    )
    fleet.enrol(token.org, token.sha256, device, _certificate(issued, device_id), event, now=now)
    return _enrolled(fleet.device(token.org, device_id), issued, issuer, text)


def _enrol_by_code(
    request: EnrolRequest,
    text: TokenText,
    code: DeviceCode,
    *,
    fleet: Fleet,
    issuer: Issuer,
    now: datetime,
    days: int,
) -> Enrolled:
    known = fleet.device(code.org, code.device)
    if code.used_at is not None:
        raise EnrolmentRefused(
            f"the code of device {known.name} was used at {code.used_at:%Y-%m-%d %H:%M} UTC and is good once; "
            "if that was not this device, revoke it, and ask for a new code"
        )
    if now >= code.expires_at:
        raise EnrolmentRefused(
            f"the code of device {known.name} expired at {code.expires_at:%Y-%m-%d %H:%M} UTC; ask for a new one"
        )
    device = replace(
        known,
        status=DeviceStatus.ACTIVE,
        platform=known.platform or checked_platform(request.platform),
        hostname=told(request.hostname),
        os_family=told(request.os_family),
        os_name=told(request.os_name),
        agent_version=told(request.agent_version),
    )
    issued = _issue(issuer, request.certificate_request, known.id, code.org, now=now, days=days)
    event = AuditEvent(
        "device.enrolled",
        known.id,
        Actor(ActorKind.DEVICE, known.id, known.name, credential=code.id),
        now,
        {
            "name": known.name,
            "platform": device.platform,
            "code": code.id,
            "before": known.status.value,
            "groups": list(known.groups),
            **_told(issued),
        },
    )
    fleet.enrol_by_code(code.org, code.sha256, device, _certificate(issued, known.id), event, now=now)
    return _enrolled(fleet.device(code.org, known.id), issued, issuer, text)


def renew(
    device: Device, request: bytes, *, fleet: Fleet, issuer: Issuer, now: datetime, days: int = CERTIFICATE_DAYS
) -> Renewed:
    """Certify a new key of a known device. The old certificate lives on until it expires.

    Writes ``device.certificate.renewed``.

    Raises:
        DeviceRevoked: The device is not active.
        InvalidFleetInput: The certificate request does not do.
    """
    if device.status is not DeviceStatus.ACTIVE:
        raise DeviceRevoked(f"device {device.id} is {device.status}; it gets no certificate")
    issued = _issue(issuer, request, device.id, device.org, now=now, days=days)
    event = AuditEvent(
        "device.certificate.renewed",
        device.id,
        Actor(ActorKind.DEVICE, device.id, device.name),
        now,
        _told(issued),
    )
    fleet.add_certificate(_certificate(issued, device.id), event, device.org)
    return Renewed(certificate_chain=issued.chain_pem, device_ca=issuer.certificate_pem)


def _enrolled(device: Device, issued: IssuedCertificate, issuer: Issuer, text: TokenText) -> Enrolled:
    return Enrolled(
        device=device,
        certificate_chain=issued.chain_pem,
        device_ca=issuer.certificate_pem,
        root_sha256=text.root_sha256,
    )


def _told(issued: IssuedCertificate) -> dict[str, str]:
    return {"certificate": issued.fingerprint, "not_after": rfc3339(issued.not_after)}


def _issue(issuer: Issuer, request: bytes, device_id: str, org: str, *, now: datetime, days: int) -> IssuedCertificate:
    try:
        return issuer.issue(request, device_id, now=now, days=days, organisation=org)
    except InvalidCertificateRequest as error:
        raise InvalidFleetInput(str(error)) from error


def _certificate(issued: IssuedCertificate, device_id: str) -> Certificate:
    return Certificate(
        fingerprint=issued.fingerprint,
        serial=issued.serial,
        device=device_id,
        not_before=issued.not_before,
        not_after=issued.not_after,
    )
