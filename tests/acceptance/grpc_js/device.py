"""Runs ``device.mjs``: a device in JavaScript, with Node.js and its packages both from locks."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.acceptance.node import CACHE, NODE, environment, install

HERE: Final = Path(__file__).resolve().parent
PROTO: Final = HERE.parents[2] / "api" / "device" / "device.proto"
ANSWER_WITHIN_SECONDS: Final = 60


class JavaScriptDevice:
    """One device; its folder is its disk, and all that it keeps between two starts."""

    def __init__(self, node: subprocess.Popen[str]) -> None:
        self._node = node

    def order(self, do: str, **more: Any) -> dict[str, Any]:
        """Let it do something; what came of it, or ``{"refused", "message", "wavegate_code"}``."""
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self._node.stdin.flush()
        # An order that takes longer ends the process, and with it the line that is waited for.
        impatience = threading.Timer(ANSWER_WITHIN_SECONDS, self._node.kill)
        impatience.start()
        line = self._node.stdout.readline()
        impatience.cancel()
        assert line, f"the device ended, or did not answer in {ANSWER_WITHIN_SECONDS} s"
        told: dict[str, Any] = json.loads(line)
        return told


@contextmanager
def javascript_device(folder: Path) -> Iterator[JavaScriptDevice]:
    """A device that is switched on until the block ends."""
    folder.mkdir(exist_ok=True)
    node = subprocess.Popen(
        [str(NODE), str(install(HERE, "device.mjs") / "device.mjs"), str(PROTO), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(CACHE / "grpc_js"),
    )
    try:
        yield JavaScriptDevice(node)
    finally:
        node.kill()
        node.communicate()
