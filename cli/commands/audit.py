"""`publish audit`: what happened, and who did it."""

from __future__ import annotations

import json

import click

from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import moment, table

_WIDEST_DATA = 80  # characters of an event's data in the table; JSON shows all


@click.group()
def audit() -> None:
    """Read what happened, and who did it."""


@audit.command("list")
@click.option("--subject", metavar="ID", help="Only what happened to this artifact, rollout, device, …")
@click.option("--tag", metavar="TAG", help="Only this kind of event, e.g. rollout.wave.opened.")
@click.option(
    "--after", "after_seq", type=click.IntRange(min=0), metavar="SEQ", help="Only what came after this event."
)
@click.option("--actor", metavar="ID", help="Only what this user, service or device did.")
@click.option("--since", metavar="TIME", help="Not before this moment, e.g. 2026-11-21T12:00:00Z.")
@click.option("--until", metavar="TIME", help="Before this moment.")
@click.option("--newest-first", is_flag=True, help="The other way round.")
@list_options
@server_options
def list_(invocation: Invocation, limit: int | None, newest_first: bool, **wanted: str | int | None) -> None:
    """List audit events, oldest first."""
    sort = "-seq" if newest_first else None
    items = list(invocation.client().items("/audit/events", limit=limit, sort=sort, **wanted))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("seq", "at", "event", "subject", "by", "data"),
            [
                (
                    item["seq"],
                    moment(item["at"]),
                    item["tag"],
                    item["subject"],
                    item["by"]["name"],
                    _short(item["data"]),
                )
                for item in items
            ],
            empty="no such event",
        ),
    )


def _short(data: object) -> str:
    text = json.dumps(data, ensure_ascii=False) if data else ""
    return text if len(text) <= _WIDEST_DATA else text[: _WIDEST_DATA - 1] + "…"
