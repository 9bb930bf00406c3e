"""Programs of Debian's packages without root: fetched with apt, unpacked into ``.cache`` and run from there.

With lists of its own, because those of a fresh machine are empty and may be changed by root alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import pytest

_CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "debian"
_FETCH_SECONDS: Final = 300


class NotToBeHad(Exception):
    """What a test needs is not on this machine and could not be fetched; the message says why."""


def fetched(*packages: str, with_needed: bool = False) -> Path:
    """The folder that the packages are unpacked in together, once.

    Args:
        with_needed: Also what they need and this machine lacks.

    Raises:
        NotToBeHad: There is no apt here, or it cannot fetch them.
    """
    tree = _CACHE / "+".join(packages)
    if tree.is_dir():
        return tree
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NotToBeHad(f"{packages[0]} is not installed, and there is no apt to fetch it with")
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        for part in ("lists/partial", "cache/archives/partial", "tree"):
            (Path(scratch) / part).mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/cache"]
        apt = ["apt-get", "-qq", *own, "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]
        install = ["--yes", "--no-install-recommends", "--download-only", "install"]
        fetch = [*apt, *(install if with_needed else ["download"]), *packages]
        try:
            for command in ([*apt, "update"], fetch):
                subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=_FETCH_SECONDS)
            for package in (*Path(scratch).glob("*.deb"), *Path(scratch).glob("cache/archives/*.deb")):
                subprocess.run(["dpkg-deb", "-x", package, f"{scratch}/tree"], check=True, capture_output=True)
        except (subprocess.SubprocessError, OSError) as error:
            told = getattr(error, "stderr", None) or b""
            why = f"{packages[0]} could not be fetched: {error} {told.decode(errors='replace')}"
            raise NotToBeHad(why) from error
        try:
            (Path(scratch) / "tree").rename(tree)
        except OSError:
            if not tree.is_dir():  # else another test process was faster
                raise
    return tree


def libraries(tree: Path) -> str:
    """Where the libraries among the packages are, for ``LD_LIBRARY_PATH``."""
    return ":".join(sorted({str(one.parent) for one in tree.glob("**/*.so*")}))


def unpacked(*packages: str, with_needed: bool = False) -> Path:
    """As :func:`fetched`; a machine where they cannot be had skips the test."""
    try:
        return fetched(*packages, with_needed=with_needed)
    except NotToBeHad as error:
        reason = f"{packages[0].upper()} WAS NOT TESTED: {error}"
        if os.environ.get("WAVEGATE_TEST_REQUIRE") == "all":
            pytest.fail(reason)
        pytest.skip(reason)
