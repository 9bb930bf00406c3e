"""`publish login`, `logout` and `whoami`: a person's login, for what a key may not do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cli.asking import ask, given_password, read_password
from cli.invocation import Invocation
from cli.options import server_options
from cli.text import cell, fields, moment

if TYPE_CHECKING:
    from cli.client import Client


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
@click.option("--org", metavar="SLUG", help="Organisation, where the server has several.")
@click.option("--code", metavar="CODE", help="What your authenticator app shows, or a recovery code.")
@click.option("--oidc", is_flag=True, help="Log in in your browser, by the provider that the server knows.")
@click.option("--device", is_flag=True, help="Log in by the provider in a browser elsewhere: shows a page and a code.")
@click.option(
    "--link",
    is_flag=True,
    help="With --oidc: have your account logged in so, too; takes its password.",
)
@server_options
def login(
    invocation: Invocation,
    email: str | None,
    password_file: str | None,
    password_stdin: bool,
    new_password_file: str | None,
    org: str | None,
    code: str | None,
    oidc: bool,
    device: bool,
    link: bool,
) -> None:
    """Log in as a person and remember it for 24 hours.

    The login token is stored in the system's keyring, if the package `keyring` is installed and finds one, else in a
    file only you can read; it is sent to this server only. Passwords are never taken from the command line, where other
    people on the machine could see them.

    With --profile the server and the login get a name; `publish profile use` makes it the one used unnamed.
    """
    from cli.errors import UsageFault

    by_password = {"--email": email, "--password-file": password_file, "--password-stdin": password_stdin}
    given = [name for name, value in by_password.items() if value]
    if oidc + device > 1 or ((oidc or device) and not link and given) or (link and email):
        raise UsageFault(f"{' and '.join([*given, *(['--oidc'] * oidc), *(['--device'] * device)])} exclude each other")
    if link and not oidc:
        raise UsageFault("--link goes with --oidc")
    if oidc and not sys.stderr.isatty():
        raise UsageFault(
            "--oidc needs a person at a terminal, and nobody sits here",
            hint="a program takes an API key, or in a CI job its own identity (`publish push --trusted`)",
        )
    if link:
        _link(invocation, org, given_password(password_file, password_stdin))
    elif oidc or device:
        _by_provider(invocation, org, device=device)
    else:
        _by_password(invocation, email, password_file, password_stdin, new_password_file, org, code)


def _by_password(
    invocation: Invocation,
    email: str | None,
    password_file: str | None,
    password_stdin: bool,
    new_password_file: str | None,
    org: str | None,
    code: str | None,
) -> None:
    from cli.client import Client
    from cli.config import Credential
    from cli.errors import ApiRefusal

    email = email or ask("E-mail", "--email")
    password = given_password(password_file, password_stdin)
    stranger = _stranger(invocation)
    more = {"code": code, "org": org}
    asked = {"email": email, "password": password} | {name: value for name, value in more.items() if value is not None}
    try:
        told = stranger.post("/auth/token", asked)
    except ApiRefusal as refusal:
        if refusal.code != "code_required" or not sys.stdin.isatty() or password_stdin:
            raise
        told = stranger.post("/auth/token", {**asked, "code": ask("Code of your app", "--code")})
    _remember(invocation, stranger.base_url, told, email)

    fresh = new_password_file and read_password(new_password_file)
    user = told["user"]
    must_change = user.get("password_change_required", False)
    if must_change and not fresh and sys.stdin.isatty() and not password_stdin:
        click.echo("This password was for one time only; choose your own.", err=True)
        fresh = click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    if fresh:
        person = Client(stranger.base_url, Credential(told["token"], "this login"))
        user = user | {"password_change_required": False}
        person.patch("/profile", {"password": fresh, "current_password": password}, etag=None)
    elif must_change:
        click.echo(
            "warning: this password was for one time only; change it with `publish login --new-password-file`", err=True
        )
    _tell(invocation, stranger.base_url, {**told, "user": user})


def _by_provider(invocation: Invocation, org: str | None, *, device: bool) -> None:
    from cli.federated import by_browser, by_device

    stranger = _stranger(invocation)
    told = by_device(stranger, org) if device else stranger.post("/auth/oidc/token", by_browser(stranger, org))
    _remember(invocation, stranger.base_url, told, told["user"]["email"])
    _tell(invocation, stranger.base_url, told)


def _link(invocation: Invocation, org: str | None, password: str) -> None:
    from cli.federated import by_browser

    client = invocation.client(as_person=True)
    answer = by_browser(_stranger(invocation), org)
    linked = client.post("/profile/identities", {**answer, "current_password": password})
    invocation.emit(linked, f"linked to {cell(linked['subject'])} at {cell(linked['issuer'])}")


def _stranger(invocation: Invocation) -> Client:
    from cli.client import Client

    return Client(invocation.base_url(), None, notice=invocation.note)


def _remember(invocation: Invocation, base_url: str, told: dict[str, Any], email: str) -> None:
    from cli.config import Config, Login

    config = Config.from_environment()
    config.remember(base_url, Login(told["token"], told["expires_at"], email), config.profile_name(invocation.profile))


def _tell(invocation: Invocation, base_url: str, told: dict[str, Any]) -> None:
    from cli.config import Config

    user, until = told["user"], told["expires_at"]
    profile = Config.from_environment().profile_name(invocation.profile)
    invocation.emit(
        {"url": base_url, "profile": profile, "user": user, "expires_at": until},
        f"logged in to {base_url} as {cell(user['email'])} ({cell(user['role'])}) until {moment(until)}",
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
    stored = config.login(base_url, invocation.profile)
    if stored is not None:
        try:
            Client(base_url, Credential(stored.token, "the stored login")).post("/auth/logout", {})
        except CliError:
            # The server ends the login by itself within a day; what counts is that it is gone from here.
            invocation.note(f"{base_url} was not told; the login ends there by itself")
    was_there = config.forget(base_url, invocation.profile)
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
