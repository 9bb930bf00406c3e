"""The process that answers HTTP: its own opening of the home, and nothing of the device port."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flask import Flask

from api.app import create_app
from api.installation import open_installation
from api.settings import read_settings

ORPHAN_GRACE_SECONDS: Final = 5  # for requests under way when the server's first process is gone

log: Final = logging.getLogger("wavegate")


def application() -> Flask:
    """The application over the home that the environment names."""
    settings = read_settings(config=Path(os.environ["WAVEGATE_CONFIG"]) if "WAVEGATE_CONFIG" in os.environ else None)
    start_logging(settings.log_level)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.join,), name="wavegate-orphan", daemon=True).start()
    installation = open_installation(settings)
    for _ in installation.each():  # opened now, or the first request to each would wait for it
        pass
    return create_app(installation)


def start_logging(level: str) -> None:
    """Log to stderr, a line an event."""
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _end_after(wait_for_parent: Callable[[], object]) -> None:
    # A pipe tells, however the parent ended. Left alone, this process would hold the port against the next server
    # and answer for one whose devices and jobs nobody serves.
    wait_for_parent()
    log.error("the server's first process is gone; this one ends, too")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_GRACE_SECONDS)
    os._exit(1)  # a request that does not end keeps no port
