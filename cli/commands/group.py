"""`publish group`: named sets of devices."""

from __future__ import annotations

import click

from cli.client import segment
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import fields, moment, table


@click.group()
def group() -> None:
    """Name sets of devices. GROUP and DEVICE are ids or names."""


@group.command()
@click.argument("name")
@click.option("--description", default="", metavar="TEXT", help="What the group is for.")
@server_options
def create(invocation: Invocation, name: str, description: str) -> None:
    """Make a group. Its name never changes: rollout decisions are signed under it."""
    made = invocation.client().post("/groups", {"name": name, "description": description})
    invocation.emit(made, lambda: f"made group {made['name']} ({made['id']})")


@group.command("list")
@list_options
@server_options
def list_(invocation: Invocation, limit: int | None) -> None:
    """List the groups."""
    items = list(invocation.client().items("/groups", limit=limit))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("name", "devices", "description", "created", "id"),
            [
                (item["name"], item["devices"], item["description"], moment(item["created_at"]), item["id"])
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
    """Put devices into a group."""
    client = invocation.client()
    for device in devices:
        client.put(f"/groups/{segment(group_)}/devices/{segment(device)}")
    invocation.emit({"group": group_, "added": list(devices)}, f"{len(devices)} put into {group_}")


@group.command()
@click.argument("group_", metavar="GROUP")
@click.argument("devices", metavar="DEVICE...", nargs=-1, required=True)
@server_options
def remove(invocation: Invocation, group_: str, devices: tuple[str, ...]) -> None:
    """Take devices out of a group."""
    client = invocation.client()
    for device in devices:
        client.delete(f"/groups/{segment(group_)}/devices/{segment(device)}")
    invocation.emit({"group": group_, "removed": list(devices)}, f"{len(devices)} taken out of {group_}")


@group.command()
@click.argument("group_", metavar="GROUP")
@server_options
def delete(invocation: Invocation, group_: str) -> None:
    """Delete a group. Its devices stay; a group that a rollout still names cannot go."""
    invocation.client().delete(f"/groups/{segment(group_)}")
    invocation.emit({"group": group_, "deleted": True}, f"deleted group {group_}")
