"""Programs that listen on a port of loopback, when they do."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from typing import Final

_START_SECONDS: Final = 30


def free_port() -> int:
    """A port of loopback where nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_listening(process: subprocess.Popen[bytes], port: int, says: Callable[[], str] = str) -> None:
    """Return when the program takes connections. ``says`` gives its own words for why it does not."""
    end = time.monotonic() + _START_SECONDS
    while True:
        # A configuration that it does not take is a fault of ours, not a machine without the program.
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}: {says()}"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return
        except OSError:
            assert time.monotonic() < end, f"{process.args!r} does not listen: {says()}"
            time.sleep(0.05)
