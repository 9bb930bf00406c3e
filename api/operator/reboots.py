"""Devices that need a reboot, and reboots that are scheduled."""

from __future__ import annotations

from datetime import datetime

from flask import Response
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.operator.artifacts import By
from api.operator.device_views import online_within
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
from fleet.command import Command, CommandState
from fleet.command_ports import Pending
from fleet.rules import online

api = Routes("reboots", "Devices")


class Reboot(BaseModel):
    """A reboot of a device, once, from `starts` on and before `ends`.

    `maintenance_window`: only within the window that the device itself is set to, where it has one.
    """

    id: str
    device_id: str
    state: CommandState
    starts: datetime
    ends: datetime
    maintenance_window: bool
    reason: str
    by: By
    at: datetime
    delivered_at: datetime | None


class PendingReboot(BaseModel):
    """A device that needs a reboot, or has one scheduled. `why` is what it says itself, empty when it needs none."""

    device_id: str
    device_name: str
    online: bool
    last_seen_at: datetime | None
    why: str
    scheduled: Reboot | None


class NewReboot(Body):
    """When a device is to reboot: without `starts` from now on, without `ends` within 24 hours from there."""

    starts: Moment | None = None
    ends: Moment | None = None
    maintenance_window: bool = False
    reason: str = Field("", max_length=1_000)


@api.on("GET", "/reboots", Page[PendingReboot], permission=Permission.REBOOTS_READ)
def list_reboots(query: PageQuery) -> Response:
    """List devices that need a reboot or have one scheduled"""
    rows, org = services().commands.rows, services().org
    found = rows.pending(org, after=decode_cursor(query.cursor), limit=query.limit + 1)
    total = rows.count_pending(org) if query.total else None
    return reply_page(page([_pending(one) for one in found], query.limit, lambda item: item.device_id, total))


@api.on(
    "POST",
    "/reboots/{id}/schedule",
    Reboot,
    permission=Permission.REBOOTS_WRITE,
    status=201,
    also=(200,),
    errors=("device_not_found", "device_revoked", "invalid_fleet_input"),
)
def schedule_reboot(path: IdPath, body: NewReboot) -> Response:
    """Schedule a device's reboot, in place of what is scheduled; 200 when it is scheduled so already"""
    moment = now()
    made = services().commands.schedule_reboot(
        services().org,
        path.id,
        begins=body.starts,
        ends=body.ends,
        own_window=body.maintenance_window,
        reason=body.reason,
        by=caller().actor,
        now=moment,
    )
    return reply(_shown(made), 201 if made.made_at == moment else 200)


@api.on(
    "DELETE",
    "/reboots/{id}/schedule",
    None,
    permission=Permission.REBOOTS_WRITE,
    status=204,
    errors=("command_not_found", "command_over", "device_not_found"),
)
def cancel_reboot(path: IdPath) -> Response:
    """Take a device's scheduled reboot back, unless it has begun with it"""
    services().commands.cancel_reboot(services().org, path.id, by=caller().actor, now=now())
    return reply(None)


def _pending(one: Pending) -> PendingReboot:
    return PendingReboot(
        device_id=one.device.id,
        device_name=one.device.name,
        online=online(one.device, now(), within=online_within(services())),
        last_seen_at=one.device.last_seen_at,
        why=one.why,
        scheduled=None if one.scheduled is None else _shown(one.scheduled),
    )


def _shown(command: Command) -> Reboot:
    return Reboot(
        id=command.id,
        device_id=command.device,
        state=command.state,
        starts=command.not_before,
        ends=command.expires_at,
        maintenance_window=command.own_window,
        reason=command.reason,
        by=By(kind=command.by.kind.value, id=command.by.id, name=command.by.name),
        at=command.made_at,
        delivered_at=command.delivered_at,
    )
