"""`publish rollout template` and `publish rollout freeze`: shapes of a plan, and when no wave opens."""

from __future__ import annotations

from typing import Any

import click

from cli import words
from cli.client import segment
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.plan import WAVE_FORM, wave, window
from cli.text import moment, table


@click.group()
def template() -> None:
    """Keep shapes of a plan by name, beside the built-in ones."""


@template.command("list")
@server_options
def list_templates(invocation: Invocation) -> None:
    """List the templates: built-in ones, then your own."""
    told = invocation.client().get("/rollout-templates")
    invocation.emit(
        {"items": told["items"]},
        lambda: table(
            ("name", "description", "waves", "created"),
            [
                (
                    item["name"],
                    item["description"],
                    len(item["waves"]) or "",
                    "built in" if item["built_in"] else f"{moment(item['at'])} by {item['by']['name']}",
                )
                for item in told["items"]
            ],
            empty="there is no template",
        ),
    )


@template.command("create")
@click.argument("name")
@click.option(
    "--wave",
    "waves",
    multiple=True,
    required=True,
    metavar=WAVE_FORM,
    help="A wave as for create; the group * stands for each group that a rollout names. Repeat, in order.",
)
@click.option("--description", default="", metavar="TEXT", help="What it is for.")
@server_options
def create_template(invocation: Invocation, name: str, waves: tuple[str, ...], description: str) -> None:
    """Store a template, e.g. --wave '*:5,soak=1h' --wave '*:100,approvals=1'."""
    body = {"name": name, "description": description, "waves": [wave(text) for text in waves]}
    made = invocation.client().post("/rollout-templates", body)
    invocation.emit(made, lambda: f"stored template {made['name']} with {len(made['waves'])} waves")


@template.command("delete")
@click.argument("name")
@server_options
def delete_template(invocation: Invocation, name: str) -> None:
    """Delete a template. Rollouts made of it stay as they are."""
    invocation.client().delete(f"/rollout-templates/{segment(name)}")
    invocation.emit({"template": name, "deleted": True}, f"deleted template {name}")


@click.group()
def freeze() -> None:
    """Keep the calendar of when no wave opens."""


@freeze.command("add")
@click.option("--product", metavar="NAME", help="Only this product's rollouts. [default: all]")
@click.option(
    "--from", "starts", metavar="TIME", help="Beginning of a span, e.g. 2026-12-24T00:00:00+01:00. [default: now]"
)
@click.option("--to", "ends", metavar="TIME", help="End of a span.")
@click.option("--weekly", metavar="WHEN", help="Every week instead, e.g. 'fri-sun 16:00 8h Europe/Berlin'.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; told by every rollout that waits for it.")
@server_options
def add_freeze(
    invocation: Invocation,
    product: str | None,
    starts: str | None,
    ends: str | None,
    weekly: str | None,
    reason: str,
) -> None:
    """Let no wave open in a span, or in a part of every week. Open waves go on."""
    told: dict[str, Any] = {"reason": reason, "product": product, "starts": starts, "ends": ends}
    if weekly is not None:
        told["weekly"] = window(weekly)
    made = invocation.client().post(
        "/freeze-windows", {name: value for name, value in told.items() if value is not None}
    )
    invocation.emit(made, lambda: f"added freeze {made['id']}: {words.freeze(made)}")


@freeze.command("list")
@list_options
@server_options
def list_freezes(invocation: Invocation, limit: int | None) -> None:
    """List the freeze windows."""
    items = list(invocation.client().items("/freeze-windows", limit=limit))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("id", "when", "product", "frozen until", "reason", "by"),
            [
                (
                    item["id"],
                    words.freeze(item),
                    item["product"] or "all",
                    moment(item["frozen_until"]),
                    item["reason"],
                    item["by"]["name"],
                )
                for item in items
            ],
            empty="there is no freeze window",
        ),
    )


@freeze.command("remove")
@click.argument("freeze_id", metavar="FREEZE")
@server_options
def remove_freeze(invocation: Invocation, freeze_id: str) -> None:
    """Take a freeze window out of the calendar."""
    invocation.client().delete(f"/freeze-windows/{segment(freeze_id)}")
    invocation.emit({"freeze": freeze_id, "removed": True}, f"removed freeze {freeze_id}")
