"""`publish group`: named sets of devices."""

from __future__ import annotations

from typing import Any

import click

from cli.client import segment
from cli.errors import UsageFault
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import fields, moment, table


@click.group()
def group() -> None:
    """Name sets of devices. GROUP and DEVICE are ids or names."""


@group.command()
@click.argument("name")
@click.option("--description", default="", metavar="TEXT", help="What the group is for.")
@click.option("--selector", metavar="SELECTOR", help="Who is in, now and later; without it the group is static.")
@server_options
def create(invocation: Invocation, name: str, description: str, selector: str | None) -> None:
    """Make a group. Its name never changes: rollout decisions are signed under it.

    A selector joins facts with `and`, for example
    labels.site=berlin and platform=linux-amd64 and version(app)>=1.2 and last_seen<7d.
    Try it first with `publish group preview`.
    """
    asked = {"name": name, "description": description} | ({} if selector is None else {"selector": selector})
    made = invocation.client().post("/groups", asked)
    invocation.emit(made, lambda: f"made group {made['name']} ({made['id']}) with {made['devices']} devices")


@group.command()
@click.argument("group_", metavar="GROUP")
@click.option("--description", metavar="TEXT", help="What the group is for.")
@click.option("--selector", metavar="SELECTOR", help="Who is in from now on; only for a group that has a selector.")
@server_options
def edit(invocation: Invocation, group_: str, description: str | None, selector: str | None) -> None:
    """Change a group's description or selector, unless somebody else was first.

    Devices that join so are held back from waves that are open: an edit never widens one.
    """
    change = {
        name: value for name, value in (("description", description), ("selector", selector)) if value is not None
    }
    if not change:
        raise UsageFault("nothing to change; give --description or --selector")
    client, path = invocation.client(), f"/groups/{segment(group_)}"
    changed = client.patch(path, change, etag=client.get_tagged(path).etag)
    invocation.emit(
        changed, lambda: f"{changed['name']} is at revision {changed['revision']}, {changed['devices']} devices"
    )


@group.command()
@click.argument("selector", metavar="SELECTOR")
@click.option("--rollout", "rollout_id", metavar="ROLLOUT", help="Place the devices shown by this rollout's salt.")
@click.option("--sample", type=click.IntRange(0, 200), default=20, show_default=True, help="Show this many devices.")
@server_options
def preview(invocation: Invocation, selector: str, rollout_id: str | None, sample: int) -> None:
    """Try a selector: how many devices it finds now, in which shares, and the first of them. Nothing is stored."""
    asked: dict[str, object] = {"selector": selector, "sample": sample}
    found = invocation.client().post(
        "/groups/preview", asked | ({} if rollout_id is None else {"rollout_id": rollout_id})
    )
    invocation.emit(found, lambda: _preview(found))


@group.command("list")
@list_options
@server_options
def list_(invocation: Invocation, limit: int | None) -> None:
    """List the groups."""
    items = list(invocation.client().items("/groups", limit=limit))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("name", "devices", "selector", "description", "created", "id"),
            [
                (
                    item["name"],
                    item["devices"],
                    item["selector"],
                    item["description"],
                    moment(item["created_at"]),
                    item["id"],
                )
                for item in items
            ],
            empty="there is no group yet",
        ),
    )


@group.command()
@click.argument("group_", metavar="GROUP")
@list_options
@server_options
def show(invocation: Invocation, group_: str, limit: int | None) -> None:
    """Show a group and the devices in it."""
    client = invocation.client()
    found = client.get(f"/groups/{segment(group_)}")
    devices = list(client.items(f"/groups/{segment(group_)}/devices", limit=limit))
    invocation.emit(
        {**found, "items": devices},
        lambda: "\n\n".join(
            [
                fields(
                    [
                        ("name", found["name"]),
                        ("id", found["id"]),
                        ("description", found["description"]),
                        ("selector", found["selector"] or "none: static"),
                        ("revision", found["revision"]),
                        ("devices", found["devices"]),
                    ]
                ),
                table(
                    ("device", "status", "platform", "online", "id"),
                    [
                        (device["name"], device["status"], device["platform"], device["online"], device["id"])
                        for device in devices
                    ],
                    empty="no device is in it",
                ),
            ]
        ),
    )


@group.command()
@click.argument("group_", metavar="GROUP")
@click.argument("devices", metavar="DEVICE...", nargs=-1, required=True)
@server_options
def add(invocation: Invocation, group_: str, devices: tuple[str, ...]) -> None:
    """Put devices into a static group. A rollout's open wave does not count or offer them until its next one opens."""
    client = invocation.client()
    for device in devices:
        client.put(f"/groups/{segment(group_)}/devices/{segment(device)}")
    invocation.emit({"group": group_, "added": list(devices)}, f"{len(devices)} put into {group_}")


@group.command()
@click.argument("group_", metavar="GROUP")
@click.argument("devices", metavar="DEVICE...", nargs=-1, required=True)
@server_options
def remove(invocation: Invocation, group_: str, devices: tuple[str, ...]) -> None:
    """Take devices out of a static group."""
    client = invocation.client()
    for device in devices:
        client.delete(f"/groups/{segment(group_)}/devices/{segment(device)}")
    invocation.emit({"group": group_, "removed": list(devices)}, f"{len(devices)} taken out of {group_}")


@group.command()
@click.argument("group_", metavar="GROUP")
@server_options
def delete(invocation: Invocation, group_: str) -> None:
    """Delete a group. Its devices stay; a group that a rollout, a token or a selector still names cannot go."""
    invocation.client().delete(f"/groups/{segment(group_)}")
    invocation.emit({"group": group_, "deleted": True}, f"deleted group {group_}")


def _preview(found: dict[str, Any]) -> str:
    shares = ", ".join(f"{share['percent']}% about {share['devices']}" for share in found["shares"])
    return "\n\n".join(
        [
            fields(
                [
                    ("selector", found["selector"]),
                    ("devices", f"{found['devices']}, {found['active']} of them active"),
                    ("shares", f"{shares}; each is inside every larger one"),
                ]
            ),
            table(
                ("device", "status", "platform", "labels", "last seen", "reached at", "id"),
                [
                    (
                        placed["device"]["name"],
                        placed["device"]["status"],
                        placed["device"]["platform"],
                        [f"{name}={value}" for name, value in placed["device"]["labels"].items()],
                        moment(placed["device"]["last_seen_at"]),
                        None if placed["percent"] is None else f"{placed['percent']}%",
                        placed["device"]["id"],
                    )
                    for placed in found["sample"]
                ],
                empty="no device is shown",
            ),
        ]
    )
