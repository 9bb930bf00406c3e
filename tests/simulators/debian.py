"""Programs of Debian's packages without root: fetched with apt, unpacked into ``.cache`` and run from there."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import pytest

_CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "debian"


def unpacked(*packages: str) -> Path:
    """The folder that the packages are unpacked in together; a machine where they cannot be had skips the test."""
    tree = _CACHE / "+".join(packages)
    if tree.is_dir():
        return tree
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        try:
            if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
                raise OSError("there is no apt to fetch it with")
            for command in (
                ["apt-get", "-qq", "-o", "APT::Sandbox::User=", "download", *packages],
                ["sh", "-c", "for package in *.deb; do dpkg-deb -x $package tree; done"],
            ):
                subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=300)
        except (subprocess.SubprocessError, OSError) as error:
            reason = f"{packages[0].upper()} WAS NOT TESTED: it could not be fetched: {error}"
            if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
                pytest.fail(reason)
            pytest.skip(reason)
        try:
            (Path(scratch) / "tree").rename(tree)
        except OSError:
            if not tree.is_dir():  # else another test process was faster
                raise
    return tree
