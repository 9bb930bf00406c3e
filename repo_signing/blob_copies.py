"""Blobs of a bucket: sent once, fetched when they are asked for, and dropped here when they are gone there."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from repo_signing.bucket import ONE_REQUEST, Bucket
from repo_signing.errors import RepositoryDamaged
from repo_signing.storage import LocalStorage

BELIEVED_SECONDS: Final = 60.0  # how long a blob that was withdrawn on another server may still be served here
# A collection spares blobs that were written less than two days ago. One that may be signed any moment and is older
# than this is written again, so that it is spared.
_FRESH: Final = timedelta(days=1)
_SENT_SECONDS: Final = 3600.0
_TURNS: Final = 64
_REMEMBERED: Final = 10_000
FAR_FROM: Final = 8 * 1024 * 1024  # bytes; below, a fetched copy serves better than a stream or a redirect


@dataclass(frozen=True, slots=True)
class FarBlob:
    """A blob in a bucket, as :class:`repo_signing.storage.FarTarget` has it."""

    bucket: Bucket
    key: str
    place: Path
    length: int

    @property
    def name(self) -> str:
        """Its digest."""
        return self.place.name

    @property
    def is_here(self) -> bool:
        """Whether there is a copy on this machine, too."""
        return self.place.is_file()

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Its bytes; they are not checked here, who downloads does."""
        return self.bucket.pieces(self.key, start=start, end=end)

    def url(self, seconds: int) -> str:
        """A URL that the bucket's owner signed, good for so long."""
        return self.bucket.url(self.key, seconds)


class BlobCopies:
    """Blobs of one repository. Threads may share it.

    Args:
        scratch: A folder of the same file system, for what is being fetched.
        bucket: Of the repository.
    """

    def __init__(self, scratch: Path, bucket: Bucket) -> None:
        self._scratch: Final = scratch
        self._bucket: Final = bucket
        self._disk: Final = LocalStorage()
        self._confirmed: set[str] = set()
        self._seen: Final[dict[str, float]] = {}  # when the bucket last had it, by digest
        self._sent: Final[dict[str, float]] = {}  # when, by key
        self._lengths: Final[dict[str, tuple[float, int]]] = {}  # when asked, and bytes, by digest
        self._turns: Final = [threading.Lock() for _ in range(_TURNS)]

    def send(self, key: str, file: Path) -> None:
        """Have the bytes of ``file``, whose digest is the name, in the bucket, and fresh."""
        if time.monotonic() - self._sent.get(key, -_SENT_SECONDS) < _SENT_SECONDS:
            return
        self._send(key, file)
        if len(self._sent) >= _REMEMBERED:
            self._sent.clear()
        self._sent[key] = time.monotonic()

    def _send(self, key: str, file: Path) -> None:
        length = file.stat().st_size
        if length <= ONE_REQUEST:
            try:
                self._bucket.create(key, file.read_bytes(), compare=False)
            except FileExistsError:
                pass
            else:
                return
        standing = self._bucket.head(key)
        if standing is None or standing.length != length or datetime.now(UTC) - standing.modified > _FRESH:
            self._bucket.send(key, file)

    def holds(self, key: str, path: Path) -> bool:
        """Ask the bucket, unless it was asked since :meth:`forget_confirmed`."""
        if path.name in self._confirmed:
            return True
        found = self._bucket.head(key) is not None
        if found:
            self._confirmed.add(path.name)
        else:
            self._sent.pop(key, None)
        return found

    def forget_confirmed(self) -> None:
        """Believe no answer from before: another server had its turn."""
        self._confirmed = set()

    def fetch(self, key: str, path: Path) -> bool:
        """Have the blob at ``path``; False when the bucket has none, and then there is none here either.

        Raises:
            RepositoryDamaged: The bucket has other bytes under this digest.
            OSError: Bucket or disk failed, and there is none here.
        """
        is_here = path.is_file()
        if is_here and time.monotonic() - self._seen.get(path.name, -BELIEVED_SECONDS) < BELIEVED_SECONDS:
            return True
        with self._turns[int(path.name[:8], 16) % _TURNS]:
            try:
                entry = self._bucket.head(key)
            except OSError:
                if is_here:
                    return True
                raise
            if entry is None:
                self._seen.pop(path.name, None)
                with suppress(FileNotFoundError):
                    self._disk.remove(path)
                return False
            if not path.is_file():
                self._copy(key, path, entry.length)
            self._seen[path.name] = time.monotonic()
        return True

    def far(self, key: str, path: Path) -> FarBlob | None:
        """A large blob of the bucket; None when it is small, or not there. The bucket is asked once a minute."""
        name, now = path.name, time.monotonic()
        seen, length = self._lengths.get(name, (-BELIEVED_SECONDS, 0))
        if now - seen >= BELIEVED_SECONDS:
            try:
                entry = self._bucket.head(key)
            except OSError:
                return None  # a copy that is here can still be served
            length = 0 if entry is None else entry.length
            if len(self._lengths) >= _REMEMBERED:
                self._lengths.clear()
            self._lengths[name] = (now, length)
        return None if length < FAR_FROM else FarBlob(self._bucket, key, path, length)

    def _copy(self, key: str, path: Path, length: int) -> None:
        temporary, digest = self._disk.temporary(self._scratch), hashlib.sha256()
        descriptor = self._disk.create(temporary)
        try:
            try:
                for piece in self._bucket.pieces(key, start=0, end=length) if length else ():
                    digest.update(piece)
                    self._disk.write(descriptor, piece)
                self._disk.sync(descriptor)
            finally:
                os.close(descriptor)
            if digest.hexdigest() != path.name:
                raise RepositoryDamaged(f"the blob {path.name} in the bucket holds other bytes; restore it")
            self._disk.ensure_folder(path.parent)
            with suppress(FileExistsError):  # another process was faster
                self._disk.link(temporary, path)
            self._disk.sync_folder(path.parent)
        finally:
            with suppress(OSError):
                self._disk.remove(temporary)
