"""Log bundles of devices: asked for, listed, downloaded, deleted."""

from __future__ import annotations

from datetime import datetime, timedelta

from flask import Response, request, send_file
from pydantic import BaseModel, Field

from api.auth.permissions import Permission
from api.errors import ApiError
from api.operator.artifacts import By
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
from fleet.command import Bundle, Command, CommandState, Kind

api = Routes("device_logs", "Devices")

GZIP = "application/gzip"


class LogBundle(BaseModel):
    """A bundle of logs that a device was asked for.

    `length` (bytes), `sha256` and `files` stand while the bundle is kept, until `kept_until`; `code` and `detail` tell
    why there is none.
    """

    id: str
    device_id: str
    state: CommandState
    reason: str
    by: By
    requested_at: datetime
    expires_at: datetime
    delivered_at: datetime | None
    ended_at: datetime | None
    code: str
    detail: str
    length: int | None
    sha256: str | None
    files: int | None
    kept_until: datetime | None


class LogRequest(Body):
    """For how long the request waits for a device that does not call, and why it is made."""

    expires_in_hours: int = Field(24, ge=1, le=8_760)
    reason: str = Field("", max_length=1_000)


@api.on(
    "POST",
    "/devices/{id}/logs",
    LogBundle,
    permission=Permission.DEVICE_LOGS_REQUEST,
    status=201,
    also=(200,),
    errors=("device_not_found", "device_revoked", "invalid_fleet_input", "log_quota_reached"),
)
def request_device_logs(path: IdPath, body: LogRequest) -> Response:
    """Ask a device for its logs, which it sends when it calls; 200 while it is asked for them already"""
    moment = now()
    asked = services().commands.request_logs(
        services().org,
        path.id,
        life=timedelta(hours=body.expires_in_hours),
        reason=body.reason,
        by=caller().actor,
        now=moment,
    )
    return reply(_shown(asked, None), 201 if asked.made_at == moment else 200)


@api.on(
    "GET",
    "/devices/{id}/logs",
    Page[LogBundle],
    permission=Permission.DEVICE_LOGS_READ,
    errors=("device_not_found",),
)
def list_device_logs(path: IdPath, query: PageQuery) -> Response:
    """List what a device was asked for, newest first"""
    rows, org = services().commands.rows, services().org
    device = services().fleet.device(org, path.id).id
    found = rows.of_device(org, device, Kind.LOGS, after=decode_cursor(query.cursor), limit=query.limit + 1)
    bundles = rows.bundles(org, [one.id for one in found])
    total = rows.count_of_device(org, device, Kind.LOGS) if query.total else None
    shown = [_shown(one, bundles.get(one.id)) for one in found]
    return reply_page(page(shown, query.limit, lambda item: item.id, total))


@api.on(
    "GET",
    "/logs/{id}",
    None,
    permission=Permission.DEVICE_LOGS_DOWNLOAD,
    media_types=(GZIP,),
    errors=("command_not_found", "logs_not_here", "requested_range_not_satisfiable"),
)
def get_device_logs(path: IdPath) -> Response:
    """Download a log bundle: a tar archive, compressed, as the device sent it"""
    command, bundle, file = services().commands.bundle(services().org, path.id)
    # The name is of an id, for what a device is called may be anything.
    name = f"{command.id}.tar.gz"
    return send_file(file, mimetype=GZIP, as_attachment=True, download_name=name, etag=bundle.sha256)


@api.on(
    "DELETE",
    "/logs/{id}",
    None,
    permission=Permission.DEVICE_LOGS_REQUEST,
    status=204,
    tagged=True,
    errors=("command_not_found", "command_over"),
)
def delete_device_logs(path: IdPath) -> Response:
    """Delete a log bundle, or take back the request for one"""
    commands, org = services().commands, services().org
    if request.if_match and not request.if_match.star_tag:
        found = commands.rows.bundles(org, [path.id]).get(path.id)
        if found is None or not request.if_match.contains(found.sha256):
            raise ApiError(412, "precondition_failed", "the bundle is not the one that If-Match names")
    commands.delete_logs(org, path.id, by=caller().actor, now=now())
    return reply(None)


def _shown(command: Command, bundle: Bundle | None) -> LogBundle:
    return LogBundle(
        id=command.id,
        device_id=command.device,
        state=command.state,
        reason=command.reason,
        by=By(kind=command.by.kind.value, id=command.by.id, name=command.by.name),
        requested_at=command.made_at,
        expires_at=command.expires_at,
        delivered_at=command.delivered_at,
        ended_at=command.ended_at,
        code=command.code,
        detail=command.detail,
        length=None if bundle is None else bundle.length,
        sha256=None if bundle is None else bundle.sha256,
        files=None if bundle is None else bundle.files,
        kept_until=None if bundle is None else bundle.kept_until,
    )
