"""`publish device`: the fleet."""

from __future__ import annotations

from typing import Any

import click

from cli.client import segment
from cli.commands.device_codes import code, create
from cli.commands.device_commands import logs, reboot, reboots
from cli.commands.device_exclusions import exclude, exclusions, include, pin, unpin
from cli.commands.device_history import history
from cli.commands.device_roster import export, filter_options, import_
from cli.errors import UsageFault
from cli.invocation import Invocation
from cli.options import list_options, pairs, server_options
from cli.text import fields, moment, table


@click.group()
def device() -> None:
    """Make, list, show, label, revoke and delete devices. DEVICE is an id (dev_…) or a name."""


@device.command("list")
@filter_options
@list_options
@server_options
def list_(invocation: Invocation, limit: int | None, **wanted: str | bool | None) -> None:
    """List the devices and what they run."""
    items = list(invocation.client().items("/devices", limit=limit, **wanted))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("name", "status", "online", "platform", "groups", "runs", "updates", "last seen", "id"),
            [
                (
                    item["name"],
                    item["status"],
                    item["online"],
                    item["platform"],
                    item["groups"],
                    _running(item),
                    item["updates_available"],
                    moment(item["last_seen_at"]),
                    item["id"],
                )
                for item in items
            ],
            empty="there is no device yet; make one with `publish device create`, or a token for many",
        ),
    )


@device.command()
@click.argument("device_", metavar="DEVICE")
@server_options
def show(invocation: Invocation, device_: str) -> None:
    """Show one device."""
    found = invocation.client().get(f"/devices/{segment(device_)}")
    invocation.emit(found, lambda: _describe(found))


@device.command()
@click.argument("device_", metavar="DEVICE")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the audit trail.")
@server_options
def revoke(invocation: Invocation, device_: str, reason: str) -> None:
    """Stop a device's credentials at once, open connections too."""
    revoked = invocation.client().post(f"/devices/{segment(device_)}/revoke", {"reason": reason})
    invocation.emit(revoked, lambda: f"revoked {revoked['name']} ({revoked['id']})")


@device.command()
@click.argument("device_", metavar="DEVICE")
@server_options
def delete(invocation: Invocation, device_: str) -> None:
    """Delete a device: everything of it goes but the audit trail."""
    invocation.client().delete(f"/devices/{segment(device_)}")
    invocation.emit({"device": device_, "deleted": True}, f"deleted device {device_}")


@device.command()
@click.argument("device_", metavar="DEVICE")
@click.argument("labels", metavar="[KEY=VALUE]...", nargs=-1, callback=pairs)
@click.option("--remove", multiple=True, metavar="KEY", help="Take this label away; repeat.")
@click.option("--replace", is_flag=True, help="Take every label away that is not given.")
@server_options
def label(invocation: Invocation, device_: str, labels: dict[str, str], remove: tuple[str, ...], replace: bool) -> None:
    """Set labels of a device, which selectors of groups look at."""
    if replace and remove:
        raise UsageFault("--replace takes away what is not given; it goes without --remove")
    if twice := sorted(set(labels) & set(remove)):
        raise UsageFault(f"{twice[0]!r} is both set and removed")
    if not (labels or remove or replace):
        raise UsageFault("nothing to change; give KEY=VALUE, --remove or --replace")
    client, path = invocation.client(), f"/devices/{segment(device_)}/labels"
    if replace:
        changed = client.call("PUT", path, body={"labels": labels}).told
    else:
        changed = client.call("PATCH", path, body={"labels": {**labels, **dict.fromkeys(remove)}}).told
    invocation.emit(changed, lambda: _describe(changed))


for _command in (
    *(code, create, exclude, exclusions, export, history, import_),
    *(include, logs, pin, reboot, reboots, unpin),
):
    device.add_command(_command)


def _running(item: dict[str, Any]) -> list[str]:
    return [f"{running['product']} {running['version']}" for running in item["running"]]


def _describe(item: dict[str, Any]) -> str:
    return fields(
        [
            ("id", item["id"]),
            ("name", item["name"]),
            ("status", item["status"]),
            ("online", item["online"]),
            ("last seen", moment(item["last_seen_at"])),
            ("says", item["state"]),
            ("platform", item["platform"]),
            ("hostname", item["hostname"]),
            ("system", " ".join(part for part in (item["os_family"], item["os_name"]) if part)),
            ("agent", item["agent_version"]),
            ("reboot", item["reboot_pending"] and f"needed: {item['reboot_pending']}"),
            ("groups", item["groups"]),
            ("held back", item["held_back"]),
            ("labels", item["labels"]),
            ("enrolled", moment(item["created_at"])),
            ("updates", item["updates_available"]),
            ("critical", "" if item["critical_count"] is None else item["critical_count"]),
            *(("runs", f"{run['product']} {run['version']}  sha256 {run['sha256']}") for run in item["running"]),
        ]
    )
