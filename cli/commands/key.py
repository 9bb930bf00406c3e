"""`publish key`: API keys for programs."""

from __future__ import annotations

from typing import Any

import click

from cli.client import segment
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import fields, moment, table


@click.group()
def key() -> None:
    """Make, list, rotate and revoke API keys. A person's login is needed (`publish login`); a key cannot make keys."""


@key.command()
@click.argument("name")
@click.option(
    "--expires-in-days",
    type=click.IntRange(min=1, max=366),
    default=90,
    show_default=True,
    help="How long it is good for.",
)
@click.option(
    "--permission", "permissions", multiple=True, metavar="NAME", help="Narrow it to this, e.g. artifacts:read; repeat."
)
@server_options
def create(invocation: Invocation, name: str, expires_in_days: int, permissions: tuple[str, ...]) -> None:
    """Make an API key. It is shown once.

    It speaks for you, with an operator's permissions at most, and loses whatever you lose.
    """
    body: dict[str, Any] = {"name": name, "expires_in_days": expires_in_days}
    if permissions:
        body["permissions"] = list(permissions)
    made = invocation.client(as_person=True).post("/api-keys", body)
    invocation.emit(made, lambda: _fresh(made))


@key.command()
@click.argument("key_id", metavar="KEY_ID")
@click.option(
    "--overlap",
    type=click.IntRange(min=0, max=720),
    default=24,
    show_default=True,
    metavar="HOURS",
    help="How long the old key still works; 0 ends it at once.",
)
@click.option(
    "--expires-in-days",
    type=click.IntRange(min=1, max=366),
    help="How long the new key is good for. [default: as long as the old one was made for]",
)
@server_options
def rotate(invocation: Invocation, key_id: str, overlap: int, expires_in_days: int | None) -> None:
    """Replace an API key (key_…) by a new one with the same name and permissions. It is shown once."""
    body = {"overlap_hours": overlap}
    if expires_in_days is not None:
        body["expires_in_days"] = expires_in_days
    made = invocation.client(as_person=True).post(f"/api-keys/{segment(key_id)}/rotate", body)
    invocation.emit(made, lambda: _fresh(made))


@key.command("list")
@click.option("--user", metavar="ID", help="Only the keys that speak for this account.")
@list_options
@server_options
def list_(invocation: Invocation, user: str | None, limit: int | None) -> None:
    """List the API keys, never their secrets."""
    items = list(invocation.client(as_person=True).items("/api-keys", limit=limit, user=user))
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


def _fresh(made: dict[str, Any]) -> str:
    shown = [
        ("id", made["id"]),
        ("may", made["permissions"]),
        ("expires", moment(made["expires_at"])),
        ("key", made["key"]),
    ]
    return fields(shown) + "\nThe key is shown this once."
