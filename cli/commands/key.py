"""`publish key`: API keys for programs."""

from __future__ import annotations

import click

from cli.client import segment
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import fields, moment, table


@click.group()
def key() -> None:
    """Make, list and revoke API keys. A person's login is needed (`publish login`); a key cannot make keys."""


@key.command()
@click.argument("name")
@click.option(
    "--expires-in-days",
    type=click.IntRange(min=1, max=366),
    default=90,
    show_default=True,
    help="How long it is good for.",
)
@server_options
def create(invocation: Invocation, name: str, expires_in_days: int) -> None:
    """Make an API key. It is shown once."""
    made = invocation.client(as_person=True).post("/api-keys", {"name": name, "expires_in_days": expires_in_days})
    invocation.emit(
        made,
        lambda: (
            fields(
                [
                    ("id", made["id"]),
                    ("may", made["permissions"]),
                    ("expires", moment(made["expires_at"])),
                    ("key", made["key"]),
                ]
            )
            + "\nThe key is shown this once."
        ),
    )


@key.command("list")
@list_options
@server_options
def list_(invocation: Invocation, limit: int | None) -> None:
    """List the API keys, never their secrets."""
    items = list(invocation.client(as_person=True).items("/api-keys", limit=limit))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("name", "prefix", "owner", "expires", "last used", "id"),
            [
                (
                    item["name"],
                    item["prefix"],
                    item["user"],
                    moment(item["expires_at"]),
                    moment(item["last_used_at"]),
                    item["id"],
                )
                for item in items
            ],
            empty="there is no API key",
        ),
    )


@key.command()
@click.argument("key_id", metavar="KEY_ID")
@server_options
def revoke(invocation: Invocation, key_id: str) -> None:
    """Revoke an API key (key_…) at once."""
    invocation.client(as_person=True).delete(f"/api-keys/{segment(key_id)}")
    invocation.emit({"id": key_id, "revoked": True}, f"revoked key {key_id}")
