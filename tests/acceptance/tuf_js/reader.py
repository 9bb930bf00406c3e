"""Runs ``fetch.mjs``: stock tuf-js clients in one process, with Node.js and its packages both from locks."""

from __future__ import annotations

import atexit
import json
import subprocess
import threading
from pathlib import Path
from typing import Any, Final

from tests.acceptance.node import CACHE, NODE, environment, install

HERE: Final = Path(__file__).resolve().parent
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
        [str(NODE), str(install(HERE, "fetch.mjs") / "fetch.mjs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(CACHE / "tuf_js"),
    )
    _running.append(node)
    return node


@atexit.register
def _end() -> None:
    for node in _running:
        node.kill()
        node.communicate()
    _running.clear()
