"""`publish second-factor`: a code of an authenticator app at the login, besides the password."""

from __future__ import annotations

import sys
from typing import Any

import click

from cli.asking import ask, given_password
from cli.invocation import Invocation
from cli.options import server_options
from cli.text import fields, moment

_PASSWORD_FILE = click.option(
    "--password-file", type=click.Path(dir_okay=False), metavar="FILE", help="Read the password from FILE."
)
_PASSWORD_STDIN = click.option("--password-stdin", is_flag=True, help="Read the password from stdin.")


@click.group("second-factor")
def second_factor() -> None:
    """Ask for a code of an authenticator app at your login. A person's login is needed (`publish login`)."""


@second_factor.command()
@server_options
def status(invocation: Invocation) -> None:
    """Show whether your login needs a code, and how many recovery codes are left."""
    told: dict[str, Any] = invocation.client(as_person=True).get("/profile/second-factor")
    invocation.emit(
        told,
        lambda: fields(
            [
                ("enabled", told["enabled"]),
                ("since", moment(told["since"])),
                ("recovery codes left", told["recovery_codes_left"]),
            ]
        ),
    )


@second_factor.command()
@_PASSWORD_FILE
@_PASSWORD_STDIN
@server_options
def enable(invocation: Invocation, password_file: str | None, password_stdin: bool) -> None:
    """Make a secret for your app, and confirm it with its first code.

    Without a terminal it is not confirmed: give the URI to the app, then run `publish second-factor confirm CODE`.
    """
    client = invocation.client(as_person=True)
    begun = client.post("/profile/second-factor", {"current_password": given_password(password_file, password_stdin)})
    if not sys.stdin.isatty() or password_stdin:
        invocation.emit(begun, lambda: fields([("for the app", begun["otpauth_uri"])]))
        return
    click.echo(f"Give this to your app, as a QR code or by its secret:\n{begun['otpauth_uri']}", err=True)
    _confirm(invocation, ask("Code of your app", "`publish second-factor confirm CODE`"))


@second_factor.command()
@click.argument("code")
@server_options
def confirm(invocation: Invocation, code: str) -> None:
    """Let the second factor count from now on; CODE is what the app shows. Your other logins end."""
    _confirm(invocation, code)


@second_factor.command()
@click.argument("code")
@_PASSWORD_FILE
@_PASSWORD_STDIN
@server_options
def remove(invocation: Invocation, code: str, password_file: str | None, password_stdin: bool) -> None:
    """Log in by password alone again; CODE is what the app shows, or a recovery code."""
    body = {"current_password": given_password(password_file, password_stdin), "code": code}
    invocation.client(as_person=True).post("/profile/second-factor/remove", body)
    invocation.emit({"enabled": False}, "your login needs no code any more")


def _confirm(invocation: Invocation, code: str) -> None:
    told: dict[str, Any] = invocation.client(as_person=True).post("/profile/second-factor/confirm", {"code": code})
    invocation.emit(
        told,
        lambda: (
            "Your login needs a code from now on. Each of these is good for one login without the app, and is shown "
            "this once:\n" + "\n".join(told["recovery_codes"])
        ),
    )
