"""Groups: named sets of devices that waves are made of."""

from __future__ import annotations

from datetime import datetime

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.operator.devices import Device, device
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
    services,
)
from fleet import model, service

api = Routes("groups", "Groups")


class Group(BaseModel):
    """A named set of devices. The name never changes: decisions are signed under it."""

    id: str
    name: str
    description: str
    devices: int
    created_at: datetime


class NewGroup(Body):
    """A group to make."""

    name: str = Field(max_length=100)
    description: str = Field("", max_length=1000)


class GroupChange(Body):
    """What can be changed of a group."""

    description: str = Field(max_length=1000)


class MemberPath(BaseModel):
    """A group and a device, each by id or name."""

    id: str = Field(max_length=200)
    device: str = Field(max_length=200)


@api.on("POST", "/groups", Group, permission=Permission.GROUPS_WRITE, status=201)
def create_group(body: NewGroup) -> Response:
    """Make a group"""
    made = service.create_group(
        services().fleet, services().org, name=body.name, description=body.description, by=caller().actor, now=now()
    )
    return reply(group(made), 201)


@api.on("GET", "/groups", Page[Group], permission=Permission.GROUPS_READ)
def list_groups(query: PageQuery) -> Response:
    """List groups"""
    found = services().fleet.groups(services().org, after=decode_cursor(query.cursor), limit=query.limit + 1)
    total = services().fleet.count_groups(services().org) if query.total else None
    return reply_page(page([group(one) for one in found], query.limit, lambda item: item.id, total))


@api.on("GET", "/groups/{id}", Group, permission=Permission.GROUPS_READ)
def get_group(path: IdPath) -> Response:
    """Show one group"""
    return reply(group(services().fleet.group(services().org, path.id)))


@api.on("PATCH", "/groups/{id}", Group, permission=Permission.GROUPS_WRITE)
def patch_group(path: IdPath, body: GroupChange) -> Response:
    """Change a group's description"""
    fleet, org = services().fleet, services().org
    found = fleet.group(org, path.id)
    check_match(group(found))
    changed = service.describe_group(fleet, org, found.id, body.description, by=caller().actor, now=now())
    return reply(group(changed))


@api.on("DELETE", "/groups/{id}", None, permission=Permission.GROUPS_WRITE, status=204)
def delete_group(path: IdPath) -> Response:
    """Delete a group that no rollout under way names"""
    found = services().fleet.group(services().org, path.id)
    check_match(group(found))
    service.delete_group(services().fleet, services().org, found.id, by=caller().actor, now=now())
    return reply(None)


@api.on("GET", "/groups/{id}/devices", Page[Device], permission=Permission.GROUPS_READ)
def list_members(path: IdPath, query: PageQuery) -> Response:
    """List the devices of a group"""
    fleet, org = services().fleet, services().org
    filters = {"group": fleet.group(org, path.id).name}
    found = fleet.devices(org, after=decode_cursor(query.cursor), limit=query.limit + 1, filters=filters)
    total = fleet.count_devices(org, filters=filters) if query.total else None
    return reply_page(page([device(one) for one in found], query.limit, lambda item: item.id, total))


@api.on("PUT", "/groups/{id}/devices/{device}", None, permission=Permission.GROUPS_WRITE, status=204)
def add_member(path: MemberPath) -> Response:
    """Put a device into a group"""
    service.join_group(services().fleet, services().org, path.id, path.device, by=caller().actor, now=now())
    return reply(None)


@api.on("DELETE", "/groups/{id}/devices/{device}", None, permission=Permission.GROUPS_WRITE, status=204)
def remove_member(path: MemberPath) -> Response:
    """Take a device out of a group"""
    service.leave_group(services().fleet, services().org, path.id, path.device, by=caller().actor, now=now())
    return reply(None)


def group(found: model.Group) -> Group:
    """A group as the API shows it."""
    return Group(
        id=found.id,
        name=found.name,
        description=found.description,
        devices=found.devices,
        created_at=found.created_at,
    )
