"""`publish init`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cli.founding import founding_options, holders_of
from cli.invocation import Invocation
from cli.options import output_option


@click.command()
@click.option("--org", metavar="SLUG", default="acme", show_default=True, help="Slug of the organisation.")
@click.option("--admin", metavar="EMAIL", default="admin@localhost", show_default=True, help="The first admin.")
@founding_options
@output_option
def init(
    invocation: Invocation,
    org: str,
    admin: str,
    layout: str,
    config: Path | None,
    production: bool,
    root_keys: tuple[str, ...],
    root_threshold: int,
    targets_keys: tuple[str, ...],
    targets_threshold: int,
) -> None:
    """Make a home: database, signed repository with all its keys, device CA, the first admin and an API key.

    The home is WAVEGATE_HOME. Password and key are shown once, here. A home that exists is left as it is.

    With --production the home gets online keys only. Root and targets wait as a draft for the holders' signatures:
    `publish repo sign DRAFT --home HOME --key URI`. The server starts when enough have signed.
    """
    from api.organisations import SetupRefused
    from api.settings import InvalidSettings, read_settings
    from api.setup import initialise

    holders = holders_of(production, (root_keys, root_threshold), (targets_keys, targets_threshold))
    try:
        made = initialise(
            read_settings(config=config), org=org, admin=admin, now=datetime.now(UTC), layout=layout, holders=holders
        )
    except (InvalidSettings, SetupRefused) as error:
        raise click.ClickException(str(error)) from error
    answer = {
        "home": str(made.home),
        "org": made.org,
        "root": str(made.root),
        "root_sha256": made.root_sha256 or None,
        "admin": {"email": made.admin_email, "password": made.admin_password},
        "api_key": made.api_key,
    }
    if made.draft is not None:
        answer["draft"] = made.draft
        invocation.emit(answer, lambda: _ceremony(answer))
        return
    invocation.emit(answer, lambda: _told(answer, made.home / "orgs" / made.org / "offline-keys"))


def _ceremony(answer: dict[str, Any]) -> str:
    return (
        f"Made the home {answer['home']} for organisation {answer['org']}; root and targets are not signed yet.\n\n"
        f"  draft          {answer['draft']}\n"
        f"  admin          {answer['admin']['email']}  password {answer['admin']['password']}\n"
        f"  API key        {answer['api_key']}\n\n"
        "Password and key are shown once; keep them now.\n"
        "Next: have enough holders sign, here or from the exported file\n"
        f"  publish repo draft export {answer['draft']} --home {answer['home']}\n"
        f"  publish repo sign {answer['draft']} --home {answer['home']} --key FILE.pem\n"
        "then `publish serve`."
    )


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
