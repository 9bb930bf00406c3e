"""Exclusions and pins: what is kept away from whom, whatever a rollout says."""

from __future__ import annotations

from datetime import datetime

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.codes import EXCLUDES
from api.errors import ApiError
from api.operator.artifacts import By, Segment
from api.operator.routes import (
    Body,
    IdPath,
    Moment,
    Page,
    PageQuery,
    Routes,
    caller,
    decode_cursor,
    now,
    page,
    reply,
    reply_page,
    services,
)
from rollout import exclusion

api = Routes("exclusions", "Exclusions")


class Exclusion(BaseModel):
    """A standing no: for a device, a group or everybody; of a version, a package, or whatever the product offers.

    Of a `pin`, every version but the one named is kept away. `matched` counts artifacts found to contain the package.
    """

    id: str
    kind: exclusion.Kind
    device_id: str | None
    group: str | None
    product: str | None
    version: str | None
    package: str | None
    until: datetime | None
    matched: int
    reason: str
    by: By
    at: datetime


class NewExclusion(Body):
    """What to keep away, and from whom; without `device` and `group`, from everybody."""

    device: str | None = Field(None, max_length=200, description="id or name")
    group: Segment | None = None
    product: Segment | None = Field(None, description="every product when left out")
    version: Segment | None = None
    package: str | None = Field(None, max_length=200, description="name or purl, as SBOMs of releases have it")
    until: Moment | None = None
    reason: str = Field(max_length=100)


class Pin(Body):
    """The only version of a product that a device takes."""

    product: Segment
    version: Segment
    until: Moment | None = None
    reason: str = Field(max_length=100)


class PinQuery(Body):
    """Which pin of a device is meant."""

    product: Segment = Field(description="whose pin it is")


@api.on("GET", "/exclusions", Page[Exclusion], permission=Permission.EXCLUSIONS_READ)
def list_exclusions(query: PageQuery) -> Response:
    """List exclusions and pins, oldest first"""
    after = decode_cursor(query.cursor) or ""
    found = services().exclusions.rows.all(services().org)
    shown = [_shown(one) for one in found if one.id > after][: query.limit + 1]
    return reply_page(page(shown, query.limit, lambda item: item.id, len(found) if query.total else None))


@api.on(
    "POST",
    "/exclusions",
    Exclusion,
    permission=Permission.EXCLUSIONS_WRITE,
    status=201,
    errors=(*EXCLUDES, "group_unknown"),
)
def create_exclusion(body: NewExclusion) -> Response:
    """Keep a version, a package or everything away from a device, a group or everybody, from now on"""
    org = services().org
    device = None if body.device is None else services().fleet.device(org, body.device).id
    made = services().exclusions.exclude(
        org,
        reason=body.reason,
        by=caller().actor,
        now=now(),
        device=device,
        group=body.group,
        product=body.product,
        version=body.version,
        package=body.package,
        until=body.until,
    )
    # Rollouts that carry what is excluded for everybody pause at once, as they do for a yank.
    services().rollouts.tick(org, now())
    return reply(_shown(made), 201)


@api.on("DELETE", "/exclusions/{id}", None, permission=Permission.EXCLUSIONS_WRITE, status=204, errors=EXCLUDES)
def delete_exclusion(path: IdPath) -> Response:
    """Take an exclusion or a pin back"""
    services().exclusions.lift(services().org, path.id, by=caller().actor, now=now())
    return reply(None)


@api.on("PUT", "/devices/{id}/pin", Exclusion, permission=Permission.EXCLUSIONS_WRITE, errors=EXCLUDES)
def pin_device(path: IdPath, body: Pin) -> Response:
    """Let a device take one version of a product and no other; takes the place of its pin before"""
    org = services().org
    made = services().exclusions.exclude(
        org,
        kind=exclusion.Kind.PIN,
        device=services().fleet.device(org, path.id).id,
        product=body.product,
        version=body.version,
        until=body.until,
        reason=body.reason,
        by=caller().actor,
        now=now(),
    )
    return reply(_shown(made))


@api.on("DELETE", "/devices/{id}/pin", None, permission=Permission.EXCLUSIONS_WRITE, status=204, errors=EXCLUDES)
def unpin_device(path: IdPath, query: PinQuery) -> Response:
    """Take a device's pin of a product back"""
    org = services().org
    device = services().fleet.device(org, path.id)
    found = services().exclusions.pin_of(org, device.id, query.product)
    if found is None:
        raise ApiError(404, "exclusion_not_found", f"{device.name} has no pin of {query.product}")
    services().exclusions.lift(org, found.id, by=caller().actor, now=now())
    return reply(None)


def _shown(one: exclusion.Exclusion) -> Exclusion:
    return Exclusion(
        id=one.id,
        kind=one.kind,
        device_id=one.device,
        group=one.group,
        product=one.product,
        version=one.version,
        package=one.package,
        until=one.until,
        matched=len(one.matched),
        reason=one.reason,
        by=By(kind=one.by.kind.value, id=one.by.id, name=one.by.name),
        at=one.at,
    )
