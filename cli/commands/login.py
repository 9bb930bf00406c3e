"""`publish login`, `logout` and `whoami`: a person's login, for what a key may not do."""

from __future__ import annotations

import sys
from typing import Any

import click

from cli.asking import ask, given_password, read_password
from cli.invocation import Invocation
from cli.options import server_options
from cli.text import cell, fields, moment


@click.command()
@click.option("--email", metavar="ADDRESS", help="Whose login. Asked for on a terminal.")
@click.option("--password-file", type=click.Path(dir_okay=False), metavar="FILE", help="Read the password from FILE.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")
@click.option(
    "--new-password-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Change the password to the one in FILE, as a one-time password demands.",
)
@click.option("--org", metavar="SLUG", help="Organisation, if the address and the password are right in several.")
@click.option("--code", metavar="CODE", help="What your authenticator app shows, or a recovery code.")
@server_options
def login(
    invocation: Invocation,
    email: str | None,
    password_file: str | None,
    password_stdin: bool,
    new_password_file: str | None,
    org: str | None,
    code: str | None,
) -> None:
    """Log in as a person and remember it for 24 hours.

    The login token is stored in a file only you can read, and sent to this server only. Passwords are never taken
    from the command line, where other people on the machine could see them.
    """
    from cli.client import Client
    from cli.config import Config, Credential, Login
    from cli.errors import ApiRefusal

    email = email or ask("E-mail", "--email")
    password = given_password(password_file, password_stdin)

    config = Config.from_environment()
    base_url = config.base_url(invocation.url, invocation.profile)
    stranger = Client(base_url, None, notice=invocation.note)
    more = {"code": code, "org": org}
    asked = {"email": email, "password": password} | {name: value for name, value in more.items() if value is not None}
    try:
        told = stranger.post("/auth/token", asked)
    except ApiRefusal as refusal:
        if refusal.code != "code_required" or not sys.stdin.isatty() or password_stdin:
            raise
        told = stranger.post("/auth/token", {**asked, "code": ask("Code of your app", "--code")})
    config.remember(base_url, Login(told["token"], told["expires_at"], email), invocation.profile)

    fresh = new_password_file and read_password(new_password_file)
    user = told["user"]
    must_change = user.get("password_change_required", False)
    if must_change and not fresh and sys.stdin.isatty() and not password_stdin:
        click.echo("This password was for one time only; choose your own.", err=True)
        fresh = click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    if fresh:
        person = Client(base_url, Credential(told["token"], "this login"))
        user = user | {"password_change_required": False}
        person.patch("/profile", {"password": fresh, "current_password": password}, etag=None)
    elif must_change:
        click.echo(
            "warning: this password was for one time only; change it with `publish login --new-password-file`", err=True
        )
    answer = {"url": base_url, "profile": invocation.profile, "user": user, "expires_at": told["expires_at"]}
    invocation.emit(
        answer,
        f"logged in to {base_url} as {cell(user['email'])} ({cell(user['role'])}) until {moment(told['expires_at'])}",
    )


@click.command()
@server_options
def logout(invocation: Invocation) -> None:
    """Forget the stored login of this server."""
    from cli.client import Client
    from cli.config import Config, Credential
    from cli.errors import CliError

    config = Config.from_environment()
    base_url = config.base_url(invocation.url, invocation.profile)
    stored = config.login(base_url)
    if stored is not None:
        try:
            Client(base_url, Credential(stored.token, "the stored login")).post("/auth/logout", {})
        except CliError:
            # The server ends the login by itself within a day; what counts is that it is gone from here.
            invocation.note(f"{base_url} was not told; the login ends there by itself")
    was_there = config.forget(base_url)
    invocation.emit(
        {"url": base_url, "logged_out": was_there},
        f"logged out of {base_url}" if was_there else f"there was no login for {base_url}",
    )


@click.command()
@server_options
def whoami(invocation: Invocation) -> None:
    """Show who the server takes you for, and what you may do."""
    client = invocation.client()
    told: dict[str, Any] = client.get("/auth/me")

    def table() -> str:
        user, credential = told["user"], told["credential"]
        origin = client.credential.origin if client.credential else None
        return fields(
            [
                ("server", client.base_url),
                ("organisation", told["org"]),
                ("user", f"{user['email'] or user['name']} ({user['id']})"),
                ("role", user["role"]),
                ("by", origin),
                ("credential", f"{credential['kind']} {credential['id']}"),
                ("until", moment(credential.get("expires_at"))),
                ("may", sorted(told["permissions"])),
            ]
        )

    invocation.emit(told, table)
