"""`publish device logs`, `reboot`, `reboots`: what a device is asked to do once."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from cli.client import Client, segment
from cli.download import to_option
from cli.errors import LogsNotHere, UsageFault
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import fields, moment, size, table

LOOK_SECONDS: Final = 1.0
ENDED: Final = ("done", "failed", "expired", "cancelled")


@click.command()
@click.argument("device_", metavar="DEVICE")
@click.option("--request", is_flag=True, help="Ask the device for a bundle, which it sends when it calls.")
@click.option("--wait", is_flag=True, help="Wait until the bundle is here, or is known not to come.")
@click.option("--expires-in-hours", type=click.IntRange(1, 8_760), help="Give the request up after so long.  [24]")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the audit trail.")
@click.option("--get", "which", metavar="LOG", help="Download this bundle (log_…).  [with --to: the newest]")
@to_option
@list_options
@server_options
def logs(
    invocation: Invocation,
    device_: str,
    request: bool,
    wait: bool,
    expires_in_hours: int | None,
    reason: str,
    which: str | None,
    to: Path | None,
    limit: int | None,
) -> None:
    """List the log bundles of a device, ask for one, download one."""
    client, path = invocation.client(), f"/devices/{segment(device_)}/logs"
    if (expires_in_hours or reason) and not request:
        raise UsageFault("--expires-in-hours and --reason are of a request; give --request, too")
    found: dict[str, Any] | None = None
    if request:
        body: dict[str, Any] = {"reason": reason}
        if expires_in_hours is not None:
            body["expires_in_hours"] = expires_in_hours
        found = client.post(path, body)
    if wait:
        found = _awaited(client, path, None if found is None else found["id"])
    if which or to:
        _download(invocation, client, path, which or (found or {}).get("id"), to)
    elif found is not None:
        shown = found
        invocation.emit(shown, lambda: _describe(shown))
    else:
        items = list(client.items(path, limit=limit))
        invocation.emit({"items": items}, lambda: _table(items))


@click.command()
@click.argument("device_", metavar="DEVICE")
@click.option("--from", "starts", metavar="TIME", help="Not before (RFC 3339).  [now]")
@click.option("--to", "ends", metavar="TIME", help="Not at that time or later.  [24 hours after its beginning]")
@click.option("--maintenance-window", is_flag=True, help="Only in the window that the device itself is set to.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the audit trail.")
@click.option("--cancel", is_flag=True, help="Take back what is scheduled.")
@server_options
def reboot(
    invocation: Invocation,
    device_: str,
    starts: str | None,
    ends: str | None,
    maintenance_window: bool,
    reason: str,
    cancel: bool,
) -> None:
    """Have a device reboot once, in place of what is scheduled for it."""
    client, path = invocation.client(), f"/reboots/{segment(device_)}/schedule"
    if cancel:
        if starts or ends or maintenance_window or reason:
            raise UsageFault("--cancel goes alone")
        client.delete(path)
        invocation.emit({"device": device_, "cancelled": True}, f"the reboot of {device_} is taken back")
        return
    given = {"starts": starts, "ends": ends, "maintenance_window": maintenance_window, "reason": reason}
    made = client.post(path, {name: value for name, value in given.items() if value is not None})
    invocation.emit(made, lambda: f"{made['id']}: {device_} reboots {_when(made)}")


@click.command()
@list_options
@server_options
def reboots(invocation: Invocation, limit: int | None) -> None:
    """List devices that need a reboot or have one scheduled."""
    items = list(invocation.client().items("/reboots", limit=limit))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("device", "online", "needs it because", "scheduled", "state"),
            [
                (
                    item["device_name"],
                    item["online"],
                    item["why"],
                    _when(item["scheduled"]) if item["scheduled"] else "",
                    item["scheduled"]["state"] if item["scheduled"] else "",
                )
                for item in items
            ],
            empty="no device needs a reboot, and none is scheduled",
        ),
    )


def _awaited(client: Client, path: str, which: str | None) -> dict[str, Any]:
    """The bundle of that id, or the newest, once it has ended."""
    while True:
        found = next(_requested(client, path, which), None)
        if found is None:
            raise LogsNotHere("the device was asked for no logs")
        if found["state"] == "done":
            return found
        if found["state"] in ENDED:
            raise LogsNotHere(_why_not(found))
        time.sleep(LOOK_SECONDS)


def _requested(client: Client, path: str, which: str | None) -> Iterator[dict[str, Any]]:
    return (item for item in client.items(path, limit=None) if which is None or item["id"] == which)


def _download(invocation: Invocation, client: Client, path: str, which: str | None, to: Path | None) -> None:
    found = next((one for one in _requested(client, path, which) if which or one["length"] is not None), None)
    if found is None or found["length"] is None:
        raise LogsNotHere("there is no bundle of this device" if found is None else _why_not(found))
    pieces = client.stream(f"/logs/{segment(found['id'])}")
    if to is None:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    with to.open("xb") as file:
        try:
            for piece in pieces:
                file.write(piece)
        except BaseException:
            to.unlink()
            raise
    told = {"file": str(to), "length": found["length"], "id": found["id"], "sha256": found["sha256"]}
    invocation.emit(told, f"wrote {to} ({size(found['length'])})")


def _why_not(found: dict[str, Any]) -> str:
    return " ".join(part for part in (f"{found['id']} is {found['state']}:", found["code"], found["detail"]) if part)


def _table(items: list[dict[str, Any]]) -> str:
    return table(
        ("id", "state", "asked", "by", "size", "files", "kept until"),
        [
            (
                item["id"],
                item["state"],
                moment(item["requested_at"]),
                item["by"]["name"],
                "" if item["length"] is None else size(item["length"]),
                "" if item["files"] is None else str(item["files"]),
                moment(item["kept_until"]),
            )
            for item in items
        ],
        empty="nothing was asked for; ask with --request",
    )


def _describe(item: dict[str, Any]) -> str:
    return fields(
        [
            ("id", item["id"]),
            ("state", item["state"]),
            ("asked", moment(item["requested_at"])),
            ("expires", moment(item["expires_at"])),
            ("said", f"{item['code']} {item['detail']}".strip()),
            ("size", "" if item["length"] is None else size(item["length"])),
            ("sha256", item["sha256"]),
        ]
    )


def _when(item: dict[str, Any]) -> str:
    own = " in its own window" if item["maintenance_window"] else ""
    return f"from {moment(item['starts'])} to {moment(item['ends'])}{own}"
