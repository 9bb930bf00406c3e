"""Runs ``buf``, from a lock."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from tests.acceptance.node import CACHE, install

HERE: Final = Path(__file__).resolve().parent
RELEASED: Final = HERE / "released"
"""The device.proto of the last release; a release copies it here, nothing else changes it."""


def buf(folder: Path, *arguments: str | Path) -> tuple[int, list[str]]:
    """Run it in a folder with a ``buf.yaml``; its exit code and what it found, the file's name and place left out."""
    package = f"buf-linux-{'aarch64' if os.uname().machine == 'aarch64' else 'x64'}"
    program = install(HERE, "package.json") / "node_modules" / "@bufbuild" / package / "bin" / "buf"
    ran = subprocess.run(
        [str(program), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "BUF_CACHE_DIR": str(CACHE / "buf" / "modules")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = [line.split(":", 3)[-1] for line in (ran.stdout + ran.stderr).splitlines()]
    return ran.returncode, found
