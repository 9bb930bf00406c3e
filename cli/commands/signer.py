"""`publish signer`: the process that holds the online keys, and how they get there."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.invocation import Invocation
from cli.options import organisation_option, output_option

if TYPE_CHECKING:
    from keys.signerd.service import SignerService

_FOLDER = click.Path(file_okay=False, path_type=Path)
_home = click.option("--home", type=_FOLDER, required=True, help="The signer's own folder, best of a user of its own.")
_socket = click.option(
    "--socket", "path", type=click.Path(path_type=Path), required=True, help="Where it listens; absolute."
)


@click.group()
def signer() -> None:
    """Hold the online keys in a process of their own, which the server can only ask."""


@signer.command()
@_home
@_socket
@click.option("--user", "uids", type=click.IntRange(min=0), multiple=True, help="Id of a user who may ask; repeat.")
@click.option("--group", "gid", type=click.IntRange(min=0), help="Id of a group that may connect.")
def serve(home: Path, path: Path, uids: tuple[int, ...], gid: int | None) -> None:
    """Answer at the socket until SIGTERM or Ctrl-C, by default only to the user who runs this.

    The process refuses what would make a client go back, or show two clients two truths.
    """
    from keys.errors import CustodyError
    from keys.signerd.service import serve_signer

    def started(service: SignerService) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            # From another thread: this one is inside the loop that is to end.
            signal.signal(number, lambda *_: threading.Thread(target=service.stop, daemon=True).start())
        click.echo(f"the signer answers at {path}", err=True)

    try:
        serve_signer(
            home,
            _absolute(path),
            clock=lambda: datetime.now(UTC),
            uids=frozenset(uids) if uids else None,
            gid=gid,
            started=started,
        )
    except CustodyError as error:
        raise click.ClickException(str(error)) from error


@signer.command("hand-over")
@_home
@_socket
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings file (TOML) of the home."
)
@organisation_option
@output_option
def hand_over(invocation: Invocation, home: Path, path: Path, config: Path | None) -> None:
    """Move the online keys of the server's home (WAVEGATE_HOME) to the signer's folder.

    The public keys stay as they are, so no client notices. Start the signer, then the server. After a stop halfway
    give the same command again.
    """
    from api.settings import InvalidSettings, read_settings
    from api.wiring import NotInitialised, keys_folder, organisation_of
    from keys.errors import CustodyError
    from keys.signerd.hand_over import hand_over as move

    try:
        settings = read_settings(config=config)
        moved = move(keys_folder(settings, organisation_of(settings, invocation.org)), home.absolute(), _absolute(path))
    except (InvalidSettings, NotInitialised, CustodyError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"the keys could not be moved: {error.strerror or error}; try again") from error
    answer = {"home": str(home.absolute()), "socket": str(path), "keys": list(moved)}
    invocation.emit(answer, lambda: f"{home} holds {', '.join(moved) or 'all keys already'}; ask at {path}")


@signer.command("device-ca-key")
@_home
@click.option("--name", default="device-ca", show_default=True, help="device-ca, or device-ca- and a word of your own.")
@output_option
def device_ca_key(invocation: Invocation, home: Path, name: str) -> None:
    """Make a key for the device CA in the signer's folder; a signer that runs has it once it was restarted.

    Then, on the server: `publish device-ca rotate --key 'wavegate-signer:SOCKET?key=device-ca'`.
    """
    from keys.signerd.ca_key import new_ca_key

    try:
        made = new_ca_key(home.absolute(), name)
    except OSError as error:
        raise click.ClickException(f"the key could not be made: {error.strerror or error}; try again") from error
    answer = {"home": str(home.absolute()), "name": name, "keyid": made.keyid}
    invocation.emit(answer, lambda: f"{home} holds the key {name}; restart the signer, then publish device-ca rotate")


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise click.UsageError(f"--socket is {str(path)!r}; give an absolute path, the keyring notes it")
    return path
