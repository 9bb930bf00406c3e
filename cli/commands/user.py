"""`publish user`: people's accounts."""

from __future__ import annotations

from typing import Any, TextIO

import click

from cli.client import Client, segment
from cli.commands.user_invitations import ROLES, accept_invitation, invitations, invite, revoke_invitation
from cli.invocation import Invocation
from cli.options import list_options, server_options
from cli.text import fields, moment, table


@click.group()
def user() -> None:
    """Invite people, make and disable accounts. A person's login is needed (`publish login`)."""


@user.command()
@click.argument("email")
@click.option("--name", required=True, metavar="TEXT", help="What the person is called.")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What the person may do.")
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
@click.option("--role", type=click.Choice(ROLES), help="Only those with this role.")
@click.option("--disabled/--enabled", default=None, help="Only those that are, or are not, disabled.")
@list_options
@server_options
def list_(invocation: Invocation, limit: int | None, role: str | None, disabled: bool | None) -> None:
    """List people and service accounts."""
    wanted = {"role": role, "disabled": None if disabled is None else str(disabled).lower()}
    items = list(invocation.client(as_person=True).items("/users", limit=limit, **wanted))
    invocation.emit(
        {"items": items},
        lambda: table(
            ("email", "name", "role", "disabled", "id"),
            [
                (item["email"] or f"({item['kind']})", item["name"], item["role"], item["disabled"], item["id"])
                for item in items
            ],
        ),
    )


@user.command()
@click.argument("user_", metavar="USER")
@server_options
def show(invocation: Invocation, user_: str) -> None:
    """Show an account, by id (usr_…) or e-mail."""
    client = invocation.client(as_person=True)
    found = client.get(f"/users/{segment(_id_of(client, user_))}")
    invocation.emit(found, lambda: _describe(found))


@user.command("role")
@click.argument("user_", metavar="USER")
@click.argument("role", type=click.Choice(ROLES))
@server_options
def give_role(invocation: Invocation, user_: str, role: str) -> None:
    """Give an account another role; it counts at once, for logins and API keys that exist, too."""
    changed = _change(invocation, user_, {"role": role})
    invocation.emit(changed, lambda: f"{changed['email']} ({changed['id']}) is {changed['role']} now")


@user.command()
@click.argument("user_", metavar="USER")
@server_options
def disable(invocation: Invocation, user_: str) -> None:
    """Disable an account, by id (usr_…) or e-mail: its logins, keys and invitations stop at once, its record stays."""
    disabled = _change(invocation, user_, {"disabled": True})
    invocation.emit(disabled, lambda: f"disabled {disabled['email']} ({disabled['id']})")


@user.command()
@click.argument("user_", metavar="USER")
@server_options
def enable(invocation: Invocation, user_: str) -> None:
    """Give a disabled account back: its password, keys and invitations count again, its logins have ended."""
    enabled = _change(invocation, user_, {"disabled": False})
    invocation.emit(enabled, lambda: f"enabled {enabled['email']} ({enabled['id']})")


@user.command("reset-password")
@click.argument("user_", metavar="USER")
@server_options
def reset_password(invocation: Invocation, user_: str) -> None:
    """Give somebody who forgot theirs a one-time password, shown once; their logins end."""
    client = invocation.client(as_person=True)
    told = client.post(f"/users/{segment(_id_of(client, user_))}/reset-password", {})
    shown = [("id", told["id"]), ("email", told["email"]), ("password", told["password"])]
    invocation.emit(told, lambda: fields(shown) + "\nThe password is shown this once.")


@user.command("reset-second-factor")
@click.argument("user_", metavar="USER")
@server_options
def reset_second_factor(invocation: Invocation, user_: str) -> None:
    """Let somebody who lost app and recovery codes log in by password alone again; their logins end."""
    client = invocation.client(as_person=True)
    told = client.post(f"/users/{segment(_id_of(client, user_))}/reset-second-factor", {})
    invocation.emit(told, lambda: f"{told['email']} ({told['id']}) logs in without a code now")


for _command in (invite, invitations, revoke_invitation, accept_invitation):
    user.add_command(_command)


def _change(invocation: Invocation, user_: str, change: dict[str, Any]) -> Any:
    client = invocation.client(as_person=True)
    return client.patch(f"/users/{segment(_id_of(client, user_))}", change, etag=None)


def _describe(item: dict[str, Any]) -> str:
    return fields(
        [
            ("id", item["id"]),
            ("email", item["email"]),
            ("name", item["name"]),
            ("kind", item["kind"]),
            ("role", item["role"]),
            ("disabled", item["disabled"]),
            ("second factor", item["second_factor"]),
            ("one-time password", item["password_change_required"]),
            ("created", moment(item["created_at"])),
        ]
    )


def _id_of(client: Client, user_: str) -> str:
    from cli.errors import ApiRefusal

    if "@" not in user_:
        return user_
    for item in client.items("/users", limit=None, email=user_):
        if item["email"].casefold() == user_.casefold():
            return str(item["id"])
    raise ApiRefusal(404, {"code": "user_not_found", "message": f"nobody has the address {user_!r}"})
