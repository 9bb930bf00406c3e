"""`publish device exclude`, `exclusions`, `include`, `pin`, `unpin`: what is kept away from whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from cli.client import segment
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import moment, table


@click.command()
@click.argument("device_", metavar="[DEVICE]", required=False)
@click.option("--group", metavar="NAME", help="For a whole group instead of a device.")
@click.option("--product", metavar="NAME", help="Only of this product. [default: every product]")
@click.option("--version", metavar="V", help="Only this version of the product.")
@click.option("--package", metavar="NAME", help="What contains this package: a name or purl of an SBOM.")
@click.option("--until", metavar="TIME", help="Runs out then. [default: until it is removed]")
@click.option("--reason", required=True, metavar="TEXT", help="Why; devices tell it.")
@server_options
def exclude(invocation: Invocation, device_: str | None, **given: Any) -> None:
    """Keep a version, a package or everything away from a device, a group or, with neither, from everybody.

    From when this returns it is not newly offered. What runs goes on running.
    """
    told = {name: value for name, value in {"device": device_, **given}.items() if value is not None}
    made = invocation.client().post("/exclusions", told)
    invocation.emit(made, lambda: f"{made['id']}: {_words(made)}")


@click.command()
@list_options
@server_options
def exclusions(invocation: Invocation, limit: int | None) -> None:
    """List exclusions and pins."""
    items = list(invocation.client().items("/exclusions", limit=limit))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("id", "what", "until", "reason", "by", "at"),
            [
                (
                    item["id"],
                    _words(item),
                    moment(item["until"]),
                    item["reason"],
                    item["by"]["name"],
                    moment(item["at"]),
                )
                for item in items
            ],
            empty="nothing is excluded",
        ),
    )


@click.command()
@click.argument("exclusion", metavar="EXCLUSION")
@server_options
def include(invocation: Invocation, exclusion: str) -> None:
    """Take an exclusion or a pin (exc_…) back."""
    invocation.client().delete(f"/exclusions/{segment(exclusion)}")
    invocation.emit({"exclusion": exclusion, "removed": True}, f"removed {exclusion}")


@click.command()
@click.argument("device_", metavar="DEVICE")
@click.option("--product", required=True, metavar="NAME", help="The product.")
@click.option("--version", required=True, metavar="V", help="The only version of it that the device takes.")
@click.option("--until", metavar="TIME", help="Runs out then. [default: until it is removed]")
@click.option("--reason", required=True, metavar="TEXT", help="Why; the device tells it.")
@server_options
def pin(invocation: Invocation, device_: str, **given: Any) -> None:
    """Let a device take one version of a product and no other."""
    told = {name: value for name, value in given.items() if value is not None}
    made = invocation.client().call("PUT", f"/devices/{segment(device_)}/pin", body=told).told
    invocation.emit(made, lambda: f"{made['id']}: {_words(made)}")


@click.command()
@click.argument("device_", metavar="DEVICE")
@click.option("--product", required=True, metavar="NAME", help="The product.")
@server_options
def unpin(invocation: Invocation, device_: str, product: str) -> None:
    """Take a device's pin of a product back."""
    invocation.client().delete(f"/devices/{segment(device_)}/pin?product={segment(product)}")
    invocation.emit({"device": device_, "product": product, "unpinned": True}, f"unpinned {product} of {device_}")


def _words(told: Mapping[str, Any]) -> str:
    whom = told["device_id"] or (f"group {told['group']}" if told["group"] else "everybody")
    what = told["product"] or "every product"
    if told["kind"] == "pin":
        return f"{whom} takes only {what} {told['version']}"
    if told["package"]:
        what = f"{what} with {told['package']} ({told['matched']} artifacts found)"
    elif told["version"]:
        what = f"{what} {told['version']}"
    return f"{what} is kept from {whom}"
