"""Devices, the tokens that let them enrol, and enrolment itself."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Annotated, Literal

from flask import Response
from pydantic import BaseModel, Field, StringConstraints

from api.auth.permissions import Permission
from api.auth.rates import Policy
from api.codes import EXCLUDES, READS
from api.errors import ApiError
from api.operator.artifacts import Labels, Reason
from api.operator.device_views import Device, device, devices, online_within
from api.operator.roster import exported
from api.operator.routes import (
    Body,
    IdPath,
    Page,
    PageQuery,
    Routes,
    caller,
    check_match,
    decode_cursor,
    now,
    page,
    reply,
    reply_page,
    serve_as,
    services,
    shared,
)
from api.operator.sheets import CSV, sheet, wants_csv
from fleet import model, provision, service
from fleet.enrol import EnrolRequest, enrol, organisation_of
from store.order import Order

api = Routes("devices", "Devices")

GroupName = Annotated[str, StringConstraints(max_length=100)]


class DeviceWithCode(Device):
    """A device, and the code that enrols as it: good once, until `code_expires_at`, and shown this once."""

    code: str | None = None
    code_expires_at: datetime


class NewDevice(Body):
    """A device to make. Without a `platform` it has the one that its agent tells when it enrols."""

    name: str = Field(min_length=1, max_length=100)
    platform: str = Field("", max_length=100)
    groups: list[GroupName] = Field(default_factory=list, max_length=50)
    labels: Labels = Field(default_factory=dict)

    def wanted(self) -> provision.Wanted:
        """The same as the fleet's value."""
        return provision.Wanted(name=self.name, platform=self.platform, groups=self.groups, labels=self.labels)


class DeviceQuery(PageQuery):
    """Filters of the list; all given must hold."""

    status: model.DeviceStatus | None = Field(None, description="in this status")
    platform: str | None = Field(None, max_length=100, description="of this platform")
    group: str | None = Field(None, max_length=100, description="in the group of this name")
    name: str | None = Field(None, max_length=100, description="part of the name")
    label: str | None = Field(None, max_length=500, pattern="^[^=]+=", description="a label it has: `name=value`")
    q: str | None = Field(
        None,
        max_length=100,
        pattern=r"^\s*(\S+\s+){0,7}\S*\s*$",
        description="up to 8 words, each of them part of the name, the host name or a label (`name=value`)",
    )
    online: bool | None = Field(None, description="called within three of its intervals, or did not")
    os_family: str | None = Field(None, max_length=100, description="of this family, for example `linux`")
    os_name: str | None = Field(None, max_length=200, description="part of the system's name")
    sort: Literal["created_at", "-created_at", "name", "-name"] = Field(
        "created_at", description="order; `-` for falling"
    )
    format: Literal["json", "csv"] | None = Field(None, description="`csv`: all that the filters leave, as `text/csv`")

    def filters(self, edge: datetime) -> dict[str, str]:
        """The filters that were given; ``edge`` is when a device must have called to be online."""
        named = {
            "status": self.status,
            "platform": self.platform,
            "group": self.group,
            "name": self.name,
            "label": self.label,
            "q": self.q,
            "seen_since": edge.isoformat() if self.online is True else None,
            "unseen_since": edge.isoformat() if self.online is False else None,
            "os_family": self.os_family,
            "os_name": self.os_name,
        }
        return {name: str(value) for name, value in named.items() if value is not None}


class DevicePage(Page[Device]):
    """Devices; with `total`, how many of them are `online` as well."""

    online: int | None = None


class Token(BaseModel):
    """An enrolment token; its text is shown once, in the answer that made it."""

    id: str
    name: str
    token: str | None = None
    expires_at: datetime
    max_uses: int
    uses: int
    groups: list[str]
    labels: dict[str, str]
    created_at: datetime


class NewToken(Body):
    """An enrolment token to make; devices that use it join its groups and get its labels."""

    name: str = Field(min_length=1, max_length=100)
    expires_in_hours: int = Field(720, ge=1, le=8784)
    max_uses: int = Field(1, ge=1, le=1_000_000)
    groups: list[str] = Field(default_factory=list, max_length=50)
    labels: Labels = Field(default_factory=dict)


