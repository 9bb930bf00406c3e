"""`publish metering`: how many devices were active."""

from __future__ import annotations

import sys

import click

from cli.invocation import FORMS, Invocation
from cli.options import server_options
from cli.text import fields, moment, table


@click.command()
@click.option("--month", metavar="YYYY-MM", help="Which month, in UTC. [default: the month of yesterday]")
@server_options(forms=(*FORMS, "csv"))
def metering(invocation: Invocation, month: str | None) -> None:
    """Show how many devices were active in a month, counted at the end of each UTC day."""
    client = invocation.client()
    if invocation.form == "csv":
        for chunk in client.stream("/metering", format="csv", month=month):
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    told = client.get("/metering", month=month)
    summed = fields(
        [
            ("organisation", told["org"]),
            ("month", told["month"]),
            ("most devices", told["most"]),
            ("on average", told["average"]),
            ("device nights", told["device_nights"]),
        ]
    )
    nights = [(night["date"], night["active"], moment(night["counted_at"])) for night in told["nights"]]
    invocation.emit(
        told,
        lambda: f"{summed}\n\n{table(('date', 'active', 'counted at'), nights, empty='no night of it is counted yet')}",
    )
