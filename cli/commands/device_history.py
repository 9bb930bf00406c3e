"""`publish device history`: what happened to one device."""

from __future__ import annotations

from typing import Any

import click

from cli.client import segment
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import moment, table


@click.command()
@click.argument("device_", metavar="DEVICE")
@click.option("--kind", metavar="KIND", help="Only this kind, with all below it, e.g. device.update.failed.")
@click.option("--since", metavar="TIME", help="Not before this moment, e.g. 2026-11-21T12:00:00Z.")
@click.option("--until", metavar="TIME", help="Before this moment.")
@list_options
@server_options
def history(invocation: Invocation, device_: str, limit: int | None, **wanted: str | None) -> None:
    """Show what happened to a device, the newest first."""
    items = list(invocation.client().items(f"/devices/{segment(device_)}/history", limit=limit, **wanted))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("at", "what", "release", "rollout", "serial", "by"),
            [
                (
                    moment(item["at"]),
                    item["text"],
                    item["details"].get("target_path") or "",
                    item["details"].get("rollout_id") or "",
                    _serial(item["details"]),
                    item["by"]["name"] if item["by"] else "",
                )
                for item in items
            ],
            empty="nothing of that kind has happened to it",
        ),
    )


def _serial(details: dict[str, Any]) -> str:
    serial = details.get("serial")
    return "" if serial is None else str(serial)