class Enrolment(Body):
    """What a device sends to be let in: the token, or the code of one device, is the credential.

    A code is one device's: `name` does not count then, and `platform` only where the device has none.
    """

    token: str = Field(max_length=200)
    certificate_request: str = Field(max_length=16_384, description="PKCS #10, PEM")
    name: str = Field(max_length=100)
    platform: str = Field(max_length=100)
    hostname: str = Field("", max_length=255)
    os_family: str = Field("", max_length=100)
    os_name: str = Field("", max_length=200)
    agent_version: str = Field("", max_length=100)


class Enrolled(BaseModel):
    """All that a device needs. `root` is the root metadata whose SHA-256 stands in the token: check it first."""

    device_id: str
    name: str
    org: str
    groups: list[str]
    certificate_chain: str
    device_ca: str
    device_endpoint: str
    root: str
    metadata_url: str
    targets_url: str


@api.on("GET", "/devices", DevicePage, media_types=(CSV,), permission=Permission.DEVICES_READ)
def list_devices(query: DeviceQuery) -> Response:
    """List devices"""
    wiring, order, edge = services(), Order.of(query.sort), now() - online_within(services())
    fleet, org, filters, after = wiring.fleet, wiring.org, query.filters(edge), decode_cursor(query.cursor)
    if wants_csv(query.format):
        return sheet(exported(wiring, filters, query.sort, after, now()), "devices.csv")
    found = fleet.devices(org, after=after, limit=query.limit + 1, filters=filters, sort=query.sort)
    total, up = fleet.count_online(org, filters=filters, since=edge) if query.total else (None, None)
    listed = page(devices(wiring, found, now()), query.limit, lambda item: order.place(item.id, item.name), total)
    return reply_page(DevicePage(**dict(listed), online=up))


@api.on(
    "POST",
    "/devices",
    DeviceWithCode,
    permission=Permission.DEVICES_ENROLL,
    status=201,
    shown_once="code",
    errors=(*READS, "device_exists", "group_not_found", "invalid_fleet_input", "wrong_group_kind"),
)
def create_device(body: NewDevice) -> Response:
    """Make a device that is pending until it enrols, with a code that is good once"""
    root, by = services().repository.root_sha256(), caller().actor
    made = provision.create_device(services().fleet, services().org, body.wanted(), root_sha256=root, by=by, now=now())
    return reply(_with_code(made), 201)


@api.on(
    "POST",
    "/devices/{id}/enroll-code",
    DeviceWithCode,
    permission=Permission.DEVICES_ENROLL,
    status=201,
    shown_once="code",
    errors=(*READS, "device_not_found"),
)
def create_enroll_code(path: IdPath) -> Response:
    """Make a code for a device that is there; its earlier code ends now, its certificates when the new one is used"""
    root, by = services().repository.root_sha256(), caller().actor
    made = provision.renew_code(services().fleet, services().org, path.id, root_sha256=root, by=by, now=now())
    return reply(_with_code(made), 201)


@api.on("GET", "/devices/{id}", Device, permission=Permission.DEVICES_READ, errors=("device_not_found",))
def get_device(path: IdPath) -> Response:
    """Show one device, by id or name"""
    return reply(device(services().fleet.device(services().org, path.id)))


@api.on(
    "POST",
    "/devices/{id}/revoke",
    Device,
    permission=Permission.DEVICES_REVOKE,
    errors=("device_not_found", "device_revoked"),
)
def revoke_device(path: IdPath, body: Reason) -> Response:
    """Revoke a device: its credentials stop at once, on open connections too"""
    by, org = caller().actor, services().org
    return reply(device(service.revoke_device(services().fleet, org, path.id, body.reason, by=by, now=now())))


@api.on(
    "DELETE",
    "/devices/{id}",
    None,
    permission=Permission.DEVICES_DELETE,
    status=204,
    tagged=True,
    errors=EXCLUDES,
)
def delete_device(path: IdPath) -> Response:
    """Delete a device; only its audit trail stays"""
    fleet, org, by = services().fleet, services().org, caller().actor
    found = fleet.device(org, path.id)
    check_match(device(found))
    # First, for it can fail: what is left of a deletion that was stopped in between is a device to be deleted again.
    services().exclusions.forget(org, found.id, by=by, now=now())
    service.delete_device(fleet, org, found.id, by=by, now=now())
    return reply(None)


