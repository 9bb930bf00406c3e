"""The canary: a stock TUF client that reads the repository where devices read it, after each commit and every hour.

It runs in a job, so publishing never waits for it, and commits that come while it reads share the next reading. What it
found lies in a file, for the processes that answer ``/readyz`` and ``/metrics``.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater, UpdaterConfig

from api.settings import Settings

log: Final = logging.getLogger("wavegate.canary")

EVERY: Final = timedelta(hours=1)
AGAIN_AFTER_FAILURE: Final = timedelta(minutes=1)
STARTING: Final = timedelta(seconds=30)  # a server that has just started may not answer yet
OFF: Final = "off"
MAX_SAMPLE: Final = 16 * 1024 * 1024  # bytes; larger artifacts are looked up and not fetched

Sample = tuple[str, int]  # target path and length
State = Callable[[], tuple[int, Callable[[], Sample | None]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one reading found. ``at`` is RFC 3339; ``error`` is empty when all is well, ``failures`` counts in a row."""

    ok: bool
    serial: int
    at: str
    seconds: float
    sample: str
    error: str = ""
    failures: int = 0


class Canary:
    """Two clients: one that keeps what it has seen, and one that begins from the first root each time.

    Args:
        folder: The canary's own; made when missing.
        base_url: Under which ``metadata/`` and ``targets/`` are served.
        root: The root file that the clients trust.
    """

    def __init__(self, folder: Path, base_url: str, root: bytes) -> None:
        self._folder: Final = folder
        self._base_url: Final = base_url.rstrip("/")
        self._root: Final = root

    def read(self, serial: int, sample: Sample | None, *, now: datetime) -> Reading:
        """Read as both clients; nothing is noted yet.

        Args:
            serial: The state that must be seen, or a later one.
            sample: An artifact to look up, and to fetch when it is small; None while there is none.
            now: The reading's moment.
        """
        began = time.monotonic()
        error = self._fault(serial, sample)
        before = last_reading(self._folder)
        return Reading(
            ok=not error,
            serial=serial,
            at=now.isoformat().replace("+00:00", "Z"),
            seconds=round(time.monotonic() - began, 3),
            sample="" if sample is None else sample[0],
            error=error,
            failures=0 if not error else 1 + (before.failures if before is not None else 0),
        )

    def note(self, reading: Reading) -> None:
        """Leave the reading where ``/readyz`` and ``/metrics`` find it."""
        temporary = self._folder / ".reading.tmp"
        temporary.write_text(json.dumps(asdict(reading)), "utf-8")
        os.replace(temporary, self._folder / "reading.json")

    def _fault(self, serial: int, sample: Sample | None) -> str:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="new-") as fresh:
            clients = {"a client that was here before": self._folder / "client", "a new client": Path(fresh)}
            for who, folder in clients.items():
                try:
                    self._poll(folder, serial, sample)
                except (RepositoryError, DownloadError, OSError, ValueError) as error:
                    return f"{who} fails: {type(error).__name__}: {error}"
        return ""

    def _poll(self, folder: Path, serial: int, sample: Sample | None) -> None:
        targets = folder / "targets"
        targets.mkdir(mode=0o700, parents=True, exist_ok=True)
        updater = Updater(
            str(folder),
            f"{self._base_url}/metadata/",
            str(targets),
            f"{self._base_url}/targets/",
            config=UpdaterConfig(app_user_agent="wavegate-canary"),
            bootstrap=self._root,
        )
        updater.refresh()
        seen = int(json.loads((folder / "timestamp.json").read_bytes())["signed"]["version"])
        if seen < serial:
            raise ValueError(f"serial {seen} is served, {serial} was published: is a cache in between?")
        if sample is not None:
            path, length = sample
            target = updater.get_targetinfo(path)
            if target is None:
                raise ValueError(f"{path} was published and is not in the metadata")
            if length <= MAX_SAMPLE:
                fetched = Path(updater.download_target(target, str(targets / "sample")))
                fetched.unlink()


class CanaryJob:
    """Decides when to read; a turn in which nothing is due looks at one file.

    Args:
        canary: The reader.
        state: Answers the serial and a sample.
        began: When the server started.
    """

    def __init__(self, canary: Canary, state: State, began: datetime) -> None:
        self._canary = canary
        self._state = state
        self._began = began
        self._last: Reading | None = None
        self._read_at = began

    def turn(self, now: datetime) -> None:
        """Read if a commit, an hour or a failure asks for it."""
        serial, sample = self._state()
        last = self._last
        if last is not None:
            pause = EVERY if last.ok else AGAIN_AFTER_FAILURE
            if last.serial == serial and now - self._read_at < pause:
                return
        reading = self._canary.read(serial, sample(), now=now)
        if not reading.ok and (now - self._began < STARTING or self._state()[0] != serial):
            return  # not up yet, or overtaken by a commit that may have withdrawn the sample: read at the next turn
        self._canary.note(reading)
        if not reading.ok:
            log.error("the canary failed %s times in a row at serial %s: %s", reading.failures, serial, reading.error)
        elif last is not None and not last.ok:
            log.info("the canary is well again at serial %s", serial)
        self._last, self._read_at = reading, now


def canary_folder(settings: Settings, org: str) -> Path:
    """Where the canary of an organisation keeps its clients and its last reading."""
    return settings.home / "canary" / org


def canary_url(settings: Settings, org: str) -> str | None:
    """Where it reads; None when it is switched off."""
    if settings.canary_url == OFF:
        return None
    return f"{settings.canary_url or settings.public_url}/tuf/{org}"


def last_reading(folder: Path) -> Reading | None:
    """The last reading noted there; None before the first."""
    try:
        return Reading(**json.loads((folder / "reading.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
