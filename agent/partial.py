"""Fetching an artifact piece by piece: what came before the line broke, or the power failed, is not fetched again.

A partial file is believed in nothing: it is only where the next request begins. The whole is held against the signed
length and hashes before anybody gets it, and is dropped when it does not fit, so that a lie costs one download and no
more. No ETag is asked for: the name that is asked for holds the digest, and two mirrors of one file tag it differently.

Source: docs/adr/0143-downloads-go-on.md
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import TargetFile

from agent.errors import DownloadStopped, NoRoom, RepositoryAway, RepositoryRefused
from agent.web import Limits, Web

OK: Final = 200
PARTIAL: Final = 206
RANGE_NOT_SATISFIABLE: Final = 416
REDIRECTS: Final = 3  # to a bucket, and within it
SYNC_EVERY: Final = 8 * 1024 * 1024  # bytes; what a power cut may take from a long download
A_BIG_IMAGE_OVER_A_POOR_LINE: Final = Limits(seconds=6 * 3600.0)


class Pace:
    """Holds a download to so many bytes a second; 0 is no limit. It pauses after each piece for as long as is due."""

    def __init__(
        self,
        bytes_per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._rate, self._clock, self._sleep = bytes_per_second, clock, sleep
        self._began, self._received = clock(), 0

    def after(self, length: int) -> None:
        """So many bytes came; wait until they were allowed to."""
        self._received += length
        if self._rate:
            early = self._received / self._rate - (self._clock() - self._began)
            if early > 0:
                self._sleep(early)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a download may take: of time and least speed, of the line (0: all of it), and what of the disk is left."""

    limits: Limits = A_BIG_IMAGE_OVER_A_POOR_LINE
    bytes_per_second: float = 0.0
    keep_free_bytes: int = 0


class Downloads:
    """Artifacts below one URL, into one folder, each in a file of its own under the name that the caller gives."""

    def __init__(self, web: Web, base_url: str, folder: Path, terms: Terms) -> None:
        self._web = web
        self._base_url = base_url.rstrip("/") + "/"
        self._folder = folder
        self._terms = terms

    def fetch(self, target: TargetFile, name: str, between_pieces: Callable[[], None]) -> Path:
        """Fetch what is missing of a target, and verify the whole; the file is on disk when this returns.

        What came is kept when the mirror is away, and dropped when the target is refused or not wanted any more.

        Raises:
            NoRoom: The disk would be fuller than it may be.
            DownloadStopped: ``between_pieces`` raised it; what else that raises passes as well.
            RepositoryAway, RepositoryRefused, WebError, RepositoryError: As they say.
        """
        part = self._folder / name
        have = part.stat().st_size if part.exists() else 0
        if have > target.length:
            part.unlink()
            have = 0
        self._look_for_room(target, have)
        try:
            if have < target.length:
                self._go_on(target, part, have, between_pieces)
            with part.open("rb") as file:
                target.verify_length_and_hashes(file)
        except (DownloadStopped, RepositoryRefused, RepositoryError):
            part.unlink(missing_ok=True)
            raise
        return part

    def _look_for_room(self, target: TargetFile, have: int) -> None:
        disk = os.statvfs(self._folder)
        free, needed = disk.f_bavail * disk.f_frsize, target.length - have
        if free - needed < self._terms.keep_free_bytes:
            raise NoRoom(
                f"{needed} bytes are to be fetched and {self._terms.keep_free_bytes} kept free, "
                f"{free} are free in {self._folder}; make room there"
            )

    def _go_on(self, target: TargetFile, part: Path, have: int, between_pieces: Callable[[], None]) -> None:
        url, headers = self._base_url + _served_path(target), {"Range": f"bytes={have}-"} if have else {}
        limits = self._terms.limits
        with self._web.request("GET", url, limits=limits, headers=headers, redirects=REDIRECTS) as answer:
            if answer.status == PARTIAL:
                _check_range(answer.headers, target, have)
            elif answer.status == OK:
                have = 0  # it knows no ranges
            else:
                if answer.status == RANGE_NOT_SATISFIABLE:
                    part.unlink(missing_ok=True)
                raise RepositoryAway(f"{target.path} is not there: HTTP status {answer.status}")
            pace = Pace(self._terms.bytes_per_second)
            with part.open("r+b" if have else "wb") as file:
                file.seek(have)
                try:
                    for piece in answer.pieces:
                        have += len(piece)
                        if have > target.length:
                            raise RepositoryRefused(f"{target.path} is longer than the signed {target.length} bytes")
                        file.write(piece)
                        if have // SYNC_EVERY != (have - len(piece)) // SYNC_EVERY:
                            _sync(file)
                        between_pieces()
                        pace.after(len(piece))
                finally:
                    _sync(file)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _served_path(target: TargetFile) -> str:
    """As the stock client asks for it in a repository with consistent snapshots."""
    folder, slash, name = target.path.rpartition("/")
    return f"{folder}{slash}{next(iter(target.hashes.values()))}.{name}"


def _check_range(headers: HTTPMessage, target: TargetFile, have: int) -> None:
    # Also when nothing was asked for: only the rest, and all of it, may be put behind what is here.
    said, expected = headers.get("Content-Range"), f"bytes {have}-{target.length - 1}/{target.length}"
    if not have or said != expected:
        raise RepositoryRefused(f"{target.path}: the mirror answers with the range {said!r}, expected {expected!r}")
