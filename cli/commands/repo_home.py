"""`publish repo sync`, `backup`, `restore` and `rebuild-db`: done on the server's home, which may be serving."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.invocation import Invocation
from cli.options import organisation_option, output_option
from cli.text import size

if TYPE_CHECKING:
    from api.settings import Settings

_BUCKETS = ("s3:/", "gs:/", "az:/", "http:/", "https:/")

_config = click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings file (TOML) of the home."
)


@click.command()
@click.argument("destination", metavar="DEST", type=click.Path(file_okay=False, path_type=Path))
@click.option("--deep", is_flag=True, help="Hash again what the mirror has already.")
@_config
@organisation_option
@output_option
def sync(invocation: Invocation, destination: Path, deep: bool, config: Path | None) -> None:
    """Bring the mirror folder DEST up to the repository of the home (WAVEGATE_HOME).

    Any web server may hand out DEST while this runs: clients see the old state or the new one, whole. A run that was
    cut short is gone on with by the next. Everything is checked against its signatures before it is copied.
    """
    from api.wiring import organisation_of, repository_folder, repository_storage
    from cli.errors import UsageFault
    from repo_signing.mirror import Mirror
    from store.database import Database

    if str(destination).startswith(_BUCKETS):
        raise UsageFault(
            f"{destination} is no folder; a mirror is made in one",
            hint="sync to a folder and copy that to the bucket, `metadata/timestamp.json` last",
        )
    settings = _settings(config)
    org = _opened(lambda: organisation_of(settings, invocation.org))
    kept_by = repository_storage(settings, org, Database(settings.database_url))
    done = Mirror(repository_folder(settings, org), destination, deep=deep, kept_by=kept_by).sync()
    answer = {"serial": done.serial, "files": done.files, "bytes": done.length, "removed": done.removed}
    invocation.emit(
        answer, lambda: f"{destination} has serial {done.serial}; copied {done.files} files, {size(done.length)}"
    )


@click.command()
@click.argument("destination", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option("--no-keys", is_flag=True, help="Leave out the keys and the device CA; keep those elsewhere.")
@click.option("--no-database", is_flag=True, help="Leave out the database, for PostgreSQL with a dump of its own.")
@click.option(
    "--without",
    "without",
    multiple=True,
    metavar="SLUG",
    help="Leave this organisation out; repeat.",
)
@_config
@output_option
def backup(
    invocation: Invocation,
    destination: Path,
    no_keys: bool,
    no_database: bool,
    without: tuple[str, ...],
    config: Path | None,
) -> None:
    """Back up the home (WAVEGATE_HOME) with all its organisations to one .tar file or a new folder, while it serves.

    Repositories and database are of the same moment. The online keys are in it, encrypted, and so is what opens them:
    guard it as the home. Offline keys are never in it.
    """
    from api.backup import back_up
    from api.installation import OrganisationUnavailable, open_installation
    from api.wiring import first_of

    settings = _settings(config)
    installation = _opened(lambda: open_installation(settings))
    try:
        slugs = [one for one in installation.slugs() if one not in without]
        if not slugs:
            raise click.ClickException("there is no organisation to back up")
        first = first_of(settings, slugs)
        made = back_up(
            installation.organisation(first),
            destination,
            further=[installation.organisation(one) for one in slugs if one != first],
            keys=not no_keys,
            database=not no_database,
            now=datetime.now(UTC),
            without=without,
        )
    except OrganisationUnavailable as error:
        raise click.ClickException(f"{error}: {error.__cause__}; mend it, or leave it out with --without") from error
    finally:
        installation.close()
    answer: dict[str, Any] = {
        "destination": str(made.destination),
        "serial": made.serial,
        **({"further": dict(made.further)} if made.further else {}),
        "files": made.files,
        "database": made.database,
        "keys": made.keys,
    }
    invocation.emit(answer, lambda: f"backed up serial {made.serial} to {made.destination}, {made.files} files")


@click.command()
@click.argument("source", metavar="FILE|FOLDER", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--keys",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with `keys`, `device-ca` and further organisations' `orgs/SLUG/keys`, for a backup without them.",
)
@click.option(
    "--above",
    type=click.IntRange(min=0),
    default=0,
    metavar="SERIAL",
    help="A serial that somebody saw; the new one is beyond it in any case of a right clock.",
)
@_config
@output_option
def restore(invocation: Invocation, source: Path, keys: Path | None, above: int, config: Path | None) -> None:
    """Make a new home (WAVEGATE_HOME) from a backup, which every client accepts whatever it has seen since.

    The serial jumps past all that the lost server can have reached. What was published after the backup is not in it:
    publish it again. Make sure that the lost server does not come back: two servers that sign are two repositories.
    """
    from api.backup import restore as restore_home

    done = restore_home(_settings(config), source, keys=keys, above=above, now=datetime.now(UTC))
    answer: dict[str, Any] = {
        "home": str(done.home),
        "org": done.org,
        "serial_in_backup": done.serial_in_backup,
        "serial": done.serial,
        "artifacts": done.artifacts,
    }
    if done.further:
        answer["further"] = [
            {
                "org": one.org,
                "serial_in_backup": one.serial_in_backup,
                "serial": one.serial,
                "artifacts": one.artifacts,
            }
            for one in done.further
        ]
    told = [
        f"restored {one.org} in {one.home}: serial {one.serial_in_backup} of the backup, now {one.serial}; "
        f"{one.artifacts} artifacts"
        for one in (done, *done.further)
    ]
    invocation.emit(answer, lambda: "\n".join([*told, "Next: `publish serve`, `publish repo check`"]))


@click.command("rebuild-db")
@_config
@organisation_option
@output_option
def rebuild_db(invocation: Invocation, config: Path | None) -> int:
    """Make the database's index of artifacts anew from signed metadata, and compare the two. Exit 8 if they differ.

    For a database that lost rows, or one that is from another day than the repository. People, devices, rollouts and
    the audit log are not touched. The server of this home may run meanwhile. Of several organisations one is named.
    """
    from api.rebuild import rebuild_index
    from api.wiring import open_wavegate
    from cli.errors import UNVERIFIED

    settings = _settings(config)
    wiring = _opened(lambda: open_wavegate(settings, invocation.org))
    try:
        done = rebuild_index(wiring, now=datetime.now(UTC))
    finally:
        wiring.close()
    answer: dict[str, Any] = {"serial": done.serial, "artifacts": done.artifacts, "equal": done.equal}
    said = "equal to what is signed" if done.equal else "NOT equal to what is signed"
    invocation.emit(answer, lambda: f"made anew at serial {done.serial}: {done.artifacts} artifacts, {said}")
    return 0 if done.equal else UNVERIFIED


def _settings(config: Path | None) -> Settings:
    from api.settings import InvalidSettings, read_settings

    try:
        return read_settings(config=config)
    except InvalidSettings as error:
        raise click.ClickException(str(error)) from error


def _opened(action: Any) -> Any:
    from api.wiring import NotInitialised

    try:
        return action()
    except NotInitialised as error:
        raise click.ClickException(str(error)) from error
