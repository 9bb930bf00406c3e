"""The process that answers HTTP: its own opening of the home, and nothing of the device port."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from api.cores import Cores
from api.installation import open_installation
from api.logs import start_logging
from api.settings import read_settings
from api.tracing import start_tracing
from api.turns import Turns

if TYPE_CHECKING:
    from flask import Flask

ORPHAN_GRACE_SECONDS: Final = 5  # for requests under way when the server's first process is gone

log: Final = logging.getLogger("wavegate")


def application() -> Flask:
    """The application over the home that the environment names."""
    # The server's first process starts this one and needs no routes; declaring them takes a second.
    from api.app import create_app

    settings = read_settings(config=Path(os.environ["WAVEGATE_CONFIG"]) if "WAVEGATE_CONFIG" in os.environ else None)
    start_logging(settings.log_level, settings.log_format)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.join,), name="wavegate-orphan", daemon=True).start()
    start_tracing(settings, "api")
    installation = open_installation(settings)
    for _ in installation.each():  # opened now, or the first request to each would wait for it
        pass
    app = create_app(installation)
    if "WAVEGATE_TALLIES" in os.environ:
        app.extensions["wavegate.tallies"] = Path(os.environ["WAVEGATE_TALLIES"])
    if not settings.bucket:  # to read from one starts threads, which would stay on the core of those who read
        turns = Turns(app.wsgi_app, Cores(), alone=installation.shared.db.is_sqlite)
        app.wsgi_app = turns  # type: ignore[method-assign]  # Flask's own documented way to wrap
    # What is there now stays: the collector need not walk over it again and again.
    gc.collect()
    gc.freeze()
    return app


def _end_after(wait_for_parent: Callable[[], object]) -> None:
    # A pipe tells, however the parent ended. Left alone, this process would hold the port against the next server
    # and answer for one whose devices and jobs nobody serves.
    wait_for_parent()
    log.error("the server's first process is gone; this one ends, too")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_GRACE_SECONDS)
    os._exit(1)  # a request that does not end keeps no port
