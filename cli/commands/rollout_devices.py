"""`publish rollout devices` and `failures`: what the devices of a rollout did, and why some failed."""

from __future__ import annotations

import sys

import click

from cli.client import segment
from cli.invocation import FORMS, Invocation
from cli.options import list_options, server_options
from cli.text import moment, table

_PROGRESS = ("downloading", "installing", "succeeded", "failed", "rolled_back")


@click.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--wave", type=click.IntRange(min=1), metavar="N", help="Only this wave's.")
@click.option("--progress", type=click.Choice(_PROGRESS), help="Only devices whose last step this is.")
@click.option("--code", metavar="CODE", help="Only devices that told this failure code.")
@list_options
@server_options(forms=(*FORMS, "csv"))
def devices(
    invocation: Invocation, rollout_id: str, wave: int | None, progress: str | None, code: str | None, limit: int | None
) -> None:
    """List the devices that reported, each with its last step.

    With -o csv all of them are written as they come, whatever --limit says; a cell that a spreadsheet would calculate
    has an apostrophe before it.
    """
    path = f"/rollouts/{segment(rollout_id)}/devices"
    client, wanted = invocation.client(), {"wave": wave, "progress": progress, "code": code}
    if invocation.form == "csv":
        for chunk in client.stream(path, format="csv", **wanted):
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    items = list(client.items(path, limit=limit, **wanted))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("device", "name", "wave", "attempt", "progress", "code", "detail", "at"),
            [
                (
                    *(item[name] for name in ("device_id", "device_name", "wave", "attempt", "progress", "code")),
                    item["detail"],
                    moment(item["at"]),
                )
                for item in items
            ],
            empty="no device has reported",
        ),
    )


@click.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--wave", type=click.IntRange(min=1), metavar="N", help="Only this wave's.")
@server_options
def failures(invocation: Invocation, rollout_id: str, wave: int | None) -> None:
    """Group the devices that failed by why, the most frequent reason first."""
    told = invocation.client().get(f"/rollouts/{segment(rollout_id)}/failures", wave=wave)
    more = f"\nand {told['more']} more" if told["more"] else ""
    invocation.emit(
        told,
        lambda: (
            table(
                ("devices", "code", "progress", "first", "last", "such as", "detail"),
                [
                    (
                        one["devices"],
                        one["code"],
                        one["progress"],
                        moment(one["first_at"]),
                        moment(one["last_at"]),
                        one["example"]["device_name"] or one["example"]["device_id"],
                        one["example"]["detail"],
                    )
                    for one in told["reasons"]
                ],
                empty="no device failed",
            )
            + more
        ),
    )
