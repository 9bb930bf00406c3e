"""`publish register`: the first organisation of a server that has none."""

from __future__ import annotations

import click

from cli.asking import ask, read_password
from cli.invocation import Invocation
from cli.options import server_options
from cli.text import fields


@click.command()
@click.argument("org", metavar="SLUG")
@click.option("--org-name", metavar="TEXT", default="", help="What people call it. [default: the slug]")
@click.option("--email", metavar="ADDRESS", help="The first admin: you. Asked for on a terminal.")
@click.option("--name", metavar="TEXT", help="What you are called. [default: the address before its @]")
@click.option("--password-file", type=click.Path(dir_okay=False), metavar="FILE", help="Read your password from FILE.")
@click.option(
    "--setup-code-file",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="The file setup-code in the server's home; without it the code is asked for on a terminal.",
)
@click.option("--no-setup-code", is_flag=True, help="Send none, to a server that is open to further organisations.")
@server_options
def register(
    invocation: Invocation,
    org: str,
    org_name: str,
    email: str | None,
    name: str | None,
    password_file: str | None,
    setup_code_file: str | None,
    no_setup_code: bool,
) -> None:
    """Register an organisation at a server that has none, and yourself as its first admin.

    SLUG stands in URLs and never changes. The server makes keys and a signed repository; whoever runs it moves the keys
    of root and targets away from it (docs/operators.md).
    """
    from cli.client import Client
    from cli.config import Config
    from cli.errors import UsageFault

    if no_setup_code and setup_code_file:
        raise UsageFault("--setup-code-file and --no-setup-code exclude each other")
    code = None
    if not no_setup_code:
        code = read_password(setup_code_file) if setup_code_file else ask("Setup code", "--setup-code-file", hide=True)
    email = email or ask("E-mail", "--email")
    password = (
        read_password(password_file) if password_file else ask("Password", "--password-file", hide=True, twice=True)
    )
    base_url = Config.from_environment().base_url(invocation.url, invocation.profile)
    body = {
        "org": org,
        "org_name": org_name,
        "email": email,
        "name": name or email.partition("@")[0] or email,
        "password": password,
        "setup_code": code,
    }
    made = Client(base_url, None, notice=invocation.note).post("/auth/register", body)
    shown = [("organisation", made["org"]), ("admin", made["user"]["email"]), ("root SHA-256", made["root_sha256"])]
    invocation.emit(
        made,
        lambda: (
            fields(shown)
            + f"\nNext: `publish login --email {made['user']['email']}`; on the server, move the folder offline-keys"
            + f" of orgs/{made['org']} to a safe place."
        ),
    )
