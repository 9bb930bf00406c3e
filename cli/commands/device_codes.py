"""`publish device create` and `code`: devices that are known before they come."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.client import segment
from cli.errors import UsageFault
from cli.invocation import Invocation
from cli.options import pairs, server_options
from cli.text import fields, moment

code_file_option = click.option(
    "--code-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the code into this new file, mode 0600, and print it nowhere.",
)


@click.command()
@click.argument("name")
@click.option("--platform", default="", metavar="NAME", help="As artifacts name it.  [what the agent says]")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Put it into this group; repeat.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", callback=pairs, help="Label it; repeat.")
@code_file_option
@server_options
def create(
    invocation: Invocation,
    name: str,
    platform: str,
    groups: tuple[str, ...],
    labels: dict[str, str],
    code_file: str | None,
) -> None:
    """Make a device that waits for the one that enrols with its code, good once for 30 days."""
    body = {"name": name, "platform": platform, "groups": list(groups), "labels": labels}
    _emit(invocation, _kept(code_file, lambda: invocation.client().post("/devices", body)), code_file)


@click.command()
@click.argument("device_", metavar="DEVICE")
@code_file_option
@server_options
def code(invocation: Invocation, device_: str, code_file: str | None) -> None:
    """Make a new code for a device: its earlier one ends now, its certificates when this one is used."""
    path = f"/devices/{segment(device_)}/enroll-code"
    _emit(invocation, _kept(code_file, lambda: invocation.client().post(path, {})), code_file)


class KeptFile:
    """A new file of its owner's for secrets that are shown once, made before they are asked for: codes that nobody can
    keep are not asked for. It goes again when what stands inside the ``with`` fails."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> KeptFile:
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise UsageFault(f"{self._path} is there already; it may hold another device's code") from error
        except OSError as error:
            raise UsageFault(f"{self._path} cannot be written: {error.strerror}") from error
        self._file = os.fdopen(descriptor, "w", encoding="utf-8", newline="")
        return self

    def write(self, text: str) -> None:
        """Write it, durably."""
        self._file.write(text)
        self._file.flush()
        os.fsync(self._file.fileno())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is not None:
            Path(self._path).unlink()


def _kept(code_file: str | None, ask: Callable[[], Any]) -> dict[str, Any]:
    """What the server answers, with the code in the file instead where one is named."""
    if code_file is None:
        made: dict[str, Any] = ask()
        return made
    with KeptFile(code_file) as kept:
        made = ask()
        kept.write(f"{made['code']}\n")
    return {**made, "code": None}


def _emit(invocation: Invocation, made: dict[str, Any], code_file: str | None) -> None:
    kept = "The code is shown this once." if code_file is None else f"The code is in {code_file}."
    invocation.emit(
        made,
        lambda: (
            fields(
                [
                    ("id", made["id"]),
                    ("name", made["name"]),
                    ("status", made["status"]),
                    ("groups", made["groups"]),
                    ("good until", moment(made["code_expires_at"])),
                    *([("code", made["code"])] if code_file is None else []),
                ]
            )
            + f"\n{kept}"
        ),
    )
