"""`publish repo nginx`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--at",
    "seen_at",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where nginx sees the repository's folder, if elsewhere: a bind mount, a container's volume. ORG in it "
    "stands for the organisation's slug.",
)
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings file (TOML) of the home."
)
def nginx(seen_at: Path | None, config: Path | None) -> None:
    """Print what nginx needs to hand out the repositories of the home (WAVEGATE_HOME) by itself.

    Devices then poll and download without the server. Include the text in a `server { }` of nginx, which keeps name,
    port and certificate; API and documentation are passed on. Print it again when there is another organisation.
    """
    from api.nginx import NotForNginx, nginx_locations
    from api.settings import InvalidSettings, read_settings
    from api.wiring import NotInitialised, organisations_of
    from cli.errors import UsageFault

    try:
        settings = read_settings(config=config)
        text = nginx_locations(settings, organisations_of(settings), seen_at=seen_at)
    except NotForNginx as error:
        raise UsageFault(str(error)) from error
    except (InvalidSettings, NotInitialised) as error:
        raise click.ClickException(str(error)) from error
    click.echo(text, nl=False)