@api.on("GET", "/enroll-tokens", Page[Token], permission=Permission.ENROLL_TOKENS_ADMIN)
def list_enroll_tokens(query: PageQuery) -> Response:
    """List enrolment tokens"""
    fleet, org = services().fleet, services().org
    found = fleet.tokens(org, after=decode_cursor(query.cursor), limit=query.limit + 1)
    total = fleet.count_tokens(org) if query.total else None
    return reply_page(page([_token(one) for one in found], query.limit, lambda item: item.id, total))


@api.on(
    "POST",
    "/enroll-tokens",
    Token,
    permission=Permission.ENROLL_TOKENS_ADMIN,
    status=201,
    shown_once="token",
    errors=(*READS, "group_not_found", "invalid_fleet_input", "wrong_group_kind"),
)
def create_enroll_token(body: NewToken) -> Response:
    """Make an enrolment token"""
    token, text = service.create_token(
        services().fleet,
        services().org,
        name=body.name,
        root_sha256=services().repository.root_sha256(),
        life=timedelta(hours=body.expires_in_hours),
        max_uses=body.max_uses,
        groups=body.groups,
        labels=body.labels,
        by=caller().actor,
        now=now(),
    )
    return reply(_token(token, text), 201)


@api.on(
    "DELETE",
    "/enroll-tokens/{id}",
    None,
    permission=Permission.ENROLL_TOKENS_ADMIN,
    status=204,
    errors=("enroll_token_not_found",),
)
def delete_enroll_token(path: IdPath) -> Response:
    """Delete an enrolment token; devices that used it stay"""
    service.delete_token(services().fleet, services().org, path.id, by=caller().actor, now=now())
    return reply(None)


@api.on(
    "POST",
    "/enroll",
    Enrolled,
    public=True,
    status=201,
    policy=Policy.ENROLMENTS,
    once=True,
    errors=(
        *READS,
        "device_ca_unusable",
        "device_exists",
        "device_revoked",
        "enrolment_refused",
        "invalid_certificate_request",
        "invalid_fleet_input",
        "unknown_root",
    ),
)
def enroll_device(body: Enrolment) -> Response:
    """Let a device in: token and certificate request for a certificate and the trusted root"""
    # Whose token it is decides the organisation, before anything is made of it.
    wiring = serve_as(organisation_of(body.token, fleet=shared().fleet))
    request = EnrolRequest(
        token=body.token,
        certificate_request=body.certificate_request.encode(),
        name=body.name,
        platform=body.platform,
        hostname=body.hostname,
        os_family=body.os_family,
        os_name=body.os_name,
        agent_version=body.agent_version,
    )
    let_in = enrol(
        request, fleet=wiring.fleet, issuer=wiring.device_ca, days=wiring.settings.certificate_days, now=now()
    )
    root = wiring.repository.root_with_sha256(let_in.root_sha256)
    if root is None:
        raise ApiError(
            409, "unknown_root", "the token names a root that this repository never had; ask for a new token"
        )
    base = f"{wiring.settings.public_url}/tuf/{let_in.device.org}"
    answer = Enrolled(
        device_id=let_in.device.id,
        name=let_in.device.name,
        org=let_in.device.org,
        groups=list(let_in.device.groups),
        certificate_chain=let_in.certificate_chain,
        device_ca=let_in.device_ca,
        device_endpoint=wiring.settings.device_endpoint,
        root=base64.b64encode(root).decode(),
        metadata_url=f"{base}/metadata",
        targets_url=f"{base}/targets",
    )
    return reply(answer, 201)


def _with_code(made: provision.Provisioned) -> DeviceWithCode:
    return DeviceWithCode(**dict(device(made.device)), code=made.code, code_expires_at=made.expires_at)


def _token(token: model.EnrolToken, text: str | None = None) -> Token:
    return Token(
        id=token.id,
        name=token.name,
        token=text,
        expires_at=token.expires_at,
        max_uses=token.max_uses,
        uses=token.uses,
        groups=list(token.groups),
        labels=dict(token.labels),
        created_at=token.created_at,
    )
