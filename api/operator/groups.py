"""Groups: named sets of devices that waves are made of."""

from __future__ import annotations

from datetime import datetime

from flask import Response, request
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.errors import ApiError
from api.operator.device_views import Device, devices
from api.operator.routes import (
    Body,
    IdPath,
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
from fleet import model, service
from fleet.selector import MAX_SELECTOR

api = Routes("groups", "Groups")


class Group(BaseModel):
    """A named set of devices. The name never changes: decisions are signed under it.

    `selector` is null for a static group. `revision` counts people's edits, and is what the `ETag` stands for: devices
    that enrol do not change it.
    """

    id: str
    name: str
    description: str
    selector: str | None
    revision: int
    devices: int
    created_at: datetime


class NewGroup(Body):
    """A group to make: static, or of all devices that the selector finds, now and later."""

    name: str = Field(max_length=100)
    description: str = Field("", max_length=1000)
    selector: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_SELECTOR,
        description="who is in; without it the group is static",
        examples=["labels.site = berlin and platform = linux-amd64 and version(app) >= 1.2 and last_seen < 7d"],
    )


class GroupChange(Body):
    """What can be changed of a group; what is left out stays. A group stays static, or of a selector."""

    description: str | None = Field(None, max_length=1000)
    selector: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_SELECTOR,
        description="who joins by another selector is held back from waves that are open",
        examples=["labels.site in (berlin, munich)"],
    )


class MemberPath(BaseModel):
    """A group and a device, each by id or name."""

    id: str = Field(max_length=200, description="id or name of the group")
    device: str = Field(max_length=200, description="id or name of the device")


@api.on(
    "POST",
    "/groups",
    Group,
    permission=Permission.GROUPS_WRITE,
    status=201,
    errors=("group_exists", "group_not_found", "invalid_fleet_input", "invalid_selector"),
)
def create_group(body: NewGroup) -> Response:
    """Make a group"""
    made = service.create_group(
        services().fleet,
        services().org,
        name=body.name,
        description=body.description,
        selector=body.selector or "",
        by=caller().actor,
        now=now(),
    )
    return _reply(made, 201)


@api.on("GET", "/groups", Page[Group], permission=Permission.GROUPS_READ)
def list_groups(query: PageQuery) -> Response:
    """List groups"""
    found = services().fleet.groups(services().org, after=decode_cursor(query.cursor), limit=query.limit + 1)
    total = services().fleet.count_groups(services().org) if query.total else None
    return reply_page(page([group(one) for one in found], query.limit, lambda item: item.id, total))


@api.on("GET", "/groups/{id}", Group, permission=Permission.GROUPS_READ, errors=("group_not_found",))
def get_group(path: IdPath) -> Response:
    """Show one group"""
    return _reply(services().fleet.group(services().org, path.id))


@api.on(
    "PATCH",
    "/groups/{id}",
    Group,
    permission=Permission.GROUPS_WRITE,
    tagged=True,
    errors=(
        "group_changed",
        "group_not_found",
        "invalid_fleet_input",
        "invalid_selector",
        "wrong_group_kind",
    ),
)
def patch_group(path: IdPath, body: GroupChange) -> Response:
    """Change a group's description or selector"""
    fleet, org = services().fleet, services().org
    found = fleet.group(org, path.id)
    changed = service.edit_group(
        fleet,
        org,
        found.id,
        description=body.description,
        selector=body.selector,
        seen=_seen(found),
        by=caller().actor,
        now=now(),
    )
    return _reply(changed)


@api.on(
    "DELETE",
    "/groups/{id}",
    None,
    permission=Permission.GROUPS_WRITE,
    status=204,
    tagged=True,
    errors=("group_changed", "group_in_use", "group_not_found"),
)
def delete_group(path: IdPath) -> Response:
    """Delete a group that no rollout under way, enrolment token or selector names"""
    fleet, org = services().fleet, services().org
    found = fleet.group(org, path.id)
    service.delete_group(fleet, org, found.id, seen=_seen(found), by=caller().actor, now=now())
    return reply(None)


@api.on("GET", "/groups/{id}/devices", Page[Device], permission=Permission.GROUPS_READ, errors=("group_not_found",))
def list_members(path: IdPath, query: PageQuery) -> Response:
    """List the devices of a group"""
    fleet, org = services().fleet, services().org
    filters = {"group": fleet.group(org, path.id).name}
    found = fleet.devices(org, after=decode_cursor(query.cursor), limit=query.limit + 1, filters=filters)
    total = fleet.count_devices(org, filters=filters) if query.total else None
    return reply_page(page(devices(services(), found, now()), query.limit, lambda item: item.id, total))


@api.on(
    "PUT",
    "/groups/{id}/devices/{device}",
    None,
    permission=Permission.GROUPS_WRITE,
    status=204,
    errors=("device_not_found", "group_not_found", "wrong_group_kind"),
)
def add_member(path: MemberPath) -> Response:
    """Put a device into a static group"""
    service.join_group(services().fleet, services().org, path.id, path.device, by=caller().actor, now=now())
    return reply(None)


@api.on(
    "DELETE",
    "/groups/{id}/devices/{device}",
    None,
    permission=Permission.GROUPS_WRITE,
    status=204,
    errors=("device_not_found", "group_not_found", "wrong_group_kind"),
)
def remove_member(path: MemberPath) -> Response:
    """Take a device out of a static group"""
    service.leave_group(services().fleet, services().org, path.id, path.device, by=caller().actor, now=now())
    return reply(None)


def group(found: model.Group) -> Group:
    """A group as the API shows it."""
    return Group(
        id=found.id,
        name=found.name,
        description=found.description,
        selector=found.selector or None,
        revision=found.revision,
        devices=found.devices,
        created_at=found.created_at,
    )


def _reply(found: model.Group, status: int = 200) -> Response:
    return reply(group(found), status, tag=_tag(found))


def _seen(found: model.Group) -> int:
    """The revision to change: the one just read, if that is what ``If-Match`` names."""
    if request.if_match and not request.if_match.contains(_tag(found)):
        raise ApiError(412, "precondition_failed", "it was changed since you read it; read it again and decide afresh")
    return found.revision


def _tag(found: model.Group) -> str:
    return f"{found.id}-{found.revision}"
