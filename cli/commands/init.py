"""`publish init`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cli.invocation import Invocation
from cli.options import output_option


@click.command()
@click.option("--org", metavar="SLUG", default="acme", show_default=True, help="Slug of the organisation.")
@click.option("--admin", metavar="EMAIL", default="admin@localhost", show_default=True, help="The first admin.")
@click.option(
    "--layout",
    type=click.Choice(["bins", "paths"]),
    default="bins",
    show_default=True,
    help="paths: a role per product, for TUF clients without succinct roles (tough); it cannot be changed later.",
)
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings file (TOML).")
@output_option
def init(invocation: Invocation, org: str, admin: str, layout: str, config: Path | None) -> None:
    """Make a home: database, signed repository with all its keys, device CA, the first admin and an API key.

    The home is WAVEGATE_HOME. Password and key are shown once, here. A home that exists is left as it is.
    """
    from api.settings import InvalidSettings, read_settings
    from api.setup import SetupRefused, initialise

    try:
        made = initialise(read_settings(config=config), org=org, admin=admin, now=datetime.now(UTC), layout=layout)
    except (InvalidSettings, SetupRefused) as error:
        raise click.ClickException(str(error)) from error
    answer = {
        "home": str(made.home),
        "org": made.org,
        "root": str(made.root),
        "root_sha256": made.root_sha256,
        "admin": {"email": made.admin_email, "password": made.admin_password},
        "api_key": made.api_key,
    }
    invocation.emit(answer, lambda: _told(answer, made.home / "orgs" / made.org / "offline-keys"))


def _told(answer: dict[str, Any], offline: Path) -> str:
    return (
        f"Made the home {answer['home']} for organisation {answer['org']}.\n\n"
        f"  trusted root   {answer['root']}\n"
        f"  its SHA-256    {answer['root_sha256']}\n"
        f"  admin          {answer['admin']['email']}  password {answer['admin']['password']}\n"
        f"  API key        {answer['api_key']}\n\n"
        "Password and key are shown once; keep them now.\n"
        f"Move {offline} to a safe place: root and targets keys are not needed day to day.\n"
        "Next: `publish serve`, and in another shell\n"
        f"  export WAVEGATE_API_KEY={answer['api_key']}"
    )
