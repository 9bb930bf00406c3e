"""`publish user invite`, `invitations`, `revoke-invitation` and `accept-invitation`."""

from __future__ import annotations

from typing import Final

import click

from cli.asking import ask, read_password
from cli.client import segment
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import fields, moment, table

ROLES: Final = ("viewer", "operator", "approver", "admin")


@click.command()
@click.argument("email")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What the person may do.")
@click.option(
    "--expires-in-days",
    type=click.IntRange(min=1, max=30),
    default=7,
    show_default=True,
    help="How long the code is good for.",
)
@server_options
def invite(invocation: Invocation, email: str, role: str, expires_in_days: int) -> None:
    """Invite a person, who sets name and password by a code that is shown once. No mail is sent: hand it on."""
    body = {"email": email, "role": role, "expires_in_days": expires_in_days}
    client = invocation.client(as_person=True)
    made = client.post("/invitations", body)
    shown = [
        ("id", made["id"]),
        ("email", made["email"]),
        ("role", made["role"]),
        ("expires", moment(made["expires_at"])),
        ("code", made["code"]),
    ]
    invocation.emit(
        made,
        lambda: (
            fields(shown)
            + "\nThe code is shown this once, and no mail is sent: hand it on by a way you trust, for\n"
            + f"  publish user accept-invitation --url {client.base_url}"
        ),
    )


@click.command()
@click.option(
    "--state",
    type=click.Choice(["pending", "accepted", "revoked", "expired", "all"]),
    default="pending",
    show_default=True,
    help="Only these.",
)
@list_options
@server_options
def invitations(invocation: Invocation, limit: int | None, state: str) -> None:
    """List invitations, never their codes."""
    wanted = {"state": None if state == "all" else state}
    items = list(invocation.client(as_person=True).items("/invitations", limit=limit, **wanted))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("email", "role", "state", "expires", "id"),
            [(item["email"], item["role"], item["state"], moment(item["expires_at"]), item["id"]) for item in items],
            empty="there is no invitation" if state == "all" else f"there is no {state} invitation",
        ),
    )


@click.command("revoke-invitation")
@click.argument("invitation_id", metavar="INVITATION_ID")
@server_options
def revoke_invitation(invocation: Invocation, invitation_id: str) -> None:
    """Revoke an invitation (inv_…): its code is worthless at once."""
    invocation.client(as_person=True).delete(f"/invitations/{segment(invitation_id)}")
    invocation.emit({"id": invitation_id, "revoked": True}, f"revoked invitation {invitation_id}")


@click.command("accept-invitation")
@click.option("--name", metavar="TEXT", help="What you are called. Asked for on a terminal.")
@click.option("--code-file", type=click.Path(dir_okay=False), metavar="FILE", help="Read the code from FILE.")
@click.option("--password-file", type=click.Path(dir_okay=False), metavar="FILE", help="Read your password from FILE.")
@server_options
def accept_invitation(
    invocation: Invocation, name: str | None, code_file: str | None, password_file: str | None
) -> None:
    """Make the account that you were invited to. Code and password are asked for, or read from files."""
    from cli.client import Client
    from cli.config import Config

    code = read_password(code_file) if code_file else ask("Code of the invitation", "--code-file", hide=True)
    name = name or ask("Your name", "--name")
    password = (
        read_password(password_file) if password_file else ask("Password", "--password-file", hide=True, twice=True)
    )
    base_url = Config.from_environment().base_url(invocation.url, invocation.profile)
    stranger = Client(base_url, None, notice=invocation.note)
    made = stranger.post("/auth/accept-invitation", {"code": code, "name": name, "password": password})
    invocation.emit(
        made,
        lambda: (
            f"made the account {made['email']} ({made['role']}); log in with `publish login --email {made['email']}`"
        ),
    )
