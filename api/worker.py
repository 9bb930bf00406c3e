"""The process that answers HTTP: its own opening of the home, and nothing of the device port."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from flask import Flask

from api.app import create_app
from api.settings import read_settings
from api.wiring import open_wavegate


def application() -> Flask:
    """The application over the home that the environment names."""
    settings = read_settings(config=Path(os.environ["WAVEGATE_CONFIG"]) if "WAVEGATE_CONFIG" in os.environ else None)
    start_logging(settings.log_level)
    return create_app(open_wavegate(settings))


def start_logging(level: str) -> None:
    """Log to stderr, a line an event."""
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
