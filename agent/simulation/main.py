"""The process behind `publish simulate`: one line of JSON on stdin says what, one on stdout what came of it.

It ends when its time is over, or when stdin ends: whoever started it may die in any way, and no fleet stays behind.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

from agent.errors import AgentError
from agent.simulation.fleet import Fleet, Orders
from agent.simulation.tally import Tally


def main() -> None:
    """Run it; ends by SystemExit with 0, or the exit code of the error that is told."""
    order: dict[str, Any] = json.loads(_line())
    orders = Orders(**order | {"folder": Path(order["folder"])})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each device has files and connections of its own
    stop = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(stop,), daemon=True).start()
    try:
        told = simulate(orders, stop)
    except AgentError as error:
        _answer({"error": {"code": error.code, "message": str(error)}})
        sys.exit(error.exit_code)
    except OSError as error:
        _answer({"error": {"code": "agent_error", "message": f"{error.strerror}: {error.filename}"}})
        sys.exit(1)
    _answer(told)


def simulate(orders: Orders, stop: threading.Event) -> dict[str, Any]:
    """The summary of a simulation, with ``ids`` of its devices; raises AgentError when nobody can enrol."""
    fleet = Fleet(orders, Tally(), stop, _say)
    seconds = 0.0
    try:
        fleet.enrol()
        seconds = fleet.run()
    finally:
        fleet.close()
    return fleet.summary() | {"seconds": round(seconds, 1), "ids": fleet.ids}


def _line() -> bytes:
    # Byte by byte and not by a reader, which would hold its lock in the thread that waits for the end.
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return bytes(line)


def _wait_for_the_end(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()


def _answer(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
