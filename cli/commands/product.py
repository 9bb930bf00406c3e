"""`publish product`: products that people sign with keys of their own, their artifacts or their waves."""

from __future__ import annotations

from urllib.parse import quote

import click

from cli.commands.repo_drafts import shown
from cli.invocation import Invocation
from cli.options import server_options
from cli.text import fields, moment, table


@click.group()
def product() -> None:
    """Let teams sign their products, and approvers their waves, with keys that the server never has."""


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


@product.command()
@click.argument("name")
@click.option("--key", "keys", multiple=True, metavar="URI", help="An approver's .pub file or key URI; repeat.")
@click.option("--threshold", type=click.IntRange(min=1), metavar="M", help="How many sign each wave. [default: all]")
@click.option("--managed", is_flag=True, help="Instead: have the server sign the waves again.")
@click.option("--deadline-days", type=click.IntRange(1, 365), help="Take signatures for so long. [default: 30]")
@server_options
def approvers(
    invocation: Invocation,
    name: str,
    keys: tuple[str, ...],
    threshold: int | None,
    managed: bool,
    deadline_days: int | None,
) -> None:
    """Draft that the waves of NAME are signed by these approvers' own keys. Again with other keys, it changes them.

    Name all of them: who is not named is an approver no longer. Holders of targets sign the delegation, approvers the
    first version of their role: `publish repo sign`. From then on the server cannot open a wave without them.
    """
    from cli.errors import UsageFault
    from keys.holders import public_key

    if managed == bool(keys):
        raise UsageFault("name the approvers' keys by --key, or give --managed alone")
    path = f"/repository/products/{quote(name, safe='')}"
    if managed:
        told = invocation.client().post(f"{path}/managed", {})
    else:
        body: dict[str, object] = {"keys": [public_key(one) for one in keys], "threshold": threshold or len(keys)}
        if deadline_days is not None:
            body["deadline_days"] = deadline_days
        told = invocation.client().post(f"{path}/approvers", body)
    invocation.emit(told, lambda: shown(told))


@product.command()
@click.argument("name")
@server_options
def show(invocation: Invocation, name: str) -> None:
    """Show who signs the waves of NAME: its approvers, or the server."""
    told = invocation.client().get(f"/products/{quote(name, safe='')}")
    approvers = told["approvers"] or {}
    invocation.emit(
        told,
        lambda: fields(
            [
                ("product", told["name"]),
                ("waves", "signed by approvers" if told["mode"] == "signed" else "signed by the server (managed)"),
                ("approvers", list(approvers.get("keyids", ()))),
                ("threshold", approvers.get("threshold")),
                ("signed until", moment(approvers.get("expires"))),
                ("artifacts", "signed by its team" if told["claimed"] else "signed by the server"),
            ]
        ),
    )


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
