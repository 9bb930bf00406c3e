"""Runs ``fetch.mjs``: a stock tuf-js client, with Node.js and its packages both from locks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from tests.simulators.node import NODE, environment, install

HERE: Final = Path(__file__).resolve().parent
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
    script = install(HERE, ["fetch.mjs"]) / "fetch.mjs"
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


def _environment(ahead_seconds: int) -> dict[str, str]:
    if not ahead_seconds:
        return environment()
    return environment(f"--import=data:text/javascript,{quote(_CLOCK % (ahead_seconds * 1000))}")
