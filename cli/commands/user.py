"""`publish user`: people's accounts."""

from __future__ import annotations

from typing import TextIO

import click

from cli.client import Client, segment
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import fields, moment, table

_ROLES = ("viewer", "operator", "approver", "admin")


@click.group()
def user() -> None:
    """Make, list and disable people's accounts. A person's login is needed (`publish login`)."""


@user.command()
@click.argument("email")
@click.option("--name", required=True, metavar="TEXT", help="What the person is called.")
@click.option("--role", type=click.Choice(_ROLES), required=True, help="What the person may do.")
@click.option(
    "--password-file",
    type=click.File("r", encoding="utf-8"),
    metavar="FILE",
    help="Read the password from FILE, or - for stdin. [default: the server makes a one-time password]",
)
@server_options
def create(invocation: Invocation, email: str, name: str, role: str, password_file: TextIO | None) -> None:
    """Make an account. A password made by the server is shown once and must be changed at the first login."""
    body = {"email": email, "name": name, "role": role}
    if password_file is not None:
        body["password"] = password_file.read().split("\n", 1)[0]
    made = invocation.client(as_person=True).post("/users", body)
    shown = [("id", made["id"]), ("email", made["email"]), ("role", made["role"])]
    if made.get("password"):
        shown.append(("password", made["password"]))
    invocation.emit(
        made, lambda: fields(shown) + ("\nThe password is shown this once." if made.get("password") else "")
    )


@user.command("list")
@click.option("--role", type=click.Choice(_ROLES), help="Only accounts with this role.")
@click.option("--disabled/--enabled", default=None, help="Only accounts that are disabled, or are not.")
@list_options
@server_options
def list_(invocation: Invocation, role: str | None, disabled: bool | None, limit: int | None) -> None:
    """List people and service accounts."""
    items = list(invocation.client(as_person=True).items("/users", limit=limit, role=role, disabled=disabled))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("email", "name", "kind", "role", "disabled", "created", "id"),
            [
                (
                    item["email"],
                    item["name"],
                    item["kind"],
                    item["role"],
                    item["disabled"],
                    moment(item["created_at"]),
                    item["id"],
                )
                for item in items
            ],
        ),
    )


@user.command()
@click.argument("user_", metavar="USER")
@server_options
def disable(invocation: Invocation, user_: str) -> None:
    """Disable an account, by id (usr_…) or e-mail: its logins and keys stop at once, its record stays."""
    client = invocation.client(as_person=True)
    user_ = _id_of(client, user_)
    disabled = client.patch(f"/users/{segment(user_)}", {"disabled": True}, etag=None)
    invocation.emit(disabled, lambda: f"disabled {disabled['email']} ({disabled['id']})")


@user.command("reset-second-factor")
@click.argument("user_", metavar="USER")
@server_options
def reset_second_factor(invocation: Invocation, user_: str) -> None:
    """Let somebody who lost app and recovery codes log in by password alone again; their logins end."""
    client = invocation.client(as_person=True)
    told = client.post(f"/users/{segment(_id_of(client, user_))}/reset-second-factor", {})
    invocation.emit(told, lambda: f"{told['email']} ({told['id']}) logs in without a code now")


def _id_of(client: Client, user_: str) -> str:
    from cli.errors import ApiRefusal

    if "@" not in user_:
        return user_
    for item in client.items("/users", limit=None):
        if item["email"].casefold() == user_.casefold():
            return str(item["id"])
    raise ApiRefusal(404, {"code": "user_not_found", "message": f"nobody has the address {user_!r}"})
