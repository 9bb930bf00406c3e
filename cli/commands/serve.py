"""`publish serve`."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings file (TOML).")
def serve(config: Path | None) -> None:
    """Run the API, the device endpoint and the background jobs in one command, until SIGTERM or Ctrl-C.

    Settings come from WAVEGATE_* variables or --config; where everything is, is said on stderr. On a home that is empty
    or absent it waits for `publish register`, and says how.
    """
    # gRPC's own lines are of every broken handshake, and no JSON; it reads this when it is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from api.serve import serve as run
    from api.settings import InvalidSettings, read_settings
    from api.wiring import NotInitialised

    try:
        run(read_settings(config=config), config)
    except (InvalidSettings, NotInitialised) as error:
        raise click.ClickException(str(error)) from error
