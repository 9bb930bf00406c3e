"""`publish enroll-token`: what lets a device in."""

from __future__ import annotations

import click

from cli.client import segment
from cli.invocation import Invocation
from cli.options import list_options, pairs, server_options
from cli.text import fields, moment, table


@click.group("enroll-token")
def enroll_token() -> None:
    """Make the tokens that let devices in. A person's login is needed (`publish login`); a key cannot."""


@enroll_token.command()
@click.argument("name")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="Put devices into this group; repeat.")
@click.option("--label", "labels", multiple=True, callback=pairs, metavar="KEY=VALUE", help="Label devices; repeat.")
@click.option("--max-uses", type=click.IntRange(min=1), default=1, show_default=True, help="How many devices may come.")
@click.option(
    "--expires-in-hours", type=click.IntRange(min=1), default=720, show_default=True, help="How long it is good for."
)
@server_options
def create(
    invocation: Invocation,
    name: str,
    groups: tuple[str, ...],
    labels: dict[str, str],
    max_uses: int,
    expires_in_hours: int,
) -> None:
    """Make a token. It is shown once, and also tells the device which root to trust."""
    devices = "1 device" if max_uses == 1 else f"{max_uses} devices"
    made = invocation.client(as_person=True).post(
        "/enroll-tokens",
        {
            "name": name,
            "groups": list(groups),
            "labels": labels,
            "max_uses": max_uses,
            "expires_in_hours": expires_in_hours,
        },
    )
    invocation.emit(
        made,
        lambda: (
            fields(
                [
                    ("id", made["id"]),
                    ("good for", f"{devices} until {moment(made['expires_at'])}"),
                    ("groups", made["groups"]),
                    ("token", made["token"]),
                ]
            )
            + "\nThe token is shown this once."
        ),
    )


@enroll_token.command("list")
@list_options
@server_options
def list_(invocation: Invocation, limit: int | None) -> None:
    """List the tokens, never their secrets."""
    items = list(invocation.client(as_person=True).items("/enroll-tokens", limit=limit))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("name", "used", "groups", "expires", "id"),
            [
                (
                    item["name"],
                    f"{item['uses']} of {item['max_uses']}",
                    item["groups"],
                    moment(item["expires_at"]),
                    item["id"],
                )
                for item in items
            ],
            empty="there is no token",
        ),
    )


@enroll_token.command()
@click.argument("token_id", metavar="TOKEN_ID")
@server_options
def delete(invocation: Invocation, token_id: str) -> None:
    """Delete a token (tok_…). Devices that came by it stay."""
    invocation.client(as_person=True).delete(f"/enroll-tokens/{segment(token_id)}")
    invocation.emit({"id": token_id, "deleted": True}, f"deleted token {token_id}")
