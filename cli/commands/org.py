"""`publish org`: the organisations of an installation, made and listed on the server's own machine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.founding import founding_options, holders_of
from cli.invocation import Invocation
from cli.options import output_option
from cli.text import moment, table

if TYPE_CHECKING:
    from api.settings import Settings


@click.group()
def org() -> None:
    """Make and list the organisations of this machine's installation (WAVEGATE_HOME).

    Each has a signed repository, keys, people, devices and a log of its own, and sees nothing of the others.
    """


@org.command()
@click.argument("slug")
@click.option("--admin", metavar="EMAIL", required=True, help="Its first admin.")
@click.option("--name", metavar="TEXT", default="", help="For people. [default: the slug]")
@founding_options
@output_option
def create(
    invocation: Invocation,
    slug: str,
    admin: str,
    name: str,
    layout: str,
    config: Path | None,
    production: bool,
    root_keys: tuple[str, ...],
    root_threshold: int,
    targets_keys: tuple[str, ...],
    targets_threshold: int,
) -> None:
    """Make an organisation with a signed repository, keys, an admin and an API key of its own.

    SLUG stands in URLs and never changes. Password and key are shown once, here. A server that runs serves the new
    organisation within a second.

    With --production it gets online keys only. Root and targets wait as a draft for the holders' signatures:
    `publish repo sign DRAFT --home HOME --org SLUG --key URI`. It is served when enough have signed.
    """
    from api.backup import OPERATOR
    from api.organisations import NewAdmin, SetupRefused, add_first_key, create_organisation
    from api.wiring import NotInitialised, check_home, open_database
    from keys.errors import CustodyError
    from repo_signing.errors import RepositoryError
    from store.errors import OrgExists

    holders = holders_of(production, (root_keys, root_threshold), (targets_keys, targets_threshold))
    settings, now = _settings(config), datetime.now(UTC)
    try:
        check_home(settings)
        db = open_database(settings)
        try:
            db.migrate()
            made = create_organisation(
                settings,
                db,
                org=slug,
                name=name,
                admin=NewAdmin(email=admin),
                by=OPERATOR,
                now=now,
                layout=layout,
                holders=holders,
            )
            key = add_first_key(db, slug, now, by=OPERATOR)
        finally:
            db.close()
    except (NotInitialised, SetupRefused, OrgExists, RepositoryError, CustodyError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{slug} was not made: {error.strerror or error}; see to the disk") from error
    answer: dict[str, Any] = {
        "home": str(settings.home),
        "org": made.org,
        "root": str(made.root),
        "root_sha256": made.root_sha256 or None,
        "admin": {"email": admin, "password": made.password},
        "api_key": key,
    }
    if made.draft is not None:
        answer["draft"] = made.draft
    invocation.emit(answer, lambda: _told(answer))


@org.command("list")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings file (TOML).")
@output_option
def list_(invocation: Invocation, config: Path | None) -> None:
    """List the organisations, oldest first, and whether the root of each is signed."""
    from api.wiring import NotInitialised, check_home, open_database, root_file
    from store.organisations import Organisations

    settings = _settings(config)
    try:
        check_home(settings)
    except NotInitialised as error:
        raise click.ClickException(str(error)) from error
    db = open_database(settings)
    try:
        db.migrate()
        found = Organisations(db).all()
    finally:
        db.close()
    items = [
        {
            "slug": one.slug,
            "name": one.name,
            "created_at": one.created_at.isoformat().replace("+00:00", "Z"),
            "signed": root_file(settings, one.slug).is_file(),
        }
        for one in found
    ]
    rows = [
        (one["slug"], one["name"], moment(str(one["created_at"])), "yes" if one["signed"] else "waits for signatures")
        for one in items
    ]
    invocation.emit(
        {"items": items}, lambda: table(("slug", "name", "made", "signed"), rows, empty="no organisation yet")
    )


def _settings(config: Path | None) -> Settings:
    from api.settings import InvalidSettings, read_settings

    try:
        return read_settings(config=config)
    except InvalidSettings as error:
        raise click.ClickException(str(error)) from error


def _told(answer: dict[str, Any]) -> str:
    home, slug = answer["home"], answer["org"]
    lines = [
        f"Made the organisation {slug} in {home}.",
        "",
        f"  admin          {answer['admin']['email']}  password {answer['admin']['password']}",
        f"  API key        {answer['api_key']}",
    ]
    if "draft" in answer:
        lines += [
            f"  draft          {answer['draft']}",
            "",
            "Password and key are shown once; keep them now.",
            "Root and targets are not signed yet. Next: have enough holders sign",
            f"  publish repo sign {answer['draft']} --home {home} --org {slug} --key FILE.pem",
        ]
    else:
        lines += [
            f"  trusted root   {answer['root']}",
            f"  its SHA-256    {answer['root_sha256']}",
            "",
            "Password and key are shown once; keep them now.",
            f"Move {home}/orgs/{slug}/offline-keys to a safe place: root and targets keys are not needed day to day.",
        ]
    return "\n".join(lines)
