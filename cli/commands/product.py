"""`publish product`: products whose artifacts are signed by their teams' own keys."""

from __future__ import annotations

from urllib.parse import quote

import click

from cli.commands.repo_drafts import shown
from cli.invocation import Invocation
from cli.options import server_options
from cli.text import table


@click.group()
def product() -> None:
    """Let teams sign their products themselves, with keys that the server never has."""


@product.command()
@click.argument("name")
@click.option("--key", "keys", multiple=True, required=True, metavar="FILE", help="A team member's .pub file; repeat.")
@click.option("--threshold", type=click.IntRange(min=1), default=1, show_default=True, help="How many sign a publish.")
@click.option("--deadline-days", type=click.IntRange(1, 365), help="Take signatures for so long. [default: 30]")
@server_options
def claim(invocation: Invocation, name: str, keys: tuple[str, ...], threshold: int, deadline_days: int | None) -> None:
    """Draft that NAME is signed by these keys from now on. Again with other keys, it changes them.

    Holders of targets sign the delegation, the team the first version of its role: `publish repo sign`.
    """
    from keys.holders import public_key

    body: dict[str, object] = {"product": name, "keys": [public_key(one) for one in keys], "threshold": threshold}
    if deadline_days is not None:
        body["deadline_days"] = deadline_days
    told = invocation.client().post("/repository/products", body)
    invocation.emit(told, lambda: shown(told))


@product.command()
@click.argument("name")
@server_options
def release(invocation: Invocation, name: str) -> None:
    """Draft that the server signs NAME again."""
    told = invocation.client().post(f"/repository/products/{quote(name, safe='')}/release", {})
    invocation.emit(told, lambda: shown(told))


@product.command("list")
@server_options
def list_(invocation: Invocation) -> None:
    """List claimed products and their keys."""
    told = invocation.client().get("/repository/products")
    invocation.emit(
        told,
        lambda: table(
            ("product", "threshold", "keys"),
            [(one["product"], one["threshold"], " ".join(one["keyids"])) for one in told["items"]],
            empty="no product is claimed; the server signs all of them",
        ),
    )
