"""`publish rollout permits`: who may update now under a disruption budget."""

from __future__ import annotations

import click

from cli.client import segment
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import moment, table


@click.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@list_options
@server_options
def permits(invocation: Invocation, rollout_id: str, limit: int | None) -> None:
    """List who may update now, by value of the budget's label, also for other rollouts over the same label."""
    items = list(invocation.client().items(f"/rollouts/{segment(rollout_id)}/permits", limit=limit))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("value", "device", "name", "rollout", "attempt", "since", "until"),
            [
                (
                    *(item[name] for name in ("value", "device_id", "device_name", "rollout_id", "attempt")),
                    moment(item["granted_at"]),
                    moment(item["expires_at"]),
                )
                for item in items
            ],
            empty="no device holds a permit",
        ),
    )
