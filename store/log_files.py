"""The bytes of log bundles: a folder of each organisation, or its part of the bucket with that folder as a copy.

They are taken in to a file of their own that nobody can ask for, and get their name when all of them have come.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import Final

from fleet.errors import LogsTooLarge
from repo_signing.bucket import Bucket
from repo_signing.storage import LocalStorage

PARTIAL: Final = ".part-"
KEPT: Final = timedelta(days=1)  # what no bundle knows; longer than any upload, and than a restart in the midst of one
_FOLDER: Final = "logs"  # in the bucket


class StagedBundle:
    """Fulfils ``fleet.command_ports.Staged``: one pass that hashes and writes."""

    def __init__(self, path: Path, descriptor: int, storage: LocalStorage, bucket: Bucket | None, limit: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._storage = storage
        self._bucket = bucket
        self._limit = limit
        self._digest = hashlib.sha256()
        self.length = 0

    @property
    def sha256(self) -> str:
        """Of what came, lower-case hex."""
        return self._digest.hexdigest()

    def write(self, piece: bytes) -> None:
        """Take a piece; raises LogsTooLarge."""
        if self.length + len(piece) > self._limit:
            raise LogsTooLarge(f"the bundle has more than {self._limit} bytes, which is the most that is taken")
        self._storage.write(self._descriptor, piece)
        self._digest.update(piece)
        self.length += len(piece)

    def keep(self, name: str) -> None:
        """Give it its name, durably: here, and in the bucket, which other servers read.

        Here first: should the server end before a row knows of it, what lies here is found later, and removed in both.
        """
        self._storage.sync(self._descriptor)
        path = self._path.with_name(name)
        self.place(path)
        if self._bucket is None:
            return
        try:
            self._bucket.send(f"{_FOLDER}/{name}", path)
        except BaseException:
            self._storage.remove(path)
            raise

    def place(self, path: Path) -> None:
        """Give what came a name in its folder."""
        self._storage.rename(self._path, path)
        self._storage.sync_folder(path.parent)


class LogFiles:
    """Fulfils ``fleet.command_ports.BundleFiles``.

    Args:
        folder_of: Of an organisation; made when it is missing.
        bucket_of: The bucket below an organisation's prefix; None when there is none.
    """

    def __init__(self, folder_of: Callable[[str], Path], bucket_of: Callable[[str], Bucket | None]) -> None:
        self._folder_of = folder_of
        self._bucket_of = bucket_of
        self._storage = LocalStorage()

    @contextmanager
    def stage(self, org: str, *, limit: int) -> Iterator[StagedBundle]:
        """Begin to take a bundle in; what was not kept when the block ends is gone."""
        folder = self._folder(org)
        path = folder / f"{PARTIAL}{token_hex(8)}"
        descriptor = self._storage.create(path)
        try:
            yield StagedBundle(path, descriptor, self._storage, self._bucket_of(org), limit)
        finally:
            os.close(descriptor)
            with suppress(FileNotFoundError):
                self._storage.remove(path)

    def fetch(self, org: str, name: str) -> Path | None:
        """Where the bytes are; from the bucket they are copied here first. None when they are nowhere."""
        path = self._folder(org) / name
        if path.is_file():
            return path
        bucket = self._bucket_of(org)
        entry = None if bucket is None else bucket.head(f"{_FOLDER}/{name}")
        if bucket is None or entry is None:
            return None
        with self.stage(org, limit=entry.length) as copy:
            for piece in bucket.pieces(f"{_FOLDER}/{name}", start=0, end=entry.length):
                copy.write(piece)
            copy.place(path)
        return path

    def remove(self, org: str, name: str) -> None:
        """Remove one, if it is there."""
        bucket = self._bucket_of(org)
        if bucket is not None:
            bucket.remove(f"{_FOLDER}/{name}")
        with suppress(FileNotFoundError):
            self._storage.remove(self._folder(org) / name)

    def left_over(self, org: str, now: datetime) -> Sequence[str]:
        """Files older than a day; what broke off while it came in is removed."""
        found = set()
        for path in self._folder(org).iterdir():
            if now - datetime.fromtimestamp(path.stat().st_mtime, UTC) <= KEPT:
                continue
            if path.name.startswith(PARTIAL):
                path.unlink(missing_ok=True)
            else:
                found.add(path.name)
        return sorted(found)

    def _folder(self, org: str) -> Path:
        folder = self._folder_of(org)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder
