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
@click.option("--production", is_flag=True, help="Keep the keys of root and targets elsewhere; they are never here.")
@click.option("--root-key", "root_keys", multiple=True, metavar="FILE", help="A holder's .pub file; repeat.")
@click.option("--root-threshold", type=click.IntRange(min=1), default=2, show_default=True, help="How many sign root.")
@click.option(
    "--targets-key", "targets_keys", multiple=True, metavar="FILE", help="Same for targets. [default: root's]"
)
@click.option("--targets-threshold", type=click.IntRange(min=1), default=2, show_default=True, help="Same for targets.")
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
    from api.settings import InvalidSettings, read_settings
    from api.setup import SetupRefused, initialise

    holders = _holders(production, (root_keys, root_threshold), (targets_keys, targets_threshold))
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


def _holders(production: bool, root: tuple[tuple[str, ...], int], targets: tuple[tuple[str, ...], int]) -> Any:
    from api.setup import Holders
    from cli.errors import UsageFault
    from keys.holders import public_key

    if not production:
        if root[0] or targets[0]:
            raise UsageFault("--root-key and --targets-key go with --production")
        return None
    if not root[0]:
        raise UsageFault(
            "--production holds no key of root and targets: name those of their holders by --root-key, 3 of them for "
            "the default threshold of 2",
            hint="each holder makes one with `publish repo key new --out FOLDER`",
        )
    named = {"root": root[0], "targets": targets[0] or root[0]}
    keys = {role: [public_key(one) for one in files] for role, files in named.items()}
    return Holders(keys=keys, thresholds={"root": root[1], "targets": targets[1]})


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
