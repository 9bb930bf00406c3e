"""Bytes that were withdrawn: no longer served, kept aside for those who must look into them.

A blob gets its second name in ``quarantine/`` before the withdrawal is signed and loses its first one after: whatever
moment the power fails, one of the two names stands and :meth:`Quarantine.settle` knows which is right.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from repo_signing.blobs import Blobs
from repo_signing.errors import CommitFailed
from repo_signing.paths import is_sha256
from repo_signing.storage import LocalStorage, Stored

KEPT: Final = timedelta(days=30)  # an investigation's time, then the collection takes them


class Quarantine:
    """The blobs set aside of one repository folder. To be used under the repository lock."""

    def __init__(self, folder: Path, blobs: Blobs, storage: LocalStorage) -> None:
        self._folder: Final = folder / "quarantine"
        self._blobs: Final = blobs
        self._storage: Final = storage

    def path(self, sha256: str) -> Path:
        """Where a blob lies, or would lie, aside."""
        return self._folder / sha256

    def prepare(self, sha256: str) -> None:
        """Give a blob its name aside; one that is missing or aside already is left. Raises CommitFailed."""
        try:
            self._storage.ensure_folder(self._folder)
            try:
                self._storage.link(self._blobs.path(sha256), self.path(sha256))
            except (FileExistsError, FileNotFoundError):
                return
            self._storage.sync_folder(self._folder)
        except OSError as error:
            raise CommitFailed(f"the blob could not be set aside: {error.strerror}; try again") from error

    def settle(self, still_named: Callable[[], set[str]]) -> list[str]:
        """Of blobs with both names, take the one away that is wrong; returns the digests that are not served any more.

        Args:
            still_named: Digests of all targets as signed now; asked only when there is something to settle.
        """
        both = [name for name in self.names() if self._storage.holds(self._blobs.path(name))]
        if not both:
            return []
        named = still_named()
        set_aside = []
        for sha256 in both:
            blob = self._blobs.path(sha256)
            if sha256 in named:
                self._storage.remove(
                    self.path(sha256)
                )  # the withdrawal was never signed, or another path has the bytes
            else:
                self._storage.remove(blob)
                self._storage.sync_folder(blob.parent)
                set_aside.append(sha256)
        self._storage.sync_folder(self._folder)
        return set_aside

    def names(self) -> list[str]:
        """Digests of what lies aside."""
        return [one.path.name for one in self._aside()]

    def overdue(self, now: datetime) -> list[Stored]:
        """What has lain aside for 30 days."""
        return [one for one in self._aside() if now - one.changed > KEPT]

    def _aside(self) -> list[Stored]:
        return [one for one in self._storage.listing(self._folder) if is_sha256(one.path.name)]
