"""Stored bytes to a file or to stdout, as `sbom get` and `attestation get` hand them out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from cli.invocation import Invocation
from cli.text import size

to_option: Final = click.option(
    "--to",
    "-O",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write to FILE, which must not exist. [default: stdout]",
)


def hand_out(invocation: Invocation, content: bytes, to: Path | None) -> None:
    """Write ``content``, byte for byte, to a file that must be new, or to stdout when ``to`` is None."""
    if to is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    with to.open("xb") as file:
        file.write(content)
    invocation.emit({"file": str(to), "length": len(content)}, f"wrote {to} ({size(len(content))})")
