"""`publish repo rebin`."""

from __future__ import annotations

from typing import Any

import click

from cli.invocation import Invocation
from cli.options import server_options


@click.command()
@click.option("--bits", type=click.IntRange(6, 14), help="2 to this power; without it the best, if two powers off.")
@server_options
def rebin(invocation: Invocation, bits: int | None) -> None:
    """Spread the targets over another number of hash bins.

    The server looks every hour by itself. Publishing waits meanwhile, clients notice nothing.
    """
    told: dict[str, Any] = invocation.client().post("/repository/rebin", {} if bits is None else {"bits": bits})

    def text() -> str:
        bins = f"{2 ** told['bits']} bins for {told['targets']} targets"
        return f"{bins}, as before" if told["serial"] is None else f"{bins} since serial {told['serial']}"

    invocation.emit(told, text)
